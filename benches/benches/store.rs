//! What share of the bare disk's pace does a durable commit keep, at 1, 16, 128 and 1,024 records?
//!
//! The store runs its production schema with 10,000 merchants and a history of 200,000 payments. The records are
//! those of a switch at work: half are new orders, half make an order of a moment ago PAID, with the wallet's
//! answer sealed. The bare side appends the same bytes to a file and calls `fdatasync`. Both work in the same
//! directory in turns of a few dozen commits, so that what else the machine does hits both alike.
//!
//! What is committed goes on into the database and its indexes beside the commits, checkpoints included; how many
//! records were left to go there at the end of each size, and how long that took, stands in the last columns, and the
//! rate with that time added: what could be sustained if it never got quiet.
//!
//! `cargo bench -p hufu-benches --bench store`

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::fact::{Paid, Row};
use protocol::{Fen, Fields, TransactionId};
use serde_json::json;
use state_machine::record::{Cause, State};
use state_machine::shard::Outcome;
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};
use store::{Options, SealKey, SqliteStore, Store};

const MERCHANTS: u64 = 10_000;
/// How many orders later an order is paid.
const OPEN: usize = 512;

/// How much to run: everything, or once to see that it runs.
struct Scale {
    history: usize,
    /// Commits of each side in a turn, and turns, per batch size.
    sizes: &'static [(usize, usize, usize)],
}

const FULL: Scale =
    Scale { history: 200_000, sizes: &[(1, 50, 60), (16, 50, 60), (128, 25, 60), (1_024, 10, 24)] };
const ONCE: Scale = Scale { history: 2_000, sizes: &[(1, 2, 1), (16, 2, 1), (128, 2, 1), (1_024, 2, 1)] };

fn main() {
    let scale = if std::env::args().any(|arg| arg == "--bench") { FULL } else { ONCE };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut store = open(&dir.path().join("store.db"));
    let mut bare = File::create(dir.path().join("bare")).expect("a file");
    let mut life = Life::new();
    for _ in 0..scale.history.div_ceil(1_024) {
        store_commit(&mut store, &life.batch(1_024));
    }

    eprintln!(
        "| records | store p50 | p99 | p99.9 | records/s | bare p50 | p99 | p99.9 | records/s | ratio | p99 ratio | left | \
         took | sustained |"
    );
    eprintln!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let (mut quiet, mut measured) = (Vec::new(), Vec::new());
    for &(size, commits, turns) in scale.sizes {
        let (mut ours, mut theirs, mut sample) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..turns {
            let batches: Vec<_> = (0..commits).map(|_| life.batch(size)).collect();
            let bytes: Vec<Vec<u8>> = batches.iter().map(|batch| flat(batch)).collect();
            ours.extend(batches.iter().map(|batch| timed(|| store_commit(&mut store, batch))));
            theirs.extend(bytes.iter().map(|bytes| {
                timed(|| {
                    bare.write_all(bytes).expect("disk space");
                    bare.sync_data().expect("a working disk");
                })
            }));
            sample = bytes;
        }
        let left = store.backlog();
        let rest = timed(|| store.fold().expect("a working disk"));
        measured.push(report(size, ours, theirs, left, rest));
        // The database's thread is quiet now: what the disk gives to the bare side alone.
        let again = sample.iter().cycle().take(commits * turns / 4 + 1);
        let alone = again.map(|bytes| {
            timed(|| {
                bare.write_all(bytes).expect("disk space");
                bare.sync_data().expect("a working disk");
            })
        });
        quiet.push((size, alone.collect::<Vec<_>>()));
    }
    // For `ratios`; what ran once says nothing.
    let criterion = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion");
    if std::env::args().any(|arg| arg == "--bench") {
        std::fs::create_dir_all(&criterion).expect("a directory");
        let text = serde_json::Value::from(measured).to_string();
        std::fs::write(criterion.join("store.json"), text).expect("disk space");
    }
    eprintln!("bare with nothing beside it:");
    for (size, times) in quiet {
        let total: Duration = times.iter().sum();
        let rate =
            (u128::try_from(size * times.len()).expect("small") * 1_000_000) / total.as_micros().max(1);
        let mut times = times;
        times.sort_unstable();
        eprintln!("{size}: p50 {} µs, {rate} records/s", times[times.len() / 2].as_micros());
    }
}

fn open(path: &Path) -> SqliteStore {
    let options = Options::default();
    SqliteStore::open(path, &SealKey::from_bytes([7; 32]), options).expect("a new store")
}

fn store_commit(store: &mut SqliteStore, records: &[Arc<Record>]) {
    let outcomes = store.commit(records).expect("a working disk");
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "the records follow each other");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// Prints one line, and gives it as `ratios` reads it.
#[expect(clippy::float_arithmetic, reason = "rates and ratios for people")]
fn report(
    size: usize,
    mut ours: Vec<Duration>,
    mut theirs: Vec<Duration>,
    left: usize,
    rest: Duration,
) -> serde_json::Value {
    let records = f64::from(u32::try_from(size * ours.len()).expect("a few million"));
    let sustained = records / (ours.iter().sum::<Duration>() + rest).as_secs_f64();
    let line = |times: &mut Vec<Duration>| {
        let total: Duration = times.iter().sum();
        let rate = records / total.as_secs_f64();
        times.sort_unstable();
        let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1_000].as_micros();
        let p99 = f64::from(u32::try_from(at(990)).unwrap_or(u32::MAX));
        (format!("{} µs | {} µs | {} µs | {rate:.0}", at(500), at(990), at(999)), rate, p99)
    };
    let ((ours, our_rate, our_p99), (theirs, their_rate, their_p99)) = (line(&mut ours), line(&mut theirs));
    let ms = rest.as_millis();
    eprintln!(
        "| {size} | {ours} | {theirs} | {:.2} | {:.1} | {left} | {ms} ms | {sustained:.0} ({:.2}) |",
        our_rate / their_rate,
        our_p99 / their_p99,
        sustained / their_rate,
    );
    json!({
        "records": size,
        "store_per_second": our_rate,
        "sustained_per_second": sustained,
        "bare_per_second": their_rate,
        "store_p99_us": our_p99,
        "bare_p99_us": their_p99,
    })
}

/// Orders as they come and are paid.
struct Life {
    random: u64,
    born: u64,
    /// Accepted and not paid yet, oldest first.
    open: std::collections::VecDeque<Arc<Record>>,
    now_ms: i64,
}

impl Life {
    fn new() -> Self {
        Self { random: 42, born: 0, open: std::collections::VecDeque::new(), now_ms: 1_795_363_200_000 }
    }

    fn batch(&mut self, size: usize) -> Vec<Arc<Record>> {
        (0..size)
            .map(|_| {
                if self.open.len() < OPEN || self.next().is_multiple_of(2) {
                    self.accept()
                } else {
                    self.pay()
                }
            })
            .collect()
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn accept(&mut self) -> Arc<Record> {
        self.born += 1;
        self.now_ms += 1;
        let merchant = MerchantId(u32::try_from(self.next() % MERCHANTS + 1).expect("a small number"));
        // Tills make their numbers of the time and a counter or some random digits.
        let (counter, random) = (self.born, self.next() % 1_000_000);
        let number = format!("20261123{counter:012}{random:06}");
        let key = OrderKey { merchant, number: number.parse().expect("digits") };
        let now = Now { tick: Tick::from_ms(self.born), wall: UnixMs(self.now_ms) };
        let record = Arc::new(Record {
            amount: Some(Fen::new(1 + self.next() % 100_000).expect("an amount")),
            digest: u128::from(self.next()).to_le_bytes(),
            attach: self.next(),
            ..Record::begun(key, ProviderId(1), now, BootId(3))
        });
        self.open.push_back(Arc::clone(&record));
        record
    }

    fn pay(&mut self) -> Arc<Record> {
        let at = usize::try_from(self.next() % 64).expect("a small number");
        let accepted = self.open.remove(at).expect("more are open");
        let (head, tail) = (self.next() % 1_000_000, self.next() % 10_000_000_000);
        let transaction_id = format!("4200{head:06}20261123{tail:010}");
        let openid = format!("oUpF8uMuAJO_M2pxb1Q{:09}", self.next() % 1_000_000_000);
        let fields = Fields::new([
            ("openid", openid.as_str()),
            ("is_subscribe", "N"),
            ("trade_type", "MICROPAY"),
            ("bank_type", "CMB_DEBIT"),
            ("fee_type", "CNY"),
            ("cash_fee", "1288"),
            ("attach", "till=07;cashier=112"),
            ("time_end", "20261123184502"),
        ]);
        Arc::new(Record {
            version: 2,
            state: State::Paid,
            cause: Some(Cause::Row(Row::B4)),
            changed_at: UnixMs(self.now_ms),
            decided_at: Some(UnixMs(self.now_ms)),
            left_tick: Some(Tick::from_ms(self.born)),
            paid: Some(Box::new(Paid {
                amount: accepted.amount.expect("accepted with an amount"),
                transaction_id: transaction_id.parse::<TransactionId>().expect("digits"),
                time_end_s: Some(self.now_ms / 1_000),
                attach: accepted.attach,
                merchant_matches: true,
                fields,
            })),
            ..Record::clone(&accepted)
        })
    }
}

/// The records as plain bytes: what a file of our own would hold of them.
fn flat(records: &[Arc<Record>]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        out.extend_from_slice(&record.key.merchant.0.to_le_bytes());
        out.extend_from_slice(record.key.number.as_str().as_bytes());
        out.extend_from_slice(&[0; 12]); // channel, provider, version, state, cause, proof, flags
        out.extend_from_slice(&record.amount.map_or(0, Fen::get).to_le_bytes());
        out.extend_from_slice(&record.digest);
        for number in [record.attach, record.accepted_tick.as_ms(), record.boot.0, record.refunded_fen] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for at in [record.accepted_at, record.changed_at, record.decided_at.unwrap_or(UnixMs(0))] {
            out.extend_from_slice(&at.0.to_le_bytes());
        }
        if let Some(paid) = &record.paid {
            out.extend_from_slice(paid.transaction_id.as_str().as_bytes());
            out.extend_from_slice(&[0; 16]); // amount, time_end_s
            out.extend_from_slice(paid.fields.as_bytes());
        }
        out.extend_from_slice(&[0; 16]); // a checksum
    }
    out
}
