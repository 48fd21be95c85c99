//! The profiles: one run, whatever it is written and stored in.

use super::super::{Kind, Profile, Report, Setup, Storage, Summary, required, run};

fn green(setup: &Setup) -> Report {
    let report = run(setup);
    let lines: Vec<String> = report.violations.iter().map(super::super::Violation::line).collect();
    assert!(lines.is_empty(), "seed {}: {lines:#?}", setup.seed);
    report
}

/// With every fault of the disk: commits torn in the middle, syncs that fail, rows that are damaged, a second writer.
#[test]
fn the_embedded_store_decides_as_its_model_does() {
    let _covers = covers::covers(&["INV-13", "DB-10", "DB-11", "PR-16"]);
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = [Kind::TornTail, Kind::SyncFails, Kind::DamagedRows, Kind::SecondWriter, Kind::CrashAtStep];
    for (seed, kind) in (0..10).zip(kinds.into_iter().cycle()) {
        let model = Setup { only: Some(kind), intensity: 4, ..Setup::new(seed, 300) };
        let sqlite = Setup { storage: Storage::Sqlite(folder.path().to_owned()), ..model.clone() };
        let (model, sqlite) = (green(&model), green(&sqlite));
        assert_eq!(model.hash, sqlite.hash, "seed {seed}, {}", kind.as_str());
        assert_eq!(model.probes, sqlite.probes, "seed {seed}, {}", kind.as_str());
        assert!(model.probes.faults.contains_key(kind.as_str()));
    }
}

/// 50,000 payments wait at once in the test command; here a twentieth of them does, through the same faults.
#[test]
fn a_crowd_is_carried_through_an_outage_of_half_an_hour() {
    let _covers = covers::covers(&["INV-12", "UB-20", "PR-15"]);
    let setup = Setup { orders: 3_000, ..Setup::crowd(3) };
    let report = green(&setup);
    assert_eq!(report.open, 0);
    assert!(report.peak_pending > 2_500, "{} pending", report.peak_pending);
    assert!(report.probes.faults.contains_key("outage"));
}

#[test]
fn a_run_ends_with_its_first_violation_if_it_is_to() {
    let broken = Setup { broken: Some(super::super::Broken::PaysTwice), ..Setup::new(1, 500) };
    let (whole, short) = (run(&broken), run(&Setup { stops_at_first: true, ..broken }));
    assert_eq!(whole.violations.first(), short.violations.first());
    assert!(short.events < whole.events);
    let first = short.violations.first().expect("it pays twice");
    assert_eq!((first.rule, first.book.as_str()), ("INV-02", "wire"));
    assert!(first.events > 0 && first.events <= short.events);
}

#[test]
fn what_is_never_met_is_said() {
    let mut summary = Summary::default();
    let missed = required::missed(Profile::Crowd, &summary);
    assert!(missed.iter().any(|line| line.contains("50000 pending")), "{missed:?}");
    assert!(required::missed(Profile::Typed, &summary).contains(&"fault torn_tail".to_owned()));
    summary.add(&run(&Setup { only: Some(Kind::TornTail), ..Setup::new(0, 200) }));
    assert!(!required::missed(Profile::Typed, &summary).contains(&"fault torn_tail".to_owned()));
    for profile in [Profile::Typed, Profile::Bytes, Profile::Sqlite, Profile::Crowd] {
        for id in required::ids(profile) {
            assert!(covers::catalogue::find(id).is_some(), "{id}");
        }
    }
}
