//! Lookups, listings, and the scan at the start: the same for the writer and for readers beside it.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use planted::planted;
use protocol::TransactionId;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row, params, params_from_iter};
use state_machine::till::JsonState;
use state_machine::{MerchantId, OrderKey, Record};

use super::archive::Shelf;
use super::away::Away;
use super::recent::memory::Entry;
use super::row::{self, COLUMNS, LEN};
use super::tally::{self, Share, Tally};
use crate::contract::{Cursor, Damaged, Filter, Recovered, StoreError};
use crate::seal::Sealer;

/// A row as it stands.
enum Found {
    Sound(Box<Record>),
    /// Set aside.
    Damaged(Damaged),
    Missing,
}

/// A row, whether it says that it is on the list of open orders, and what it adds to the sums if that can be read.
struct Looked {
    found: Found,
    listed: bool,
    share: Option<Share>,
}

/// A row, and where it stands in a listing if it says so.
pub(super) type Placed = (Option<Cursor>, Result<Record, Damaged>);

/// Part of a listing of the database, or of an archive.
#[derive(Default)]
pub(super) struct Places {
    /// Rows in order.
    pub(super) rows: Vec<Placed>,
    /// Where to go on; `None` when this was the end.
    pub(super) next: Option<Cursor>,
}

/// What the rows looked at add up to.
#[derive(Default)]
pub(super) struct Seen {
    /// All, those that are missing or hurt included.
    rows: u64,
    pub(super) missing: u64,
    pub(super) hurt: u64,
    /// Rows that an archive has in their place.
    pub(super) away: u64,
    sum: Share,
    open: u64,
    open_sum: Share,
}

impl Seen {
    fn add(&mut self, share: Option<Share>, listed: bool) {
        self.rows = self.rows.saturating_add(1);
        let Some(share) = share else { return };
        self.sum = self.sum.wrapping_add(share);
        if listed {
            self.open = self.open.saturating_add(1);
            self.open_sum = self.open_sum.wrapping_add(share);
        }
    }
}

static SELECT: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {}, checksum FROM payments", COLUMNS.join(", ")));
static BY_KEY: LazyLock<String> =
    LazyLock::new(|| format!("{} WHERE merchant = ?1 AND out_trade_no = ?2", *SELECT));
static BY_TRANSACTION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} WHERE merchant = ?1 AND transaction_id = ?2 ORDER BY accepted_at, merchant, out_trade_no",
        *SELECT
    )
});
/// Every row, with its number behind the checksum.
pub(super) static ALL: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {}, checksum, seq FROM payments", COLUMNS.join(", ")));
static BY_SEQ: LazyLock<String> = LazyLock::new(|| format!("{} WHERE seq = ?1", *SELECT));

/// A connection, and what opens and checks its rows.
#[derive(Clone, Copy)]
pub(super) struct Reads<'a> {
    pub(super) conn: &'a Connection,
    pub(super) sealer: &'a Sealer,
}

impl Reads<'_> {
    /// The row under `key`; with damage comes the version that it claims.
    pub(super) fn row(&self, key: &OrderKey) -> rusqlite::Result<Option<Result<Record, (Damaged, u32)>>> {
        let mut statement = self.conn.prepare_cached(&BY_KEY)?;
        let mut rows = statement.query(params![key.merchant.0, key.number.as_str()])?;
        rows.next()?.map(|row| self.take(row)).transpose()
    }

    /// The row under `key`, here or in an archive.
    pub(super) fn row_or_archived(
        &self,
        key: &OrderKey,
        shelf: &Shelf,
    ) -> rusqlite::Result<Option<Result<Record, (Damaged, u32)>>> {
        self.row(key)?.map_or_else(|| shelf.row(key, self.sealer), |found| Ok(Some(found)))
    }

    /// The oldest of those that `passes`.
    pub(super) fn by_transaction(
        &self,
        merchant: MerchantId,
        id: &TransactionId,
        passes: &dyn Fn(&OrderKey) -> bool,
    ) -> rusqlite::Result<Option<Result<Record, Damaged>>> {
        let mut statement = self.conn.prepare_cached(&BY_TRANSACTION)?;
        let mut rows = statement.query(params![merchant.0, id.as_str()])?;
        while let Some(row) = rows.next()? {
            let found = self.take(row)?.map_err(|(damaged, _)| damaged);
            let key = found.as_ref().map_or_else(|damaged| damaged.key, |record| Some(record.key));
            if key.is_none_or(|key| passes(&key)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A page of what the database lists, each row with its place.
    pub(super) fn list_places(&self, filter: &Filter) -> Result<Places, StoreError> {
        let list = || {
            let (sql, values) = listing(filter);
            let mut statement = self.conn.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            let limit = usize::try_from(filter.limit()).unwrap_or(usize::MAX);
            let mut places = Places::default();
            while let Some(row) = rows.next()? {
                // What the row says of its place, trusted or not, is what it was sorted by.
                let place = place(row);
                let found = self.take(row)?.map_err(|(damaged, _)| damaged);
                places.rows.push((place, found));
                places.next = if places.rows.len() == limit { place } else { None };
            }
            Ok(places)
        };
        list().map_err(|error: rusqlite::Error| unreadable(&error))
    }

    /// Visits every open order. Where the list of open orders cannot be read, or does not agree with the rows or
    /// with the store's tally, every row of the table is looked at instead; if that does not explain it, nothing
    /// of this store may be served.
    pub(super) fn open_orders(
        &self,
        shelf: &Shelf,
        visit: &mut dyn FnMut(Recovered),
    ) -> Result<u64, StoreError> {
        let tally = self.tally()?;
        let mut open = 0;
        let mut seen = Seen::default();
        let mut visited = BTreeSet::new();
        let mut agrees = self.last_seq().is_ok_and(|last| u64::try_from(last) == Ok(tally.rows));
        match self.open_list() {
            Ok(list) => {
                for seq in list {
                    let row = self.at(seq);
                    match row.found {
                        Found::Sound(record) if row.listed => {
                            // Else it was open by the rule of an older program.
                            if record.is_open() {
                                open = u64::saturating_add(open, 1);
                                visit(Recovered::Open(record));
                            }
                        }
                        Found::Sound(_) | Found::Missing => {
                            agrees = false;
                            continue;
                        }
                        Found::Damaged(_) if planted!(DamageHidden) => {}
                        Found::Damaged(damaged) => {
                            seen.hurt = seen.hurt.saturating_add(1);
                            visit(Recovered::Damaged(damaged));
                        }
                    }
                    seen.add(row.share, row.listed);
                    visited.insert(seq);
                }
            }
            Err(_) => agrees = false,
        }
        if agrees && seen.open == tally.open && seen.open_sum == tally.open_sum {
            return Ok(open);
        }
        tracing::warn!("the store's list of open orders is damaged; every payment is looked at instead");
        let mut on_row = |found| match found {
            Ok::<Box<Record>, _>(record) => {
                if record.is_open() {
                    open = u64::saturating_add(open, 1);
                    visit(Recovered::Open(record));
                }
            }
            Err(damaged) => visit(Recovered::Damaged(damaged)),
        };
        let away = Away::look(self, shelf)?;
        self.walk(&tally, &away, &visited, &mut seen, &mut on_row, &mut |event| tracing::error!("{event}"))?;
        self.explained(&tally, &seen)?;
        Ok(open)
    }

    /// Looks at every row there is or should be; visits those that cannot be trusted and returns the number of
    /// those that can, with those of `recent` that are not in the database yet.
    pub(super) fn verify(
        &self,
        recent: &HashMap<OrderKey, Entry>,
        shelf: &Shelf,
        damaged: &mut dyn FnMut(Damaged),
    ) -> Result<u64, StoreError> {
        // One moment of the store, also while its writer works.
        let moment = self.conn.unchecked_transaction().map_err(|error| unreadable(&error))?;
        let tally = self.tally()?;
        let mut seen = Seen::default();
        let mut sound = 0;
        let mut events = Vec::new();
        let mut on_row = |found| match found {
            Ok::<Box<Record>, _>(_) => sound = u64::saturating_add(sound, 1),
            Err(row) => damaged(row),
        };
        let away = Away::look(self, shelf)?;
        self.walk(&tally, &away, &BTreeSet::new(), &mut seen, &mut on_row, &mut |event| events.push(event))?;
        sound = u64::saturating_add(sound, seen.away.saturating_sub(away.hurt()));
        events.into_iter().for_each(&mut *damaged);
        self.explained(&tally, &seen)?;
        for key in recent.keys() {
            if self.row_or_archived(key, shelf).map_err(|error| unreadable(&error))?.is_none() {
                sound = sound.saturating_add(1);
            }
        }
        // A moment that is kept keeps the log from beginning anew.
        moment.finish().map_err(|error| unreadable(&error))?;
        for why in self.structure().map_err(|error| unreadable(&error))? {
            damaged(Damaged { key: None, why });
        }
        Ok(sound)
    }

    /// What SQLite finds wrong with its pages and indexes: damage that hides sound rows from lookups.
    fn structure(&self) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.conn.prepare("PRAGMA integrity_check(20)")?;
        let found = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    fn tally(&self) -> Result<Tally, StoreError> {
        let (_, tally) = Tally::load(self.conn, self.sealer).map_err(|error| unreadable(&error))?;
        tally.map_err(|unsound| StoreError::Contradicts(unsound.to_string()))
    }

    /// Whether all rows together are those of the tally. Rows that are there and cannot be read explain a
    /// difference, and are set aside; without them, or with rows that are gone, others may be gone or old as well,
    /// and nobody can say which: a page that came back as it was earlier looks like that.
    fn explained(&self, tally: &Tally, seen: &Seen) -> Result<(), StoreError> {
        if seen.missing == 0 && seen.rows == tally.rows && seen.sum == tally.sum {
            return Ok(());
        }
        if seen.missing == 0 && seen.hurt > 0 && seen.rows == tally.rows {
            tracing::error!(rows = seen.hurt, "rows of the store cannot be trusted and are set aside");
            return Ok(());
        }
        Err(StoreError::Contradicts(format!(
            "of {} payments {} are there, {} of them damaged, and they are not those that were committed",
            tally.rows,
            seen.rows.saturating_sub(seen.missing),
            seen.hurt,
        )))
    }

    /// Looks at every row but those in `skip`, one by one, so that no damage hides what is behind it, and at every
    /// event.
    fn walk(
        &self,
        tally: &Tally,
        away: &Away<'_>,
        skip: &BTreeSet<i64>,
        seen: &mut Seen,
        visit: &mut dyn FnMut(Result<Box<Record>, Damaged>),
        events: &mut dyn FnMut(Damaged),
    ) -> Result<(), StoreError> {
        // Rows are numbered without gaps, and none is deleted that no archive has: their number is the last one's. What
        // stands behind it was never committed there; a flipped bit can put a row billions of places away.
        let last = i64::try_from(tally.rows).unwrap_or(i64::MAX);
        seen.rows = seen.rows.saturating_add(self.rows_after(last).map_err(|error| unreadable(&error))?);
        let mut given_up = Vec::new();
        for seq in (1..=last).filter(|seq| !skip.contains(seq)) {
            let row = self.at(seq);
            if matches!(row.found, Found::Missing) {
                if away.has(seq) {
                    seen.rows = seen.rows.saturating_add(1);
                    seen.away = seen.away.saturating_add(1);
                    continue;
                }
                if away.given_up() > 0 {
                    seen.rows = seen.rows.saturating_add(1);
                    given_up.push(seq);
                    continue;
                }
            }
            visit(match row.found {
                Found::Sound(record) => Ok(record),
                Found::Damaged(damaged) => {
                    seen.hurt = seen.hurt.saturating_add(1);
                    Err(damaged)
                }
                Found::Missing => {
                    seen.missing = seen.missing.saturating_add(1);
                    Err(Damaged { key: None, why: format!("row {seq} is missing") })
                }
            });
            seen.add(row.share, row.listed);
        }
        // Which ones went with an archive that was given up is not known, only how many.
        if u64::try_from(given_up.len()) != Ok(away.given_up()) {
            for seq in given_up {
                seen.missing = seen.missing.saturating_add(1);
                visit(Err(Damaged { key: None, why: format!("row {seq} is missing") }));
            }
        }
        away.compare(seen, &mut |damaged| visit(Err(damaged)));
        // An old payment is as good as gone: it explains nothing, and others may be old as well.
        match self.walk_events(away, &mut |damaged, is_old| {
            let count = if is_old { &mut seen.missing } else { &mut seen.hurt };
            *count = count.saturating_add(1);
            events(damaged);
        }) {
            Ok(sum) => seen.sum = seen.sum.wrapping_add(sum).wrapping_add(away.sum()),
            Err(error) => {
                seen.hurt = seen.hurt.saturating_add(1);
                let why = format!("the events of merchants cannot all be read: {error}");
                events(Damaged { key: None, why });
            }
        }
        Ok(())
    }

    fn rows_after(&self, seq: i64) -> rusqlite::Result<u64> {
        let sql = "SELECT count(*) FROM payments NOT INDEXED WHERE seq > ?1";
        self.conn.query_row(sql, [seq], |row| row.get(0)).map(i64::cast_unsigned)
    }

    fn last_seq(&self) -> rusqlite::Result<i64> {
        self.conn.query_row("SELECT coalesce(max(seq), 0) FROM payments NOT INDEXED", [], |row| row.get(0))
    }

    fn open_list(&self) -> rusqlite::Result<Vec<i64>> {
        let sql = "SELECT seq FROM payments INDEXED BY payments_open WHERE open = 1";
        self.conn.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
    }

    /// The row numbered `seq`.
    fn at(&self, seq: i64) -> Looked {
        let look = || {
            let mut statement = self.conn.prepare_cached(&BY_SEQ)?;
            let mut rows = statement.query([seq])?;
            let Some(row) = rows.next()? else {
                return Ok(Looked { found: Found::Missing, listed: false, share: None });
            };
            let listed = row.get_ref("open")? == ValueRef::Integer(1);
            let share = row.get_ref(LEN)?.as_blob().ok().and_then(tally::share);
            let found = match self.take(row)? {
                Ok(record) => Found::Sound(Box::new(record)),
                Err((damaged, _)) => Found::Damaged(damaged),
            };
            Ok(Looked { found, listed, share })
        };
        look().unwrap_or_else(|error: rusqlite::Error| Looked {
            found: Found::Damaged(unreadable_row(seq, &error)),
            listed: false,
            share: None,
        })
    }

    pub(super) fn take(&self, row: &Row<'_>) -> rusqlite::Result<Result<Record, (Damaged, u32)>> {
        let mut values = [ValueRef::Null; LEN];
        for (at, value) in values.iter_mut().enumerate() {
            *value = row.get_ref(at)?;
        }
        let decoded = row::decode(&values, row.get_ref(LEN)?, self.sealer);
        Ok(decoded.map_err(|why| {
            (Damaged { key: row::key_of(&values), why: why.to_owned() }, row::version_of(&values))
        }))
    }
}

/// What an error of SQLite means for a read.
pub(super) fn unreadable(error: &rusqlite::Error) -> StoreError {
    StoreError::Unreadable(error.to_string())
}

fn unreadable_row(seq: i64, error: &rusqlite::Error) -> Damaged {
    Damaged { key: None, why: format!("row {seq} cannot be read: {error}") }
}

pub(super) fn known(found: Option<Result<Record, (Damaged, u32)>>) -> Result<Option<Record>, StoreError> {
    found.transpose().map_err(|(damaged, _)| StoreError::Damaged(Box::new(damaged)))
}

fn place(row: &Row<'_>) -> Option<Cursor> {
    let merchant = MerchantId(row.get("merchant").ok()?);
    let number: String = row.get("out_trade_no").ok()?;
    let accepted_at = state_machine::UnixMs(row.get("accepted_at").ok()?);
    Some(Cursor { accepted_at, key: OrderKey { merchant, number: number.parse().ok()? } })
}

/// What [`Step::shows`](state_machine::step::Step::shows) says, of a row.
fn showing(state: JsonState) -> &'static str {
    match state {
        JsonState::Processing => "state = 1",
        JsonState::AwaitingPassword => "state = 2",
        JsonState::Paid => "state = 3 AND till_reversal = 0",
        JsonState::Failed => "state = 4",
        JsonState::Reversing => "(state = 5 OR state = 3 AND till_reversal = 1)",
        JsonState::Reversed => "(state = 6 OR state = 3 AND till_reversal = 2)",
    }
}

fn listing(filter: &Filter) -> (String, Vec<ToSqlOutput<'static>>) {
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<ToSqlOutput<'static>> = Vec::new();
    let mut only = |condition, value: i64| {
        conditions.push(condition);
        values.push(ToSqlOutput::Owned(Value::Integer(value)));
    };
    if let Some(merchant) = filter.merchant {
        only("merchant = ?", merchant.0.into());
    }
    if let Some(from) = filter.from {
        only("accepted_at >= ?", from.0);
    }
    if let Some(until) = filter.until {
        only("accepted_at < ?", until.0);
    }
    if let Some(state) = filter.state {
        only("state = ?", state.code().into());
    }
    if let Some(shows) = filter.shows {
        conditions.push(showing(shows));
    }
    if filter.held_only {
        conditions.push("held IS NOT NULL");
    }
    if filter.open_only {
        conditions.push("open = 1");
    }
    let direction = if filter.newest_first { "DESC" } else { "ASC" };
    if let Some(Cursor { accepted_at, key }) = filter.after {
        conditions.push(if filter.newest_first {
            "(accepted_at, merchant, out_trade_no) < (?, ?, ?)"
        } else {
            "(accepted_at, merchant, out_trade_no) > (?, ?, ?)"
        });
        values.extend([
            ToSqlOutput::Owned(Value::Integer(accepted_at.0)),
            ToSqlOutput::Owned(Value::Integer(key.merchant.0.into())),
            ToSqlOutput::Owned(Value::Text(key.number.as_str().to_owned())),
        ]);
    }
    let conditions =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    // Few of many: left to itself, SQLite would walk all payments by time, since that spares it sorting these few.
    let index = match filter {
        Filter { held_only: true, .. } => " INDEXED BY payments_held",
        Filter { open_only: true, .. } => " INDEXED BY payments_open",
        Filter { .. } => "",
    };
    let sql = format!(
        "{}{index}{conditions} ORDER BY accepted_at {direction}, merchant {direction}, out_trade_no {direction} LIMIT {}",
        *SELECT,
        filter.limit(),
    );
    (sql, values)
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn an_operators_list_walks_its_own_index_and_not_all_payments() {
        let conn = Connection::open_in_memory().expect("memory");
        conn.execute_batch(schema::PAYMENTS)
            .and_then(|()| conn.execute_batch(schema::PAYMENT_INDEXES))
            .expect("tables");
        let merchant = Some(MerchantId(7));
        for (filter, index) in [
            (Filter { held_only: true, newest_first: true, ..Filter::default() }, "payments_held"),
            (Filter { open_only: true, newest_first: true, ..Filter::default() }, "payments_open"),
            (Filter { open_only: true, merchant, limit: 10, ..Filter::default() }, "payments_open"),
            (Filter { held_only: true, open_only: true, merchant, ..Filter::default() }, "payments_held"),
            (Filter { newest_first: true, ..Filter::default() }, "payments_time"),
        ] {
            let (sql, values) = listing(&filter);
            let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
            let plan = explain.query_map(params_from_iter(values), |row| row.get::<_, String>(3));
            let plan: Vec<_> = plan.expect("a plan").map(|line| line.expect("a line")).collect();
            assert!(plan.join("; ").contains(&format!("USING INDEX {index}")), "{filter:?}: {plan:?}");
        }
    }
}
