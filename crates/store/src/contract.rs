//! What every store of payments promises: plain, sync, driven from a thread of its own.
//!
//! One [`Store::commit`] is one durable commit, and each record in it is conditional: version 1 is inserted if
//! the order is absent, version *n* replaces version *n − 1* only, and only by a legal move. This is where PAID
//! and REVERSING come to exclude each other. Source: DESIGN §1; faults-and-invariants INV-07, INV-13 to 17.

use std::fmt;
use std::sync::Arc;

use protocol::wechat_v2::time::format_spaced;
use protocol::{OutTradeNo, TransactionId};
use state_machine::record::{Claim, Held, State};
use state_machine::shard::Outcome;
use state_machine::step::Step;
use state_machine::till::JsonState;
use state_machine::{MerchantId, OrderKey, Record, UnixMs};
use thiserror::Error;

/// Grows with each opening of the store as its writer. A writer whose fence is no longer the newest is refused
/// in the same transaction that would write (INV-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Durable records, conditional writes, recovery.
pub trait Store: Send {
    /// The fence under which this writer was opened.
    fn fence(&self) -> Fence;

    /// Makes `records` durable in one commit and says, in their order, what became of each.
    ///
    /// Version 1 is applied if the order is absent; version *n* only over version *n − 1*, if
    /// [`State::may_become`] allows the move and `accepted_at` is the same. Everything else is a conflict,
    /// which carries what is there instead. A conflict never stops other orders; of the same order it makes
    /// every later record of the call a conflict too. What is there but cannot be read, or is not there at all,
    /// is shown as [`stand_in`] has it.
    ///
    /// # Errors
    ///
    /// None of them leaves a part of `records` applied. [`CommitError::Busy`]: nothing was written, call again
    /// with the same records. [`CommitError::Fatal`] and [`CommitError::Fenced`]: end the process; after Fatal
    /// the records may or may not be durable, and only the next opening can tell.
    fn commit(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, CommitError>;

    /// Visits every durable record for which [`Record::is_open`] holds, in no particular order, and every row
    /// that cannot be trusted, which is set aside while the others go on (PR-13, DB-11). Returns the number of
    /// open records visited.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] if the rows cannot even be listed.
    fn open_orders(&mut self, visit: &mut dyn FnMut(Recovered)) -> Result<u64, StoreError>;

    /// The durable record under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn find(&mut self, key: &OrderKey) -> Result<Option<Record>, StoreError>;

    /// The durable record of `merchant` that holds the channel's number `id`; the oldest, should there be more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn find_by_transaction(
        &mut self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError>;

    /// The durable records that `filter` lets through, by the time they were accepted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    fn list(&mut self, filter: &Filter) -> Result<Listing, StoreError>;

    /// What a merchant may be told, in the order in which it became durable.
    ///
    /// Each record that [`Store::commit`] applies and that makes its payment show another state than before
    /// ([`Step::shows`]) is an event, written in that very commit. The events of a merchant are numbered from 1
    /// without gaps, over all its payments, and none is ever changed or taken away: whoever says which number was
    /// heard last is told exactly what follows, over restarts too.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`].
    fn events(&mut self, query: &EventQuery) -> Result<Events, StoreError>;
}

/// Why a commit did not happen.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommitError {
    /// The disk is full, or another program holds the store. Nothing was written.
    #[error(
        "the store takes no records at the moment: {0}. Nothing was written and nothing was told or sent; the \
         same records are tried again, and new payments are refused meanwhile. Free disk space, or end the \
         program that holds the store."
    )]
    Busy(String),
    /// Reading, writing or syncing failed.
    #[error(
        "the store failed: {0}. Whether the last records are durable is unknown, and money may have moved for \
         open orders; none of it was told. Stop the process, check the disk, start it again: it reads what is \
         there and asks the wallet about every open order."
    )]
    Fatal(String),
    /// A newer writer is in the store.
    #[error(
        "another process has opened this store as its writer (fence {newer}, ours is {ours}). Nothing was \
         written. This process must stop at once; the other one carries every open order on."
    )]
    Fenced {
        /// This writer's fence.
        ours: Fence,
        /// The newest fence.
        newer: Fence,
    },
}

/// Why a read gave no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    /// The store could not be read.
    #[error(
        "the store cannot be read: {0}. Nothing was changed. If this repeats, stop the process, check the \
         disk, and start it again; what to do if it is damaged is said at the start."
    )]
    Unreadable(String),
    /// The rows are not those that were committed, and which ones differ cannot be said.
    #[error(
        "the store contradicts itself: {0}. Nothing may be served from it: a payment may be missing or stand as it \
         did earlier, and money may have moved. Move the file and everything beside it that begins with its name (-wal, \
         -shm, -mark, -recent-0, -recent-1) away, put the newest backup in its place, and compare the wallet's bill with its payments."
    )]
    Contradicts(String),
    /// The row is there and is not to be trusted.
    #[error("{0}")]
    Damaged(Box<Damaged>),
}

/// A row that is set aside: its checksum does not match what it says, or it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a stored payment is damaged and set aside ({}): {why}. Its outcome is told to nobody, and money may have \
     moved. Look the number up at the wallet, then restore the row from a backup.",
    key.map_or_else(|| "number unreadable".to_owned(), |key| format!("merchant {}, {}", key.merchant.0, key.number))
)]
pub struct Damaged {
    /// What the row says is its key, if that can be read at all.
    pub key: Option<OrderKey>,
    /// What is wrong with it.
    pub why: String,
}

/// One find of [`Store::open_orders`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// An order that something is still to be done for.
    Open(Box<Record>),
    /// A row that is set aside; the order stays as it is until an operator has looked at it.
    Damaged(Damaged),
}

/// A day as the channel's bills count it (+08:00), by its number since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

impl Day {
    /// Milliseconds of a day.
    pub const MS: i64 = 86_400_000;
    const OFFSET_MS: i64 = 8 * 3_600_000;

    /// The day that holds the moment `at`.
    #[must_use]
    pub const fn of(at: UnixMs) -> Self {
        Self(at.0.saturating_add(Self::OFFSET_MS).div_euclid(Self::MS))
    }

    /// Its first moment.
    #[must_use]
    pub const fn start(self) -> UnixMs {
        UnixMs(self.0.saturating_mul(Self::MS).saturating_sub(Self::OFFSET_MS))
    }

    /// The first moment of the next one.
    #[must_use]
    pub const fn end(self) -> UnixMs {
        UnixMs(self.start().0.saturating_add(Self::MS))
    }
}

impl fmt::Display for Day {
    /// As `2026-11-23`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.start().0.checked_div(1_000).and_then(format_spaced);
        match text.as_ref().and_then(|text| text.as_str().get(..10)) {
            Some(text) => f.write_str(text),
            None => write!(f, "day {}", self.0),
        }
    }
}

/// Which records to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this merchant only.
    pub merchant: Option<MerchantId>,
    /// Accepted at this moment or later.
    pub from: Option<UnixMs>,
    /// Accepted before this moment.
    pub until: Option<UnixMs>,
    /// In this state only.
    pub state: Option<State>,
    /// Those that show this state to their merchant only.
    pub shows: Option<JsonState>,
    /// Held ones only: read from the list of those, however many payments there are.
    pub held_only: bool,
    /// Those only that something is still to be done for ([`Record::is_open`]): read from the list of those, likewise.
    pub open_only: bool,
    /// Those accepted last come first.
    pub newest_first: bool,
    /// How many at most, 1 to [`Filter::LIMIT_MAX`]; 0 means that maximum.
    pub limit: u32,
    /// Goes on after the last record of an earlier listing ([`Listing::next`]) with the same filter.
    pub after: Option<Cursor>,
}

impl Filter {
    /// The most records that one call lists.
    pub const LIMIT_MAX: u32 = 10_000;

    /// Everything accepted on the day (+08:00, as the channel's bills count it) that holds the moment `at`.
    #[must_use]
    pub fn day_utc8(at: UnixMs) -> Self {
        let day = Day::of(at);
        Self { from: Some(day.start()), until: Some(day.end()), ..Self::default() }
    }

    /// Whether `record` is one of those that are asked for; limit and place apart.
    #[must_use]
    pub fn passes(&self, record: &Record) -> bool {
        self.merchant.is_none_or(|merchant| record.key.merchant == merchant)
            && self.from.is_none_or(|from| record.accepted_at >= from)
            && self.until.is_none_or(|until| record.accepted_at < until)
            && self.state.is_none_or(|state| record.state == state)
            && self.shows.is_none_or(|shows| Step::of(record).shows() == shows)
            && (!self.held_only || record.held.is_some())
            && (!self.open_only || record.is_open())
    }

    /// The number of records that this filter asks for.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        if self.limit == 0 || self.limit > Self::LIMIT_MAX { Self::LIMIT_MAX } else { self.limit }
    }
}

/// A place in a listing: listings are ordered by moment, then merchant, then number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// When that record was accepted.
    pub accepted_at: UnixMs,
    /// Its key.
    pub key: OrderKey,
}

impl Cursor {
    /// The place of `record`.
    #[must_use]
    pub const fn of(record: &Record) -> Self {
        Self { accepted_at: record.accepted_at, key: record.key }
    }
}

/// Part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Rows that would be listed but cannot be trusted.
    pub damaged: Vec<Damaged>,
    /// Where to go on; `None` when this was the end.
    pub next: Option<Cursor>,
}

/// Which events to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Of this merchant.
    pub merchant: MerchantId,
    /// Of this payment only.
    pub number: Option<OutTradeNo>,
    /// Those numbered higher.
    pub after: u64,
    /// How many at most, 1 to [`EventQuery::LIMIT_MAX`]; 0 and more mean that maximum.
    pub limit: u32,
}

impl EventQuery {
    /// The most events that one call reads.
    pub const LIMIT_MAX: u32 = 1_000;

    /// The number of events that this query asks for.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        if self.limit == 0 || self.limit > Self::LIMIT_MAX { Self::LIMIT_MAX } else { self.limit }
    }
}

/// Something that a merchant may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place among the merchant's events, from 1.
    pub number: u64,
    /// The payment as it was then ([`Step::seen_in`]); or why that cannot be said for certain.
    pub payment: Result<Box<Record>, Damaged>,
}

/// Part of a merchant's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The events, in order.
    pub events: Vec<Event>,
    /// The number of the merchant's last event when this was asked, 0 if there is none. Beside a writer the events may go
    /// on behind it.
    pub last: u64,
}

/// What a conflict shows where the store cannot show what is there: the row is damaged, or `offered` replaces a
/// version of an order that has no row. It is `offered` as an open, held order whose money is not ours: a till is
/// told to ask again, no success is taken for it and nothing is reversed, and it ends only if the wallet shows
/// that there is no money (DB-11). It belongs to no content and has no amount: `offered` may be another's request
/// under this number, and whoever sent the first must not be told that this time nothing was charged (INV-16).
/// `version` is what the row says, 0 without a row.
#[must_use]
pub fn stand_in(offered: &Record, version: u32) -> Record {
    Record {
        version,
        state: State::Pending,
        cause: None,
        decided_at: None,
        refusal: None,
        paid: None,
        amount: None,
        claim: Claim::Foreign,
        held: Some(Held::NumberTaken),
        ..offered.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, UnixMs};

    #[test]
    fn a_day_begins_at_sixteen_hours_utc() {
        // 2026-11-23T15:59:59.999Z is still the 23rd in +08:00, a millisecond later it is the 24th.
        let start_of_23 = 1_795_363_200_000;
        for (at, start) in [
            (start_of_23, start_of_23),
            (start_of_23 + 86_399_999, start_of_23),
            (start_of_23 + 86_400_000, start_of_23 + 86_400_000),
            (start_of_23 - 1, start_of_23 - 86_400_000),
            (0, -28_800_000),
        ] {
            let filter = Filter::day_utc8(UnixMs(at));
            assert_eq!(filter.from, Some(UnixMs(start)), "{at}");
            assert_eq!(filter.until, Some(UnixMs(start + 86_400_000)), "{at}");
        }
    }

    #[test]
    fn limits_have_a_ceiling() {
        for (asked, given) in [(0, 10_000), (1, 1), (10_000, 10_000), (10_001, 10_000)] {
            assert_eq!(Filter { limit: asked, ..Filter::default() }.limit(), given);
        }
    }
}
