//! Does a store with days of payments behind it cost more than an empty one?
//!
//! Commits and lookups are timed on an empty store, then again when it has taken `--days` days of `--per-day`
//! payments, each accepted and then paid. The same commits to a file of their own say what the disk gave meanwhile.
//!
//! `cargo run --release -p store --example days -- --days 3 --per-day 1000000`
#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement for people"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::fact::{Paid, Row};
use protocol::{Fen, Fields};
use state_machine::record::{Cause, State};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};
use store::{Options, SealKey, SqliteStore, Store};

const MERCHANTS: u64 = 10_000;
const DAY_MS: i64 = 86_400_000;
/// The first of 2026-11-23, +08:00.
const FIRST_DAY: i64 = 1_795_363_200_000;
/// What is timed: commits of so many records, and lookups.
const RECORDS: usize = 128;
const COMMITS: usize = 400;
const LOOKUPS: usize = 20_000;

fn main() {
    let days = number("--days", 3);
    let per_day = number("--per-day", 1_000_000);
    let folder = PathBuf::from(text("--folder").unwrap_or_else(|| ".".to_owned()));
    let place = tempfile::tempdir_in(folder).expect("a directory");
    let path = place.path().join("store.db");
    let mut store =
        SqliteStore::open(&path, &SealKey::from_bytes([7; 32]), Options::default()).expect("a store");
    let mut life = Life { random: 42, day: 0, born: 0 };
    println!(
        "| payments | commit p50 | p99 | lookup p50 | p99 | of a number that is not there, p99 | file |"
    );
    println!("|---|---|---|---|---|---|---|");
    let empty = measure(&mut store, &mut life, 1);
    tell(0, &empty, &path);
    let began = Instant::now();
    for day in 0..days {
        (life.day, life.born) = (day, 0);
        while life.born < per_day {
            let accepted: Vec<_> = (0..4_096.min(per_day - life.born)).map(|_| life.accept()).collect();
            let paid: Vec<_> = accepted.iter().map(|record| life.pay(record)).collect();
            for records in [accepted, paid] {
                while store.commit(&records).is_err() {
                    // Its recent records wait to be put into the database.
                    store.fold().expect("a working disk");
                }
            }
        }
    }
    store.fold().expect("a working disk");
    let took_ms = u64::try_from(began.elapsed().as_millis()).expect("hours").max(1);
    let full = measure(&mut store, &mut life, days);
    tell(days * per_day, &full, &path);
    let ratio = |of: fn(&Figures) -> Duration| of(&full).as_secs_f64() / of(&empty).as_secs_f64();
    println!(
        "full against empty: commit p50 {:.2} ×, p99 {:.2} ×; lookup p50 {:.2} ×, p99 {:.2} ×; filled with {} records/s",
        ratio(|figures| figures.commits[0]),
        ratio(|figures| figures.commits[1]),
        ratio(|figures| figures.lookups[0]),
        ratio(|figures| figures.lookups[1]),
        days * per_day * 2 * 1_000 / took_ms,
    );
}

fn text(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn number(name: &str, default: u64) -> u64 {
    text(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Halves and 99 of 100.
struct Figures {
    commits: [Duration; 2],
    lookups: [Duration; 2],
    misses: [Duration; 2],
}

fn measure(store: &mut SqliteStore, life: &mut Life, days: u64) -> Figures {
    // Accepted now: on a day of their own, behind all others.
    (life.day, life.born) = (10_000 + days, 0);
    let batches: Vec<Vec<_>> = (0..COMMITS).map(|_| (0..RECORDS).map(|_| life.accept()).collect()).collect();
    let commits = batches.iter().map(|batch| timed(|| drop(store.commit(batch).expect("a working disk"))));
    let commits = quantiles(commits.collect());
    store.fold().expect("a working disk");
    let keys: Vec<OrderKey> = batches.iter().flatten().map(|record| record.key).collect();
    let mut reader = store.reader().expect("a reader");
    let mut of = |key: &dyn Fn(usize) -> OrderKey, there: bool| {
        let looked = (0..LOOKUPS).map(|at| {
            let key = key(at);
            timed(|| assert_eq!(reader.find(&key).expect("readable").is_some(), there))
        });
        quantiles(looked.collect())
    };
    let lookups = of(&|at| keys[at * 7_919 % keys.len()], true);
    let misses =
        of(&|at| OrderKey { number: format!("NOT-THERE-{at}").parse().expect("a number"), ..keys[0] }, false);
    Figures { commits, lookups, misses }
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn quantiles(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

fn tell(payments: u64, figures: &Figures, path: &std::path::Path) {
    let us = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6);
    let mib = std::fs::metadata(path).map_or(0, |found| found.len()) >> 20;
    println!(
        "| {payments} | {} | {} | {} | {} | {} | {mib} MiB |",
        us(figures.commits[0]),
        us(figures.commits[1]),
        us(figures.lookups[0]),
        us(figures.lookups[1]),
        us(figures.misses[1]),
    );
}

struct Life {
    random: u64,
    day: u64,
    born: u64,
}

impl Life {
    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn accept(&mut self) -> Arc<Record> {
        self.born += 1;
        let merchant = MerchantId(u32::try_from(self.next() % MERCHANTS + 1).expect("a small number"));
        let random = self.next() % 1_000_000;
        let number = format!("{:05}{:012}{random:06}", self.day, self.born);
        let key = OrderKey { merchant, number: number.parse().expect("digits") };
        let within = i64::try_from(self.born).expect("a small number") * 50 % DAY_MS;
        let wall = UnixMs(FIRST_DAY + i64::try_from(self.day).expect("a small number") * DAY_MS + within);
        let now = Now { tick: Tick::from_ms(self.born), wall };
        Arc::new(Record {
            amount: Some(Fen::new(1 + self.next() % 100_000).expect("an amount")),
            digest: u128::from(self.next()).to_le_bytes(),
            attach: self.next(),
            ..Record::begun(key, ProviderId(1), now, BootId(3))
        })
    }

    fn pay(&mut self, accepted: &Record) -> Arc<Record> {
        let id = format!("4200{:024}", u128::from(self.next()) % 1_000_000_000_000_000_000);
        let openid = format!("oUpF8uMuAJO_M2pxb1Q{:09}", self.next() % 1_000_000_000);
        let at = UnixMs(accepted.accepted_at.0 + 900);
        Arc::new(Record {
            version: 2,
            state: State::Paid,
            cause: Some(Cause::Row(Row::B4)),
            changed_at: at,
            decided_at: Some(at),
            left_tick: Some(Tick::from_ms(self.born)),
            paid: Some(Box::new(Paid {
                amount: accepted.amount.expect("accepted with an amount"),
                transaction_id: id.parse().expect("digits"),
                time_end_s: Some(at.0 / 1_000),
                attach: accepted.attach,
                merchant_matches: true,
                fields: Fields::new([
                    ("openid", openid.as_str()),
                    ("trade_type", "MICROPAY"),
                    ("bank_type", "CMB_DEBIT"),
                    ("cash_fee", "1288"),
                    ("attach", "till=07;cashier=112"),
                    ("time_end", "20261123184502"),
                ]),
            })),
            ..accepted.clone()
        })
    }
}
