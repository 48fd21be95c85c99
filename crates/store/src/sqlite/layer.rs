//! What the store's files lie on: the file system, or the checker's disk, which loses what was not synced.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::OpenError;
use super::lock::WriterLock;
use super::mark::beside;

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

    /// Whether there is a file at `path` with anything in it.
    pub(super) fn holds_something(&self, path: &Path) -> bool {
        match self {
            Self::Files => std::fs::metadata(path).is_ok_and(|found| found.len() > 0),
            #[cfg(feature = "power-cut")]
            Self::Disk(machine) => machine.read(path).is_some_and(|bytes| !bytes.is_empty()),
        }
    }

    /// The bytes of the log at `path`; none if there is no such file.
    pub(super) fn log(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        match self {
            Self::Files => match File::open(path) {
                Ok(file) => Ok(Box::new(io::BufReader::with_capacity(1 << 16, file))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Box::new(io::empty())),
                Err(error) => Err(error),
            },
            #[cfg(feature = "power-cut")]
            Self::Disk(machine) => Ok(Box::new(io::Cursor::new(machine.read(path).unwrap_or_default()))),
        }
    }

    /// All of a small file; `None` if there is none that can be read.
    pub(super) fn read_small(&self, path: &Path) -> Option<Vec<u8>> {
        match self {
            Self::Files => match std::fs::read(path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot be read, and is taken for missing");
                    None
                }
            },
            #[cfg(feature = "power-cut")]
            Self::Disk(machine) => machine.read(path),
        }
    }

    /// A small file to write over and over, made if there is none; `None`, with a warning, if that fails.
    pub(super) fn open_small(&self, path: &Path) -> Option<Small> {
        let opened = match self {
            Self::Files => create(path)
                .map_err(|error| error.to_string())
                .and_then(|()| File::options().write(true).open(path).map_err(|error| error.to_string()))
                .map(Small::File),
            #[cfg(feature = "power-cut")]
            Self::Disk(machine) => machine.open(path).map(Small::Disk).map_err(|fault| format!("{fault:?}")),
        };
        opened
            .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "the store has no mark"))
            .ok()
    }

    /// A file of recent records, made anew: one that is there is left to who still has it open. The name is durable when
    /// this returns.
    pub(super) fn new_segment(&self, path: &Path) -> Result<Segment, OpenError> {
        match self {
            Self::Files => {
                // Its absence shows when the other is made.
                drop(std::fs::remove_file(path));
                create(path)?;
                let open = || {
                    let file = File::options().read(true).write(true).open(path)?;
                    sync_names(path)?;
                    Ok(Segment::File(file))
                };
                open().map_err(|error: io::Error| OpenError::Unavailable {
                    path: path.to_owned(),
                    cause: error.to_string(),
                })
            }
            #[cfg(feature = "power-cut")]
            Self::Disk(machine) => machine
                .open_new(path)
                .and_then(|file| file.sync_names().map(|()| Segment::Disk(file)))
                .map_err(|fault| OpenError::Unavailable {
                    path: path.to_owned(),
                    cause: format!("{fault:?}"),
                }),
        }
    }

    /// Removes a database that nobody has open for writing, with what a crash may have left beside it. Its absence is
    /// durable before anything else that is made durable in the directory.
    pub(super) fn remove_database(&self, path: &Path) -> io::Result<()> {
        for path in [path.to_owned(), beside(path, "-journal")] {
            match self {
                Self::Files => match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                },
                #[cfg(feature = "power-cut")]
                Self::Disk(machine) => machine.remove(&path).map_err(failed)?,
            }
        }
        Ok(())
    }

    /// All of a file of recent records, for who only reads; nothing if there is none.
    pub(super) fn read_segment(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Self::Files => match std::fs::read(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
                read => read,
            },
            #[cfg(feature = "power-cut")]
            Self::Disk(machine) => Ok(machine.read(path).unwrap_or_default()),
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

/// A small file that is written as a whole.
#[derive(Debug)]
pub(super) enum Small {
    File(File),
    #[cfg(feature = "power-cut")]
    Disk(crate::power_cut::OpenFile),
}

impl Small {
    /// Writes over what is there, without a sync.
    pub(super) fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => write_at(file, at, bytes),
            #[cfg(feature = "power-cut")]
            Self::Disk(file) => file.write_at(at, bytes).map_err(failed),
        }
    }
}

/// A file that is written from its beginning, again and again.
#[derive(Debug)]
pub(super) enum Segment {
    File(File),
    #[cfg(feature = "power-cut")]
    Disk(crate::power_cut::OpenFile),
}

impl Segment {
    pub(super) fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => write_at(file, at, bytes),
            #[cfg(feature = "power-cut")]
            Self::Disk(file) => file.write_at(at, bytes).map_err(failed),
        }
    }

    /// What was written is durable when this returns.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_data(),
            #[cfg(feature = "power-cut")]
            Self::Disk(file) => file.sync().map_err(failed),
        }
    }

    /// The first `length` bytes.
    pub(super) fn read(&self, length: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; length];
                let mut file = file;
                file.rewind()?;
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
            #[cfg(feature = "power-cut")]
            Self::Disk(file) => file.read(length).map_err(failed),
        }
    }

    /// Gives its room back.
    pub(super) fn clear(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.set_len(0),
            #[cfg(feature = "power-cut")]
            Self::Disk(file) => file.clear().map_err(failed),
        }
    }
}

#[cfg(feature = "power-cut")]
fn failed(fault: crate::power_cut::Fault) -> io::Error {
    let kind = match fault {
        crate::power_cut::Fault::Full => ErrorKind::StorageFull,
        crate::power_cut::Fault::Off | crate::power_cut::Fault::Io | crate::power_cut::Fault::Missing => {
            ErrorKind::Other
        }
    };
    io::Error::new(kind, format!("{fault:?}"))
}

#[cfg(unix)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(io::SeekFrom::Start(at))?;
    io::Write::write_all(&mut file, bytes)
}

/// Makes the names in the directory of `path` durable.
fn sync_names(path: &Path) -> io::Result<()> {
    match path.parent() {
        #[cfg(unix)]
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        #[cfg(unix)]
        Some(folder) => File::open(folder)?.sync_all(),
        _ => Ok(()),
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
