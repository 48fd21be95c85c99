use crate::support::run;

#[test]
fn the_books_of_a_demo_agree() {
    let done = run(&["demo", "--customers", "150", "--speed", "20", "--seed", "3", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let report = done.json().pop().expect("the report is the last line");
    for (field, value) in
        [("customers", 150), ("open", 0), ("held", 0), ("not_taken", 0), ("told_and_ledger_differ", 0)]
    {
        assert_eq!(report[field], value, "{field} in {report}");
    }
    let count = |field: &str| report[field].as_u64().unwrap_or_else(|| panic!("{field} in {report}"));
    assert_eq!(count("paid") + count("failed") + count("reversed"), 150, "{report}");
    assert!(count("paid") > 75 && count("failed") + count("reversed") > 5, "{report}");
    assert!(count("peak_pending") > 1 && count("peak_pending") <= 150, "{report}");
    assert_eq!(report["books_agree"], true);
    assert_eq!(report["paid_fen"], report["wallet_holds_fen"]);
    assert!(report["queries_per_payment"].as_f64().is_some_and(|queries| queries > 0.1), "{report}");
    for delay in ["detection_delay_ms", "told_delay_ms"] {
        let of = |name: &str| report[delay][name].as_u64().unwrap_or_else(|| panic!("{delay} in {report}"));
        assert!(of("count") > 10 && of("p50") <= of("p95") && of("p95") <= of("p99"), "{report}");
    }
}

#[test]
fn a_demo_for_people_ends_with_the_verdict_and_fits_its_width() {
    let done = run(&["demo", "--customers", "20", "--speed", "50"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
    let last = done.out.lines().last().expect("a verdict");
    assert!(last.contains("agree; nothing is open"), "{last}");
}

#[test]
fn a_demo_of_nobody_is_wrong_usage() {
    assert_eq!(run(&["demo", "--customers", "0"]).code, 2);
}
