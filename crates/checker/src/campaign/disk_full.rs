//! The disk fills up, payments wait or are refused, space comes back: nothing is restarted.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tokio::time::{Instant, sleep};

use super::{Bench, FILL_MAX, Rig, SPEED};
use crate::load::Crowd;
use crate::report::{Report, millis};
use crate::web;

/// Room for the store; the log may grow to 64 MiB before it is moved into the database.
const DISK: &str = "size=256m";
/// Room for the switch's log.
const LOG_DISK: &str = "size=256k";
/// How long everything may take to come to its end.
const CALM: Duration = Duration::from_secs(90);
/// How long the switch may take to see that the disk is full, and that it is not any more.
const NOTICE_MAX: Duration = Duration::from_secs(15);
/// Bytes of ballast that are written at once, so that nothing is left over.
const BALLAST: usize = 1024;

/// `checker disk-full`.
#[derive(Clone, Debug, Args)]
pub struct DiskFull {
    /// How long the disk stays full, in milliseconds.
    #[arg(long, default_value_t = 4_000, value_name = "MS")]
    pub full_ms: u64,
    /// How often.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub times: u32,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 250, value_name = "N")]
    pub rate: u32,
    /// The longest it may take until payments are taken again, in milliseconds.
    #[arg(long, default_value_t = 2_000, value_name = "MS")]
    pub resume_max_ms: u64,
}

/// A file system in memory, gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one on the new folder `at`.
    pub(crate) fn mount(at: PathBuf, options: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&at)?;
        let options = std::ffi::CString::new(options)?;
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), options.as_c_str())
            .context("a file system in memory cannot be mounted: run as root, or under `unshare -rm`")?;
        Ok(Self(at))
    }

    /// Fills it to the last byte.
    fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.ballast())?;
        let mut part = vec![0_u8; 1 << 20];
        while part.len() >= BALLAST {
            if file.write_all(&part).is_err() {
                part.truncate(part.len() / 2);
            }
        }
        Ok(())
    }

    /// Gives the room back.
    fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Waits until `/readyz` says `status`; how long that took.
async fn readiness(rig: &Rig, status: u16) -> anyhow::Result<Duration> {
    let began = Instant::now();
    while web::get(rig.site.admin, "/readyz").await?.0 != status {
        if began.elapsed() > NOTICE_MAX {
            bail!("/readyz does not say {status} within {NOTICE_MAX:?}");
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(began.elapsed())
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, no file system can be mounted, or nothing comes to its end.
pub async fn run(bench: &Bench, args: &DiskFull, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("disk full and back");
    let folder = bench.folder("disk-full")?;
    let disk = Disk::mount(folder.path().join("data"), DISK)?;
    let logs = Disk::mount(folder.path().join("logs"), LOG_DISK)?;
    let rig = Rig::on(bench, folder, disk.path(), Some(logs.path()), SPEED, 1_000, false).await?;
    let load = rig.load(Crowd::Mixed, args.rate)?;
    let (mut noticed, mut resumed, mut refused, mut taken_after) = (Vec::new(), Vec::new(), 0, 0);
    let name = "hufu_refusals_total{outcome=\"not_accepted\"}";
    for time in 0..args.times {
        load.filled(u64::from(args.rate), FILL_MAX).await?;
        sleep(Duration::from_secs(2)).await;
        let before = web::metric(rig.site.admin, name).await?;
        logs.fill()?;
        disk.fill()?;
        noticed.push(readiness(&rig, 503).await?);
        say(format!("full, {} of {}; {}", time + 1, args.times, load.shop.tally.line()));
        sleep(Duration::from_millis(args.full_ms)).await;
        refused += web::metric(rig.site.admin, name).await? - before;
        disk.free()?;
        resumed.push(readiness(&rig, 200).await?);
        let begun = load.shop.tally.begun();
        sleep(Duration::from_secs(2)).await;
        taken_after += load.shop.tally.begun() - begun;
        logs.free()?;
    }
    let day = rig.close(load, CALM).await?;
    report.figure("seed", bench.seed);
    report.figure("full for, ms", args.full_ms);
    report.spread("noticed after, ms", &noticed);
    report.spread("ready again after, ms", &resumed);
    report.figure("requests refused while full", refused);
    report.figure("payments begun after", taken_after);
    report.figure("seconds", day.told.span.as_secs());
    report.check(refused > 0, || "no payment was refused while the disk was full".to_owned());
    report.check(resumed.iter().all(|one| millis(*one) <= args.resume_max_ms), || {
        format!("payments were not taken again within {} ms", args.resume_max_ms)
    });
    report.verdict = day.verdict;
    drop((disk, logs));
    Ok(report)
}
