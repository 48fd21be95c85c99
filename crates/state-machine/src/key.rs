//! Who, which order, when: the small values that everything else is keyed by.

use protocol::OutTradeNo;
use timer_wheel::Tick;

/// A merchant as Hufu knows it: the row number of its binding (provider, sub-merchant) in the store. Stable
/// for ever; one binding is one merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MerchantId(pub u32);

/// A provider id (服务商 `mch_id`) as Hufu knows it: the row number of its account in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(pub u32);

/// Which wallet's API a payment goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// WeChat Pay, API v2, service-provider mode.
    WechatV2,
}

impl Channel {
    /// The number under which it is recorded; never reused.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::WechatV2 => 1,
        }
    }

    /// The channel recorded under `code`.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::WechatV2),
            _ => None,
        }
    }

    /// The name in logs, metrics and the JSON API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WechatV2 => "wechat_v2",
        }
    }
}

/// The key of a payment: two merchants may use the same number. Source: DESIGN §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    /// Whose payment.
    pub merchant: MerchantId,
    /// The merchant's number.
    pub number: OutTradeNo,
}

/// UTC wall time in milliseconds since 1970. For records and people; no duration is ever taken from it
/// while a tick is at hand (INV-27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

/// Which boot of the machine a tick belongs to: ticks of different boots cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BootId(pub u64);

/// The present moment, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never steps and counts suspension.
    pub tick: Tick,
    /// The wall clock.
    pub wall: UnixMs,
}
