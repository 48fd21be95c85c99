//! Which invariants and faults a test covers, written down only when the test has passed.
//!
//! A test names what it covers in its first line and holds the result to its end:
//!
//! ```
//! let _covers = covers::covers(&["INV-07", "UB-03"]);
//! ```
//!
//! With the environment variable [`RECORD`] set, each test that ends without a panic leaves a line per id there;
//! the command of this crate reads them and says which ids have a test that ran. Checkers that are programs
//! (model, simulator, process checker) call [`passed`] themselves.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

pub mod catalogue;
pub mod report;

/// The environment variable with the folder of the record; without it nothing is written. It does not begin with
/// `HUFU_`: the switch takes such a variable for a setting and refuses to start.
pub const RECORD: &str = "COVERS_RECORD";

/// What a running test covers; recorded when it is dropped without a panic.
#[derive(Debug)]
#[must_use = "hold it to the end of the test: `let _covers = …`"]
pub struct Covers {
    ids: &'static [&'static str],
}

/// Names the ids that the calling test covers.
///
/// # Panics
/// When an id is not in the catalogue: a misspelt id would cover nothing.
pub fn covers(ids: &'static [&'static str]) -> Covers {
    for id in ids {
        assert!(catalogue::find(id).is_some(), "{id} is not in crates/covers/catalogue.tsv");
    }
    Covers { ids }
}

impl Drop for Covers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let thread = std::thread::current();
        passed(&format!("{}::{}", binary(), thread.name().unwrap_or("?")), self.ids);
    }
}

/// Records that the check `name` has passed and covers `ids`. Without [`RECORD`], does nothing.
///
/// # Panics
/// When the record cannot be written: a check whose record is lost would count as one that never ran.
pub fn passed(name: &str, ids: &[&str]) {
    let Some(folder) = std::env::var_os(RECORD).map(PathBuf::from) else { return };
    let lines: String = ids.iter().map(|id| format!("{id}\t{name}\n")).collect();
    let file = folder.join(format!("{}.tsv", std::process::id()));
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(&file))
        .and_then(|mut open| open.write_all(lines.as_bytes()));
    assert!(written.is_ok(), "cannot write {}: {written:?}", file.display());
}

/// The test binary's name without cargo's hash.
fn binary() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    match stem.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name.replace('_', "-"),
        Some(_) | None => stem,
    }
}
