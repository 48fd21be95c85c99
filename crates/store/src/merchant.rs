//! Who may be paid: northbound identity, where its payments go upstream, and its secrets.
//!
//! Source: DESIGN §4, merchant record. One merchant is one binding of a provider and a sub-merchant; its number
//! ([`MerchantId`]) is its own for ever.

use protocol::{AppId, MchId};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use state_machine::{Channel, MerchantId, ProviderId, UnixMs};
use thiserror::Error;

use crate::contract::StoreError;
use crate::settings::{SettingError, Settings};

/// How a merchant names itself in its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Northbound {
    /// `mch_id`.
    pub mch_id: MchId,
    /// `sub_mch_id`, where its software sends one.
    pub sub_mch_id: Option<MchId>,
    /// `appid`.
    pub appid: AppId,
}

/// How its tills are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The wallet's first word is handed on, as the wallet itself would; the till asks again.
    Relay,
    /// A pay request is answered when its outcome is definite, or after the merchant's hold time.
    Hold,
}

impl Mode {
    /// The word under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Hold => "hold",
        }
    }

    /// The mode stored under `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Relay, Self::Hold].into_iter().find(|mode| mode.as_str() == word)
    }
}

/// Which signatures are taken from a merchant (MI-06); at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignKinds {
    /// MD5 and HMAC-SHA256.
    Both,
    /// MD5 only.
    Md5,
    /// HMAC-SHA256 only.
    HmacSha256,
}

impl SignKinds {
    /// The word under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "md5,hmac-sha256",
            Self::Md5 => "md5",
            Self::HmacSha256 => "hmac-sha256",
        }
    }

    /// The kinds stored under `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Both, Self::Md5, Self::HmacSha256].into_iter().find(|kinds| kinds.as_str() == word)
    }

    /// Whether MD5 is allowed.
    #[must_use]
    pub const fn md5(self) -> bool {
        matches!(self, Self::Both | Self::Md5)
    }

    /// Whether HMAC-SHA256 is allowed.
    #[must_use]
    pub const fn hmac_sha256(self) -> bool {
        matches!(self, Self::Both | Self::HmacSha256)
    }
}

/// Whether new payments are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// They are.
    Active,
    /// They are refused; open ones are finished (OP-06).
    Disabled,
}

impl Status {
    /// The word under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    /// The status stored under `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Disabled].into_iter().find(|status| status.as_str() == word)
    }
}

/// A provider id as it is stored; its own keys and certificates are configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderRow {
    /// Its number.
    pub id: ProviderId,
    /// The wallet's API.
    pub channel: Channel,
    /// The provider's `mch_id` there.
    pub mch_id: MchId,
}

/// A merchant to be added.
#[derive(Clone, Debug)]
pub struct NewMerchant {
    /// How it names itself.
    pub northbound: Northbound,
    /// The provider id that carries it.
    pub provider: ProviderId,
    /// Its `sub_mch_id` at the wallet: one merchant for each, at a provider.
    pub upstream_sub_mch_id: MchId,
    /// Its `sub_appid` at the wallet, if it has one.
    pub sub_appid: Option<AppId>,
    /// What it signs its requests with: 32 ASCII letters or digits.
    pub signing_key: SecretString,
    /// [`api_key_digest`] of its JSON API key, if it has one.
    pub api_key_digest: Option<[u8; 32]>,
    /// How its tills are answered.
    pub mode: Mode,
    /// What it has set.
    pub settings: Settings,
    /// Which signatures are taken.
    pub sign_kinds: SignKinds,
}

/// A kind of key that a merchant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rotated {
    /// What its tills sign with.
    SigningKey,
    /// Its key for the JSON API.
    ApiKey,
}

impl Rotated {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::SigningKey, Self::ApiKey];

    /// The word under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SigningKey => "signing_key",
            Self::ApiKey => "api_key",
        }
    }

    /// The kind stored under `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A key that is still taken after another one came (CF-05).
#[derive(Clone, Debug)]
pub struct Previous<K> {
    /// The key, or its digest.
    pub key: K,
    /// It is taken before this moment; `None`: until it is finished.
    pub until: Option<UnixMs>,
}

/// New keys for a merchant; those that are `None` stay.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// What its tills sign with: 32 ASCII letters or digits.
    pub signing_key: Option<SecretString>,
    /// [`api_key_digest`] of its JSON API key.
    pub api_key_digest: Option<[u8; 32]>,
    /// Until when the keys before are taken too; `None`: until they are finished. Not after now: not at all.
    pub until: Option<UnixMs>,
}

/// A merchant as it is stored.
#[derive(Clone, Debug)]
pub struct MerchantRow {
    /// Its number.
    pub id: MerchantId,
    /// How it names itself.
    pub northbound: Northbound,
    /// The wallet's API.
    pub channel: Channel,
    /// The provider id that carries it.
    pub provider: ProviderId,
    /// The provider's `mch_id` at the wallet.
    pub provider_mch_id: MchId,
    /// Its `sub_mch_id` at the wallet.
    pub upstream_sub_mch_id: MchId,
    /// Its `sub_appid` at the wallet.
    pub sub_appid: Option<AppId>,
    /// What it signs its requests with.
    pub signing_key: SecretString,
    /// Digest of its JSON API key.
    pub api_key_digest: Option<[u8; 32]>,
    /// What it signed its requests with before, if that is still kept.
    pub previous_signing_key: Option<Previous<SecretString>>,
    /// Digest of its JSON API key before, if that is still kept.
    pub previous_api_key_digest: Option<Previous<[u8; 32]>>,
    /// How its tills are answered.
    pub mode: Mode,
    /// What it has set.
    pub settings: Settings,
    /// Which signatures are taken.
    pub sign_kinds: SignKinds,
    /// Whether new payments are taken.
    pub status: Status,
    /// When it was added.
    pub created_at: UnixMs,
}

/// Every merchant that can be read, and those that cannot.
#[derive(Clone, Debug, Default)]
pub struct Merchants {
    /// By number.
    pub rows: Vec<MerchantRow>,
    /// Closed until an operator has looked at them; the others stay open (CF-04).
    pub damaged: Vec<DamagedMerchant>,
}

/// A merchant whose row cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "merchant {id} is damaged in the store and closed: {why}. None of its payments is touched. Restore its row \
     from a backup."
)]
pub struct DamagedMerchant {
    /// Its row number.
    pub id: i64,
    /// What is wrong.
    pub why: &'static str,
}

/// Why merchants were not added or changed. Nothing of the call was written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MerchantError {
    /// The northbound identity, the sub-merchant at this provider, or the API key belongs to another merchant.
    #[error(
        "merchant {place} of this import (mch_id {}, appid {}) is there already: {what} is taken. Nothing was \
         added. Remove it from the import, or correct it.", northbound.mch_id, northbound.appid
    )]
    Taken {
        /// Its place in the call, from 1.
        place: usize,
        /// Which one.
        northbound: Box<Northbound>,
        /// What is taken.
        what: &'static str,
    },
    /// The API key is one that another merchant had before its present one: whoever still has it would be taken for
    /// this merchant, or this one for the other.
    #[error(
        "the API key of merchant {place} of this call was another merchant's until that got a new one. Nothing was \
         written. Leave the key out and make one with hufu merchant rotate."
    )]
    KeyOfAnother {
        /// Its place in the call, from 1.
        place: usize,
    },
    /// The API key is another merchant's.
    #[error(
        "the API key of merchant {place} of this call is another merchant's. Nothing was written. Make another one."
    )]
    KeyTaken {
        /// Its place in the call, from 1.
        place: usize,
    },
    /// The provider has no row.
    #[error(
        "merchant {place} of this import names a provider that the store does not have. Nothing was added. Add \
         the provider to the configuration first."
    )]
    UnknownProvider {
        /// Its place in the call, from 1.
        place: usize,
    },
    /// The signing key has another shape.
    #[error(
        "the signing key of merchant {place} of this import is not 32 ASCII letters or digits. Nothing was \
         added. Copy the merchant's API key again."
    )]
    SigningKey {
        /// Its place in the call, from 1.
        place: usize,
    },
    /// A setting is out of its bounds.
    #[error("merchant {place} of this call: {why}. Nothing was written. Choose a value within the bounds.")]
    Setting {
        /// Its place in the call, from 1.
        place: usize,
        /// Which bounds, and why.
        why: SettingError,
    },
    /// The key before the present one is still taken: with another one, tills that have not changed over would be
    /// refused.
    #[error(
        "the {} of merchant {} is being changed already, and the one before is still taken. Nothing was changed. \
         Finish that first.", .1.as_str(), .0.0
    )]
    Changing(MerchantId, Rotated),
    /// No such merchant.
    #[error("there is no merchant {}. Nothing was changed.", .0.0)]
    Unknown(MerchantId),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is kept of a JSON API key (`hufu_sk_…`): its SHA-256. The keys are random, so no slower digest is needed.
#[must_use]
pub fn api_key_digest(api_key: &str) -> [u8; 32] {
    Sha256::digest(api_key.as_bytes()).into()
}
