//! One writer at a time: an operating-system lock on a file beside the store.
//!
//! The lock goes with the process, however it ends; the number written into the file is for people only.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// Held as long as this process may write.
#[derive(Debug)]
pub(super) struct WriterLock {
    _file: Option<File>,
}

impl WriterLock {
    /// Takes the lock of the store at `path`.
    ///
    /// # Errors
    ///
    /// [`OpenError::InUse`] if another holds it, [`OpenError::Unavailable`] if the file cannot be opened.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let lock_path = lock_path(path);
        let unavailable = |error: &dyn ToString| OpenError::Unavailable {
            path: lock_path.clone(),
            cause: error.to_string(),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| unavailable(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Unreadable is as good as unknown.
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(OpenError::InUse { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(&error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| unavailable(&error))?;
        Ok(Self { _file: Some(file) })
    }

    /// Where nobody else can be: on the checker's disk.
    #[cfg(feature = "power-cut")]
    pub(super) const fn of_nobody_else() -> Self {
        Self { _file: None }
    }
}

/// `store.db` is locked by `store.db.lock`.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
