//! From an older schema to the present one, once, before the first fence is taken: one transaction, so that a power
//! cut leaves the old store or the new one.
//!
//! No row of a payment is touched. A program of the old schema refuses the store from then on (INV-29).

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::archive;
use super::error::OpenError;
use super::events;
use super::merchants::{LEN, checksum};
use super::rotation;
use super::schema::{SCHEMA, broken, nothing_folded};
use super::tally::Tally;
use crate::seal::{CHECKSUM_LEN, Sealer};

/// The oldest schema that can be brought to the present one.
pub(super) const OLDEST: u32 = 2;

/// What the checksum of a merchant covered in schema 2, and the checksum.
const COVERED: &str = "id, mch_id, sub_mch_id, appid, provider, upstream_sub_mch_id, sub_appid, signing_key, \
     api_key_digest, mode, sign_kinds, status, created_at, checksum";

/// Brings a store of schema `found` to the present one. From schema 2: merchants have settings, none of which is set,
/// and may have previous keys, and payments have events from now on. From schema 3: commits go to files of recent
/// records first, and the store says how much of them it has. Returns the tally of the commit.
pub(super) fn upgrade(
    conn: &mut Connection,
    path: &Path,
    sealer: &Sealer,
    mut tally: Tally,
    found: u32,
) -> Result<Tally, OpenError> {
    tracing::info!(from = found, to = SCHEMA, payments = tally.rows, "the store is brought up, in one step");
    let mut upgrade = || {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if found < 3 {
            to_schema_3(&transaction, sealer)?;
        }
        transaction.execute("ALTER TABLE store ADD COLUMN folded BLOB NOT NULL DEFAULT x''", [])?;
        transaction
            .execute_batch("DROP TRIGGER IF EXISTS payments_stay; DROP TRIGGER IF EXISTS events_stay;")?;
        transaction.execute_batch(archive::entry::TABLE)?;
        let folded = nothing_folded(tally.store, sealer);
        transaction
            .execute("UPDATE store SET schema = ?1, folded = ?2 WHERE id = 1", params![SCHEMA, folded])?;
        tally.store(&transaction, sealer)?;
        transaction.commit()
    };
    upgrade().map_err(|error| broken(path, &error))?;
    tracing::info!(
        from = found,
        to = SCHEMA,
        "the store has the present schema now; older programs refuse it"
    );
    Ok(tally)
}

fn to_schema_3(transaction: &Transaction<'_>, sealer: &Sealer) -> rusqlite::Result<()> {
    transaction.execute("ALTER TABLE merchants ADD COLUMN settings TEXT NOT NULL DEFAULT ''", [])?;
    transaction.execute_batch(events::TABLE)?;
    transaction.execute_batch(events::INDEXES)?;
    transaction.execute_batch(rotation::TABLE)?;
    let mut sound: Vec<(i64, [u8; CHECKSUM_LEN])> = Vec::new();
    {
        let mut statement = transaction.prepare(&format!("SELECT {COVERED} FROM merchants"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // A row that was damaged before keeps its checksum, and with that stays closed.
            if let Some(checksum) = covered(row, sealer)? {
                sound.push((row.get(0)?, checksum));
            }
        }
    }
    for (id, checksum) in sound {
        transaction.execute("UPDATE merchants SET checksum = ?1 WHERE id = ?2", params![checksum, id])?;
    }
    Ok(())
}

/// The checksum that a row has in schema 3 and later; `None` if the one it has does not match.
fn covered(row: &Row<'_>, sealer: &Sealer) -> rusqlite::Result<Option<[u8; CHECKSUM_LEN]>> {
    let mut values = [ValueRef::Text(b""); LEN];
    let (before, _settings) = values.split_at_mut(LEN - 1);
    for (at, value) in before.iter_mut().enumerate() {
        *value = row.get_ref(at)?;
    }
    let stored = row.get_ref(LEN - 1)?;
    let holds = matches!(stored, ValueRef::Blob(stored) if checksum(sealer, before).as_slice() == stored);
    Ok(holds.then(|| checksum(sealer, &values)))
}
