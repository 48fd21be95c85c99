//! What the planner learned of password-entry times, kept over restarts in a small file beside the store.
//!
//! Nothing about money hangs on it: where it is missing, damaged or of another version, the planner begins with its
//! first guess and learns within minutes. So it never keeps the switch from starting.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use state_machine::planner::Learned;

/// How often it is written.
pub(super) const WRITE_MS: u64 = 60_000;

/// More is not ours, and is not read.
const BYTES_MAX: u64 = 1 << 20;

/// The file, and what each shard has learned.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    parts: Mutex<Vec<Option<Learned>>>,
    /// Whether it was said that it cannot be written.
    warned: AtomicBool,
}

impl Keeper {
    /// Of the store at `store`: `hufu.db` has `hufu.db-learned` beside it.
    pub(super) fn beside(store: &Path, shards: usize) -> Self {
        let mut name = store.as_os_str().to_owned();
        name.push("-learned");
        let parts = Mutex::new(vec![None; shards]);
        Self { path: name.into(), parts, warned: AtomicBool::new(false) }
    }

    /// What a process before has learned.
    pub(super) fn read(&self) -> Learned {
        let bytes = match std::fs::metadata(&self.path)
            .and_then(|file| if file.len() > BYTES_MAX { Ok(Vec::new()) } else { std::fs::read(&self.path) })
        {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == ErrorKind::NotFound => return Learned::default(),
            Err(why) => {
                tracing::warn!(path = %self.path.display(), %why, "not read: the query planner learns anew");
                return Learned::default();
            }
        };
        Learned::import(&bytes).unwrap_or_else(|why| {
            tracing::warn!(path = %self.path.display(), %why, "not taken: the query planner learns anew");
            Learned::default()
        })
    }

    /// What a shard has learned so far.
    pub(super) fn put(&self, shard: usize, learned: &Learned) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get_mut(shard) {
            *part = Some(learned.clone());
        }
    }

    /// Writes what all shards have learned: whole, or not at all.
    pub(super) fn write(&self) {
        let mut all = Learned::default();
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        parts.iter().flatten().for_each(|part| all.merge(part));
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&all.export())?;
            file.sync_data()?;
            std::fs::rename(&new, &self.path)
        });
        match written {
            Ok(()) => self.warned.store(false, Ordering::Relaxed),
            Err(why) if !self.warned.swap(true, Ordering::Relaxed) => {
                tracing::warn!(path = %self.path.display(), %why, "not written: after a restart the query planner \
                    learns anew");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use state_machine::planner::{Learned, Lesson};
    use state_machine::{Channel, Tick};

    use super::Keeper;

    fn taught(by_ms: u64) -> Learned {
        let mut learned = Learned::default();
        for number in 0..100 {
            let lesson = Lesson::Ended { after_ms: by_ms - 1_000, by_ms };
            learned.learn(Channel::WechatV2, None, lesson, Tick::from_ms(number * 100));
        }
        learned
    }

    #[test]
    fn what_shards_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("hufu.db");
        let keeper = Keeper::beside(&store, 2);
        assert_eq!(keeper.read().export(), Learned::default().export(), "a first start knows nothing");
        keeper.put(0, &taught(3_000));
        keeper.put(1, &taught(20_000));
        keeper.write();
        let mut again = Keeper::beside(&store, 5).read();
        let mut typing = |ms| again.still_typing(Channel::WechatV2, None, ms) / 10_000;
        assert!(
            (40..60).contains(&typing(10_000)),
            "half are done after 3 s, half after 20: {}",
            typing(10_000)
        );
        assert!(!folder.path().join("hufu.db-learned.new").exists());
    }

    #[test]
    fn whatever_stands_in_the_file_the_switch_starts() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::beside(&folder.path().join("hufu.db"), 1);
        keeper.put(0, &taught(3_000));
        keeper.write();
        let whole = std::fs::read(&keeper.path).unwrap();
        for bytes in [&b""[..], b"something else", &whole[..whole.len() / 2], &vec![7; 2 << 20]] {
            std::fs::write(&keeper.path, bytes).unwrap();
            assert_eq!(keeper.read().export(), Learned::default().export());
        }
        // A folder in its place can be neither read nor replaced.
        std::fs::remove_file(&keeper.path).unwrap();
        std::fs::create_dir_all(keeper.path.join("full")).unwrap();
        keeper.write();
        assert_eq!(keeper.read().export(), Learned::default().export());
    }
}
