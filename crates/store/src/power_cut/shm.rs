//! Locks and shared memory of the files on a [`super::disk::Disk`], among connections of one process. Neither
//! outlives the power.

use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::FileId;

/// How much of a file's lock a connection holds, as SQLite counts: 0 none, 1 shared, 2 reserved, 3 pending,
/// 4 exclusive.
pub(super) type Level = i32;
pub(super) const SHARED: Level = 1;
const RESERVED: Level = 2;
const PENDING: Level = 3;
const EXCLUSIVE: Level = 4;

/// Another connection is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// Every connection's level, by file and connection.
#[derive(Default)]
pub(super) struct Locks(Mutex<BTreeMap<(FileId, u64), Level>>);

impl Locks {
    fn held(&self) -> MutexGuard<'_, BTreeMap<(FileId, u64), Level>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the level of `owner`; short of exclusive it may be left pending.
    pub(super) fn raise(&self, file: FileId, owner: u64, to: Level) -> Result<(), Busy> {
        let mut held = self.held();
        let own = held.get(&(file, owner)).copied().unwrap_or(0);
        if own >= to {
            return Ok(());
        }
        let others = held
            .iter()
            .filter(|((other_file, other), _)| *other_file == file && *other != owner)
            .map(|(_, level)| *level)
            .max()
            .unwrap_or(0);
        let free = match to {
            SHARED => others < PENDING,
            RESERVED => others < RESERVED,
            _ => others < SHARED,
        };
        if free {
            held.insert((file, owner), to.min(EXCLUSIVE));
            return Ok(());
        }
        // From shared alone nobody is kept out: the closing connection only tries.
        if to > RESERVED && own == RESERVED && others < RESERVED {
            held.insert((file, owner), PENDING);
        }
        Err(Busy)
    }

    pub(super) fn lower(&self, file: FileId, owner: u64, to: Level) {
        let mut held = self.held();
        if to <= 0 {
            held.remove(&(file, owner));
        } else if let Some(level) = held.get_mut(&(file, owner)) {
            *level = (*level).min(to);
        }
    }

    pub(super) fn is_reserved(&self, file: FileId) -> bool {
        self.held().iter().any(|((other, _), level)| *other == file && *level >= RESERVED)
    }
}

/// Bytes that C writes to from several threads, by rules of its own.
struct Region(Box<[UnsafeCell<u64>]>);

/// Shared memory of one database.
#[derive(Default)]
pub(super) struct Memory {
    regions: Vec<Region>,
    /// What each connection holds of the eight locks: shared, exclusive.
    masks: BTreeMap<u64, (u8, u8)>,
}

#[expect(unsafe_code, reason = "shared memory is shared: SQLite orders the accesses itself")]
// SAFETY: Rust code never looks into a region, it only hands out pointers to it; SQLite guards what it does with
// them by the locks below and by barriers.
unsafe impl Send for Memory {}

/// The shared memory of each database.
#[derive(Default)]
pub(super) struct Shared(Mutex<BTreeMap<FileId, Arc<Mutex<Memory>>>>);

impl Shared {
    fn of(&self, file: FileId) -> Arc<Mutex<Memory>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(file).or_default())
    }

    /// The region numbered `at`, of `size` bytes; null if there is none and `extend` does not ask for it. Stays
    /// where it is as long as any connection has the memory.
    pub(super) fn map(&self, file: FileId, owner: u64, at: usize, size: usize, extend: bool) -> *mut c_void {
        let memory = self.of(file);
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.masks.entry(owner).or_default();
        if memory.regions.len() <= at && !extend {
            return std::ptr::null_mut();
        }
        while memory.regions.len() <= at {
            memory.regions.push(Region((0..size.div_ceil(8)).map(|_| UnsafeCell::new(0)).collect()));
        }
        memory.regions[at].0.as_ptr().cast_mut().cast()
    }

    /// Gives the locks in `mask` back; the first value asks for shared ones.
    pub(super) fn unlock(&self, file: FileId, owner: u64, mask: u8) {
        let memory = self.of(file);
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((shared, exclusive)) = memory.masks.get_mut(&owner) {
            *shared &= !mask;
            *exclusive &= !mask;
        }
    }

    pub(super) fn lock(&self, file: FileId, owner: u64, mask: u8, exclusively: bool) -> Result<(), Busy> {
        let memory = self.of(file);
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        let in_the_way = memory.masks.iter().any(|(other, (shared, exclusive))| {
            *other != owner && ((exclusive & mask) != 0 || (exclusively && (shared & mask) != 0))
        });
        if in_the_way {
            return Err(Busy);
        }
        let (shared, exclusive) = memory.masks.entry(owner).or_default();
        if exclusively {
            *exclusive |= mask;
        } else {
            *shared |= mask;
        }
        Ok(())
    }

    /// The connection goes; with the last one goes the memory.
    pub(super) fn leave(&self, file: FileId, owner: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(memory) = all.get(&file) else { return };
        let nobody = {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.masks.remove(&owner);
            memory.masks.is_empty()
        };
        if nobody {
            all.remove(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Busy, Locks, Shared};
    use crate::power_cut::disk::{Disk, Image};
    use crate::power_cut::random::Random;

    #[test]
    fn locks_exclude_as_sqlite_expects() {
        let disk = Disk::new(Image::new(), Random::new(1));
        let file = disk.open("file", true).expect("made");
        let locks = Locks::default();
        assert_eq!(locks.raise(file, 1, 1), Ok(()));
        assert_eq!(locks.raise(file, 2, 1), Ok(()));
        assert_eq!(locks.raise(file, 1, 2), Ok(()));
        assert_eq!(locks.raise(file, 2, 2), Err(Busy));
        assert_eq!(locks.raise(file, 1, 4), Err(Busy), "a reader is in");
        assert_eq!(locks.raise(file, 3, 1), Err(Busy), "no reader may come in while one is pending");
        locks.lower(file, 2, 0);
        assert_eq!(locks.raise(file, 1, 4), Ok(()));
        assert!(locks.is_reserved(file));
        locks.lower(file, 1, 1);
        assert_eq!(locks.raise(file, 3, 1), Ok(()));
        assert!(!locks.is_reserved(file));
    }

    #[test]
    fn shared_memory_stays_while_somebody_has_it() {
        let disk = Disk::new(Image::new(), Random::new(1));
        let file = disk.open("file", true).expect("made");
        let shared = Shared::default();
        assert!(shared.map(file, 1, 0, 32_768, false).is_null());
        let first = shared.map(file, 1, 0, 32_768, true);
        assert_eq!(shared.map(file, 2, 0, 32_768, false), first);
        shared.leave(file, 1);
        assert_eq!(shared.map(file, 2, 0, 32_768, false), first);
        assert_eq!(shared.lock(file, 2, 0b1, true), Ok(()));
        assert_eq!(shared.lock(file, 3, 0b1, false), Err(Busy));
        shared.unlock(file, 2, 0b1);
        assert_eq!(shared.lock(file, 3, 0b1, false), Ok(()));
        shared.leave(file, 2);
        shared.leave(file, 3);
        assert!(shared.map(file, 1, 0, 32_768, false).is_null());
    }
}
