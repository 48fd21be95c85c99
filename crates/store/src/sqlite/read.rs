//! Lookups, listings, and the scan at the start: the same for the writer and for readers beside it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use planted::planted;
use protocol::TransactionId;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row, params, params_from_iter};
use state_machine::{MerchantId, OrderKey, Record};

use super::row::{self, COLUMNS, LEN};
use crate::contract::{Cursor, Damaged, Filter, Listing, Recovered, StoreError};
use crate::seal::Sealer;

/// A row as it stands: a record, or damage that is set aside.
pub(super) type Found = Result<Record, Damaged>;

static SELECT: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {}, checksum FROM payments", COLUMNS.join(", ")));
static BY_KEY: LazyLock<String> =
    LazyLock::new(|| format!("{} WHERE merchant = ?1 AND out_trade_no = ?2", *SELECT));
static BY_TRANSACTION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} WHERE merchant = ?1 AND transaction_id = ?2 ORDER BY accepted_at, merchant, out_trade_no LIMIT 1",
        *SELECT
    )
});
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

    pub(super) fn find(&self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        known(self.row(key).map_err(|error| unreadable(&error))?)
    }

    pub(super) fn find_by_transaction(
        &self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError> {
        let find = || {
            let mut statement = self.conn.prepare_cached(&BY_TRANSACTION)?;
            let mut rows = statement.query(params![merchant.0, id.as_str()])?;
            rows.next()?.map(|row| self.take(row)).transpose()
        };
        known(find().map_err(|error: rusqlite::Error| unreadable(&error))?)
    }

    pub(super) fn list(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let list = || {
            let (sql, values) = listing(filter);
            let mut statement = self.conn.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            let limit = usize::try_from(filter.limit()).unwrap_or(usize::MAX);
            let mut listing = Listing::default();
            let mut seen = 0;
            while let Some(row) = rows.next()? {
                seen += 1;
                // What the row says of its place, trusted or not, is what it was sorted by.
                let place = place(row);
                match self.take(row)? {
                    Ok(record) => listing.records.push(record),
                    Err((damaged, _)) => listing.damaged.push(damaged),
                }
                listing.next = if seen == limit { place } else { None };
            }
            Ok(listing)
        };
        list().map_err(|error: rusqlite::Error| unreadable(&error))
    }

    /// Visits every open order. Where the list of open orders does not agree with the rows, or cannot be read,
    /// every row of the table is looked at instead.
    pub(super) fn open_orders(&self, visit: &mut dyn FnMut(Recovered)) -> Result<u64, StoreError> {
        let mut open = 0;
        let mut visited = BTreeSet::new();
        let mut agrees = true;
        match self.open_list() {
            Ok(list) => {
                for seq in list {
                    match self.at(seq) {
                        Ok(Some((Ok(record), true))) if record.is_open() => {
                            open += 1;
                            visit(Recovered::Open(Box::new(record)));
                        }
                        // Open by the rule of an older program.
                        Ok(Some((Ok(_), true))) => {}
                        Ok(Some((Ok(_), false)) | None) => {
                            agrees = false;
                            continue;
                        }
                        Ok(Some((Err(_), _))) | Err(_) if planted!(DamageHidden) => {}
                        Ok(Some((Err(damaged), _))) => visit(Recovered::Damaged(damaged)),
                        Err(error) => visit(Recovered::Damaged(unreadable_row(seq, &error))),
                    }
                    visited.insert(seq);
                }
            }
            Err(_) => agrees = false,
        }
        if !agrees {
            tracing::warn!("the store's list of open orders is damaged; every payment is looked at instead");
            open += self.walk(&visited, &mut |found| match found {
                Ok(record) if record.is_open() => {
                    visit(Recovered::Open(Box::new(record)));
                    true
                }
                Ok(_) => false,
                Err(damaged) => {
                    visit(Recovered::Damaged(damaged));
                    false
                }
            })?;
        }
        Ok(open)
    }

    /// Looks at every row but those in `skip`, one by one, so that no damage hides what is behind it. Returns how
    /// often `visit` said true.
    pub(super) fn walk(
        &self,
        skip: &BTreeSet<i64>,
        visit: &mut dyn FnMut(Found) -> bool,
    ) -> Result<u64, StoreError> {
        // Rows are numbered without gaps: none is ever deleted.
        let last: i64 = self
            .conn
            .query_row("SELECT coalesce(max(seq), 0) FROM payments NOT INDEXED", [], |row| row.get(0))
            .map_err(|error| unreadable(&error))?;
        let mut counted = 0;
        for seq in (1..=last).filter(|seq| !skip.contains(seq)) {
            let found = match self.at(seq) {
                Ok(Some((found, _))) => found,
                Ok(None) => Err(Damaged { key: None, why: format!("row {seq} is missing") }),
                Err(error) => Err(unreadable_row(seq, &error)),
            };
            counted += u64::from(visit(found));
        }
        Ok(counted)
    }

    fn open_list(&self) -> rusqlite::Result<Vec<i64>> {
        let sql = "SELECT seq FROM payments INDEXED BY payments_open WHERE open = 1";
        self.conn.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
    }

    /// The row numbered `seq`, and whether it says that it is on the list of open orders.
    fn at(&self, seq: i64) -> rusqlite::Result<Option<(Found, bool)>> {
        let mut statement = self.conn.prepare_cached(&BY_SEQ)?;
        let mut rows = statement.query([seq])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let listed = row.get_ref("open")? == ValueRef::Integer(1);
        Ok(Some((self.take(row)?.map_err(|(damaged, _)| damaged), listed)))
    }

    fn take(&self, row: &Row<'_>) -> rusqlite::Result<Result<Record, (Damaged, u32)>> {
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

fn known(found: Option<Result<Record, (Damaged, u32)>>) -> Result<Option<Record>, StoreError> {
    found.transpose().map_err(|(damaged, _)| StoreError::Damaged(Box::new(damaged)))
}

fn place(row: &Row<'_>) -> Option<Cursor> {
    let merchant = MerchantId(row.get("merchant").ok()?);
    let number: String = row.get("out_trade_no").ok()?;
    let accepted_at = state_machine::UnixMs(row.get("accepted_at").ok()?);
    Some(Cursor { accepted_at, key: OrderKey { merchant, number: number.parse().ok()? } })
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
    if filter.held_only {
        conditions.push("held IS NOT NULL");
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
    let sql = format!(
        "{}{conditions} ORDER BY accepted_at {direction}, merchant {direction}, out_trade_no {direction} LIMIT {}",
        *SELECT,
        filter.limit(),
    );
    (sql, values)
}
