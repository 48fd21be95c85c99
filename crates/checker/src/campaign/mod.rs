//! The campaigns: each breaks one thing, and judges afterwards.

pub mod kill;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use till::books::{Ending, ending, records};
use tokio::time::{Instant, sleep};

use crate::judge::{Books, Verdict};
use crate::ledger;
use crate::load::{Load, Told};
use crate::process::Process;
use crate::site::{Site, Wallet};

/// How long a stop may take that was asked for.
const STOP_MAX: Duration = Duration::from_secs(60);

/// How often the store is asked whether anything is open.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What every campaign is given.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The binary under test.
    pub hufu: PathBuf,
    /// Chooses customers, moments and ports.
    pub seed: u64,
    /// A folder that is kept, or a temporary one.
    pub keep: Option<PathBuf>,
}

/// A folder for one run: kept where the user said so, or gone afterwards.
#[derive(Debug)]
pub(crate) enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

impl Bench {
    /// A folder for the run called `name`.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<Folder> {
        match &self.keep {
            Some(keep) => {
                let folder = keep.join(name);
                std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
                Ok(Folder::Kept(folder))
            }
            None => Ok(Folder::Temporary(tempfile::tempdir()?)),
        }
    }
}

/// Payments that are not at their end, by the file of a switch that may be at work on it.
pub(crate) fn open(site: &Site) -> anyhow::Result<usize> {
    let records = records(&site.store, &site.seal_key)?;
    Ok(records.values().filter(|record| matches!(ending(record), Ending::Open | Ending::Held)).count())
}

/// Ends the day: no more payments, every till hears its end, the switch is stopped, the books are compared.
///
/// `calm` is how long everything may take to come to its end.
pub(crate) async fn close(
    site: &Site,
    wallet: &Wallet,
    switch: Process,
    load: Load,
    calm: Duration,
) -> anyhow::Result<(Told, Verdict)> {
    let until = Instant::now() + calm;
    let told = load.settle(calm).await?;
    // What tills need not wait for any more may still be on its way to its end: reversals that are being proven.
    while open(site)? > 0 && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
    switch.stop(STOP_MAX).await?;
    let ledger = ledger::fetch(wallet.plain).await?;
    let records = records(&site.store, &site.seal_key)?;
    let books = Books {
        merchants: &site.merchants,
        numbers: &site.numbers,
        tills: &told.tills,
        ledger: &ledger,
        records: &records,
        logs: &site.folder,
    };
    let verdict = books.judge();
    Ok((told, verdict))
}
