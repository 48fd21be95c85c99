//! `hufu load` against the sandbox and against what is not there.

use serde_json::Value;

use crate::support::{Done, Running, run};

const MERCHANT: &str = "1900000201:SandboxSigningKeyOfMerchant00001:wx0000000000000001";

fn load(url: &str, more: &[&str]) -> Done {
    run(&[&["load", url, "--rate", "50", "--duration", "2", "--warmup", "1", "--connections", "8"], more]
        .concat())
}

/// Every name of `value` with its type, one a line, as `a.b:number`.
fn shape(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        // Percentiles are the same everywhere, and results have the names that were answered.
        Value::Object(fields) if fields.contains_key("p999") => lines.push(format!("{path}:percentiles")),
        Value::Object(_) if path.ends_with(".results") => lines.push(format!("{path}:results")),
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(&format!("{path}.{name}"), value, lines);
            }
        }
        Value::Array(_) => lines.push(format!("{path}:list")),
        Value::String(_) => lines.push(format!("{path}:text")),
        Value::Number(_) => lines.push(format!("{path}:number")),
        Value::Bool(_) => lines.push(format!("{path}:flag")),
        Value::Null => lines.push(format!("{path}:none")),
    }
}

/// What `--json` prints; whoever reads it relies on it.
const SHAPE: &str = "\
.target:text .numbers:text .arrivals:text .seed:number .customers:text .rate:number .warmup_s:number \
.duration_s:number .connections:number .poll_connections:number .due:number .unsent:number .due_per_second:number \
.answered_per_second:number .taken_per_second:number .payments.sent:number .payments.answered:number \
.payments.lost:number .payments.timed_out:number .payments.unanswered:number .payments.latency_us:percentiles \
.payments.service_us:percentiles .payments.results:results .polls.sent:number .polls.answered:number \
.polls.lost:number .polls.timed_out:number .polls.unanswered:number .polls.latency_us:percentiles \
.polls.service_us:percentiles .polls.results:results .definite_us:percentiles .open_max:number .outcomes.paid:number \
.outcomes.not_paid:number .outcomes.reversed:number .outcomes.not_taken:number .outcomes.open:number \
.outcomes.unknown:number .outcomes.wrong_amount:number .generator.limit:text .generator.was_the_limit:flag \
.generator.reason:text .generator.cpu_percent:number .generator.kept_waiting_percent:number \
.generator.cpu_ns_per_request:number .generator.maker_cpu_ms:number .generator.lag_us:percentiles \
.generator.connection_wait_us:percentiles .generator.waited_percent:number .generator.query_wait_us:percentiles \
.generator.queries_waited_percent:number .generator.left_behind:number .generator.unprepared:number \
.generator.connections_lost:number .generator.connects_failed:number .books.agree:flag .books.charged_twice:number \
.books.told_paid_not_held:number .books.held_not_told:number .books.wrong_amount:number .books.held_and_open:number \
.books.found:number .books.numbers:list .interrupted:flag .elapsed_ms:number";

#[test]
fn the_sandbox_is_loaded_and_its_books_agree() {
    let sandbox = Running::start(&["sandbox", "--listen", "127.0.0.1:0", "--speed", "20", "--json"]);
    let (gateway, wallet) = (sandbox.text("gateway"), sandbox.text("wallet"));
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("merchants.txt");
    let others = sandbox.ready["merchants"].as_array().expect("a list").iter().skip(1).map(|merchant| {
        let text = |name: &str| merchant[name].as_str().map(str::to_owned);
        let sub = text("sub_mch_id").map(|sub| format!("/{sub}")).unwrap_or_default();
        let part = |name: &str| text(name).expect("a text");
        format!("{}{sub}:{}:{}\n", part("mch_id"), part("key"), part("appid"))
    });
    std::fs::write(&list, others.collect::<String>()).expect("written");
    let list = list.to_str().expect("UTF-8");
    let mix = [
        "--merchant",
        MERCHANT,
        "--merchants",
        list,
        "--customer",
        "00=60,0104=30,05=10",
        "--poll-ms",
        "250",
    ];
    let books = ["--books", &wallet, "--sign", "hmac-sha256", "--arrivals", "constant"];
    let done = load(&gateway, &[mix.as_slice(), &books, &["--json"]].concat());
    let report = &done.json()[0];
    // On a machine that is busy with other tests the generator may rightly say that it was the limit.
    let limit = report["generator"]["was_the_limit"].as_bool().expect("a flag");
    assert_eq!(done.code, if limit { 75 } else { 0 }, "{done:?}");
    assert_eq!(done.err.contains("The generator was the limit"), limit, "{done:?}");
    let mut lines = Vec::new();
    shape("", report, &mut lines);
    lines.sort();
    let mut wanted: Vec<&str> = SHAPE.split(' ').collect();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    assert_eq!((&report["due"], &report["payments"]["answered"]), (&100.into(), &100.into()), "{report}");
    assert_eq!(
        report["outcomes"]["paid"].as_u64().zip(report["outcomes"]["not_paid"].as_u64()).map(|(a, b)| a + b),
        Some(100)
    );
    assert!(report["payments"]["results"]["USERPAYING"]["count"].as_u64() > Some(10), "{report}");
    assert!(report["definite_us"]["count"].as_u64() > Some(10), "{report}");
    let held = &report["books"];
    assert_eq!((&held["agree"], held["found"].as_u64() >= Some(130)), (&true.into(), true), "{held}");

    // The same wallet without the switch, for people, and without the provider's sub-merchant.
    let provider = "1900000109/1900000111:192006250b4c09247ec02edce69f6a2d:wxd930ea5d5a258f4f";
    let direct = load(&wallet, &["--merchant", provider]);
    assert!(direct.out.contains("payment due → answered") && direct.out.contains("  SUCCESS"), "{direct:?}");
    let stranger = load(&gateway, &["--merchant", &MERCHANT.replace("00001:", "00009:"), "--json"]);
    assert_eq!(stranger.code, 1, "{stranger:?}");
    assert!(
        stranger.err.contains("no payment was taken") && stranger.err.contains("签名错误"),
        "{stranger:?}"
    );
    assert_eq!(sandbox.stop().code(), Some(0));
}

#[test]
fn wrong_arguments_are_named_and_nothing_is_sent() {
    let fine = ["--merchant", MERCHANT];
    for (url, more, said) in [
        ("127.0.0.1:8080", fine.as_slice(), "begins with http:// or https://"),
        ("http://127.0.0.1:9", &[], "--merchant"),
        ("http://127.0.0.1:9", &["--merchant", "1900000201:key:wx01"], "an API key is exactly 32"),
        ("http://127.0.0.1:9", &["--merchant", MERCHANT, "--customer", "0"], "is no customer"),
        ("http://127.0.0.1:9", &["--merchant", MERCHANT, "--customer", "00=x"], "is no share"),
        ("http://127.0.0.1:9", &["--merchant", MERCHANT, "--ca-file", "/dev/null"], "https"),
        ("https://127.0.0.1:9", &["--merchant", MERCHANT, "--ca-file", "/dev/null"], "no certificate"),
        ("http://127.0.0.1:9", &["--merchants", "/nowhere"], "/nowhere"),
        ("http://127.0.0.1:9", &["--merchants", "/dev/null"], "names no merchant"),
    ] {
        let done = load(url, more);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.err.contains(said), "{said}: {done:?}");
    }
    let nobody = load("http://127.0.0.1:9", &["--merchant", MERCHANT, "--json"]);
    assert_eq!(nobody.code, 69, "{nobody:?}");
    assert!(nobody.err.contains("0 of 8 connections to http://127.0.0.1:9"), "{nobody:?}");
    assert_eq!(nobody.json()[0]["exit"], 69, "{nobody:?}");
}
