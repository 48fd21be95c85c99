//! The store alone, on a thread that commits what is due: two records a payment, the second in a commit after the first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use protocol::fact::{Paid, Row};
use protocol::{Fen, Fields};
use state_machine::record::{Cause, Record, State};
use state_machine::shard::Outcome;
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Tick, UnixMs};
use store::{SealKey, SqliteStore, Store as _};

use super::part::{Pace, Spent, cpu_ns};

/// As many as a campaign has.
const MERCHANTS: u64 = 40;
/// When payments of the past were made, for their labels only.
const WALL_MS: i64 = 1_795_363_200_000;

/// Commits the records of `pace` at their moments, in a store in `folder`.
pub(super) fn run(folder: &Path, run: u64, pace: &Pace) -> anyhow::Result<Spent> {
    let mut store = SqliteStore::open(
        &folder.join(format!("part-{run}.db")),
        &SealKey::from_bytes([7; 32]),
        store::Options::default(),
    )?;
    let payments = pace.due.len();
    // Made before anything counts: making them is not what a commit is.
    let made = (0..u64::try_from(payments)?).map(life).collect::<anyhow::Result<Vec<_>>>()?;
    let mut coming = pace.due.iter().zip(made).peekable();
    let (mut batch, mut paid) = (Vec::new(), Vec::new());
    let (began, before) = (tokio::time::Instant::now(), cpu_ns());
    loop {
        let mut next = Vec::new();
        batch.append(&mut paid);
        while let Some((_, [accepted, ends])) = coming.next_if(|(due, _)| **due <= began.elapsed()) {
            batch.push(accepted);
            next.push(ends);
        }
        paid = next;
        if batch.is_empty() {
            let Some((due, _)) = coming.peek() else { break };
            std::thread::sleep(due.saturating_sub(began.elapsed()).max(Duration::from_micros(1)));
            continue;
        }
        let outcomes = store.commit(&batch)?;
        ensure!(outcomes.iter().all(|one| *one == Outcome::Applied), "the records follow each other");
        batch.clear();
    }
    Ok(Spent { cpu_ns: cpu_ns() - before, payments: u64::try_from(payments)? })
}

/// The two records of the `n`-th payment.
fn life(n: u64) -> anyhow::Result<[Arc<Record>; 2]> {
    let merchant = MerchantId(u32::try_from(n % MERCHANTS)? + 1);
    let key = OrderKey { merchant, number: format!("L0000ABCD{n:010}").parse()? };
    let wall = UnixMs(WALL_MS + i64::try_from(n)? / 2);
    let now = Now { tick: Tick::from_ms(n / 2), wall };
    let accepted = Arc::new(Record {
        amount: Some(Fen::new(100)?),
        digest: u128::from(n).to_le_bytes(),
        attach: n,
        ..Record::begun(key, ProviderId(1), now, BootId(3))
    });
    let openid = format!("oUpF8uMuAJO_M2pxb1Q{n:09}");
    let fields = Fields::new([
        ("openid", openid.as_str()),
        ("is_subscribe", "N"),
        ("trade_type", "MICROPAY"),
        ("bank_type", "CMB_DEBIT"),
        ("fee_type", "CNY"),
        ("cash_fee", "100"),
        ("time_end", "20261123184502"),
    ]);
    let paid = Arc::new(Record {
        version: 2,
        state: State::Paid,
        cause: Some(Cause::Row(Row::B4)),
        changed_at: wall,
        decided_at: Some(wall),
        left_tick: Some(now.tick),
        paid: Some(Box::new(Paid {
            amount: Fen::new(100)?,
            transaction_id: format!("4200{:06}20261123{n:010}", n % 1_000_000).parse()?,
            time_end_s: Some(wall.0 / 1_000),
            attach: n,
            merchant_matches: true,
            fields,
        })),
        ..Record::clone(&accepted)
    });
    Ok([accepted, paid])
}
