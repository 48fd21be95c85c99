use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use state_machine::absence::AbsentTill;
use state_machine::exposure::{AGES, Exposure, Stage};
use state_machine::shard::Alarm;
use state_machine::{Channel, Policy, UnixMs};

use super::families::BUCKETS;
use super::handles::Handles;
use super::{Ask, CallOutcome, Gauges, Limit, LookupQueue, Operation, Outcome, Refusal};

/// What is told to people.
const DOCUMENTED: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/prometheus/metrics.md"));
/// The names of DESIGN §7; dashboards depend on them.
const NAMES: [&str; 15] = [
    "payments_total",
    "pending_payments",
    "detection_delay_seconds",
    "told_delay_seconds",
    "queries_per_payment",
    "upstream_requests_total",
    "upstream_request_seconds",
    "query_budget_ratio",
    "reversals_total",
    "money_at_risk_fen",
    "store_commit_seconds",
    "store_batch_records",
    "timer_lag_seconds",
    "shard_queue_depth",
    "refusals_total",
];
const ABSENT: [AbsentTill; 2] = [AbsentTill::Keep, AbsentTill::Reverse];
/// The most that a scrape may be.
const BODY_MAX: usize = 200 * 1024;
/// Lines with a value; the exporter adds a line for each bucket.
const SERIES_MAX: usize = 700;

/// One metric as it is exposed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    /// Labels and their values; `le` is the exporter's.
    labels: BTreeMap<String, BTreeSet<String>>,
    series: usize,
}

/// Reads the text format as far as we write it.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.clone_into(&mut families.entry(name.to_owned()).or_default().help);
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a series and its value");
        value.parse::<f64>().unwrap_or_else(|err| panic!("{line}: {err}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let part = |suffix| name.strip_suffix(suffix).filter(|name| families.contains_key(*name));
        let name = ["_bucket", "_sum", "_count"].into_iter().find_map(part).unwrap_or(name).to_owned();
        let family = families.get_mut(&name).unwrap_or_else(|| panic!("{line}: no HELP and TYPE before it"));
        family.series += 1;
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').expect("a label and its value");
            if key != "le" {
                family.labels.entry(key.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
            }
        }
    }
    families
}

/// Everything that can happen, once or many times.
fn exercise(channel: Channel) {
    let took = Duration::from_micros(1_234_567);
    for outcome in Outcome::ALL {
        super::payment(channel, outcome);
    }
    for operation in Operation::ALL {
        for outcome in CallOutcome::ALL {
            super::upstream(channel, operation, outcome, took);
        }
        super::throttled(channel, operation);
    }
    for refusal in Refusal::ALL {
        super::refused(refusal);
    }
    for ask in Ask::ALL {
        super::asked(ask, took);
    }
    for alarm in Alarm::TROUBLES {
        super::alarm(alarm);
    }
    for action in ABSENT {
        super::absent_till(action);
    }
    super::reversal(channel);
    super::detection_delay(took);
    super::told_delay(took);
    super::queries(7);
    super::commit(100, took);
    super::timer_lag(took);
    super::tls_reload(true);
    super::tls_reload(false);
    super::tls_certificate_end(UnixMs(1_895_400_000_000));
    super::connection(true);
    super::connection(false);
    super::limits(u32::MAX, usize::MAX);
    super::known_addresses(usize::MAX);
    super::admin_connections(usize::MAX);
    super::streams(usize::MAX, usize::MAX);
    super::lookup_limits([usize::MAX; LookupQueue::ALL.len()]);
    LookupQueue::ALL.into_iter().for_each(super::lookup_refused);
    Limit::ALL.into_iter().for_each(super::limit_reached);
}

/// Gauges as long as numbers get.
fn widest(shards: usize) -> Gauges {
    let mut gauges = Gauges {
        pending: u64::MAX,
        at_risk_fen: u64::MAX,
        queries_used: u32::MAX / 3,
        queries_max: u32::MAX,
        calls_waiting: u64::MAX,
        queue_depths: vec![usize::MAX; shards],
        lookups_waiting: [usize::MAX; LookupQueue::ALL.len()],
        orders: u64::MAX,
        orders_max: u64::MAX,
        is_stalled: true,
        backlog: [7, 262_144],
        archives: 3,
        is_draining: true,
        wallet_certificate_end: Some(UnixMs(1_895_400_000_000)),
        ..Gauges::default()
    };
    for sum in gauges.exposure.by_age.iter_mut().flatten() {
        (sum.payments, sum.fen) = (u64::MAX, u64::MAX);
    }
    gauges.exposure.oldest_ms = [u64::MAX; Stage::ALL.len()];
    gauges
}

#[test]
fn the_table_says_what_is_exposed() {
    super::install().expect("one recorder in this process");
    let exposed = families(&super::render());
    let mut documented = BTreeMap::new();
    for line in DOCUMENTED.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("four cells: {line}") };
        let labels = labels.split(", ").filter(|label| *label != "–").map(str::to_owned).collect::<Vec<_>>();
        documented.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels, help.to_owned()));
    }
    let shown: BTreeMap<_, _> = exposed
        .into_iter()
        .map(|(name, family)| (name, (family.kind, family.labels.into_keys().collect(), family.help)))
        .collect();
    assert_eq!(shown, documented, "deploy/prometheus/metrics.md and what is exposed");
    for name in NAMES {
        assert!(shown.contains_key(&format!("hufu_{name}")), "{name} is a contract");
    }
}

#[test]
fn installing_again_even_at_once_changes_nothing() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| super::install().expect("repeating it changes nothing"));
        }
    });
    let text = super::render();
    let line =
        "hufu_upstream_requests_total{channel=\"wechat_v2\",operation=\"refund_query\",outcome=\"unsent\"}";
    assert!(text.contains(line), "what has not happened yet is there: {text}");
}

/// Nothing that a till, a merchant or a wallet sends can become a label: every label has the words of one list, and
/// the body is as long as it will ever be once each has happened.
#[test]
fn however_many_merchants_the_body_is_bounded() {
    let _covers = covers::covers(&["INV-24"]);
    super::install().expect("one recorder in this process");
    let shards = 64;
    for _ in 0..1_000 {
        exercise(Channel::WechatV2);
    }
    super::observe(&widest(shards));
    let text = super::render();
    let families = families(&text);
    let words = |of: &[&str]| of.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    let outcomes = [
        words(&Outcome::ALL.map(Outcome::as_str)),
        words(&CallOutcome::ALL.map(CallOutcome::as_str)),
        words(&Refusal::ALL.map(Refusal::as_str)),
        words(&Alarm::TROUBLES.map(Alarm::as_str)),
        words(&ABSENT.map(AbsentTill::as_str)),
        words(&super::TLS_OUTCOMES),
    ];
    let operations = [words(&Operation::ALL.map(Operation::as_str)), words(&Ask::ALL.map(Ask::as_str))];
    for (name, family) in &families {
        for (label, values) in &family.labels {
            let known = match label.as_str() {
                "channel" => *values == words(&[Channel::WechatV2.as_str()]),
                "outcome" => outcomes.contains(values),
                "operation" => operations.contains(values),
                "stage" => *values == words(&Stage::ALL.map(Stage::as_str)),
                "age" => *values == words(&AGES.map(|(age, _)| age)),
                "shard" => values.len() == shards,
                "queue" => *values == words(&LookupQueue::ALL.map(LookupQueue::as_str)),
                "limit" => *values == words(&Limit::ALL.map(Limit::as_str)),
                "version" => values.len() == 1,
                _ => false,
            };
            assert!(known, "{name}: {label} has {values:?}");
        }
    }
    let series: usize = families.values().map(|family| family.series).sum();
    assert!(series <= SERIES_MAX, "{series} series");
    assert!(text.len() <= BODY_MAX / 2, "{} bytes", text.len());
}

#[test]
fn labels_have_places_in_the_order_of_their_lists() {
    assert!(Outcome::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
    assert!(Operation::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
    assert!(CallOutcome::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
    assert!(Refusal::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
    assert!(Ask::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
    assert!(Stage::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
}

/// What is exposed after `act`, in a registry of its own.
fn rendered(act: impl FnOnce(&Handles)) -> String {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets).expect("buckets");
    }
    let recorder = builder.build_recorder();
    metrics::with_local_recorder(&recorder, || act(&Handles::new()));
    recorder.handle().render()
}

#[test]
fn what_is_counted_is_rendered() {
    let mut exposure = Exposure::default();
    let record = crate::driver::tests::record("P00001");
    exposure.see(3, &record);
    let later = UnixMs(record.accepted_at.0 + 100_000);
    let text = rendered(|handles| {
        let of = handles.of(Channel::WechatV2);
        of.requests[Operation::Refund as usize][CallOutcome::Unverified as usize].increment(1);
        of.seconds[Operation::Refund as usize].record(Duration::from_millis(30));
        of.payments[Outcome::Reversed as usize].increment(1);
        handles.detection_delay.record(Duration::from_millis(700));
        handles.refusals[Refusal::StoreDown as usize].increment(2);
        super::observe(&Gauges {
            pending: 3,
            at_risk_fen: 1_288,
            exposure: exposure.report(later, Policy::default().overdue_ms()),
            queries_used: 900,
            queries_max: 1_800,
            queue_depths: vec![0, 17],
            wallet_certificate_end: Some(UnixMs(1_895_400_000_000)),
            ..Gauges::default()
        });
    });
    for line in [
        "hufu_upstream_requests_total{channel=\"wechat_v2\",operation=\"refund\",outcome=\"unverified\"} 1",
        "hufu_upstream_request_seconds_bucket{channel=\"wechat_v2\",operation=\"refund\",le=\"0.05\"} 1",
        "hufu_upstream_request_seconds_bucket{channel=\"wechat_v2\",operation=\"refund\",le=\"0.025\"} 0",
        "hufu_payments_total{channel=\"wechat_v2\",outcome=\"reversed\"} 1",
        "hufu_detection_delay_seconds_bucket{le=\"1\"} 1",
        "hufu_refusals_total{outcome=\"store_down\"} 2",
        "hufu_pending_payments 3",
        "hufu_money_at_risk_fen 1288",
        "hufu_money_at_risk_by_age_fen{stage=\"undecided\",age=\"under_10m\"} 1288",
        "hufu_money_at_risk_by_age_fen{stage=\"undecided\",age=\"under_1m\"} 0",
        "hufu_overdue_payments 1",
        "hufu_overdue_fen 1288",
        "hufu_query_budget_ratio 0.5",
        "hufu_query_budget_per_second 1800",
        "hufu_shard_queue_depth{shard=\"1\"} 17",
        "hufu_wallet_certificate_end_timestamp_seconds 1895400000",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    let oldest =
        text.lines().find_map(|line| line.strip_prefix("hufu_oldest_open_seconds{stage=\"undecided\"} "));
    assert!(
        oldest.is_some_and(|s| (100..=105).contains(&s.parse::<u32>().expect("whole seconds"))),
        "{text}"
    );
}
