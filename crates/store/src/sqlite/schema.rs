//! The tables, the settings, and the checks at each opening.

use std::path::Path;
use std::time::Duration;

use planted::planted;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use state_machine::record::State;

use super::Options;
use super::archive;
use super::error::OpenError;
use super::events;
use super::layer::Layer;
use super::recent::stamp::{self, End, Stamp};
use super::rotation;
use super::tally::{self, Tally};
use crate::contract::Fence;
use crate::seal::Sealer;

/// The schema that this program reads and writes.
pub(super) const SCHEMA: u32 = 4;
/// `HUFU`, in the file's header.
const APPLICATION_ID: i64 = 0x4855_4655;

/// Rows of `payments` are numbered as they are folded, so that what changes together lies together: an order's first
/// hour touches the last pages of the table, whoever the merchant is. What is ordered by merchant is written at
/// random places, and so by thousands at once.
pub(super) const TABLES: &str = "
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    schema INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    store_id BLOB NOT NULL,
    key_check BLOB NOT NULL,
    tally BLOB NOT NULL,
    folded BLOB NOT NULL
) STRICT;

";

/// Payments, in the database and in each archive.
pub(super) const PAYMENTS: &str = "
CREATE TABLE payments (
    seq INTEGER PRIMARY KEY,
    merchant INTEGER NOT NULL,
    out_trade_no TEXT NOT NULL,
    channel INTEGER NOT NULL,
    provider INTEGER NOT NULL,
    version INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    state INTEGER NOT NULL,
    cause INTEGER,
    proof INTEGER,
    held INTEGER,
    open INTEGER NOT NULL,
    amount_fen INTEGER,
    accepted_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    decided_at INTEGER,
    transaction_id TEXT,
    paid_fen INTEGER,
    paid_at_s INTEGER,
    refunded_fen INTEGER NOT NULL,
    refusal_code TEXT,
    refusal_text TEXT,
    claim INTEGER NOT NULL,
    till_reversal INTEGER NOT NULL,
    repair INTEGER NOT NULL,
    looks_left INTEGER NOT NULL,
    detail BLOB NOT NULL,
    paid_fields BLOB,
    checksum BLOB NOT NULL
) STRICT;
";

/// What payments are found by, likewise.
pub(super) const PAYMENT_INDEXES: &str = "
CREATE UNIQUE INDEX payments_key ON payments (merchant, out_trade_no);
CREATE INDEX payments_time ON payments (accepted_at, merchant);
CREATE INDEX payments_open ON payments (open) WHERE open = 1;
CREATE INDEX payments_held ON payments (held) WHERE held IS NOT NULL;
CREATE INDEX payments_transaction ON payments (merchant, transaction_id) WHERE transaction_id IS NOT NULL;
";

const MERCHANTS: &str = "
CREATE TABLE providers (
    id INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    mch_id TEXT NOT NULL,
    UNIQUE (channel, mch_id)
) STRICT;

CREATE TABLE merchants (
    id INTEGER PRIMARY KEY,
    mch_id TEXT NOT NULL,
    sub_mch_id TEXT NOT NULL,
    appid TEXT NOT NULL,
    provider INTEGER NOT NULL REFERENCES providers (id),
    upstream_sub_mch_id TEXT NOT NULL,
    sub_appid TEXT,
    signing_key BLOB NOT NULL,
    api_key_digest BLOB,
    mode TEXT NOT NULL,
    sign_kinds TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    settings TEXT NOT NULL DEFAULT '',
    UNIQUE (mch_id, sub_mch_id, appid),
    UNIQUE (provider, upstream_sub_mch_id)
) STRICT;
CREATE UNIQUE INDEX merchants_api_key ON merchants (api_key_digest) WHERE api_key_digest IS NOT NULL;
CREATE TRIGGER merchants_stay BEFORE DELETE ON merchants
BEGIN
    SELECT RAISE(ABORT, 'a merchant is disabled, never deleted: its number stays its own');
END;
";

/// Opens a connection that may write. A new file is readable by its owner only.
pub(super) fn connect(layer: &Layer, path: &Path, options: &Options) -> Result<Connection, OpenError> {
    layer.create(path)?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = layer.connect(path, flags).map_err(|error| broken(path, &error))?;
    configure(&conn, options).map_err(|error| broken(path, &error))?;
    Ok(conn)
}

/// Opens a connection that reads only.
pub(super) fn connect_reader(layer: &Layer, path: &Path, options: &Options) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = layer
        .connect(path, flags)
        .map_err(|error| OpenError::Unavailable { path: path.to_owned(), cause: error.to_string() })?;
    leave_log(&conn)
        .and_then(|()| conn.busy_timeout(options.busy_timeout.max(Duration::from_secs(1))))
        .and_then(|()| conn.pragma_update(None, "query_only", true))
        .map_err(|error| broken(path, &error))?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// The last connection to close would move the log into the database and delete it, also where the log is damaged
/// and must stay as it is for whoever looks into it. We move it ourselves, where we know that it is sound.
fn leave_log(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

fn configure(conn: &Connection, options: &Options) -> rusqlite::Result<()> {
    leave_log(conn)?;
    conn.busy_timeout(options.busy_timeout)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    // Negative: KiB instead of pages.
    conn.pragma_update(None, "cache_size", i64::from(options.cache_kib).saturating_neg())?;
    Ok(())
}

/// Whether the file has no tables yet.
pub(super) fn is_new(conn: &Connection, path: &Path) -> Result<bool, OpenError> {
    conn.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| broken(path, &error))
}

/// Makes the tables.
pub(super) fn create(
    conn: &mut Connection,
    path: &Path,
    sealer: &Sealer,
    options: &Options,
) -> Result<(), OpenError> {
    let mut store_id = [0; 16];
    getrandom::fill(&mut store_id).map_err(|_| OpenError::NoRandomness)?;
    let key_check = sealer.key_check(&store_id);
    let tally = Tally { store: store_id, ..Tally::default() }.encode(sealer);
    let mut create = || -> rusqlite::Result<()> {
        conn.pragma_update(None, "page_size", options.page_size)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", "full")?;
        let transaction = conn.transaction()?;
        for tables in [TABLES, PAYMENTS, PAYMENT_INDEXES, MERCHANTS, events::TABLE, events::INDEXES] {
            transaction.execute_batch(tables)?;
        }
        transaction.execute_batch(archive::entry::TABLE)?;
        transaction.execute_batch(rotation::TABLE)?;
        transaction.execute_batch(&readable_view())?;
        transaction.execute(
            "INSERT INTO store (id, schema, fence, store_id, key_check, tally, folded) \
             VALUES (1, ?1, 0, ?2, ?3, ?4, ?5)",
            params![SCHEMA, store_id, key_check, tally, nothing_folded(store_id, sealer)],
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()
    };
    create().map_err(|error| broken(path, &error))
}

/// What a store says of its recent records before there was any.
pub(super) fn nothing_folded(store: tally::StoreId, sealer: &Sealer) -> [u8; stamp::LEN] {
    Stamp { store, ..Stamp::default() }.encode(End::Head, sealer)
}

/// Payments in words, for an operator with the `sqlite3` shell. Nothing in this program reads it.
fn readable_view() -> String {
    let states: String = State::ALL
        .iter()
        .map(|state| format!(" WHEN {} THEN '{}'", state.code(), format!("{state:?}").to_uppercase()))
        .collect();
    let time =
        |column: &str| format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch') AS {column}");
    format!(
        "CREATE VIEW payments_readable AS SELECT merchant, out_trade_no, CASE state{states} END AS state, \
         amount_fen, transaction_id, held, open, version, refusal_code, refusal_text, {}, {}, {} FROM payments;",
        time("accepted_at"),
        time("decided_at"),
        time("changed_at"),
    )
}

/// Refuses what is no store, another schema, and another master key.
pub(super) fn check(conn: &Connection, path: &Path, sealer: &Sealer) -> Result<(), OpenError> {
    let found = check_from(conn, path, sealer, SCHEMA)?;
    debug_assert_eq!(found, SCHEMA, "no other one passes");
    Ok(())
}

/// Refuses what is no store, a schema older than `least` or newer than this program's, and another master key.
/// Returns the schema.
pub(super) fn check_from(
    conn: &Connection,
    path: &Path,
    sealer: &Sealer,
    least: u32,
) -> Result<u32, OpenError> {
    let not_a_store = || OpenError::NotAStore { path: path.to_owned() };
    let application_id: i64 = conn
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| broken(path, &error))?;
    if application_id != APPLICATION_ID {
        return Err(not_a_store());
    }
    let found: u32 = conn
        .query_row("SELECT schema FROM store WHERE id = 1", [], |row| row.get(0))
        .optional()
        .map_err(|error| broken(path, &error))?
        .ok_or_else(not_a_store)?;
    if found > SCHEMA {
        return Err(OpenError::NewerSchema { found, known: SCHEMA });
    }
    if found < least {
        return Err(OpenError::OlderSchema { found, known: SCHEMA });
    }
    let (store_id, key_check): (Vec<u8>, Vec<u8>) = conn
        .query_row("SELECT store_id, key_check FROM store WHERE id = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(|error| broken(path, &error))?;
    if sealer.key_check(&store_id).as_slice() != key_check.as_slice() {
        return Err(OpenError::WrongKey { path: path.to_owned() });
    }
    Ok(found)
}

/// Sets what makes a commit survive a power cut, and reads it back.
pub(super) fn make_durable(
    layer: &Layer,
    conn: &Connection,
    path: &Path,
    options: &Options,
) -> Result<(), OpenError> {
    let set = || -> rusqlite::Result<()> {
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", wanted_synchronous())?;
        conn.pragma_update(None, "fullfsync", true)?;
        conn.pragma_update(None, "checkpoint_fullfsync", true)?;
        // Checkpoints run on a thread of their own, and the log is written over, never cut: growing a file costs
        // a commit of the file system's own journal each time.
        conn.pragma_update(None, "wal_autocheckpoint", 0)?;
        conn.pragma_update(None, "journal_size_limit", -1)?;
        if let Some(pages) = options.pages_max {
            conn.pragma_update(None, "max_page_count", pages)?;
        }
        Ok(())
    };
    set().map_err(|error| broken(path, &error))?;
    check_durable(conn, path)?;
    layer.spoil(conn).map_err(|error| broken(path, &error))
}

pub(super) fn wanted_synchronous() -> &'static str {
    match () {
        () if planted!(SynchronousOff) => "off",
        () if planted!(SynchronousNormal) => "normal",
        () => "full",
    }
}

/// Refuses a connection whose commits a power cut could take back (CF-03).
pub(super) fn check_durable(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let journal: String = conn
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .map_err(|error| broken(path, &error))?;
    if !journal.eq_ignore_ascii_case("wal") {
        return Err(OpenError::NotDurable { setting: "journal_mode", found: journal, wanted: "wal" });
    }
    let synchronous: i64 = conn
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .map_err(|error| broken(path, &error))?;
    // 2 is FULL, 3 is EXTRA.
    if synchronous < 2 && wanted_synchronous() == "full" {
        let found = if synchronous == 1 { "NORMAL" } else { "OFF" };
        return Err(OpenError::NotDurable {
            setting: "synchronous",
            found: found.to_owned(),
            wanted: "FULL",
        });
    }
    Ok(())
}

/// Takes the next fence, durably. Returns it with the tally that says so.
pub(super) fn next_fence(
    conn: &mut Connection,
    path: &Path,
    sealer: &Sealer,
    mut tally: Tally,
) -> Result<(Fence, [u8; tally::LEN]), OpenError> {
    tally.fence = tally.fence.saturating_add(1);
    let mut take = || {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let bytes = tally.store(&transaction, sealer)?;
        transaction.commit()?;
        Ok(bytes)
    };
    let bytes = take().map_err(|error: rusqlite::Error| broken(path, &error))?;
    Ok((Fence(tally.fence), bytes))
}

/// Writes what the log shows into the database, syncs that, and empties the log: the log may show what is in memory
/// only, and no sync of it would write it again (DB-09). Nothing may be appended behind that, or a power cut would
/// take with it what was committed since; so readers of the log are waited for.
pub(super) fn settle(conn: &Connection, path: &Path, options: &Options) -> Result<(), OpenError> {
    let done = conn
        .busy_timeout(options.settle_max)
        .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)))
        .and_then(|busy: bool| conn.busy_timeout(options.busy_timeout).map(|()| busy));
    if done.map_err(|error| broken(path, &error))? {
        let cause =
            "another program reads it, and its last commit cannot be made durable meanwhile; end that program"
                .to_owned();
        return Err(OpenError::Unavailable { path: path.to_owned(), cause });
    }
    Ok(())
}

/// The tally of the store, which everything else is compared with.
pub(super) fn tally(conn: &Connection, path: &Path, sealer: &Sealer) -> Result<Tally, OpenError> {
    let (_, tally) = Tally::load(conn, sealer).map_err(|error| broken(path, &error))?;
    tally.map_err(|unsound| OpenError::Contradicts { path: path.to_owned(), what: unsound.to_string() })
}

/// What an error at opening means.
pub(super) fn broken(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotAStore { path: path.to_owned() },
        _ => OpenError::Broken { path: path.to_owned(), cause: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use super::{OpenError, check_durable};

    #[test]
    fn weaker_settings_are_refused() {
        let _covers = covers::covers(&["CF-03"]);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store.db");
        for (journal, synchronous, refused) in [
            ("wal", "full", None),
            ("wal", "extra", None),
            ("wal", "normal", Some("synchronous")),
            ("wal", "off", Some("synchronous")),
            ("delete", "full", Some("journal_mode")),
            ("memory", "full", Some("journal_mode")),
        ] {
            let conn = Connection::open(&path).expect("a new file");
            conn.pragma_update(None, "journal_mode", journal).expect("a journal mode");
            conn.pragma_update(None, "synchronous", synchronous).expect("a setting");
            let found = match check_durable(&conn, Path::new("store.db")) {
                Ok(()) => None,
                Err(OpenError::NotDurable { setting, .. }) => Some(setting),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, refused, "{journal} {synchronous}");
        }
    }
}
