//! What the store's files lie on: the file system, or the checker's disk, which loses what was not synced.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::OpenError;
use super::lock::WriterLock;

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// In the file system.
    Files,
    /// On the checker's disk.
    #[cfg(feature = "power-cut")]
    Disk(crate::power_cut::Machine),
}

impl Layer {
    /// Takes the right to be the one writer.
    pub(super) fn lock(&self, path: &Path) -> Result<WriterLock, OpenError> {
        match self {
            Self::Files => WriterLock::take(path),
            #[cfg(feature = "power-cut")]
            Self::Disk(_) => Ok(WriterLock::of_nobody_else()),
        }
    }

    /// Makes the file if there is none, readable by its owner only.
    pub(super) fn create(&self, path: &Path) -> Result<(), OpenError> {
        match self {
            Self::Files => create(path),
            // SQLite makes it.
            #[cfg(feature = "power-cut")]
            Self::Disk(_) => Ok(()),
        }
    }

    pub(super) fn connect(&self, path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
        match self {
            Self::Files => Connection::open_with_flags(path, flags),
            #[cfg(feature = "power-cut")]
            Self::Disk(_) => Connection::open_with_flags_and_vfs(path, flags, crate::power_cut::VFS),
        }
    }

    /// A setting that the checker spoils, to see that it is caught.
    pub(super) fn spoil(&self, _conn: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Files => Ok(()),
            #[cfg(feature = "power-cut")]
            Self::Disk(machine) => machine.spoil(_conn),
        }
    }
}

#[cfg(unix)]
fn create(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| OpenError::Unavailable { path: path.to_owned(), cause: error.to_string() })
}

#[cfg(not(unix))]
fn create(_path: &Path) -> Result<(), OpenError> {
    Ok(())
}
