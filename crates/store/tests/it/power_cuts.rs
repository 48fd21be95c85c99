//! Power cuts by the hundred, on a disk that loses what was not synced; and that the judge sees what is spoiled.

use store::power_cut::{Place, Setup, Spoiled, run};

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let _covers = covers::covers(&["INV-13", "INV-14", "DB-01", "DB-03", "DB-10"]);
    let report = run(&Setup { cuts: 600, jobs: 2, ..Setup::default() });
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.cuts >= 600 && report.acknowledged > 600, "{report}");
    for (place, count) in Place::ALL.iter().zip(report.places) {
        assert!(count > 0, "no cut fell into {place:?}: {report}");
    }
    assert!(report.doubtful_kept > 0 && report.doubtful_lost > 0, "{report}");
    assert!(report.sectors.torn > 0 && report.sectors.junk > 0, "{report}");
}

#[test]
fn what_is_spoiled_is_found() {
    for spoiled in [Spoiled::SynchronousOff, Spoiled::SynchronousNormal, Spoiled::LyingDisk] {
        let report = run(&Setup { cuts: 200, spoiled, first_only: true, ..Setup::default() });
        assert!(!report.violations.is_empty(), "{spoiled:?}: {report}");
    }
}
