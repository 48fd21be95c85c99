//! Power cuts, thousands of them: the store on a disk that loses what was not synced.
//!
//! `kill -9` leaves the page cache whole and proves nothing about fsync. Here SQLite runs over a file layer of our
//! own (`vfs`) on a disk in memory (`disk`): what was not synced is lost, kept, torn or overwritten with junk,
//! each sector for itself, at a power cut in the middle of any write, sync, truncation, creation or deletion. Then
//! the production store opens what is left, and a judge that shares nothing with SQLite says whether anything that
//! was acknowledged is gone, or anything is there in part. Source: faults-and-invariants, INV-13, DB-03, DB-10.
//!
//! A *life* begins with no files and goes through [`CUTS_PER_LIFE`] power cuts: at the first creation, between and
//! in commits, in checkpoints, in the recovery of an earlier cut, while closing. Life *n* of seed *s* is life 0 of
//! seed *s + n*: a violation is replayed alone. Lives with threads of their own (every fourth) do not repeat step
//! by step; all others do.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a checker: a panic is a finding"
)]

pub mod damage;
pub(crate) mod disk;
#[cfg(test)]
mod faults;
mod grouped;
mod life;
mod orders;
mod random;
mod shm;
mod vfs;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;

pub use self::disk::Sectors;

use self::life::Life;

pub(crate) use self::disk::Fault;
pub(crate) use self::vfs::NAME as VFS;

/// Power cuts in one life.
pub const CUTS_PER_LIFE: u64 = 20;

/// What is spoiled on purpose, to see that the judge finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spoiled {
    /// Nothing: the product as it is.
    #[default]
    Nothing,
    /// Connections say `PRAGMA synchronous=OFF` after the store has made its settings.
    SynchronousOff,
    /// The same with `NORMAL`: the log is not synced at commit.
    SynchronousNormal,
    /// The disk answers syncs and does nothing.
    LyingDisk,
}

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The first life's seed.
    pub seed: u64,
    /// Power cuts at least; whole lives are run.
    pub cuts: u64,
    /// Threads that run lives.
    pub jobs: usize,
    /// What is spoiled.
    pub spoiled: Spoiled,
    /// Ends with the first life that shows a violation.
    pub first_only: bool,
}

impl Default for Setup {
    /// The product as it is, a thousand cuts on one thread, all of them.
    fn default() -> Self {
        Self { seed: 1, cuts: 1_000, jobs: 1, spoiled: Spoiled::Nothing, first_only: false }
    }
}

/// Where a power cut fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// While the store was first made.
    Creation,
    /// While the store was opened again.
    Opening,
    /// In a commit of payments.
    Commit,
    /// In a commit of merchants.
    Merchants,
    /// While recent records were put into the database.
    Fold,
    /// While a day was archived, or an archive given up.
    Archive,
    /// While the log was moved into the database.
    Checkpoint,
    /// While the store was closed.
    Closing,
    /// With several batches and a checkpoint under way on threads of their own.
    Threads,
    /// Between two steps.
    Idle,
}

impl Place {
    /// All of them, in the order of [`Report::places`].
    pub const ALL: [Self; 10] = [
        Self::Creation,
        Self::Opening,
        Self::Commit,
        Self::Merchants,
        Self::Fold,
        Self::Archive,
        Self::Checkpoint,
        Self::Closing,
        Self::Threads,
        Self::Idle,
    ];
}

/// Something acknowledged that is gone, something in part, or a store that does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The life's seed: run it with one life.
    pub seed: u64,
    /// After how many cuts of that life.
    pub cuts: u64,
    /// What the judge saw.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, after {} cuts: {}", self.seed, self.cuts, self.what)
    }
}

/// What a run has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Power cuts.
    pub cuts: u64,
    /// By [`Place::ALL`].
    pub places: [u64; 10],
    /// Commits of payments or merchants that were acknowledged.
    pub acknowledged: u64,
    /// Records in them.
    pub records: u64,
    /// Commits without an answer that were there after the cut.
    pub doubtful_kept: u64,
    /// Commits without an answer that were not.
    pub doubtful_lost: u64,
    /// What became of sectors that were not synced.
    pub sectors: Sectors,
    /// Frames of a torn commit that openings found at the end of the log, and left out.
    pub frames_dropped: u64,
    /// Must be empty.
    pub violations: Vec<Violation>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        for (sum, count) in self.places.iter_mut().zip(other.places) {
            *sum += count;
        }
        self.acknowledged += other.acknowledged;
        self.records += other.records;
        self.doubtful_kept += other.doubtful_kept;
        self.doubtful_lost += other.doubtful_lost;
        self.sectors.kept += other.sectors.kept;
        self.sectors.lost += other.sectors.lost;
        self.sectors.torn += other.sectors.torn;
        self.sectors.junk += other.sectors.junk;
        self.frames_dropped += other.frames_dropped;
        self.violations.extend(other.violations);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = Place::ALL
            .iter()
            .zip(self.places)
            .map(|(place, count)| format!("{} {count}", format!("{place:?}").to_lowercase()))
            .collect();
        writeln!(f, "{} power cuts: {}", self.cuts, places.join(", "))?;
        writeln!(
            f,
            "{} commits acknowledged with {} records; without an answer {} kept whole, {} gone whole",
            self.acknowledged, self.records, self.doubtful_kept, self.doubtful_lost
        )?;
        let Sectors { kept, lost, torn, junk } = self.sectors;
        writeln!(f, "sectors not synced: {kept} kept, {lost} lost, {torn} torn, {junk} junk")?;
        writeln!(f, "{} frames of torn commits left out", self.frames_dropped)?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        write!(f, "{} violations", self.violations.len())
    }
}

/// Runs lives until there were [`Setup::cuts`] power cuts.
///
/// # Panics
///
/// If a thread cannot be started, or the checker itself is wrong.
#[must_use]
pub fn run(setup: &Setup) -> Report {
    let lives = setup.cuts.div_ceil(CUTS_PER_LIFE);
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let work = || {
        let mut report = Report::default();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= lives {
                break;
            }
            let life = Life::new(setup.seed.wrapping_add(number), setup.spoiled).live();
            if setup.first_only && !life.violations.is_empty() {
                stop.store(true, Ordering::Relaxed);
            }
            report.add(life);
        }
        report
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..setup.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut report = Report::default();
        for thread in threads {
            report.add(thread.join().expect("a life ends in a report"));
        }
        report.violations.sort_by_key(|violation| (violation.seed, violation.cuts));
        report
    })
}

/// A machine with a disk of ours: what the store is opened on.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) mount: Arc<vfs::Mount>,
    pub(crate) spoiled: Spoiled,
}

/// An open file that SQLite knows nothing of.
#[derive(Debug)]
pub(crate) struct OpenFile {
    disk: Arc<disk::Disk>,
    file: disk::FileId,
    spoiled: Spoiled,
}

impl OpenFile {
    pub(crate) fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.disk.write(self.file, usize::try_from(at).map_err(|_| Fault::Full)?, bytes)
    }

    pub(crate) fn sync(&self) -> Result<(), Fault> {
        match self.spoiled {
            Spoiled::Nothing | Spoiled::LyingDisk => self.disk.sync(self.file, false),
            Spoiled::SynchronousOff | Spoiled::SynchronousNormal => Ok(()),
        }
    }

    /// The file's name is durable.
    pub(crate) fn sync_names(&self) -> Result<(), Fault> {
        self.disk.sync(self.file, true)
    }

    pub(crate) fn read(&self, length: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; length];
        match self.disk.read(self.file, 0, &mut bytes)? {
            read if read == length => Ok(bytes),
            _ => Err(Fault::Io),
        }
    }

    pub(crate) fn clear(&self) -> Result<(), Fault> {
        self.disk.set_length(self.file, 0)
    }
}

impl Machine {
    /// The file's name on the disk.
    fn name(&self, path: &Path) -> String {
        path.to_string_lossy().trim_start_matches(&self.mount.path()).to_owned()
    }

    /// All bytes of a file, if it is there.
    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = &self.mount.disk;
        let file = disk.open(&self.name(path), false).ok()?;
        let mut bytes = vec![0; disk.length(file)];
        let read = disk.read(file, 0, &mut bytes).ok()?;
        bytes.truncate(read);
        Some(bytes)
    }

    /// A file, made if there is none.
    pub(crate) fn open(&self, path: &Path) -> Result<OpenFile, Fault> {
        let file = self.mount.disk.open(&self.name(path), true)?;
        Ok(OpenFile { disk: Arc::clone(&self.mount.disk), file, spoiled: self.spoiled })
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Fault> {
        match self.mount.disk.delete(&self.name(path), false) {
            Ok(()) | Err(Fault::Missing) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// A file that nobody has open, in place of the one that is there.
    pub(crate) fn open_new(&self, path: &Path) -> Result<OpenFile, Fault> {
        match self.mount.disk.delete(&self.name(path), false) {
            Ok(()) | Err(Fault::Missing) => self.open(path),
            Err(fault) => Err(fault),
        }
    }

    /// Weakens a connection, if that is what is asked for.
    pub(crate) fn spoil(&self, conn: &Connection) -> rusqlite::Result<()> {
        match self.spoiled {
            Spoiled::Nothing | Spoiled::LyingDisk => Ok(()),
            Spoiled::SynchronousOff => conn.pragma_update(None, "synchronous", "off"),
            Spoiled::SynchronousNormal => conn.pragma_update(None, "synchronous", "normal"),
        }
    }
}
