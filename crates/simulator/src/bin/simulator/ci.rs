//! The seeds of the test command: every profile, and no case left unmet.

use std::path::Path;

use simulator::world::{Plan, Profile, Setup, Storage, Summary, required};

use super::seeds::run_all;

/// Runs every profile; whether every rule held and every case was met.
pub(crate) fn run(jobs: usize, folder: &Path) -> bool {
    let typed = Setup::new(0, 20_000);
    let profiles = [
        // Waits of second scans want customers that few seeds draw: two of these do.
        (Profile::Typed, 48..112, typed.clone()),
        (Profile::Bytes, 0..12, Setup { bytes: true, ..Setup::new(0, 5_000) }),
        (
            Profile::Sqlite,
            0..16,
            Setup { storage: Storage::Sqlite(folder.to_owned()), intensity: 4, ..Setup::new(0, 1_500) },
        ),
        (Profile::Crowd, 1..2, Setup::crowd(0)),
    ];
    let mut green = true;
    for (profile, seeds, setup) in profiles {
        let jobs = if setup.plan == Plan::Crowd { 1 } else { jobs };
        let summary = run_all(&setup, seeds, jobs, false);
        println!("== {}", profile.as_str());
        print!("{}", summary.table());
        let missed = required::missed(profile, &summary);
        if !missed.is_empty() {
            println!("never met, though it must be: {}", missed.join(", "));
        }
        let passed = summary.violations == 0 && missed.is_empty();
        if passed {
            record(profile, &summary);
        }
        green &= passed;
    }
    green
}

/// Writes down what has been covered.
#[cfg(feature = "record")]
fn record(profile: Profile, _: &Summary) {
    covers::passed(&format!("simulator --ci: {}", profile.as_str()), required::ids(profile));
}

#[cfg(not(feature = "record"))]
const fn record(_: Profile, _: &Summary) {}
