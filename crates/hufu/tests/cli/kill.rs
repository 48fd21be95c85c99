//! `kill -9` of the product with 200 payments open, then a restart: every payment ends definitely, and wallet,
//! tills and store agree (PR-01 to PR-07, INV-01, 06, 12, 13).

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Running, http, hufu, run};

const PAYMENTS: usize = 200;
const TILLS: usize = 8;
const SPEED: &str = "10";
/// What is waited for comes within seconds; this only ends a test that would never end.
const DEADLINE: Duration = Duration::from_secs(90);

/// Customers that are still open when the switch is killed, at ten times the speed: the password comes after
/// 5 s, never, is cancelled; the answer was lost, the request was lost, the answer is late.
const CUSTOMERS: [&str; 8] = ["0150", "0200", "0340", "0150", "1100", "1200", "1350", "0800"];

#[expect(clippy::disallowed_methods, reason = "only ends a test that would never end")]
fn moment() -> Instant {
    Instant::now()
}

struct Switch {
    child: Child,
}

impl Switch {
    /// Starts `hufu serve` and waits until it answers.
    fn start(config: &str, gateway: &str) -> Self {
        let mut command = hufu(&["serve", "--config", config]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
        let started = moment();
        let address = gateway.strip_prefix("http://").expect("plain HTTP");
        while std::net::TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < DEADLINE, "the switch never listens");
            std::thread::yield_now();
        }
        Self { child }
    }

    fn kill(&mut self) {
        self.child.kill().expect("SIGKILL is sent");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(n: usize) -> String {
    format!("KILL-{n:06}")
}

fn head(method: &str, key: &str) -> String {
    format!("{method}\nAuthorization: Bearer {key}\nContent-Type: application/json\nPrefer: wait=0")
}

/// What the till of payment `n` is told first.
fn pay(gateway: &str, key: &str, n: usize) -> Value {
    let code = format!("13{n:06}{n:06}{}", CUSTOMERS[n % CUSTOMERS.len()]);
    let body = json!({"out_trade_no": number(n), "auth_code": code, "amount_fen": 1000 + n, "body": "Tea"});
    let (status, answer) = http(&format!("{gateway}/v1/payments"), &head("POST", key), &body.to_string());
    assert!(matches!(status, 200 | 202), "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

fn ask(gateway: &str, key: &str, n: usize) -> Value {
    let (status, answer) = http(&format!("{gateway}/v1/payments/{}", number(n)), &head("GET", key), "");
    assert!(matches!(status, 200 | 202), "nothing told is forgotten: {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

fn is_over(told: &Value) -> bool {
    matches!(told["state"].as_str(), Some("paid" | "failed" | "reversed"))
}

/// A folder with a store, merchants and settings, and the gateway's fixed address.
fn prepared(folder: &str, wallet: &str) -> (String, String, String) {
    let args = [
        "sandbox",
        "--listen",
        "127.0.0.1:0",
        "--speed",
        SPEED,
        "--wallet",
        wallet,
        "--data",
        folder,
        "--json",
    ];
    let sandbox = Running::start(&args);
    let config = sandbox.text("config");
    let key = sandbox.ready["merchants"][0]["api_key"].as_str().expect("a key").to_owned();
    assert_eq!(sandbox.stop().code(), Some(0));
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let text = std::fs::read_to_string(&config).expect("written by the sandbox");
    let fixed = text.replacen("gateway = \"127.0.0.1:0\"", &format!("gateway = \"127.0.0.1:{port}\""), 1);
    assert_ne!(text, fixed);
    std::fs::write(&config, fixed).expect("written");
    (config, key, format!("http://127.0.0.1:{port}"))
}

#[test]
fn every_payment_that_was_open_at_a_kill_ends_definitely() {
    // A system that is out of memory sends the same signal.
    let _covers = covers::covers(&["INV-12", "INV-13", "PR-11"]);
    let folder = tempfile::tempdir().expect("a folder");
    let simulate = Running::start(&["simulate", "--listen", "127.0.0.1:0", "--speed", SPEED, "--json"]);
    let wallet = simulate.text("wallet");
    let (config, key, gateway) = prepared(folder.path().to_str().expect("UTF-8"), &wallet);

    let mut switch = Switch::start(&config, &gateway);
    let told: Vec<Value> = std::thread::scope(|scope| {
        let tills: Vec<_> = (0..TILLS)
            .map(|till| {
                let (gateway, key) = (&gateway, &key);
                scope.spawn(move || {
                    let mine = (till..PAYMENTS).step_by(TILLS);
                    mine.map(|n| pay(gateway, key, n)).collect::<Vec<_>>()
                })
            })
            .collect();
        tills.into_iter().flat_map(|till| till.join().expect("a till")).collect()
    });
    switch.kill();
    let open = told.iter().filter(|answer| !is_over(answer)).count();
    assert_eq!(open, PAYMENTS, "every one was open when it was last heard of");

    let mut switch = Switch::start(&config, &gateway);
    let started = moment();
    let mut ends = BTreeMap::new();
    while ends.len() < PAYMENTS {
        assert!(started.elapsed() < DEADLINE, "{} of {PAYMENTS} have ended", ends.len());
        for n in (0..PAYMENTS).filter(|n| !ends.contains_key(n)).collect::<Vec<_>>() {
            let answer = ask(&gateway, &key, n);
            if is_over(&answer) {
                ends.insert(n, answer);
            }
        }
    }
    // What was told stays told through another kill.
    switch.kill();
    let switch = Switch::start(&config, &gateway);
    for (n, end) in &ends {
        assert_eq!(ask(&gateway, &key, *n)["state"], end["state"], "{}", number(*n));
    }
    drop(switch);

    let (_, ledger) = http(&format!("{wallet}/sim/ledger"), "GET", "");
    let ledger: BTreeMap<String, Value> = ledger
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .map(|entry| (entry["out_trade_no"].as_str().expect("a number").to_owned(), entry))
        .collect();
    let listed =
        run(&["payment", "list", "--which", "all", "--limit", "1000", "--config", &config, "--json"]);
    let stored: BTreeMap<String, Value> = listed
        .json()
        .into_iter()
        .map(|payment| (payment["out_trade_no"].as_str().expect("a number").to_owned(), payment))
        .collect();
    let mut paid = 0;
    for (n, end) in &ends {
        let number = number(*n);
        let record = stored.get(&number).unwrap_or_else(|| panic!("{number} is not in the store"));
        // A pay request that the kill came before was never sent: the wallet has never heard of it.
        let unheard = json!({ "violations": [] });
        let entry = ledger.get(&number).unwrap_or(&unheard);
        let fen = |name: &str| entry[name].as_u64().unwrap_or_default();
        let held = fen("captured_fen") - fen("returned_fen");
        let expected = if end["state"] == "paid" { 1000 + u64::try_from(*n).unwrap_or_default() } else { 0 };
        assert_eq!(held, expected, "{number}: told {end}, the wallet has {entry}");
        assert_eq!(record["state"], end["state"], "{number}: told {end}, stored {record}");
        assert!(fen("captures") <= 1 && fen("pay_requests") <= 1, "{number}: {entry}");
        assert_eq!(entry["violations"], json!([]), "{number}: {entry}");
        paid += usize::from(expected > 0);
    }
    assert!(paid > PAYMENTS / 4 && paid < PAYMENTS, "both ends occur: {paid} of {PAYMENTS} are paid");
    assert_eq!(simulate.stop().code(), Some(0));
}
