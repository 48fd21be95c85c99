//! The keys that were in use before the present ones, while tills change over (CF-05).
//!
//! A row of its own for each: the signing key stays sealed to its merchant, the API key stays a digest.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use secrecy::SecretString;
use state_machine::{MerchantId, UnixMs};

use super::merchants::owner;
use super::row::canonical_form;
use crate::merchant::{MerchantRow, Previous, Rotated};
use crate::seal::{CHECKSUM_LEN, Purpose, Sealer};

/// The table.
pub(super) const TABLE: &str = "
CREATE TABLE merchant_keys (
    merchant INTEGER NOT NULL REFERENCES merchants (id),
    kind TEXT NOT NULL,
    secret BLOB NOT NULL,
    until INTEGER,
    checksum BLOB NOT NULL,
    PRIMARY KEY (merchant, kind)
) STRICT, WITHOUT ROWID;
";

/// Whether a previous key of this kind is still valid at `now`.
pub(super) fn is_changing(
    conn: &Connection,
    merchant: MerchantId,
    kind: Rotated,
    now: UnixMs,
) -> rusqlite::Result<bool> {
    let until = "SELECT until FROM merchant_keys WHERE merchant = ?1 AND kind = ?2";
    let found = conn
        .query_row(until, params![merchant.0, kind.as_str()], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(found.is_some_and(|until| until.is_none_or(|until| until > now.0)))
}

/// The digests of API keys that were in use before, each with whose it was; also of those whose time is over.
pub(super) fn former_api_keys(conn: &Connection) -> rusqlite::Result<HashMap<Vec<u8>, MerchantId>> {
    let mut statement = conn.prepare_cached("SELECT secret, merchant FROM merchant_keys WHERE kind = ?1")?;
    let rows =
        statement.query_map([Rotated::ApiKey.as_str()], |row| Ok((row.get(0)?, MerchantId(row.get(1)?))))?;
    rows.collect()
}

/// Keeps what was in use before, in the place of any earlier one.
pub(super) fn keep(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    merchant: MerchantId,
    kind: Rotated,
    secret: &[u8],
    until: Option<UnixMs>,
) -> rusqlite::Result<()> {
    let until = until.map(|until| until.0);
    let checksum = checksum(sealer, merchant, kind, secret, until);
    transaction.execute(
        "INSERT OR REPLACE INTO merchant_keys (merchant, kind, secret, until, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![merchant.0, kind.as_str(), secret, until, checksum],
    )?;
    Ok(())
}

/// Forgets the previous key of this kind; whether there was one.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    merchant: MerchantId,
    kind: Rotated,
) -> rusqlite::Result<bool> {
    let gone = "DELETE FROM merchant_keys WHERE merchant = ?1 AND kind = ?2";
    Ok(transaction.execute(gone, params![merchant.0, kind.as_str()])? > 0)
}

/// Puts what is kept beside the merchants it belongs to; `rows` are in the order of their numbers. One that cannot be
/// trusted is not taken as a key, and is an error in the log: its tills must use the present one.
pub(super) fn attach(conn: &Connection, sealer: &Sealer, rows: &mut [MerchantRow]) -> rusqlite::Result<()> {
    let mut statement =
        conn.prepare_cached("SELECT merchant, kind, secret, until, checksum FROM merchant_keys")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let read = || {
            let word: String = row.get(1)?;
            let (secret, until): (Vec<u8>, Option<i64>) = (row.get(2)?, row.get(3)?);
            Ok::<_, rusqlite::Error>((row.get::<_, u32>(0)?, word, secret, until, row.get::<_, Vec<u8>>(4)?))
        };
        // A flipped bit may make another type of a value: that closes nobody else.
        let (merchant, word, secret, until, stored) = match read() {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "a previous key of a merchant cannot be read and is not taken");
                continue;
            }
        };
        let id = MerchantId(merchant);
        let Ok(at) = rows.binary_search_by_key(&merchant, |row| row.id.0) else { continue };
        let Some(of) = rows.get_mut(at) else { continue };
        let sound = Rotated::from_word(&word)
            .filter(|kind| checksum(sealer, id, *kind, &secret, until).as_slice() == stored);
        let until = until.map(UnixMs);
        let taken = match sound {
            Some(Rotated::SigningKey) => {
                let owner = owner(id, of.northbound.mch_id.as_str());
                let opened = sealer.open(Purpose::SigningKey, &owner, &secret).ok();
                let key =
                    opened.as_deref().and_then(|key| std::str::from_utf8(key).ok()).map(SecretString::from);
                of.previous_signing_key = key.map(|key| Previous { key, until });
                of.previous_signing_key.is_some()
            }
            Some(Rotated::ApiKey) => {
                of.previous_api_key_digest = secret.try_into().ok().map(|key| Previous { key, until });
                of.previous_api_key_digest.is_some()
            }
            None => false,
        };
        if !taken {
            tracing::error!(merchant, kind = word, "the previous key of a merchant is damaged and not taken");
        }
    }
    Ok(())
}

fn checksum(
    sealer: &Sealer,
    merchant: MerchantId,
    kind: Rotated,
    secret: &[u8],
    until: Option<i64>,
) -> [u8; CHECKSUM_LEN] {
    let mut canonical = b"merchant_keys".to_vec();
    let mut form = Vec::with_capacity(128);
    let values = [
        ValueRef::Integer(merchant.0.into()),
        ValueRef::Text(kind.as_str().as_bytes()),
        ValueRef::Blob(secret),
        until.map_or(ValueRef::Null, ValueRef::Integer),
    ];
    canonical_form(&values, &mut form);
    canonical.append(&mut form);
    sealer.checksum(&canonical)
}
