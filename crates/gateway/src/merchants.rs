//! Who may ask: merchants by their northbound identity and by their bearer key.
//!
//! The whole directory is one immutable value behind an atomic pointer: a request reads it without a lock,
//! and a change replaces it at once, all or nothing (CF-07). Source: DESIGN §4, *merchant record*.

mod keys;
mod rate;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use protocol::{AppId, MchId};
use secrecy::ExposeSecret as _;
use signer::{Key, KeyError, Kind};
use state_machine::absence::{Absence, Absences};
use state_machine::rescan::{Rescan, RescanRule, Rescans};
use state_machine::{MerchantId, ProviderId, UnixMs};
use store::merchant::{Mode, SignKinds, Status, api_key_digest};
use store::{MerchantRow, Settings};
use thiserror::Error;

use crate::config::Northbound;
use crate::northbound::tls::{Fingerprint, PeerCertificate};

use keys::still;

pub use keys::Keys;
pub use rate::Rate;

/// Where a merchant's payments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The merchant as records name it.
    pub merchant: MerchantId,
    /// The provider account that carries it.
    pub provider: ProviderId,
    /// Its number at the wallet.
    pub sub_mch_id: MchId,
    /// Its appid at the wallet, if it has one.
    pub sub_appid: Option<AppId>,
}

/// One merchant.
#[derive(Debug)]
pub struct Merchant {
    /// The `mch_id` that its tills send.
    pub mch_id: MchId,
    /// The `sub_mch_id` that its tills send, if they do.
    pub sub_mch_id: Option<MchId>,
    /// The `appid` that its tills send.
    pub appid: AppId,
    /// The keys that its tills sign with.
    pub keys: Keys,
    /// The methods that its tills may sign with.
    pub kinds: SignKinds,
    /// [`api_key_digest`] of its bearer key, if it has one.
    pub bearer: Option<[u8; 32]>,
    /// How its payments are answered.
    pub mode: Mode,
    /// What it has set.
    pub settings: Settings,
    /// Whether it may take new payments.
    pub status: Status,
    /// Where its payments go.
    pub binding: Binding,
    /// How many requests it may still make.
    pub rate: Rate,
}

/// Why a set of merchants cannot be a directory.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DirectoryError {
    /// Two merchants with one northbound identity.
    #[error("two merchants have mch_id {0}, sub_mch_id {1} and appid {2}")]
    Identity(MchId, String, AppId),
    /// Two merchants with one bearer key.
    #[error("merchants {0} and {1} have the same bearer key")]
    Bearer(u32, u32),
    /// Two merchants with one id.
    #[error("two merchants have the id {0}")]
    Id(u32),
    /// More than fit.
    #[error("too many merchants")]
    TooMany,
}

/// Every merchant.
#[derive(Debug, Default)]
pub struct Directory {
    merchants: Vec<Merchant>,
    /// By the hash of the whole northbound identity; no two have the same.
    by_identity: HashMap<u64, u32>,
    /// The first merchant of each `mch_id` and `appid`, to tell a wrong sub-merchant from a wrong caller.
    by_caller: HashMap<u64, u32>,
    by_bearer: HashMap<[u8; 32], u32>,
    /// The bearer keys before those, and until when they are taken.
    by_previous_bearer: HashMap<[u8; 32], (u32, Option<UnixMs>)>,
    by_id: HashMap<MerchantId, u32>,
    hasher: RandomState,
}

impl Directory {
    /// Indexes `merchants`.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if two cannot be told apart.
    pub fn new(merchants: Vec<Merchant>) -> Result<Self, DirectoryError> {
        let mut directory = Self { merchants, ..Self::default() };
        loop {
            if directory.index()? {
                return Ok(directory);
            }
            // Two identities fell on one hash, which happens once in a million directories: hash anew.
            directory.hasher = RandomState::new();
        }
    }

    /// Indexes what the store holds. A merchant that cannot be read is closed and the others stay open; each is
    /// an error in the log (CF-04).
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if two cannot be told apart.
    pub fn of(stored: &store::merchant::Merchants) -> Result<Self, DirectoryError> {
        for damaged in &stored.damaged {
            tracing::error!(%damaged, "merchant closed");
        }
        let read = |row: &MerchantRow| {
            let merchant = Merchant::of(row);
            merchant.map_err(|err| tracing::error!(merchant = row.id.0, %err, "merchant closed")).ok()
        };
        let mut directory = Self::new(stored.rows.iter().filter_map(read).collect())?;
        for row in &stored.rows {
            if let (Some(previous), Some(place)) =
                (&row.previous_api_key_digest, directory.by_id.get(&row.id))
            {
                directory.by_previous_bearer.insert(previous.key, (*place, previous.until));
            }
        }
        Ok(directory)
    }

    /// Fills the indexes; `false` if two identities have the same hash.
    fn index(&mut self) -> Result<bool, DirectoryError> {
        let len = self.merchants.len();
        (self.by_identity, self.by_caller) = (HashMap::with_capacity(len), HashMap::new());
        (self.by_bearer, self.by_id) = (HashMap::new(), HashMap::with_capacity(len));
        for (at, one) in self.merchants.iter().enumerate() {
            let place = u32::try_from(at).map_err(|_| DirectoryError::TooMany)?;
            let hash = identity(&self.hasher, &one.mch_id, one.sub_mch_id.as_ref(), &one.appid);
            if let Some(other) = self.by_identity.insert(hash, place).and_then(|other| self.at(other)) {
                if other.is(&one.mch_id, one.sub_mch_id.as_ref(), &one.appid) {
                    let sub = one.sub_mch_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
                    return Err(DirectoryError::Identity(one.mch_id, sub, one.appid));
                }
                return Ok(false);
            }
            let caller =
                *self.by_caller.entry(self.hasher.hash_one((&one.mch_id, &one.appid))).or_insert(place);
            if self.at(caller).is_some_and(|first| first.mch_id != one.mch_id || first.appid != one.appid) {
                return Ok(false);
            }
            if let Some(bearer) = one.bearer
                && let Some(other) = self.by_bearer.insert(bearer, place).and_then(|other| self.at(other))
            {
                return Err(DirectoryError::Bearer(other.binding.merchant.0, one.binding.merchant.0));
            }
            if self.by_id.insert(one.binding.merchant, place).is_some() {
                return Err(DirectoryError::Id(one.binding.merchant.0));
            }
        }
        Ok(true)
    }

    fn at(&self, place: u32) -> Option<&Merchant> {
        self.merchants.get(usize::try_from(place).ok()?)
    }

    /// The merchant that sends exactly these.
    #[must_use]
    pub fn find(&self, mch_id: &MchId, sub_mch_id: Option<&MchId>, appid: &AppId) -> Option<&Merchant> {
        let hash = identity(&self.hasher, mch_id, sub_mch_id, appid);
        self.at(*self.by_identity.get(&hash)?).filter(|one| one.is(mch_id, sub_mch_id, appid))
    }

    /// Some merchant of this caller, whatever its sub-merchant: its key shows whether the caller is who it
    /// says. Only for telling a sub-merchant that is not bound (MI-23).
    #[must_use]
    pub fn find_caller(&self, mch_id: &MchId, appid: &AppId) -> Option<&Merchant> {
        let place = self.by_caller.get(&self.hasher.hash_one((mch_id, appid)))?;
        self.at(*place).filter(|one| one.mch_id == *mch_id && one.appid == *appid)
    }

    /// The merchant that has this bearer key.
    #[must_use]
    pub fn find_bearer(&self, key: &str) -> Option<&Merchant> {
        // What is compared is a digest, so that the time it takes tells nothing of the key.
        self.find_digest(&api_key_digest(key))
    }

    /// The merchant whose bearer key, or the one before that is still taken, has this digest.
    #[must_use]
    pub fn find_digest(&self, digest: &[u8; 32]) -> Option<&Merchant> {
        let previous = || {
            let (place, until) = self.by_previous_bearer.get(digest)?;
            still(*until).then_some(*place)
        };
        self.at(self.by_bearer.get(digest).copied().or_else(previous)?)
    }

    /// Where the payments of a merchant go, disabled or not: what is open is finished.
    #[must_use]
    pub fn binding(&self, merchant: MerchantId) -> Option<&Binding> {
        self.find_id(merchant).map(|one| &one.binding)
    }

    /// The merchant with this id.
    #[must_use]
    pub fn find_id(&self, merchant: MerchantId) -> Option<&Merchant> {
        self.at(*self.by_id.get(&merchant)?)
    }

    /// What becomes of money that no till asks about, merchant by merchant; `others` where one has set nothing.
    #[must_use]
    pub fn absences(&self, others: Absence) -> Absences {
        let own = |one: &Merchant| (one.binding.merchant, one.absence(others));
        Absences::new(others, self.merchants.iter().map(own))
    }

    /// What becomes of second payments of the same till for the same amount, merchant by merchant.
    #[must_use]
    pub fn rescans(&self, others: Rescan) -> Rescans {
        let own = |one: &Merchant| (one.binding.merchant, one.rescan(others));
        Rescans::new(others, self.merchants.iter().map(own))
    }

    /// For how long the longest of all merchants looks back; `None` where none does.
    #[must_use]
    pub fn rescan_window_ms(&self, others: Rescan) -> Option<u64> {
        let own = self.merchants.iter().map(|one| one.rescan(others));
        own.filter(|rescan| rescan.rule != RescanRule::Off).map(|rescan| rescan.window_ms).max()
    }

    /// Every merchant, in the order given.
    #[must_use]
    pub fn merchants(&self) -> &[Merchant] {
        &self.merchants
    }
}

impl Merchant {
    /// The merchant of a stored row.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if its signing key is none, which the store does not let in.
    pub fn of(row: &MerchantRow) -> Result<Self, KeyError> {
        let previous = row.previous_signing_key.as_ref();
        let before = previous.map(|previous| Key::new(previous.key.expose_secret())).transpose()?;
        let keys = Keys::new(Key::new(row.signing_key.expose_secret())?, before)
            .until(previous.and_then(|previous| previous.until));
        Ok(Self {
            mch_id: row.northbound.mch_id,
            sub_mch_id: row.northbound.sub_mch_id,
            appid: row.northbound.appid,
            keys,
            kinds: row.sign_kinds,
            bearer: row.api_key_digest,
            mode: row.mode,
            settings: row.settings,
            status: row.status,
            binding: Binding {
                merchant: row.id,
                provider: row.provider,
                sub_mch_id: row.upstream_sub_mch_id,
                sub_appid: row.sub_appid,
            },
            rate: Rate::default(),
        })
    }

    /// How long a pay request is held in hold mode; never past a stop, or it would be cut off.
    #[must_use]
    pub fn hold(&self, config: &Northbound) -> Duration {
        let own = self.settings.hold_ms.map(|ms| Duration::from_millis(ms.into()));
        own.unwrap_or(config.hold).min(config.drain)
    }

    /// How long a query of an open payment waits for its outcome; 0 answers at once.
    #[must_use]
    pub fn long_poll(&self, config: &Northbound) -> Duration {
        let own = self.settings.long_poll_ms.map(|ms| Duration::from_millis(ms.into()));
        own.unwrap_or(config.long_poll).min(config.drain)
    }

    /// What it may ask: requests in a second, and at once.
    #[must_use]
    pub fn allowance(&self, config: &Northbound) -> (u32, u32) {
        let Settings { per_second, burst, .. } = self.settings;
        (per_second.unwrap_or(config.merchant_per_second), burst.unwrap_or(config.merchant_burst))
    }

    /// What becomes of money that no till asks about.
    #[must_use]
    pub fn absence(&self, others: Absence) -> Absence {
        Absence {
            rule: self.settings.absent_till.unwrap_or(others.rule),
            after_ms: self.settings.absent_after_ms.map_or(others.after_ms, u64::from),
        }
    }

    /// What becomes of a second payment of the same till for the same amount.
    #[must_use]
    pub fn rescan(&self, others: Rescan) -> Rescan {
        Rescan {
            rule: self.settings.rescan.unwrap_or(others.rule),
            window_ms: self.settings.rescan_window_ms.map_or(others.window_ms, u64::from),
        }
    }

    /// Whether it is served on a connection that showed `certificate`: always, unless it has named the certificates
    /// of its tills.
    #[must_use]
    pub fn may_connect(&self, certificate: Option<&PeerCertificate>, now: UnixMs) -> bool {
        let named = &self.settings.client_certificates;
        named.iter().all(Option::is_none)
            || certificate.is_some_and(|shown| {
                named.iter().flatten().any(|one| shown.is_one_of(&[Fingerprint(*one)], now))
            })
    }

    /// Whether its tills may sign with `kind` (MI-06).
    #[must_use]
    pub const fn may_sign(&self, kind: Kind) -> bool {
        match kind {
            Kind::Md5 => self.kinds.md5(),
            Kind::HmacSha256 => self.kinds.hmac_sha256(),
        }
    }

    fn is(&self, mch_id: &MchId, sub_mch_id: Option<&MchId>, appid: &AppId) -> bool {
        self.mch_id == *mch_id && self.sub_mch_id.as_ref() == sub_mch_id && self.appid == *appid
    }
}

fn identity(hasher: &RandomState, mch_id: &MchId, sub_mch_id: Option<&MchId>, appid: &AppId) -> u64 {
    hasher.hash_one((mch_id, sub_mch_id, appid))
}

/// The directory in use; cheap to clone and to read.
#[derive(Clone, Debug, Default)]
pub struct Merchants(Arc<ArcSwap<Directory>>);

impl Merchants {
    /// Begins with `directory`.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(directory)))
    }

    /// The directory at this moment.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Directory>> {
        self.0.load()
    }

    /// The directory at this moment, to be held for as long as a request takes.
    #[must_use]
    pub fn load_full(&self) -> Arc<Directory> {
        self.0.load_full()
    }

    /// Puts `directory` in the place of the one in use; rates go on where they were.
    pub fn replace(&self, directory: Directory) {
        let before = self.0.load();
        for one in &directory.merchants {
            if let Some(was) = before.find_id(one.binding.merchant) {
                one.rate.resume(&was.rate);
            }
        }
        self.0.store(Arc::new(directory));
    }
}

#[cfg(test)]
mod tests;
