//! The tables of providers and merchants.

use std::sync::Arc;

use protocol::MchId;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter,
};
use secrecy::{ExposeSecret, SecretString};
use state_machine::{Channel, MerchantId, ProviderId, UnixMs};

use super::gate::Gate;
use super::lock::WriterLock;
use super::mark::Mark;
use super::read::unreadable;
use super::rotation;
use super::row::canonical_form;
use super::tally;
use crate::contract::StoreError;
use crate::merchant::{
    DamagedMerchant, MerchantError, MerchantRow, Merchants, Mode, NewMerchant, Northbound, ProviderRow,
    Rotated, Rotation, SignKinds, Status,
};
use crate::seal::{Nonces, Purpose, Sealer};
use crate::settings::Settings;

/// The columns that the checksum covers, in its order.
const COLUMNS: &str = "merchants.id, merchants.mch_id, merchants.sub_mch_id, merchants.appid, merchants.provider, \
     merchants.upstream_sub_mch_id, merchants.sub_appid, merchants.signing_key, merchants.api_key_digest, \
     merchants.mode, merchants.sign_kinds, merchants.status, merchants.created_at, merchants.settings";
pub(super) const LEN: usize = 14;
const SIGNING_KEY: usize = 7;
const API_KEY_DIGEST: usize = 8;
const MODE: usize = 9;
const STATUS: usize = 11;
const SETTINGS: usize = 13;

const INSERT: &str = "INSERT INTO merchants (id, mch_id, sub_mch_id, appid, provider, upstream_sub_mch_id, \
     sub_appid, signing_key, api_key_digest, mode, sign_kinds, status, created_at, settings, checksum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";

/// The merchants of a store that is open for writing, on a connection of its own: the committer may own the store
/// and work on meanwhile.
pub struct MerchantBook {
    conn: Connection,
    sealer: Arc<Sealer>,
    gate: Arc<Gate>,
    mark: Mark,
    nonces: Nonces,
    _lock: Arc<WriterLock>,
}

impl MerchantBook {
    pub(super) const fn new(
        conn: Connection,
        sealer: Arc<Sealer>,
        gate: Arc<Gate>,
        mark: Mark,
        lock: Arc<WriterLock>,
    ) -> Self {
        Self { conn, sealer, gate, mark, nonces: Nonces::new(), _lock: lock }
    }

    /// The number of the provider `mch_id`, added if it is new.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn provider(&mut self, channel: Channel, mch_id: &MchId) -> Result<ProviderId, StoreError> {
        let _turn = self.gate.enter_urgently();
        let mut add = || {
            let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let key = params![channel.code(), mch_id.as_str()];
            let is_new = transaction.execute(
                "INSERT INTO providers (channel, mch_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                key,
            )? == 1;
            let tally = if is_new { Some(tally::count(&transaction, &self.sealer)?) } else { None };
            let id = transaction.query_row(
                "SELECT id FROM providers WHERE channel = ?1 AND mch_id = ?2",
                key,
                |row| row.get(0).map(ProviderId),
            )?;
            transaction.commit()?;
            Ok((id, tally))
        };
        let (id, tally) = add().map_err(|error: rusqlite::Error| unreadable(&error))?;
        if let Some(tally) = tally {
            self.mark.put(&tally);
        }
        Ok(id)
    }

    /// Adds one merchant.
    ///
    /// # Errors
    ///
    /// [`MerchantError`]; nothing was written.
    pub fn add(&mut self, merchant: &NewMerchant, now: UnixMs) -> Result<MerchantId, MerchantError> {
        let added = self.import(std::slice::from_ref(merchant), now)?;
        added.first().copied().ok_or_else(|| StoreError::Unreadable("no number was given".to_owned()).into())
    }

    /// Adds all of `merchants`, or none; their numbers come back in the same order. Recent records wait meanwhile, for
    /// about a second where there are a hundred thousand.
    ///
    /// # Errors
    ///
    /// [`MerchantError`]; nothing was written.
    pub fn import(
        &mut self,
        merchants: &[NewMerchant],
        now: UnixMs,
    ) -> Result<Vec<MerchantId>, MerchantError> {
        self.write(|transaction, sealer, nonces| {
            let last: u32 = transaction
                .query_row("SELECT coalesce(max(id), 0) FROM merchants", [], |row| row.get(0))
                .map_err(sqlite)?;
            let former = rotation::former_api_keys(transaction).map_err(sqlite)?;
            let mut added = Vec::with_capacity(merchants.len());
            let mut insert = transaction.prepare_cached(INSERT).map_err(sqlite)?;
            for (place, (merchant, id)) in (1..).zip(merchants.iter().zip(last.saturating_add(1)..)) {
                let id = MerchantId(id);
                let sealed = seal_key(sealer, nonces, id, merchant, place)?;
                if merchant.api_key_digest.is_some_and(|key| former.contains_key(key.as_slice())) {
                    return Err(MerchantError::KeyOfAnother { place });
                }
                merchant.settings.check().map_err(|why| MerchantError::Setting { place, why })?;
                let settings = merchant.settings.text();
                let values = values(id, merchant, &sealed, &settings, now);
                let checksum = checksum(sealer, &values);
                let parameters =
                    values.iter().copied().chain([ValueRef::Blob(&checksum)]).map(ToSqlOutput::Borrowed);
                match insert.execute(params_from_iter(parameters)) {
                    Ok(_) => added.push(id),
                    Err(error) => return Err(refusal(&error, merchant, place)),
                }
            }
            Ok(added)
        })
    }

    /// Takes new payments of `merchant`, or refuses them from now on (OP-06).
    ///
    /// # Errors
    ///
    /// [`MerchantError::Unknown`], or [`MerchantError::Store`] also if the row is damaged.
    pub fn set_status(&mut self, merchant: MerchantId, status: Status) -> Result<(), MerchantError> {
        self.change(merchant, &[(STATUS, "status", status.as_str())])
    }

    /// Answers the tills of `merchant` in another way from now on.
    ///
    /// # Errors
    ///
    /// [`MerchantError::Setting`], [`MerchantError::Unknown`], or [`MerchantError::Store`] also if the row is
    /// damaged; nothing was written.
    pub fn set_answering(
        &mut self,
        merchant: MerchantId,
        mode: Mode,
        settings: &Settings,
    ) -> Result<(), MerchantError> {
        settings.check().map_err(|why| MerchantError::Setting { place: 1, why })?;
        let text = settings.text();
        self.change(merchant, &[(MODE, "mode", mode.as_str()), (SETTINGS, "settings", &text)])
    }

    /// Gives a merchant new keys; those before are taken too until `rotation.until`, or until they are finished (CF-05).
    ///
    /// # Errors
    ///
    /// [`MerchantError::Changing`] while an earlier change of such a key lasts, [`MerchantError::SigningKey`],
    /// [`MerchantError::KeyTaken`] or [`MerchantError::KeyOfAnother`] for an API key that is or was another
    /// merchant's, [`MerchantError::Unknown`], or [`MerchantError::Store`] also if the row is damaged; nothing was written.
    pub fn rotate(
        &mut self,
        merchant: MerchantId,
        rotation: &Rotation,
        now: UnixMs,
    ) -> Result<(), MerchantError> {
        self.write(|transaction, sealer, nonces| {
            with_row(transaction, sealer, merchant, |row, values| {
                let mch_id: String = row.get(1).map_err(sqlite)?;
                let sealed = match &rotation.signing_key {
                    Some(key) => Some(seal_text(sealer, nonces, &owner(merchant, &mch_id), key, 1)?),
                    None => None,
                };
                let digest = rotation.api_key_digest.as_ref().map(<[u8; 32]>::as_slice);
                if let Some(digest) = digest {
                    is_free(transaction, merchant, digest)?;
                }
                let mut changes = Vec::new();
                for (kind, place, column, new) in [
                    (Rotated::SigningKey, SIGNING_KEY, "signing_key", sealed.as_deref()),
                    (Rotated::ApiKey, API_KEY_DIGEST, "api_key_digest", digest),
                ] {
                    let Some(new) = new else { continue };
                    if rotation::is_changing(transaction, merchant, kind, now).map_err(sqlite)? {
                        return Err(MerchantError::Changing(merchant, kind));
                    }
                    let stays = rotation.until.is_none_or(|until| until > now);
                    if let (Some(ValueRef::Blob(before)), true) = (values.get(place), stays) {
                        rotation::keep(transaction, sealer, merchant, kind, before, rotation.until)
                            .map_err(sqlite)?;
                    } else {
                        rotation::forget(transaction, merchant, kind).map_err(sqlite)?;
                    }
                    changes.push((place, column, ValueRef::Blob(new)));
                }
                replace(transaction, sealer, merchant, values, &changes)
            })
        })
    }

    /// Takes no key of a merchant any more but the present ones; the kinds of those that were still kept.
    ///
    /// # Errors
    ///
    /// [`MerchantError::Unknown`] or [`MerchantError::Store`]; nothing was written.
    pub fn finish_rotation(&mut self, merchant: MerchantId) -> Result<Vec<Rotated>, MerchantError> {
        self.write(|transaction, _, _| {
            let known: bool = transaction
                .query_row("SELECT EXISTS (SELECT 1 FROM merchants WHERE id = ?1)", [merchant.0], |row| {
                    row.get(0)
                })
                .map_err(sqlite)?;
            if !known {
                return Err(MerchantError::Unknown(merchant));
            }
            let mut finished = Vec::new();
            for kind in Rotated::ALL {
                if rotation::forget(transaction, merchant, kind).map_err(sqlite)? {
                    finished.push(kind);
                }
            }
            Ok(finished)
        })
    }

    /// Puts other words into columns of one row, each with its place among what the checksum covers.
    fn change(&mut self, merchant: MerchantId, changes: &[(usize, &str, &str)]) -> Result<(), MerchantError> {
        self.write(|transaction, sealer, _| {
            with_row(transaction, sealer, merchant, |_, values| {
                let changes: Vec<_> = changes
                    .iter()
                    .map(|(at, column, word)| (*at, *column, ValueRef::Text(word.as_bytes())))
                    .collect();
                replace(transaction, sealer, merchant, values, &changes)
            })
        })
    }

    /// Does `work` in one transaction of its own, in its turn; the tally counts it. An error leaves nothing behind.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &Sealer, &mut Nonces) -> Result<T, MerchantError>,
    ) -> Result<T, MerchantError> {
        let _turn = self.gate.enter_urgently();
        let transaction =
            self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let done = work(&transaction, &self.sealer, &mut self.nonces)?;
        let tally = tally::count(&transaction, &self.sealer).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        self.mark.put(&tally);
        Ok(done)
    }

    /// Every merchant.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn merchants(&mut self) -> Result<Merchants, StoreError> {
        all(&self.conn, &self.sealer)
    }

    /// Every provider.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    pub fn providers(&mut self) -> Result<Vec<ProviderRow>, StoreError> {
        providers(&self.conn)
    }
}

impl std::fmt::Debug for MerchantBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MerchantBook(…)")
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn sqlite(error: rusqlite::Error) -> MerchantError {
    MerchantError::Store(unreadable(&error))
}

/// Whether nobody but `merchant` has or had this API key.
fn is_free(conn: &Connection, merchant: MerchantId, digest: &[u8]) -> Result<(), MerchantError> {
    let others = "SELECT EXISTS (SELECT 1 FROM merchants WHERE api_key_digest = ?1 AND id <> ?2)";
    let taken: bool =
        conn.query_row(others, params![digest, merchant.0], |row| row.get(0)).map_err(sqlite)?;
    if taken {
        return Err(MerchantError::KeyTaken { place: 1 });
    }
    let former = rotation::former_api_keys(conn).map_err(sqlite)?;
    match former.get(digest) {
        Some(of) if *of != merchant => Err(MerchantError::KeyOfAnother { place: 1 }),
        Some(_) | None => Ok(()),
    }
}

/// Shows `work` the row of a merchant and what its checksum covers.
fn with_row<T>(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    merchant: MerchantId,
    work: impl FnOnce(&rusqlite::Row<'_>, &[ValueRef<'_>; LEN]) -> Result<T, MerchantError>,
) -> Result<T, MerchantError> {
    let mut statement = transaction
        .prepare_cached(&format!("SELECT {COLUMNS}, checksum FROM merchants WHERE id = ?1"))
        .map_err(sqlite)?;
    let mut rows = statement.query([merchant.0]).map_err(sqlite)?;
    let Some(row) = rows.next().map_err(sqlite)? else { return Err(MerchantError::Unknown(merchant)) };
    // A damaged row must not get a valid checksum by this.
    let values = checked(row, sealer)
        .map_err(sqlite)?
        .map_err(|why| StoreError::Unreadable(DamagedMerchant { id: merchant.0.into(), why }.to_string()))?;
    work(row, &values)
}

/// Puts others in the place of some values of a row, and the checksum that fits.
fn replace<'v>(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    merchant: MerchantId,
    values: &[ValueRef<'v>; LEN],
    changes: &[(usize, &str, ValueRef<'v>)],
) -> Result<(), MerchantError> {
    let mut values = *values;
    for (at, column, value) in changes {
        if let Some(stored) = values.get_mut(*at) {
            *stored = *value;
        }
        transaction
            .execute(
                &format!("UPDATE merchants SET {column} = ?1 WHERE id = ?2"),
                params![ToSqlOutput::Borrowed(*value), merchant.0],
            )
            .map_err(sqlite)?;
    }
    let checksum = checksum(sealer, &values);
    transaction
        .execute("UPDATE merchants SET checksum = ?1 WHERE id = ?2", params![checksum, merchant.0])
        .map_err(sqlite)?;
    Ok(())
}

/// Reads every merchant; those that cannot be trusted are listed apart.
pub(super) fn all(conn: &Connection, sealer: &Sealer) -> Result<Merchants, StoreError> {
    let read = || {
        let mut statement = conn.prepare_cached(&select("ORDER BY merchants.id"))?;
        let mut rows = statement.query([])?;
        let mut merchants = Merchants::default();
        while let Some(row) = rows.next()? {
            match take(row, sealer)? {
                Ok(merchant) => merchants.rows.push(merchant),
                Err(damaged) => merchants.damaged.push(damaged),
            }
        }
        rotation::attach(conn, sealer, &mut merchants.rows)?;
        Ok(merchants)
    };
    read().map_err(|error: rusqlite::Error| unreadable(&error))
}

/// Reads one merchant.
pub(super) fn one(
    conn: &Connection,
    sealer: &Sealer,
    id: MerchantId,
) -> Result<Option<MerchantRow>, StoreError> {
    let read = || {
        let mut statement = conn.prepare_cached(&select("WHERE merchants.id = ?1"))?;
        let mut found = statement.query_row([id.0], |row| take(row, sealer)).optional()?;
        if let Some(Ok(row)) = &mut found {
            rotation::attach(conn, sealer, std::slice::from_mut(row))?;
        }
        Ok(found)
    };
    let found = read().map_err(|error: rusqlite::Error| unreadable(&error))?;
    found.transpose().map_err(|damaged| StoreError::Unreadable(damaged.to_string()))
}

/// Reads every provider.
pub(super) fn providers(conn: &Connection) -> Result<Vec<ProviderRow>, StoreError> {
    let read = || {
        let mut statement = conn.prepare_cached("SELECT id, channel, mch_id FROM providers ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut providers = Vec::new();
        while let Some(row) = rows.next()? {
            let (channel, mch_id): (u8, String) = (row.get(1)?, row.get(2)?);
            providers.push((ProviderId(row.get(0)?), Channel::from_code(channel), mch_id.parse().ok()));
        }
        Ok(providers)
    };
    read()
        .map_err(|error: rusqlite::Error| unreadable(&error))?
        .into_iter()
        .map(|(id, channel, mch_id)| Some(ProviderRow { id, channel: channel?, mch_id: mch_id? }))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| StoreError::Unreadable("a row of providers is damaged".to_owned()))
}

fn select(rest: &str) -> String {
    format!(
        "SELECT {COLUMNS}, merchants.checksum, providers.channel, providers.mch_id FROM merchants \
         JOIN providers ON providers.id = merchants.provider {rest}"
    )
}

fn values<'a>(
    id: MerchantId,
    merchant: &'a NewMerchant,
    sealed: &'a [u8],
    settings: &'a str,
    created_at: UnixMs,
) -> [ValueRef<'a>; LEN] {
    let text = |text: &'a str| ValueRef::Text(text.as_bytes());
    let Northbound { mch_id, sub_mch_id, appid } = &merchant.northbound;
    [
        ValueRef::Integer(id.0.into()),
        text(mch_id.as_str()),
        // Empty rather than NULL: two NULLs would count as different, and the identity must be unique.
        text(sub_mch_id.as_ref().map_or("", MchId::as_str)),
        text(appid.as_str()),
        ValueRef::Integer(merchant.provider.0.into()),
        text(merchant.upstream_sub_mch_id.as_str()),
        merchant.sub_appid.as_ref().map_or(ValueRef::Null, |appid| text(appid.as_str())),
        ValueRef::Blob(sealed),
        merchant.api_key_digest.as_ref().map_or(ValueRef::Null, |digest| ValueRef::Blob(digest)),
        text(merchant.mode.as_str()),
        text(merchant.sign_kinds.as_str()),
        text(Status::Active.as_str()),
        ValueRef::Integer(created_at.0),
        text(settings),
    ]
}

pub(super) fn checksum(sealer: &Sealer, values: &[ValueRef<'_>]) -> [u8; crate::seal::CHECKSUM_LEN] {
    let mut canonical = b"merchants".to_vec();
    let mut form = Vec::with_capacity(256);
    canonical_form(values, &mut form);
    canonical.append(&mut form);
    sealer.checksum(&canonical)
}

/// The values of a row whose checksum holds.
fn checked<'a>(
    row: &'a Row<'_>,
    sealer: &Sealer,
) -> rusqlite::Result<Result<[ValueRef<'a>; LEN], &'static str>> {
    let mut values = [ValueRef::Null; LEN];
    for (at, value) in values.iter_mut().enumerate() {
        *value = row.get_ref(at)?;
    }
    let holds = match row.get_ref(LEN)? {
        ValueRef::Blob(stored) => checksum(sealer, &values).as_slice() == stored,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => false,
    };
    Ok(if holds { Ok(values) } else { Err("its checksum does not match") })
}

fn take(row: &Row<'_>, sealer: &Sealer) -> rusqlite::Result<Result<MerchantRow, DamagedMerchant>> {
    let id: i64 = row.get(0)?;
    let damaged = |why| DamagedMerchant { id, why };
    if let Err(why) = checked(row, sealer)? {
        return Ok(Err(damaged(why)));
    }
    let number = MerchantId(row.get(0)?);
    let (mch_id, sub_mch_id, appid): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let provider = ProviderId(row.get(4)?);
    let (upstream, sub_appid): (String, Option<String>) = (row.get(5)?, row.get(6)?);
    let (sealed, api_key_digest): (Vec<u8>, Option<[u8; 32]>) = (row.get(7)?, row.get(8)?);
    let (mode, sign_kinds, status): (String, String, String) = (row.get(9)?, row.get(10)?, row.get(11)?);
    let (created_at, settings): (_, String) = (UnixMs(row.get(12)?), row.get(SETTINGS)?);
    let (channel, provider_mch_id): (u8, String) = (row.get(LEN + 1)?, row.get(LEN + 2)?);
    let Ok(signing_key) = sealer.open(Purpose::SigningKey, &owner(number, &mch_id), &sealed) else {
        return Ok(Err(damaged("its signing key does not open")));
    };
    let read = || {
        Some(MerchantRow {
            id: number,
            northbound: Northbound {
                mch_id: mch_id.parse().ok()?,
                sub_mch_id: if sub_mch_id.is_empty() { None } else { Some(sub_mch_id.parse().ok()?) },
                appid: appid.parse().ok()?,
            },
            channel: Channel::from_code(channel)?,
            provider,
            provider_mch_id: provider_mch_id.parse().ok()?,
            upstream_sub_mch_id: upstream.parse().ok()?,
            sub_appid: sub_appid.map_or(Some(None), |appid| appid.parse().ok().map(Some))?,
            signing_key: SecretString::from(std::str::from_utf8(&signing_key).ok()?),
            api_key_digest,
            previous_signing_key: None,
            previous_api_key_digest: None,
            mode: Mode::from_word(&mode)?,
            settings: Settings::read(&settings)?,
            sign_kinds: SignKinds::from_word(&sign_kinds)?,
            status: Status::from_word(&status)?,
            created_at,
        })
    };
    Ok(read().ok_or_else(|| damaged("it holds a value that this version of the program does not know")))
}

/// What a merchant's sealed key is bound to: its number and its `mch_id`.
pub(super) fn owner(id: MerchantId, mch_id: &str) -> Vec<u8> {
    let mut owner = id.0.to_be_bytes().to_vec();
    owner.extend_from_slice(mch_id.as_bytes());
    owner
}

fn seal_key(
    sealer: &Sealer,
    nonces: &mut Nonces,
    id: MerchantId,
    merchant: &NewMerchant,
    place: usize,
) -> Result<Vec<u8>, MerchantError> {
    seal_text(sealer, nonces, &owner(id, merchant.northbound.mch_id.as_str()), &merchant.signing_key, place)
}

fn seal_text(
    sealer: &Sealer,
    nonces: &mut Nonces,
    owner: &[u8],
    key: &SecretString,
    place: usize,
) -> Result<Vec<u8>, MerchantError> {
    let key = key.expose_secret();
    if key.len() != 32 || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(MerchantError::SigningKey { place });
    }
    let mut sealed = Vec::new();
    sealer
        .seal(nonces, Purpose::SigningKey, owner, key.as_bytes(), &mut sealed)
        .map_err(|error| StoreError::Unreadable(error.to_string()))?;
    Ok(sealed)
}

fn refusal(error: &rusqlite::Error, merchant: &NewMerchant, place: usize) -> MerchantError {
    if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) {
        return unreadable(error).into();
    }
    let text = error.to_string();
    let northbound = Box::new(merchant.northbound);
    if text.contains("FOREIGN KEY") {
        MerchantError::UnknownProvider { place }
    } else if text.contains("upstream_sub_mch_id") {
        MerchantError::Taken { place, northbound, what: "its sub_mch_id at this provider" }
    } else if text.contains("api_key_digest") {
        MerchantError::Taken { place, northbound, what: "its API key" }
    } else {
        MerchantError::Taken { place, northbound, what: "its mch_id with this sub_mch_id and appid" }
    }
}
