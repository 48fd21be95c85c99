//! What goes over the admin socket: one JSON object a line each way.

use protocol::{AppId, Fen, MchId, OutTradeNo};
use serde::{Deserialize, Serialize};
use state_machine::record::TillReversal;
use state_machine::{MerchantId, Record, UnixMs};
use store::MerchantRow;
use store::merchant::Rotated;

use super::settings::Changes;
use crate::engine::Listing;
use crate::northbound::rfc3339;
use crate::northbound::tls::{Fingerprint, Shown};

/// Which merchant a command is about.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(untagged, deny_unknown_fields)]
pub enum MerchantRef {
    /// By its number here.
    Id {
        /// The number.
        merchant: u32,
    },
    /// By what its tills send.
    Identity {
        /// `mch_id`.
        mch_id: String,
        /// `sub_mch_id`, if they send one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_mch_id: Option<String>,
        /// `appid`.
        appid: String,
    },
}

/// One command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// One payment: answered with a [`PaymentView`].
    PaymentShow {
        /// Whose.
        of: MerchantRef,
        /// Which.
        out_trade_no: String,
    },
    /// Payments: answered with a list of [`PaymentView`].
    PaymentList {
        /// Whose; of every merchant if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<MerchantRef>,
        /// `open`, `held` or `all`.
        which: String,
        /// How many at most.
        limit: usize,
    },
    /// Asks for the reversal of a payment, as its till could; answered with a [`PaymentView`] once proven, or
    /// after the time that a till waits.
    PaymentReverse {
        /// Whose.
        of: MerchantRef,
        /// Which.
        out_trade_no: String,
    },
    /// Adds all of these merchants or none; they may pay at once. Answered with a list of [`MerchantView`].
    MerchantAdd {
        /// The merchants.
        merchants: Vec<Form>,
    },
    /// Every merchant: answered with a list of [`MerchantView`].
    MerchantList,
    /// Whether a merchant can take payments: answered with a [`MerchantView`], or with what is wrong.
    MerchantCheck {
        /// Which.
        of: MerchantRef,
    },
    /// Gives a merchant new keys; those before are taken too for a time (CF-05). Answered with a [`MerchantView`].
    MerchantRotate {
        /// Which.
        of: MerchantRef,
        /// Its keys from now on.
        keys: NewKeys,
        /// For how long the keys before are taken, in milliseconds; absent: until they are finished.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_ms: Option<u64>,
    },
    /// Takes the present keys of a merchant only. Answered with a [`MerchantView`].
    MerchantRotateFinish {
        /// Which.
        of: MerchantRef,
    },
    /// Takes new payments of a merchant, or refuses them from now on; what is open is finished (OP-06).
    MerchantStatus {
        /// Which.
        of: MerchantRef,
        /// Whether it may take payments.
        active: bool,
    },
    /// Answers the tills of a merchant in another way from now on; what is absent stays as it is. Answered with a
    /// [`MerchantView`].
    MerchantSet {
        /// Which.
        of: MerchantRef,
        /// How.
        settings: Changes,
    },
    /// Serves the tills of a merchant only where they showed one of these client certificates; none lifts that.
    /// Answered with a [`MerchantView`].
    MerchantCertificates {
        /// Which.
        of: MerchantRef,
        /// SHA-256 of each, in hexadecimal digits; two at most.
        fingerprints: Vec<String>,
        /// Also where this switch asks tills for no certificates, so that every request of the merchant is refused.
        #[serde(default)]
        force: bool,
    },
    /// Reads the merchants from the store again.
    MerchantReload,
    /// Reads the certificate for tills again; answered with a [`TlsView`], or with why the one before stays in use.
    TlsReload,
    /// Stops taking new payments.
    Drain,
}

/// What a command came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Response {
    /// It was done.
    Done {
        /// As [`Command`] says.
        result: serde_json::Value,
    },
    /// It was not done.
    Failed {
        /// Why.
        error: String,
    },
}

/// A merchant to be added.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// The `mch_id` that its tills send.
    pub mch_id: String,
    /// The `sub_mch_id` that its tills send, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_mch_id: Option<String>,
    /// The `appid` that its tills send.
    pub appid: String,
    /// The `mch_id` of the provider account that carries it.
    pub provider: String,
    /// Its `sub_mch_id` at the wallet.
    pub upstream_sub_mch_id: String,
    /// Its `sub_appid` at the wallet, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_appid: Option<String>,
    /// What its tills sign with: 32 letters or digits.
    pub signing_key: String,
    /// Its bearer key for the JSON API, if it has one; only its digest is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// `md5`, `hmac-sha256`, or both with a comma between; both if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_kinds: Option<String>,
    /// What it sets; the rest is as the configuration says, and its mode `relay`.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub settings: Changes,
}

impl std::fmt::Debug for Form {
    /// Shows no key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Form")
            .field("mch_id", &self.mch_id)
            .field("sub_mch_id", &self.sub_mch_id)
            .field("appid", &self.appid)
            .finish_non_exhaustive()
    }
}

/// A merchant as an operator sees it: no keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct MerchantView {
    /// Its number here.
    pub merchant: u32,
    /// The `mch_id` that its tills send.
    pub mch_id: String,
    /// The `sub_mch_id` that its tills send.
    pub sub_mch_id: Option<String>,
    /// The `appid` that its tills send.
    pub appid: String,
    /// The `mch_id` of the provider account that carries it.
    pub provider: String,
    /// Its `sub_mch_id` at the wallet.
    pub upstream_sub_mch_id: String,
    /// Its `sub_appid` at the wallet.
    pub sub_appid: Option<String>,
    /// `relay` or `hold`.
    pub mode: String,
    /// How long a pay request is held in hold mode, where the merchant has set it.
    #[serde(default)]
    pub hold_ms: Option<u32>,
    /// How long a query of an open payment waits, where the merchant has set it.
    #[serde(default)]
    pub long_poll_ms: Option<u32>,
    /// Requests in a second, where the merchant has its own figure.
    #[serde(default)]
    pub per_second: Option<u32>,
    /// Requests at once, where the merchant has its own figure.
    #[serde(default)]
    pub burst: Option<u32>,
    /// `keep` or `reverse`, where the merchant has set what becomes of money that no till asks about.
    #[serde(default)]
    pub absent_till: Option<String>,
    /// When a till counts as absent, where the merchant has set it.
    #[serde(default)]
    pub absent_after_ms: Option<u32>,
    /// `off`, `settle` or `refuse`, where the merchant has set what becomes of a second payment of one sale.
    #[serde(default)]
    pub rescan: Option<String>,
    /// For how long two payments may be one sale, where the merchant has set it.
    #[serde(default)]
    pub rescan_window_ms: Option<u32>,
    /// SHA-256 of the client certificates of which its tills show one; empty if they need none.
    #[serde(default)]
    pub client_certificates: Vec<String>,
    /// `md5`, `hmac-sha256` or both.
    pub sign_kinds: String,
    /// `active` or `disabled`.
    pub status: String,
    /// Whether it has a bearer key.
    pub has_api_key: bool,
    /// The keys before the present ones that are still kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous_keys: Vec<PreviousKeyView>,
    /// When it was added.
    pub created_at: String,
    /// Why the running switch goes on with what it had, although the store has taken the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in_use: Option<String>,
}

/// New keys for a merchant; absent: as before.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKeys {
    /// What its tills sign with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
    /// Its bearer key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
}

impl std::fmt::Debug for NewKeys {
    /// Shows no key: commands are logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKeys")
            .field("signing_key", &self.signing_key.is_some())
            .field("api_key", &self.api_key.is_some())
            .finish()
    }
}

/// A key that is still taken after another one came; not the key itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct PreviousKeyView {
    /// `signing_key` or `api_key`.
    pub kind: String,
    /// Until when it is taken; `None`: until it is finished.
    pub until: Option<String>,
}

fn previous_keys(row: &MerchantRow) -> Vec<PreviousKeyView> {
    let view = |kind: Rotated, until: Option<UnixMs>| PreviousKeyView {
        kind: kind.as_str().to_owned(),
        until: until.and_then(rfc3339),
    };
    let signing = row.previous_signing_key.as_ref().map(|one| view(Rotated::SigningKey, one.until));
    let api = row.previous_api_key_digest.as_ref().map(|one| view(Rotated::ApiKey, one.until));
    signing.into_iter().chain(api).collect()
}

impl MerchantView {
    /// The merchant of a stored row.
    #[must_use]
    pub fn of(row: &MerchantRow) -> Self {
        Self {
            merchant: row.id.0,
            mch_id: row.northbound.mch_id.to_string(),
            sub_mch_id: row.northbound.sub_mch_id.map(|id| id.to_string()),
            appid: row.northbound.appid.to_string(),
            provider: row.provider_mch_id.to_string(),
            upstream_sub_mch_id: row.upstream_sub_mch_id.to_string(),
            sub_appid: row.sub_appid.map(|id| id.to_string()),
            mode: row.mode.as_str().to_owned(),
            hold_ms: row.settings.hold_ms,
            long_poll_ms: row.settings.long_poll_ms,
            per_second: row.settings.per_second,
            burst: row.settings.burst,
            absent_till: row.settings.absent_till.map(|rule| rule.as_str().to_owned()),
            absent_after_ms: row.settings.absent_after_ms,
            rescan: row.settings.rescan.map(|rule| rule.as_str().to_owned()),
            rescan_window_ms: row.settings.rescan_window_ms,
            client_certificates: row
                .settings
                .client_certificates
                .iter()
                .flatten()
                .map(|one| Fingerprint(*one).to_string())
                .collect(),
            sign_kinds: row.sign_kinds.as_str().to_owned(),
            status: row.status.as_str().to_owned(),
            has_api_key: row.api_key_digest.is_some(),
            previous_keys: previous_keys(row),
            created_at: rfc3339(row.created_at).unwrap_or_default(),
            not_in_use: None,
        }
    }
}

/// A payment as an operator sees it: nothing of the payer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct PaymentView {
    /// Whose.
    pub merchant: u32,
    /// Which.
    pub out_trade_no: String,
    /// The state, as in the JSON API.
    pub state: String,
    /// The amount, if it is known.
    pub amount_fen: Option<u64>,
    /// The row of the decision table, or the cause, that led here.
    pub cause: Option<String>,
    /// Why it is held.
    pub held: Option<String>,
    /// Whether its till asked for a reversal: `asked` or `done`.
    pub till_reversal: Option<String>,
    /// The wallet's number.
    pub transaction_id: Option<String>,
    /// What the wallet or the switch said of the failure.
    pub failure: Option<Failure>,
    /// The record's version.
    pub version: u32,
    /// When it was accepted.
    pub accepted_at: String,
    /// When it last changed.
    pub changed_at: String,
}

/// Why a payment failed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Failure {
    /// `err_code`.
    pub code: String,
    /// `err_code_des`.
    pub message: String,
}

impl PaymentView {
    /// The payment that `record` is of.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let (state, failure) = state_machine::till::json(record);
        Self {
            merchant: record.key.merchant.0,
            out_trade_no: record.key.number.to_string(),
            state: state.as_str().to_owned(),
            amount_fen: record.amount.map(Fen::get),
            cause: record.cause.map(|cause| cause.as_str().to_owned()),
            held: record.held.map(|held| held.as_str().to_owned()),
            till_reversal: match record.till_reversal {
                TillReversal::None => None,
                TillReversal::Asked => Some("asked".to_owned()),
                TillReversal::Done => Some("done".to_owned()),
            },
            transaction_id: record.paid.as_ref().map(|paid| paid.transaction_id.to_string()),
            failure: failure
                .map(|fail| Failure { code: fail.code.to_owned(), message: fail.description.to_owned() }),
            version: record.version,
            accepted_at: rfc3339(record.accepted_at).unwrap_or_default(),
            changed_at: rfc3339(record.changed_at).unwrap_or_default(),
        }
    }
}

/// The certificate that tills are shown.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct TlsView {
    /// SHA-256 of it, in hexadecimal digits.
    pub fingerprint: String,
    /// When it ends, if that can be read.
    pub ends_at: Option<String>,
}

impl TlsView {
    /// What `shown` says.
    #[must_use]
    pub fn of(shown: &Shown) -> Self {
        Self { fingerprint: shown.fingerprint.to_string(), ends_at: shown.ends_at.and_then(rfc3339) }
    }
}

impl Response {
    pub(super) fn done(result: impl Serialize) -> Self {
        match serde_json::to_value(result) {
            Ok(result) => Self::Done { result },
            Err(err) => Self::Failed { error: err.to_string() },
        }
    }

    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into() }
    }
}

/// Reads a listing's word.
pub(super) fn listing(word: &str) -> Result<Listing, String> {
    match word {
        "open" => Ok(Listing::Open),
        "held" => Ok(Listing::Held),
        "all" => Ok(Listing::All),
        _ => Err(format!("{word:?} is none of open, held, all")),
    }
}

/// What a [`MerchantRef`] says, checked.
pub(super) enum Which {
    Id(MerchantId),
    Identity(MchId, Option<MchId>, AppId),
}

impl MerchantRef {
    pub(super) fn read(&self) -> Result<Which, String> {
        match self {
            Self::Id { merchant } => Ok(Which::Id(MerchantId(*merchant))),
            Self::Identity { mch_id, sub_mch_id, appid } => Ok(Which::Identity(
                mch_id.parse().map_err(|err| format!("mch_id {err}"))?,
                sub_mch_id
                    .as_deref()
                    .map(str::parse)
                    .transpose()
                    .map_err(|err| format!("sub_mch_id {err}"))?,
                appid.parse().map_err(|err| format!("appid {err}"))?,
            )),
        }
    }
}

/// Reads a number.
pub(super) fn number(text: &str) -> Result<OutTradeNo, String> {
    text.parse().map_err(|err| format!("out_trade_no {err}"))
}
