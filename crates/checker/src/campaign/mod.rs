//! The campaigns: each breaks one thing, and judges afterwards.

pub mod cost;
pub mod cut;
pub mod disk_full;
pub mod freeze;
pub mod held;
pub mod kill;
pub mod overload;
pub mod pending;
pub mod recover;
pub mod slow;
pub mod stop;
pub mod wallet_down;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use simulator::Rng;
use till::books::{Ending, ending, records};
use tokio::time::{Instant, sleep};

use crate::judge::{Books, Verdict};
use crate::ledger;
use crate::load::{Crowd, Load, Told};
use crate::process::{Process, Started};
use crate::proxy::{Fault, Proxy};
use crate::site::{Policy, Site, Wallet, free_port};

/// How long a stop may take that was asked for.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(60);
/// How long the load may take to fill up with open payments, or a till to be answered.
pub(crate) const FILL_MAX: Duration = Duration::from_secs(120);
/// How many times faster than real ones customers and clocks go, where no campaign needs them slower.
pub(crate) const SPEED: u32 = 10;
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
                std::fs::create_dir_all(keep).with_context(|| keep.display().to_string())?;
                let folder = keep.canonicalize()?.join(name);
                std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
                Ok(Folder::Kept(folder))
            }
            None => Ok(Folder::Temporary(tempfile::tempdir()?)),
        }
    }
}

/// A wallet, a network and a switch at work.
pub(crate) struct Rig {
    pub(crate) switch: Process,
    pub(crate) wallet: Wallet,
    pub(crate) site: Site,
    pub(crate) policy: Policy,
    proxy: Option<Proxy>,
    speed: u32,
    seed: u64,
    _folder: Folder,
}

impl Rig {
    /// Starts them in a folder called `name`. Reversals may come to the wallet too early by `slack_ms`; `proxied`
    /// puts a network between switch and wallet that can be broken.
    pub(crate) async fn start(
        bench: &Bench,
        name: &str,
        speed: u32,
        slack_ms: u32,
        proxied: bool,
    ) -> anyhow::Result<Self> {
        let folder = bench.folder(name)?;
        let data = folder.path().to_owned();
        Self::on(bench, folder, &data, None, speed, slack_ms, proxied).await
    }

    /// As [`Rig::start`] without a proxy, with other settings of the switch.
    pub(crate) async fn start_with(
        bench: &Bench,
        name: &str,
        speed: u32,
        slack_ms: u32,
        change: impl FnOnce(&mut Policy),
    ) -> anyhow::Result<Self> {
        let folder = bench.folder(name)?;
        let data = folder.path().to_owned();
        let wallet = Wallet::start(&bench.hufu, folder.path(), bench.seed, speed, slack_ms)?;
        let mut policy = Policy::scaled(speed);
        change(&mut policy);
        let site = Site::make(&bench.hufu, folder.path(), &data, wallet.tls, &policy, bench.seed)?;
        let (switch, _) = site.serve().await?;
        Ok(Self { switch, wallet, site, policy, proxy: None, speed, seed: bench.seed, _folder: folder })
    }

    /// As [`Rig::start`], with the store in `data` and the switch's log in `logs`.
    pub(crate) async fn on(
        bench: &Bench,
        folder: Folder,
        data: &Path,
        logs: Option<&Path>,
        speed: u32,
        slack_ms: u32,
        proxied: bool,
    ) -> anyhow::Result<Self> {
        let wallet = Wallet::start(&bench.hufu, folder.path(), bench.seed, speed, slack_ms)?;
        let mut rng = Rng::keyed(bench.seed ^ u64::from(std::process::id()), "network");
        let proxy = if proxied {
            Some(Proxy::start(free_port(&mut rng)?, wallet.tls, bench.seed).await?)
        } else {
            None
        };
        let policy = Policy::scaled(speed);
        let reached = proxy.as_ref().map_or(wallet.tls, |proxy| proxy.address);
        let mut site = Site::make(&bench.hufu, folder.path(), data, reached, &policy, bench.seed)?;
        if let Some(logs) = logs {
            site.log = logs.join("switch.log");
        }
        let (switch, _) = site.serve().await?;
        Ok(Self { switch, wallet, site, policy, proxy, speed, seed: bench.seed, _folder: folder })
    }

    /// Lets payments begin.
    pub(crate) fn load(&self, crowd: Crowd, per_second: u32) -> anyhow::Result<Load> {
        Load::start(&self.site, self.site.gateway, crowd, per_second, self.speed, self.seed)
    }

    /// What the network between switch and wallet does from now on.
    pub(crate) fn network(&self, fault: Fault) {
        if let Some(proxy) = &self.proxy {
            proxy.set(fault);
        }
    }

    /// Asks the switch to stop, and starts it again; how long the stop took, and what the start came to.
    pub(crate) async fn restart(&mut self, most: Duration) -> anyhow::Result<(Duration, Started)> {
        let took = self.switch.stop(most).await?;
        let started;
        (self.switch, started) = self.site.serve().await?;
        Ok((took, started))
    }

    /// As [`close`].
    pub(crate) async fn close(mut self, load: Load, calm: Duration) -> anyhow::Result<Day> {
        close(&self.site, &self.wallet, &mut self.switch, load, calm).await
    }
}

/// A day whose books are closed.
pub(crate) struct Day {
    pub(crate) told: Told,
    pub(crate) verdict: Verdict,
    /// When each payment was accepted, and how long after that its pay request arrived at the wallet, in milliseconds.
    pub(crate) sent: Vec<(i64, i64)>,
}

/// Payments that are not at their end, by the file of a switch that may be at work on it.
fn open(site: &Site) -> anyhow::Result<usize> {
    let records = records(&site.store, &site.seal_key)?;
    Ok(records.values().filter(|record| matches!(ending(record), Ending::Open | Ending::Held)).count())
}

/// Ends the day: no more payments, every till hears its end, the switch is stopped, the books are compared.
///
/// `calm` is how long everything may take to come to its end.
pub(crate) async fn close(
    site: &Site,
    wallet: &Wallet,
    switch: &mut Process,
    load: Load,
    calm: Duration,
) -> anyhow::Result<Day> {
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
        logs: site.log.parent().unwrap_or(&site.folder),
    };
    let verdict = books.judge();
    let sent = told.tills.iter().filter_map(|till| {
        let at = till.sale.merchant;
        let (merchant, id) = (site.merchants.get(at)?, site.numbers.get(at)?);
        let entry = ledger.get(&(merchant.upstream.clone(), till.sale.number.clone()))?;
        let record = records.get(&(*id, till.sale.number.clone()))?;
        Some((record.accepted_at.0, entry.first_pay_at_ms - record.accepted_at.0))
    });
    let sent = sent.collect();
    Ok(Day { verdict, sent, told })
}
