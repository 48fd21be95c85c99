//! Rows leave the database for good, when their archive is durable and named.

use std::ops::Bound;

use rusqlite::{Connection, OptionalExtension};

use super::super::fold::Stop;
use super::super::tally::{self, Tally};
use super::entry::{self, Entry};
use crate::contract::{Day, Fence};
use crate::seal::Sealer;

/// Rows that one transaction looks at. Each is in indexes at random places: the more go at once, the fewer pages are
/// written for each. Commits go on meanwhile; what is to be put into the database waits, a second or two.
pub(super) const CHUNK: u32 = 20_000;

/// A row of an archive: its number, and its checksum.
pub(super) type Placed = (i64, Vec<u8>);

/// The next rows of an archive.
pub(super) fn next(archive: &Connection, after: Bound<i64>) -> rusqlite::Result<Vec<Placed>> {
    let after = match after {
        Bound::Excluded(seq) | Bound::Included(seq) => seq,
        Bound::Unbounded => i64::MIN,
    };
    let sql = format!("SELECT seq, checksum FROM payments WHERE seq > ?1 ORDER BY seq LIMIT {CHUNK}");
    let mut statement = archive.prepare_cached(&sql)?;
    let rows = statement.query_map([after], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Names an archive that was made.
pub(super) fn name(
    conn: &Connection,
    sealer: &Sealer,
    fence: Fence,
    entry: &Entry,
) -> Result<[u8; tally::LEN], Stop> {
    transaction(conn, sealer, fence, |tally| {
        if entry::of(entry.day, conn, sealer)?.is_some() {
            return Err(Stop::Contradicts(format!("{} is archived already", entry.day)));
        }
        Ok(entry.put(None, conn, sealer, tally)?)
    })
}

/// Deletes those of `rows` that stand in the database exactly as in the archive of `day`. Returns how many. Without rows
/// all is moved that can be.
pub(super) fn delete(
    conn: &Connection,
    sealer: &Sealer,
    fence: Fence,
    day: Day,
    rows: &[Placed],
) -> Result<(u64, [u8; tally::LEN]), Stop> {
    // Gone through row by row, each deletion would keep a journal of its own.
    conn.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS going (seq INTEGER PRIMARY KEY); DELETE FROM temp.going",
    )?;
    let mut away = 0_u64;
    let bytes = transaction(conn, sealer, fence, |tally| {
        let mut goes = conn.prepare_cached("INSERT INTO temp.going (seq) VALUES (?1)")?;
        let last = conn.query_row("SELECT coalesce(max(seq), 0) FROM payments", [], |row| row.get(0))?;
        for (seq, checksum) in rows {
            // The last row stays: the next one is numbered behind it.
            if *seq < last && may_go(conn, *seq, checksum)? {
                goes.execute([seq])?;
                away = away.saturating_add(1);
                tally.take(tally::share(checksum).unwrap_or_default());
            }
        }
        let going = "FROM events WHERE payment IN (SELECT seq FROM temp.going)";
        let mut events = conn.prepare_cached(&format!("SELECT checksum {going}"))?;
        let mut shares = events.query([])?;
        while let Some(row) = shares.next()? {
            tally.take(row.get_ref(0)?.as_blob().ok().and_then(tally::share).unwrap_or_default());
        }
        conn.prepare_cached(&format!("DELETE {going}"))?.execute([])?;
        conn.prepare_cached("DELETE FROM payments WHERE seq IN (SELECT seq FROM temp.going)")?.execute([])?;
        let before = entry::of(day, conn, sealer)?;
        let before = before.ok_or_else(|| Stop::Contradicts(format!("{day} is not archived")))?;
        let after = Entry { away: before.away.saturating_add(away), settled: rows.is_empty(), ..before };
        Ok(after.put(Some(&before), conn, sealer, tally)?)
    })?;
    Ok((away, bytes))
}

/// Gives an archive up: its payments are known to be gone. The file is removed behind this.
pub(super) fn give_up(
    conn: &Connection,
    sealer: &Sealer,
    fence: Fence,
    day: Day,
) -> Result<[u8; tally::LEN], Stop> {
    transaction(conn, sealer, fence, |tally| {
        let before = entry::of(day, conn, sealer)?;
        let before = before.ok_or_else(|| Stop::Contradicts(format!("{day} is not archived")))?;
        Ok(Entry { dropped: true, ..before }.put(Some(&before), conn, sealer, tally)?)
    })
}

/// Whether a row stands as it was archived, closed, and without the last event of its merchant, behind which the next one
/// is numbered.
fn may_go(conn: &Connection, seq: i64, checksum: &[u8]) -> rusqlite::Result<bool> {
    let sql = "SELECT checksum = ?2 AND open = 0 AND held IS NULL AND NOT EXISTS (SELECT 1 FROM events AS e \
             WHERE e.payment = ?1 AND e.number = (SELECT max(number) FROM events WHERE merchant = e.merchant)) \
         FROM payments WHERE seq = ?1";
    let found: Option<bool> =
        conn.prepare_cached(sql)?.query_row((seq, checksum), |row| row.get(0)).optional()?;
    Ok(found == Some(true))
}

/// Does `work` and stores the tally, or nothing. Returns the tally.
fn transaction(
    conn: &Connection,
    sealer: &Sealer,
    fence: Fence,
    work: impl FnOnce(&mut Tally) -> Result<(), Stop>,
) -> Result<[u8; tally::LEN], Stop> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = || {
        let (newest, tally) = Tally::load(conn, sealer)?;
        if newest != fence {
            return Err(Stop::Fenced(newest));
        }
        let mut tally = tally.map_err(|unsound| Stop::Contradicts(unsound.to_string()))?;
        work(&mut tally)?;
        let bytes = tally.store(conn, sealer)?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(bytes)
    };
    let done = done();
    // Some errors end the transaction by themselves.
    if done.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    done
}
