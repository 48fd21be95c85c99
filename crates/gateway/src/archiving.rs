//! Moves days that are over out of the database (`store::sqlite::archive`), on a thread of its own that takes a quarter
//! of a processor at most, so that tills do not notice.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use state_machine::UnixMs;
use store::{Archivist, CommitError, Day, Progress};

use crate::clock::Clock;
use crate::config::Keeping;

/// How often it is looked whether a day is over.
const LOOK: Duration = Duration::from_secs(600);
/// Times that it rests for as long as it has worked.
const REST: u32 = 3;

/// The thread.
#[derive(Debug)]
pub(crate) struct Archiving {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Archiving {
    pub(crate) fn start(archivist: Archivist, keeping: Keeping) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("hufu-archive".to_owned())
            .spawn(move || run(archivist, keeping, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Ends it at the next few thousand rows; what it has begun goes on after the next start.
    pub(crate) fn stop(self) {
        drop(self.stop);
        // It has nothing to say: what failed was logged.
        drop(self.thread.join());
    }
}

fn run(mut archivist: Archivist, keeping: Keeping, stopped: &Receiver<()>) {
    let mut said = false;
    loop {
        let mut since = Clock::monotonic_ns();
        let mut go_on = || {
            let worked = Duration::from_nanos(Clock::monotonic_ns().saturating_sub(since));
            let goes_on = rest(stopped, worked.saturating_mul(REST));
            since = Clock::monotonic_ns();
            goes_on
        };
        match look(&mut archivist, keeping, Clock::wall(), &mut go_on) {
            Ok(Progress::Stopped) => return,
            Ok(_) => said = false,
            Err(error @ (CommitError::Fatal(_) | CommitError::Fenced { .. })) => {
                tracing::error!(%error, "no day is archived any more");
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "a day that is over stays in the database, and is archived later");
                }
            }
        }
        if !rest(stopped, LOOK) {
            return;
        }
    }
}

/// Waits; whether it is to go on then.
fn rest(stopped: &Receiver<()>, pause: Duration) -> bool {
    matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout))
}

/// Archives and gives up what is due at `now`.
fn look(
    archivist: &mut Archivist,
    keeping: Keeping,
    now: UnixMs,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Progress, CommitError> {
    let today = Day::of(now);
    let days_ago = |days: u32| Day(today.0.saturating_sub(i64::from(days)));
    while let done @ (Progress::Day(_) | Progress::Stopped) =
        archivist.archive(days_ago(keeping.archive_after_days), go_on)?
    {
        let Progress::Day(day) = done else { return Ok(Progress::Stopped) };
        tracing::info!(
            day = %day.day,
            payments = day.payments,
            stay = day.payments.saturating_sub(day.away),
            "a day was archived; what stays in the database changed meanwhile, or is a merchant's newest"
        );
    }
    if keeping.keep_days > 0 {
        for day in archivist.give_up(days_ago(keeping.keep_days))? {
            tracing::info!(%day, "an archive was given up, as store.keep_days says; its payments are not known any more");
        }
    }
    Ok(Progress::Nothing)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::Fen;
    use state_machine::record::State;
    use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};
    use store::{Day, Options, Progress, SealKey, SqliteStore, Store};

    use super::{Archiving, Clock, Keeping, look};

    const NOW: UnixMs = UnixMs(1_795_393_800_000);

    fn failed(days_ago: i64, number: u32) -> [Arc<Record>; 2] {
        let key = OrderKey {
            merchant: MerchantId(1),
            number: format!("ORDER-{days_ago}-{number}").parse().unwrap(),
        };
        let wall = UnixMs(NOW.0 - days_ago * Day::MS);
        let begun = Record::begun(key, ProviderId(1), Now { tick: Tick::ZERO, wall }, BootId(1));
        let begun = Record { amount: Fen::new(1).ok(), ..begun };
        let ended = Record { version: 2, state: State::Failed, decided_at: Some(wall), ..begun.clone() };
        [Arc::new(begun), Arc::new(ended)]
    }

    fn store(path: &std::path::Path) -> SqliteStore {
        let mut store = SqliteStore::open(path, &SealKey::from_bytes([7; 32]), Options::default()).unwrap();
        for days_ago in [9, 3, 2, 1, 0] {
            for number in 0..3 {
                for record in failed(days_ago, number) {
                    store.commit(&[record]).unwrap();
                }
            }
        }
        store.fold().unwrap();
        store
    }

    fn files(folder: &std::path::Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut days: Vec<String> =
            names.filter_map(|name| name.to_str()?.strip_prefix("hufu.db-day-").map(str::to_owned)).collect();
        days.sort();
        days
    }

    #[test]
    fn days_are_archived_when_it_is_time_and_given_up_when_it_is_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder.path().join("hufu.db"));
        let mut archivist = store.archivist().unwrap();
        let mut at = |days: i64, archive_after_days, keep_days| {
            let now = UnixMs(NOW.0 + days * Day::MS);
            let done = look(&mut archivist, Keeping { archive_after_days, keep_days }, now, &mut || true);
            assert_eq!(done.unwrap(), Progress::Nothing);
            files(folder.path())
        };
        assert_eq!(at(0, 2, 0), ["20261114", "20261120"]);
        assert_eq!(at(1, 2, 0), ["20261114", "20261120", "20261121"]);
        assert_eq!(at(1, 2, 10).len(), 3, "ten days are kept");
        assert_eq!(at(1, 2, 9), ["20261120", "20261121"], "nine days and no more");
        assert_eq!(at(1, 0, 0), ["20261120", "20261121", "20261122", "20261123"], "all but today");
    }

    #[test]
    fn a_running_thread_archives_and_stops_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder.path().join("hufu.db"));
        let keeping = Keeping { archive_after_days: 0, keep_days: 0 };
        let archiving = Archiving::start(store.archivist().unwrap(), keeping).unwrap();
        // By every clock that is right, all of these days are over.
        let depth = store.depth();
        let until = Clock::tick().saturating_add(60_000);
        while depth.archives() < 5 && Clock::tick() < until {
            std::thread::yield_now();
        }
        archiving.stop();
        assert_eq!((depth.archives(), files(folder.path()).len()), (5, 5));
    }
}
