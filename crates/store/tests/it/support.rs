//! Records and stores to test with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::fact::{Paid, Refusal, Row};
use protocol::{Fen, Fields, Text};
use state_machine::record::{Cause, State};
use state_machine::shard::Outcome;
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};
use store::memory::CrashStore;
use store::{Filter, Options, Recovered, SealKey, SqliteStore, Store};
use tempfile::TempDir;

/// Half past eight on 2026-11-23, +08:00.
pub(crate) const NOW_MS: i64 = 1_795_393_800_000;

pub(crate) fn key(merchant: u32, number: &str) -> OrderKey {
    OrderKey { merchant: MerchantId(merchant), number: number.parse().expect("a number") }
}

pub(crate) fn accepted(merchant: u32, number: &str) -> Record {
    let now = Now { tick: Tick::from_ms(u64::MAX - 1), wall: UnixMs(NOW_MS) };
    Record {
        amount: Some(Fen::new(1_288).expect("an amount")),
        digest: *b"0123456789abcdef",
        attach: u64::MAX,
        ..Record::begun(key(merchant, number), ProviderId(7), now, BootId(u64::MAX / 3))
    }
}

/// The next version of `record`, in `state`, with all that usually comes with it.
pub(crate) fn moved(record: &Record, state: State) -> Record {
    let mut next = Record { version: record.version + 1, state, ..record.clone() };
    next.changed_at = UnixMs(record.changed_at.0 + 1_000);
    next.left_tick = Some(Tick::from_ms(12_345));
    match state {
        State::Accepted | State::Pending => {}
        State::Paid => {
            next.cause = Some(Cause::Row(Row::B4));
            next.decided_at = Some(next.changed_at);
            next.paid = Some(Box::new(paid("420000123420261123", "oUpF8uMuAJO_canary")));
        }
        State::Failed => {
            next.cause = Some(Cause::Row(Row::A11));
            next.decided_at = Some(next.changed_at);
            next.refusal = Some(Box::new(Refusal {
                code: Text::new("NOTENOUGH").expect("a short text"),
                description: "余额不足".into(),
            }));
        }
        State::Reversing => {
            next.cause = Some(Cause::Deadline);
            next.decided_at = Some(next.changed_at);
        }
        State::Reversed => {
            next.proof = Some(Row::B8);
            next.looks_left = 0;
        }
    }
    next
}

pub(crate) fn paid(transaction_id: &str, openid: &str) -> Paid {
    Paid {
        amount: Fen::new(1_288).expect("an amount"),
        transaction_id: transaction_id.parse().expect("a number"),
        time_end_s: Some(1_795_393_803),
        attach: 99,
        merchant_matches: true,
        fields: Fields::new([("openid", openid), ("bank_type", "CMB_DEBIT"), ("attach", "")]),
    }
}

/// A directory with the path of a store in it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    pub(crate) fn open(&self) -> SqliteStore {
        self.open_with(Options::default())
    }

    /// What is committed goes into the database at once, beside whatever else happens.
    pub(crate) fn open_eager(&self) -> SqliteStore {
        self.open_with(Options { fold_records: 1, ..Options::default() })
    }

    /// What is committed stays in the first file of recent records until the store is closed.
    pub(crate) fn open_unfolded(&self) -> SqliteStore {
        self.open_with(Options { fold_records: u32::MAX, ..Options::default() })
    }

    pub(crate) fn open_with(&self, options: Options) -> SqliteStore {
        SqliteStore::open(&self.path(), &seal_key(), options).expect("the store opens")
    }

    /// What a power cut would leave: the files as they are while the store is open.
    pub(crate) fn snapshot(&self) -> Self {
        let copy = Self::new();
        for suffix in ["", "-wal", "-recent-0", "-recent-1"] {
            let from = with_suffix(&self.path(), suffix);
            if from.exists() {
                std::fs::copy(from, with_suffix(&copy.path(), suffix)).expect("a copy");
            }
        }
        copy
    }

    pub(crate) fn bytes(&self, suffix: &str) -> Vec<u8> {
        std::fs::read(with_suffix(&self.path(), suffix)).unwrap_or_default()
    }

    pub(crate) fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).expect("the file opens")
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn seal_key() -> SealKey {
    SealKey::from_bytes([0x5a; 32])
}

pub(crate) fn commit(store: &mut dyn Store, records: &[Record]) -> Vec<Outcome> {
    let records: Vec<Arc<Record>> = records.iter().cloned().map(Arc::new).collect();
    store.commit(&records).expect("the store takes records")
}

/// Commits, and insists that everything was applied.
pub(crate) fn apply(store: &mut dyn Store, records: &[Record]) {
    let outcomes = commit(store, records);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{outcomes:?}");
}

/// Everything that recovery finds, by key: open records, and what is said of damaged ones.
pub(crate) fn recovered(store: &mut dyn Store) -> (Vec<Record>, Vec<store::Damaged>) {
    let (mut open, mut damaged) = (Vec::new(), Vec::new());
    let count = store
        .open_orders(&mut |found| match found {
            Recovered::Open(record) => open.push(*record),
            Recovered::Damaged(row) => damaged.push(row),
        })
        .expect("the store can be read");
    assert_eq!(count, open.len() as u64);
    open.sort_by_key(|record| record.key);
    (open, damaged)
}

pub(crate) fn all(store: &mut dyn Store) -> Vec<Record> {
    store.list(&Filter::default()).expect("the store can be read").records
}

/// Runs `test` against the real store and the simulation's.
pub(crate) fn on_both(test: impl Fn(&mut dyn Store)) {
    test(&mut CrashStore::synced());
    let place = Place::new();
    test(&mut place.open());
}
