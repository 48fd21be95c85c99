use super::{Generator, Limit, Measured, Percentiles, Plan, Report, verdict};
use crate::clock::SECOND_NS;
use crate::measure::{Heard, record};

/// A run of 1,000 payments that went well.
fn well(plan: &Plan) -> Generator {
    Generator {
        lag_us: Percentiles { count: 1_000, p50: 20, p90: 40, p99: 90, p999: 300, max: 900 },
        ..Generator::of(plan, &Measured::new())
    }
}

/// The verdict beside a latency of 2 ms.
fn check(change: impl Fn(&mut Generator), limit: Limit, said: &str) {
    let plan = Plan::small();
    let mut seen = well(&plan);
    change(&mut seen);
    let (told, text) = verdict(&seen, 2_000, &Measured { due: 1_000, ..Measured::new() }, &plan);
    assert_eq!(told, limit, "{text}");
    assert!(text.contains(said), "{text}");
    assert_eq!(
        text.starts_with("The generator was the limit, not the server"),
        limit != Limit::None,
        "{text}"
    );
}

#[test]
fn it_says_when_it_was_the_limit_itself() {
    check(|_| {}, Limit::None, "");
    check(|seen| seen.cpu_percent = 89, Limit::None, "");
    check(|seen| seen.cpu_percent = 90, Limit::Generator, "90 % of a processor");
    check(|seen| seen.unprepared = 11, Limit::Generator, "11 payments were made too late");
    check(|seen| seen.lag_us.p99 = 1_000, Limit::None, "");
    check(|seen| seen.lag_us.p99 = 1_001, Limit::Generator, "1.00 ms late");
    check(|seen| seen.kept_waiting_percent = Some(24), Limit::None, "");
    check(|seen| seen.kept_waiting_percent = Some(25), Limit::Generator, "kept from a processor 25 %");
    check(|seen| seen.left_behind = 10, Limit::None, "");
    check(|seen| seen.left_behind = 11, Limit::Connections, "all 4 were busy");
    check(|seen| seen.queries_waited_percent = 50, Limit::None, "");
    check(|seen| seen.queries_waited_percent = 51, Limit::Connections, "--poll-connections");
    check(|seen| seen.waited_percent = 50, Limit::None, "");
    check(|seen| seen.waited_percent = 51, Limit::Connections, "51 % of the payments");
}

#[test]
fn a_server_that_is_slow_is_not_the_generator() {
    // Half a second of lag in a hundred is nothing beside ten seconds of latency.
    let plan = Plan::small();
    let mut seen = well(&plan);
    seen.lag_us.p99 = 500_000;
    assert_eq!(verdict(&seen, 10_000_000, &Measured::new(), &plan).0, Limit::None);
}

#[test]
fn the_warm_up_is_left_out() {
    let plan = Plan::small();
    let mut measured =
        Measured { due: 100, warmup_payments: 2, cpu_span_ns: 10 * SECOND_NS, ..Measured::new() };
    measured.words =
        vec![Heard::NotPaid, Heard::NotPaid, Heard::Paid, Heard::Open, Heard::Unsent, Heard::Absent];
    measured.cpu_ns = SECOND_NS;
    measured.answered_in_time = 33;
    for wait_ns in [0, 999, 2_000, 3_000_000] {
        measured.payments.sent += 1;
        record(&mut measured.payments.wait, wait_ns);
    }
    measured.payments.answer("SUCCESS", 5_000_000, 4_000_000);
    let report = Report::new(&plan, &measured);
    let ends = report.outcomes;
    assert_eq!((ends.paid, ends.not_paid, ends.open, ends.unknown), (1, 0, 1, 1));
    assert_eq!((report.unsent, report.generator.cpu_percent, report.generator.waited_percent), (96, 10, 50));
    assert_eq!((report.due_per_second, report.answered_per_second), (10.0, 3.3));
    assert_eq!(report.payments.results["SUCCESS"].count, 1);
    let times = (report.payments.latency_us.p50, report.payments.service_us.max);
    assert!((4_990..5_010).contains(&times.0) && (3_990..4_010).contains(&times.1), "{times:?}");
}
