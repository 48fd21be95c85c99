//! Does a store with a month of payments behind it cost more than an empty one?
//!
//! `days fill --folder F --days 30 --per-day 1000000` makes the store: day after day payments are accepted and paid, and
//! each day is archived beside the next ones; `--from N` goes on with a day. `days measure --folder F` opens it beside an empty one and times both
//! in turns, so that whatever else the machine does hits both alike: commits of 128 new payments, lookups of today's
//! payments, of archived ones, and of numbers that are not there.
//!
//! `cargo run --release -p store --example days -- fill --folder F`, then `-- measure --folder F`
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement for people"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::fact::{Paid, Row};
use protocol::{Fen, Fields};
use state_machine::record::{Cause, State};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};
use store::{Archivist, CommitError, Day, Filter, Options, Progress, SealKey, SqliteStore, Store};

const MERCHANTS: u64 = 10_000;
const DAY_MS: i64 = 86_400_000;
/// The first of 2026-11-23, +08:00.
const FIRST_DAY: i64 = 1_795_363_200_000;
/// What is timed: commits of so many records, and lookups.
const RECORDS: usize = 128;
const COMMITS: usize = 100;
const LOOKUPS: usize = 10_000;

fn main() {
    let folder =
        PathBuf::from(text("--folder").expect("days fill|measure --folder F [--days N] [--per-day N]"));
    let (days, per_day) = (number("--days", 30), number("--per-day", 1_000_000));
    match std::env::args().nth(1).as_deref() {
        Some("fill") => fill(&folder, number("--from", 0), days, per_day),
        Some("measure") => measure(&folder, days, number("--rounds", 7)),
        other => panic!("{other:?}: say fill or measure"),
    }
}

fn text(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn number(name: &str, default: u64) -> u64 {
    text(name).map_or(default, |text| text.parse().expect("a number"))
}

fn open(path: &Path) -> SqliteStore {
    open_with(path, Options::default())
}

fn open_with(path: &Path, options: Options) -> SqliteStore {
    SqliteStore::open(path, &SealKey::from_bytes([7; 32]), options).expect("a store")
}

fn day(number: u64) -> Day {
    let number = i64::try_from(number).expect("a small number");
    Day(Day::of(UnixMs(FIRST_DAY)).0 + number)
}

fn fill(folder: &Path, from: u64, days: u64, per_day: u64) {
    std::fs::create_dir_all(folder).expect("a directory");
    // Faster than a switch would: more at once.
    let options =
        Options { fold_records: 131_072, backlog_max: 1_000_000, cache_kib: 524_288, ..Options::default() };
    let mut store = open_with(&folder.join("full.db"), options);
    let mut archivist = store.archivist().expect("a working disk");
    println!("| day | payments | took | records/s | of the day before the last moved | database |");
    println!("|---|---|---|---|---|---|");
    for number in from..days {
        // A day that was broken off is begun anew: what is there of it is not written twice.
        let mut life = Life { random: 42 + number, day: number, born: 0 };
        let began = Instant::now();
        let moved = std::thread::scope(|scope| {
            // As a switch does it: beside the day's payments, and a day leaves when it is more than one day ago.
            let archiving = scope.spawn(|| archive(&mut archivist, number));
            while life.born < per_day {
                let accepted: Vec<_> = (0..1_024.min(per_day - life.born)).map(|_| life.accept()).collect();
                let paid: Vec<_> = accepted.iter().map(|record| life.pay(record)).collect();
                for records in [accepted, paid] {
                    while store.commit(&records).is_err() {
                        // Its recent records wait to be put into the database.
                        store.fold().expect("a working disk");
                    }
                }
            }
            store.fold().expect("a working disk");
            archiving.join().expect("a working disk")
        });
        let took = began.elapsed().as_secs_f64();
        let mib = std::fs::metadata(folder.join("full.db")).map_or(0, |found| found.len()) >> 20;
        println!(
            "| {number} | {per_day} | {took:.0} s | {:.0} | {moved} | {mib} MiB |",
            2.0 * per_day as f64 / took
        );
    }
}

/// Archives what is due on a day. Returns how many payments have left the database.
fn archive(archivist: &mut Archivist, number: u64) -> u64 {
    let mut moved = 0;
    loop {
        match archivist.archive(day(number.saturating_sub(1)), &mut || true) {
            Ok(Progress::Day(archived)) => moved += archived.away,
            Ok(Progress::Nothing | Progress::Stopped) => return moved,
            // The next call goes on.
            Err(CommitError::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is timed of one store, all rounds together.
#[derive(Default)]
struct Figures {
    commits: Vec<Duration>,
    today: Vec<Duration>,
    absent: Vec<Duration>,
}

fn measure(folder: &Path, days: u64, rounds: u64) {
    let empty_path = folder.join("empty.db");
    let began = Instant::now();
    let mut full = open(&folder.join("full.db"));
    println!("the full store was opened in {} ms", began.elapsed().as_millis());
    let mut empty = open(&empty_path);
    let mut life = Life { random: 43 + u64::from(std::process::id()), day: days, born: 0 };
    let (mut of_full, mut of_empty) = (Figures::default(), Figures::default());
    for round in 0..rounds {
        let batches: Vec<Vec<_>> =
            (0..COMMITS).map(|_| (0..RECORDS).map(|_| life.accept()).collect()).collect();
        let stores = [(&mut full, &mut of_full), (&mut empty, &mut of_empty)];
        // Each is first as often as the other.
        let order: [usize; 2] = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut stores = stores.map(Some);
        for at in order {
            let (store, figures) = stores[at].take().expect("each once");
            look(store, figures, &batches);
        }
    }
    let archived = archived(&full, days);
    println!(
        "| store | commit of {RECORDS} p50 | p99 | lookup of today p50 | p99 | of no such number p50 | p99 |"
    );
    println!("|---|---|---|---|---|---|---|");
    let (full, empty) = (quantiles(of_full), quantiles(of_empty));
    for (name, row) in [("full", full), ("empty", empty)] {
        let us: Vec<String> = row.iter().map(|time| format!("{:.1} µs", time.as_secs_f64() * 1e6)).collect();
        println!("| {name} | {} |", us.join(" | "));
    }
    let ratios: Vec<String> = full
        .iter()
        .zip(empty)
        .map(|(full, empty)| format!("{:.2}", full.as_secs_f64() / empty.as_secs_f64()))
        .collect();
    println!("| ratio | {} |", ratios.join(" | "));
    println!(
        "lookups of archived payments: p50 {:.1} µs, p99 {:.1} µs",
        archived[0].as_secs_f64() * 1e6,
        archived[1].as_secs_f64() * 1e6,
    );
    drop(std::fs::remove_file(empty_path));
}

fn look(store: &mut SqliteStore, figures: &mut Figures, batches: &[Vec<Arc<Record>>]) {
    let commits = batches.iter().map(|batch| timed(|| drop(store.commit(batch).expect("a working disk"))));
    figures.commits.extend(commits);
    store.fold().expect("a working disk");
    // From the database, not from what is recent.
    let mut reader = store.reader().expect("a reader");
    let keys: Vec<OrderKey> = batches.iter().flatten().map(|record| record.key).collect();
    let mut find =
        |key: &OrderKey, there| timed(|| assert_eq!(reader.find(key).expect("readable").is_some(), there));
    figures.today.extend((0..LOOKUPS).map(|at| find(&keys[at * 7_919 % keys.len()], true)));
    let absent = |at| OrderKey { number: format!("NOT-THERE-{at}").parse().expect("a number"), ..keys[0] };
    figures.absent.extend((0..LOOKUPS).map(|at| find(&absent(at), false)));
}

/// Lookups of payments of all archived days.
fn archived(store: &SqliteStore, days: u64) -> [Duration; 2] {
    let mut reader = store.reader().expect("a reader");
    let mut keys = Vec::new();
    for number in 0..days.saturating_sub(2) {
        let filter = Filter { limit: 500, ..Filter::day_utc8(day(number).start()) };
        keys.extend(reader.list(&filter).expect("readable").records.iter().map(|record| record.key));
    }
    if keys.is_empty() {
        return [Duration::ZERO; 2];
    }
    let found = (0..LOOKUPS).map(|at| {
        let key = &keys[at * 7_919 % keys.len()];
        timed(|| assert!(reader.find(key).expect("readable").is_some()))
    });
    two(found.collect())
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn two(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

fn quantiles(figures: Figures) -> [Duration; 6] {
    let [[a, b], [c, d], [e, f]] = [figures.commits, figures.today, figures.absent].map(two);
    [a, b, c, d, e, f]
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
