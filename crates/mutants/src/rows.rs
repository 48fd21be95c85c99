//! The store with rows changed behind its back: another writer's fence, and a flipped bit.
//!
//! A script of a few lines, for what neither the world nor a power cut does to the store. Its own campaign of cut
//! files and flipped bits is in the store's tests. Source: faults-and-invariants, INV-17, DB-11, PR-13.

use std::sync::Arc;

use protocol::Fen;
use rusqlite::Connection;
use state_machine::payment::Payment;
use state_machine::shard::{PayRequest, Ticket, Wait};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};
use store::{CommitError, Options, Recovered, SealKey, SqliteStore, Store};

/// Rows of the script.
pub(crate) const ROWS: u32 = 8;
/// The one that is changed.
const CHANGED: u32 = 3;

/// The rule that does not hold, and what was seen.
type Broken = (&'static str, String);

/// What does not hold; `None` if all does.
pub(crate) fn check() -> Option<Broken> {
    script().err()
}

/// The script itself could not be played: no finding of any use.
fn unplayable(error: &dyn ToString) -> Broken {
    ("script", error.to_string())
}

fn record(n: u32) -> Result<Arc<Record>, Broken> {
    let number = format!("changed-row-{n}").parse().map_err(|error| unplayable(&error))?;
    let key = OrderKey { merchant: MerchantId(1), number };
    let request = PayRequest {
        ticket: Ticket(u64::from(n)),
        key,
        provider: ProviderId(1),
        amount: Fen::new(1_000).map_err(|error| unplayable(&error))?,
        digest: [7; 16],
        attach: 0,
        wait: Wait::Nothing,
        expires_at: None,
        till: 0,
        patience_ms: 0,
    };
    let now = Now { tick: Tick::from_ms(1), wall: UnixMs(1_795_400_100_000) };
    Ok(Arc::new(Payment::accept(&request, now, BootId(1)).record().clone()))
}

fn script() -> Result<(), Broken> {
    let folder = tempfile::tempdir().map_err(|error| unplayable(&error))?;
    let path = folder.path().join("store.db");
    let open = || {
        SqliteStore::open(&path, &SealKey::from_bytes([9; 32]), Options::default())
            .map_err(|error| unplayable(&error))
    };
    let by_hand = |sql: &str| {
        Connection::open(&path).and_then(|hand| hand.execute(sql, [])).map_err(|error| unplayable(&error))
    };
    let records: Vec<Arc<Record>> = (1..=ROWS).map(record).collect::<Result<_, _>>()?;
    let mut store = open()?;
    store.commit(&records).map_err(|error| unplayable(&error))?;

    by_hand("UPDATE store SET fence = fence + 1")?;
    if !matches!(store.commit(&[record(ROWS + 1)?]), Err(CommitError::Fenced { .. })) {
        return Err(("INV-17", "a writer that was replaced has written".to_owned()));
    }
    by_hand("UPDATE store SET fence = fence - 1")?;
    drop(store);

    by_hand(&format!("UPDATE payments SET amount_fen = amount_fen + 1 WHERE seq = {CHANGED}"))?;
    let mut store = open()?;
    let (mut open_rows, mut damaged) = (Vec::new(), 0);
    store
        .open_orders(&mut |found| match found {
            Recovered::Open(record) => open_rows.push(*record),
            Recovered::Damaged(_) => damaged += 1,
        })
        .map_err(|error| unplayable(&error))?;
    if let Some(wrong) = open_rows.iter().find(|found| !records.iter().any(|record| **record == **found)) {
        return Err(("DB-11", format!("{} was recovered with {:?}", wrong.key.number, wrong.amount)));
    }
    if damaged != 1 {
        return Err(("PR-13", format!("{damaged} damaged rows are told of at the start, and there is one")));
    }
    Ok(())
}
