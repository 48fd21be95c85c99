//! What a wallet is told at its start.

/// A service provider that the wallet knows. Source: wechatpay-v2 §0.
#[derive(Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its `appid`.
    pub appid: String,
    /// Its `mch_id`.
    pub mch_id: String,
    /// Its API key: 32 characters of `0-9 A-Z a-z`.
    pub key: String,
    /// The sub-merchants bound to it.
    pub sub_merchants: SubMerchants,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("mch_id", &self.mch_id).finish_non_exhaustive()
    }
}

/// Which sub-merchants a provider may act for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubMerchants {
    /// Whatever `sub_mch_id` it sends; it must send one.
    Any,
    /// One of these.
    Listed(Vec<String>),
    /// None: a plain merchant, which sends no `sub_mch_id`.
    Plain,
}

/// How a wallet behaves. Delays are real ones; [`Options::speed`] divides them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The service providers it knows.
    pub providers: Vec<Provider>,
    /// Divides every delay of customers and wallet, 1 to 3600.
    pub speed: u32,
    /// Revokes what is unpaid this many seconds after its pay request. Off by default.
    pub auto_revoke_after_s: Option<u32>,
    /// Whether the reversal of an unknown number closes that number for a pay request that arrives later. Off
    /// by default, so that nobody relies on it.
    pub fences_unknown_reversals: bool,
    /// Payments of a payer in a Beijing day that need no password.
    pub free_payments_per_day: u32,
    /// Payments above this many fen always need the password.
    pub password_above_fen: u64,
    /// How long a customer takes who is asked although the code says otherwise, in seconds.
    pub password_after_s: u32,
    /// How long a password dialog lives, in seconds.
    pub dialog_s: u32,
    /// A reversal sooner than this after the pay request is a violation, in seconds.
    pub reversal_guard_s: u32,
    /// How much sooner than that is forgiven, in milliseconds, not divided by the speed: a pay request may
    /// have been slower on its way here than the reversal was.
    pub reversal_slack_ms: u32,
    /// How long a payment can be reversed, in days; not divided by the speed.
    pub reversal_days: u32,
    /// How long a refund stays PROCESSING, in seconds.
    pub refund_processing_s: u32,
    /// The shortest pause between two refunds of one order, in seconds.
    pub refund_pause_s: u32,
    /// The shortest and longest time an answer takes, in milliseconds; drawn evenly.
    pub answer_ms: (u32, u32),
}

impl Options {
    /// The documented wallet, with `provider` as the only one it knows. Source: DESIGN §5; wechatpay-v2 §4.
    #[must_use]
    pub fn new(provider: Provider) -> Self {
        Self {
            providers: vec![provider],
            speed: 1,
            auto_revoke_after_s: None,
            fences_unknown_reversals: false,
            free_payments_per_day: 10,
            password_above_fen: 100_000,
            password_after_s: 6,
            dialog_s: 30,
            reversal_guard_s: 15,
            reversal_slack_ms: 0,
            reversal_days: 7,
            refund_processing_s: 10,
            refund_pause_s: 60,
            answer_ms: (0, 0),
        }
    }

    /// The provider with this `mch_id`.
    #[must_use]
    pub fn provider(&self, mch_id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.mch_id == mch_id)
    }

    /// A delay of `ms` at this speed.
    #[must_use]
    pub fn scaled_ms(&self, ms: i64) -> i64 {
        ms / i64::from(self.speed.max(1))
    }

    /// A delay of `s` seconds at this speed, in milliseconds.
    #[must_use]
    pub fn scaled_s(&self, s: u32) -> i64 {
        self.scaled_ms(i64::from(s) * 1000)
    }
}
