//! Why a store cannot be opened, and what SQLite's words mean for us.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::contract::{CommitError, Day};

/// Why the store cannot be opened. No payment was touched.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process is its writer.
    #[error(
        "{} is in use by another process{}; only one may write to a store. Stop that process, or use its admin \
         socket.", path.display(), pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    )]
    InUse {
        /// The store.
        path: PathBuf,
        /// Who holds it, if its lock file says so.
        pid: Option<u32>,
    },
    /// The file or its lock file cannot be opened or made.
    #[error("{} cannot be opened: {cause}. Check that the directory exists and belongs to this user.", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// The file is something else.
    #[error("{} is not a Hufu store; nothing was changed. Give the path of a store, or of a new file.", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// Sealed under another master key (CF-06).
    #[error(
        "the master key given is not the one that {} was made with; nothing was changed. Without the right key \
         no payment can go on: find it, there is no way around it.", path.display()
    )]
    WrongKey {
        /// The store.
        path: PathBuf,
    },
    /// Made by a newer program (CF-09).
    #[error(
        "the store has schema {found}, this program knows schemas up to {known}; nothing was changed. Install \
         the newer program again, or restore the backup made before the upgrade."
    )]
    NewerSchema {
        /// What the store has.
        found: u32,
        /// What this program writes.
        known: u32,
    },
    /// Made by an older program (CF-09).
    #[error(
        "the store has schema {found}, this program needs schema {known}; nothing was changed. Schemas 2 and 3 become \
         the present one when the switch, or a command that changes merchants, first opens the store; there is no \
         upgrade from schema 1: run the program that made it, or begin with a new store."
    )]
    OlderSchema {
        /// What the store has.
        found: u32,
        /// What this program writes.
        known: u32,
    },
    /// A commit would not survive a power cut (CF-03).
    #[error(
        "the store does not keep commits safely: {setting} is {found}, and must be {wanted}. Payments are \
         refused. Put the store on a local disk (not a network share)."
    )]
    NotDurable {
        /// Which setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Commits that were durable are not there any more (DB-10, DB-17).
    #[error(
        "{} has lost what was durable: it ends with commit {found}, and {witness} knows of commit {known}. \
         Nothing was changed and nothing is served, since tills may have been told what is missing here, and money \
         may have moved for it. Copy the file and everything beside it that begins with its name. If newer files \
         exist, put them back together (the database, -wal, -mark and both -recent files). If not, declare the gap: run `sqlite3 {} \
         'PRAGMA wal_checkpoint(TRUNCATE)'`, remove {}-mark and the -recent files beside it, start again, and compare the wallet's bill with the \
         payments since the last good commit.", path.display(), path.display(), path.display()
    )]
    Lost {
        /// The store.
        path: PathBuf,
        /// The number of the last commit that can be reached; 0 if there is no store at all.
        found: u64,
        /// The number of a later commit that was durable.
        known: u64,
        /// What knows of it.
        witness: &'static str,
    },
    /// The archive of a day is not there, or is not the one that was made.
    #[error(
        "{}, the archive of {day}, cannot be used: {cause}. Nothing was changed and nothing is served: a number that \
         was paid on that day could be taken for a new one. Put the file back from the newest backup that has it; it \
         was never changed since it was made.", path.display()
    )]
    Archive {
        /// The file.
        path: PathBuf,
        /// Whose payments it has.
        day: Day,
        /// What is wrong with it.
        cause: String,
    },
    /// What the store says of itself is not so.
    #[error(
        "{} contradicts itself: {what}. Nothing was changed and nothing is served: payments may be missing or \
         stand as they did earlier, and money may have moved. Move the file and everything beside it that begins \
         with its name (-wal, -shm, -mark, -recent-0, -recent-1) away, put the newest backup in its place, and compare the wallet's bill \
         with its payments.",
        path.display()
    )]
    Contradicts {
        /// The store.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// SQLite refuses.
    #[error("{} cannot be opened: {cause}. If this repeats, check the disk; if it is damaged, move the file and \
         everything beside it that begins with its name (-wal, -shm, -mark, -recent-0, -recent-1) away and put the newest backup in its \
         place.", path.display())]
    Broken {
        /// The store.
        path: PathBuf,
        /// What SQLite says.
        cause: String,
    },
    /// No random bytes from the system.
    #[error(
        "the system gives no random bytes, without which nothing can be sealed. Check the operating system."
    )]
    NoRandomness,
}

/// Whether a failed statement may be tried again: nothing of the transaction is applied once it is rolled back.
pub(super) fn commit_error(error: &rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => {
            CommitError::Busy(error.to_string())
        }
        // Everything else: whether the disk did what it was told is not known (DB-09).
        _ => CommitError::Fatal(error.to_string()),
    }
}
