//! A disk that keeps only what was synced, and of the rest whatever it likes.
//!
//! What a program reads is what was written last; what is left after a power cut is, for each sector on its own,
//! what was synced or any later state of it, half written or overwritten with junk. The length of a file and
//! its name in the directory have each their own luck; only cutting a file shorter is one step. A sync settles a
//! file, a directory sync settles names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::Random;
use super::shm::{Locks, Shared};

/// What is written as a whole, if at all and if luck holds.
const SECTOR: usize = 512;

/// What is left of a disk: each file's bytes by its name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// Why a call to the disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power is off; nothing works any more.
    Off,
    /// No room.
    Full,
    /// The disk says that it failed.
    Io,
    /// No such file.
    Missing,
}

/// What the disk gets wrong while the power is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Files may not grow.
    pub(crate) full: bool,
    /// The next so many syncs fail, and what they should have settled is as good as lost.
    pub(crate) syncs_fail: u32,
    /// The next so many writes fail.
    pub(crate) writes_fail: u32,
    /// Syncs answer well and do nothing: a disk that lies.
    pub(crate) lies: bool,
}

/// What became of sectors that were not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sectors {
    /// As they were written last.
    pub kept: u64,
    /// As they were synced last, or at some moment in between.
    pub lost: u64,
    /// Half of a write.
    pub torn: u64,
    /// Overwritten with junk.
    pub junk: u64,
}

/// A file's number; names come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(usize);

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    current: Vec<u8>,
    /// What leads from `synced` to `current`, in order.
    changes: Vec<Change>,
}

struct State {
    files: Vec<File>,
    names: BTreeMap<String, FileId>,
    names_synced: BTreeMap<String, FileId>,
    /// What leads from `names_synced` to `names`, in order.
    name_changes: Vec<(String, Option<FileId>)>,
    /// Changes of anything so far.
    steps: u64,
    /// The step at which the power goes.
    cut_at: Option<u64>,
    left: Option<Image>,
    faults: Faults,
    sectors: Sectors,
    random: Random,
}

/// One machine's disk, from its start to its power cut.
pub(crate) struct Disk {
    state: Mutex<State>,
    pub(super) locks: Locks,
    pub(super) shared: Shared,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk(…)")
    }
}

impl Disk {
    /// A disk that holds `image`, all of it synced.
    pub(crate) fn new(image: Image, random: Random) -> Arc<Self> {
        let mut files = Vec::new();
        let mut names = BTreeMap::new();
        for (name, bytes) in image {
            names.insert(name, FileId(files.len()));
            files.push(File { synced: bytes.clone(), current: bytes, changes: Vec::new() });
        }
        let state = State {
            files,
            names_synced: names.clone(),
            names,
            name_changes: Vec::new(),
            steps: 0,
            cut_at: None,
            left: None,
            faults: Faults::default(),
            sectors: Sectors::default(),
            random,
        };
        Arc::new(Self { state: Mutex::new(state), locks: Locks::default(), shared: Shared::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes in the middle of the `steps`-th change from now.
    pub(crate) fn cut_in(&self, steps: u64) {
        let mut state = self.lock();
        state.cut_at = Some(state.steps + steps.max(1));
    }

    /// The power goes now, unless it has gone; what is left, and what became of the sectors that were not synced.
    pub(crate) fn cut(&self) -> (Image, Sectors) {
        let mut state = self.lock();
        state.cut();
        (state.left.clone().unwrap_or_default(), state.sectors)
    }

    pub(crate) fn is_off(&self) -> bool {
        self.lock().left.is_some()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Every file as a program sees it.
    pub(crate) fn image(&self) -> Image {
        let state = self.lock();
        state.names.iter().map(|(name, id)| (name.clone(), state.files[id.0].current.clone())).collect()
    }

    /// The file `name`, made if `create` says so and there is none.
    pub(crate) fn open(&self, name: &str, create: bool) -> Result<FileId, Fault> {
        let mut state = self.lock();
        if state.left.is_some() {
            return Err(Fault::Off);
        }
        if let Some(id) = state.names.get(name) {
            return Ok(*id);
        }
        if !create {
            return Err(Fault::Missing);
        }
        let id = FileId(state.files.len());
        state.files.push(File::default());
        state.names.insert(name.to_owned(), id);
        state.name_changes.push((name.to_owned(), Some(id)));
        state.step()?;
        Ok(id)
    }

    pub(crate) fn delete(&self, name: &str, sync_names: bool) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.left.is_some() {
            return Err(Fault::Off);
        }
        state.names.remove(name).ok_or(Fault::Missing)?;
        state.name_changes.push((name.to_owned(), None));
        state.step()?;
        if sync_names {
            state.sync_names();
        }
        Ok(())
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        let state = self.lock();
        // SQLite takes an empty file for none.
        state.names.get(name).is_some_and(|id| !state.files[id.0].current.is_empty())
    }

    /// Reads into `into`; how many bytes there were.
    pub(crate) fn read(&self, id: FileId, at: usize, into: &mut [u8]) -> Result<usize, Fault> {
        let state = self.lock();
        if state.left.is_some() {
            return Err(Fault::Off);
        }
        let from = state.files[id.0].current.get(at..).unwrap_or_default();
        let length = from.len().min(into.len());
        into[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    pub(crate) fn write(&self, id: FileId, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.left.is_some() {
            return Err(Fault::Off);
        }
        if state.faults.full && at + bytes.len() > state.files[id.0].current.len() {
            return Err(Fault::Full);
        }
        if state.faults.writes_fail > 0 {
            state.faults.writes_fail -= 1;
            return Err(Fault::Io);
        }
        let file = &mut state.files[id.0];
        apply(&mut file.current, at, bytes);
        file.changes.push(Change::Write { at, bytes: bytes.to_vec() });
        state.step()
    }

    pub(crate) fn set_length(&self, id: FileId, length: usize) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.left.is_some() {
            return Err(Fault::Off);
        }
        let file = &mut state.files[id.0];
        file.current.resize(length, 0);
        file.changes.push(Change::Length(length));
        state.step()
    }

    /// Settles the file, and all names if `names` says so.
    pub(crate) fn sync(&self, id: FileId, names: bool) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.left.is_some() {
            return Err(Fault::Off);
        }
        // The power may go when all is written, before the caller hears of it.
        let late = state.random.one_in(2);
        if !late {
            state.step()?;
        }
        if state.faults.syncs_fail > 0 {
            state.faults.syncs_fail -= 1;
            // As Linux does: the pages are marked clean, so they are read as written, and nobody writes them again.
            state.files[id.0].changes.clear();
            return Err(Fault::Io);
        }
        if state.faults.lies {
            return Ok(());
        }
        let file = &mut state.files[id.0];
        for change in std::mem::take(&mut file.changes) {
            change.apply(&mut file.synced);
        }
        if names {
            state.sync_names();
        }
        if late { state.step() } else { Ok(()) }
    }

    pub(crate) fn length(&self, id: FileId) -> usize {
        self.lock().files[id.0].current.len()
    }
}

impl State {
    fn step(&mut self) -> Result<(), Fault> {
        self.steps += 1;
        if self.cut_at.is_some_and(|at| self.steps >= at) {
            self.cut();
            return Err(Fault::Off);
        }
        Ok(())
    }

    fn sync_names(&mut self) {
        self.names_synced = self.names.clone();
        self.name_changes.clear();
    }

    fn cut(&mut self) {
        if self.left.is_some() {
            return;
        }
        let changed: BTreeSet<&String> = self.name_changes.iter().map(|(name, _)| name).collect();
        let mut names = self.names_synced.clone();
        for name in changed {
            let changes: Vec<_> = self.name_changes.iter().filter(|(other, _)| other == name).collect();
            let reached = self.random.index(changes.len() + 1);
            match reached.checked_sub(1).map(|last| changes[last].1) {
                None => {}
                Some(Some(id)) => drop(names.insert(name.clone(), id)),
                Some(None) => drop(names.remove(name)),
            }
        }
        let left = names
            .into_iter()
            .map(|(name, id)| (name, survivor(&self.files[id.0], &mut self.random, &mut self.sectors)))
            .collect();
        self.left = Some(left);
    }
}

fn apply(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if to.len() < at + bytes.len() {
        to.resize(at + bytes.len(), 0);
    }
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => apply(to, *at, bytes),
            Self::Length(length) => to.resize(*length, 0),
        }
    }

    /// The part of the file that is different after it, given the length before it.
    fn range(&self, before: usize) -> std::ops::Range<usize> {
        match self {
            Self::Write { at, bytes } => *at..at + bytes.len(),
            Self::Length(length) => before.min(*length)..before.max(*length),
        }
    }
}

/// How a file's unsynced changes fare.
enum Luck {
    /// All the same: everything up to some change is there, and nothing after it.
    InOrder,
    /// Every sector for itself.
    Each,
}

fn survivor(file: &File, random: &mut Random, sectors: &mut Sectors) -> Vec<u8> {
    if file.changes.is_empty() {
        return file.synced.clone();
    }
    let count = file.changes.len();
    let (first, end) = epoch(file, random);
    // The two ends are as likely as all that is between.
    let reach = |random: &mut Random| match random.below(4) {
        0 => first,
        1 => end,
        _ => first + random.index(end - first + 1),
    };
    let luck = if random.one_in(2) { Luck::InOrder } else { Luck::Each };
    let all = reach(random);
    let hurts = random.one_in(2);

    // The file after each change, sector by sector, only where something changes.
    let mut touched = BTreeSet::new();
    let mut lengths = vec![file.synced.len()];
    for change in &file.changes {
        let before = lengths[lengths.len() - 1];
        let range = change.range(before);
        if !range.is_empty() {
            touched.extend(range.start / SECTOR..=(range.end - 1) / SECTOR);
        }
        lengths.push(match change {
            Change::Write { at, bytes } => before.max(at + bytes.len()),
            Change::Length(length) => *length,
        });
    }
    let length = lengths[match luck {
        Luck::InOrder => all,
        Luck::Each => reach(random),
    }];
    let mut left = file.synced.clone();
    left.resize(length, 0);
    for sector in touched {
        let from = sector * SECTOR;
        let reached = match luck {
            Luck::InOrder => all,
            Luck::Each => reach(random),
        };
        let mut bytes = sector_of(&file.synced, from);
        let mut last: Option<std::ops::Range<usize>> = None;
        let mut before = bytes;
        for change in &file.changes[..reached] {
            let here = overlap(change, from);
            if let Some(range) = &here {
                before = bytes;
                match change {
                    Change::Write { at, bytes: new } => {
                        let new_from = from + range.start - at;
                        bytes[range.clone()].copy_from_slice(&new[new_from..new_from + range.len()]);
                    }
                    Change::Length(_) => bytes[range.clone()].fill(0),
                }
                last = matches!(change, Change::Write { .. }).then_some(range.clone()).or(last);
            }
        }
        match last {
            Some(range) if hurts && random.one_in(6) => {
                // Written up to somewhere, or from somewhere on.
                let middle = range.start + random.index(range.len() + 1);
                if random.one_in(2) {
                    bytes[middle..].copy_from_slice(&before[middle..]);
                } else {
                    bytes[..middle].copy_from_slice(&before[..middle]);
                }
                sectors.torn += 1;
            }
            Some(range) if hurts && random.one_in(24) => {
                for byte in &mut bytes[range] {
                    *byte = random.next().to_le_bytes()[0];
                }
                sectors.junk += 1;
            }
            Some(_) if reached == count => sectors.kept += 1,
            Some(_) | None => sectors.lost += 1,
        }
        if from < left.len() {
            let end = left.len().min(from + SECTOR);
            left[from..end].copy_from_slice(&bytes[..end - from]);
        }
    }
    left
}

/// Cutting a file shorter happens as a whole or not at all, as file systems with a journal do it: between which
/// two such cuts the file is left, as the number of changes at least and at most.
fn epoch(file: &File, random: &mut Random) -> (usize, usize) {
    let mut ends = Vec::new();
    let mut length = file.synced.len();
    for (at, change) in file.changes.iter().enumerate() {
        match change {
            Change::Write { at, bytes } => length = length.max(at + bytes.len()),
            Change::Length(to) => {
                if *to < length {
                    ends.push(at);
                }
                length = *to;
            }
        }
    }
    ends.push(file.changes.len());
    let chosen = random.index(ends.len());
    let first = chosen.checked_sub(1).map_or(0, |before| ends[before] + 1);
    (first, ends[chosen])
}

/// The sector that begins at `from`, with zeros behind the end of the file.
fn sector_of(file: &[u8], from: usize) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    let there = file.get(from..).unwrap_or_default();
    let length = there.len().min(SECTOR);
    bytes[..length].copy_from_slice(&there[..length]);
    bytes
}

/// The bytes of the sector at `from` that a change writes or cuts off, counted from the sector's start.
fn overlap(change: &Change, from: usize) -> Option<std::ops::Range<usize>> {
    let range = match change {
        Change::Write { at, bytes } => *at..at + bytes.len(),
        // What is cut off reads as zeros should the file grow again.
        Change::Length(length) => *length..usize::MAX,
    };
    let start = range.start.max(from);
    let end = range.end.min(from + SECTOR);
    (start < end).then(|| start - from..end - from)
}

#[cfg(test)]
mod tests {
    use super::{Disk, Fault, Faults, Image};
    use crate::power_cut::random::Random;

    /// What is left, over many seeds, of a file with `synced` bytes of 1 and as many of 2 written over them.
    fn left(seeds: std::ops::Range<u64>, sync: bool) -> Vec<Image> {
        seeds
            .map(|seed| {
                let disk = Disk::new(Image::new(), Random::new(seed));
                let id = disk.open("file", true).expect("made");
                disk.write(id, 0, &[1; 2_048]).expect("written");
                disk.sync(id, true).expect("synced");
                disk.write(id, 0, &[2; 2_048]).expect("written");
                if sync {
                    disk.sync(id, false).expect("synced");
                }
                disk.cut().0
            })
            .collect()
    }

    #[test]
    fn what_is_synced_stays() {
        assert!(left(0..50, true).iter().all(|image| image["file"] == [2; 2_048]));
    }

    #[test]
    fn what_is_not_synced_stays_goes_or_mixes() {
        let all = left(0..200, false);
        let count = |test: &dyn Fn(&[u8]) -> bool| all.iter().filter(|image| test(&image["file"])).count();
        assert!(count(&|file| file == [1; 2_048]) > 10);
        assert!(count(&|file| file == [2; 2_048]) > 10);
        assert!(count(&|file| file[..512] != file[512..1_024]) > 10, "sectors fare apart");
        assert!(count(&|file| file[0] != file[511]) > 2, "some are torn");
        assert!(count(&|file| file.iter().any(|byte| *byte > 2)) > 2, "some are junk");
    }

    #[test]
    fn a_name_is_durable_once_the_directory_is_synced() {
        let there = |sync: bool| {
            (0..40)
                .filter(|seed| {
                    let disk = Disk::new(Image::new(), Random::new(*seed));
                    let id = disk.open("file", true).expect("made");
                    disk.sync(id, sync).expect("synced");
                    disk.cut().0.contains_key("file")
                })
                .count()
        };
        assert_eq!(there(true), 40);
        assert!((5..35).contains(&there(false)));
    }

    #[test]
    fn nothing_works_without_power() {
        let disk = Disk::new(Image::new(), Random::new(1));
        let id = disk.open("file", true).expect("made");
        disk.cut_in(2);
        disk.write(id, 0, b"first").expect("written");
        assert_eq!(disk.write(id, 5, b"second"), Err(Fault::Off));
        assert_eq!(disk.sync(id, true), Err(Fault::Off));
        assert_eq!(disk.read(id, 0, &mut [0; 4]), Err(Fault::Off));
        assert!(disk.is_off());
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_a_failing_one_settles_nothing() {
        let disk = Disk::new(Image::new(), Random::new(1));
        let id = disk.open("file", true).expect("made");
        disk.write(id, 0, &[1; 8]).expect("written");
        disk.set_faults(Faults { full: true, ..Faults::default() });
        assert_eq!(disk.write(id, 4, &[2; 4]), Ok(()));
        assert_eq!(disk.write(id, 4, &[2; 5]), Err(Fault::Full));
        disk.set_faults(Faults { syncs_fail: 1, ..Faults::default() });
        assert_eq!(disk.sync(id, true), Err(Fault::Io));
        assert_eq!(disk.sync(id, true), Ok(()));
    }
}
