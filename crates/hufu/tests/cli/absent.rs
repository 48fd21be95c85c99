//! Tills that are gone, and a switch that is killed before it is over: the money that they left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::serving::{Serving, settings_before, wallet};
use crate::support::{Running, http, run};

/// How often somebody looks at the wallet's books.
const PACE: Duration = Duration::from_millis(50);
/// So many looks are more than anything here takes.
const LOOKS: u32 = 2_400;

/// The wallet's books, by number.
fn ledger(wallet: &Running) -> BTreeMap<String, Value> {
    let (_, lines) = http(&format!("{}/sim/ledger", wallet.text("wallet")), "GET", "");
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    entries.map(|entry| (entry["out_trade_no"].as_str().expect("a number").to_owned(), entry)).collect()
}

/// Waits until the wallet was asked about each of `numbers`.
fn until_asked(wallet: &Running, numbers: &[&str]) {
    for _ in 0..LOOKS {
        let ledger = ledger(wallet);
        let asked = |number: &&str| ledger.get(*number).is_some_and(|entry| entry["queries"] != json!(0));
        if numbers.iter().all(asked) {
            return;
        }
        std::thread::sleep(PACE);
    }
    panic!("the wallet is never asked about {numbers:?}");
}

/// A till's payment: a password is asked for, and entered 0.2 s later; the first query comes 5 s after that. Tells what
/// the till is told at once, and hangs up.
fn pay(switch: &Serving, key: &str, number: &str) {
    let head = format!("POST\nAuthorization: Bearer {key}\nContent-Type: application/json");
    let payer: u32 = number.bytes().map(u32::from).sum();
    let code = format!("10{payer:012}0102");
    let body = json!({"out_trade_no": number, "auth_code": code, "amount_fen": 1288, "body": "Tea"});
    let (status, told) = http(&format!("http://{}/v1/payments", switch.gateway), &head, &body.to_string());
    assert_eq!(status, 202, "{told}");
}

/// What a till is told that waits for the outcome.
fn ask(switch: &Serving, key: &str, number: &str) -> Value {
    let head = format!("GET\nAuthorization: Bearer {key}\nPrefer: wait=30");
    let (status, told) = http(&format!("http://{}/v1/payments/{number}", switch.gateway), &head, "");
    assert_eq!(status, 200, "{told}");
    serde_json::from_str(&told).expect("JSON")
}

#[test]
fn what_no_till_asks_about_goes_back_although_the_switch_was_killed() {
    let _covers = covers::covers(&["INV-07", "INV-12", "PR-01"]);
    let folder = tempfile::tempdir().expect("a folder");
    let wallet = wallet("10");
    let config = settings_before(folder.path(), &wallet, "[northbound]\nabsent_after_ms = 15000\n");
    let key = |n: u32| format!("hufu_sk_{n:032}");
    let file = folder.path().join("merchants.csv");
    let signing = "k".repeat(32);
    let csv = format!(
        "mch_id,appid,upstream_sub_mch_id,signing_key,api_key,absent_till\n\
         19601,wx,19601,{signing},{},reverse\n19602,wx,19602,{signing},{},\n",
        key(1),
        key(2),
    );
    std::fs::write(&file, csv).expect("written");
    let imported = run(&["merchant", "import", file.to_str().expect("UTF-8"), "--config", &config]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let state = |number: &str| {
        let shown = run(&["payment", "show", number, "--config", &config, "--json"]);
        assert_eq!(shown.code, 0, "{shown:?}");
        shown.json()[0].clone()
    };

    let switch = Serving::start(&config);
    for number in ["GONE-1", "BACK-1"] {
        pay(&switch, &key(1), number);
    }
    // The wallet's answer to that query is the proof.
    until_asked(&wallet, &["GONE-1", "BACK-1"]);
    let held_back = state("GONE-1");
    assert_eq!(held_back["state"], "awaiting_password", "nobody is told before it is decided: {held_back}");
    switch.kill();

    // The time begins anew; one till is back in time, the other never comes.
    let switch = Serving::start(&config);
    let kept = ask(&switch, &key(1), "BACK-1");
    assert_eq!(kept["state"], "paid", "{kept}");
    pay(&switch, &key(2), "KEPT-1");
    switch.until_logged("the money goes back", 1);
    switch.until_logged("paid and kept", 1);
    let gone = ask(&switch, &key(1), "GONE-1");
    assert_eq!(gone["state"], "reversed", "{gone}");
    assert_eq!(
        (&state("GONE-1")["state"], &state("GONE-1")["cause"]),
        (&json!("reversed"), &json!("absent_till"))
    );
    for (outcome, number) in [("reverse", "GONE-1"), ("keep", "KEPT-1")] {
        let counted = switch.metric(&format!("hufu_absent_tills_total{{outcome=\"{outcome}\"}}"));
        assert_eq!((counted, switch.logged(&format!("\"action\":\"{outcome}\""))), (1, 1), "{number} alone");
    }

    // What was told stays told, through another kill as well.
    switch.kill();
    let switch = Serving::start(&config);
    for (n, number, end, returned) in
        [(1, "GONE-1", "reversed", 1288), (1, "BACK-1", "paid", 0), (2, "KEPT-1", "paid", 0)]
    {
        assert_eq!(ask(&switch, &key(n), number)["state"], end, "{number}");
        let entry = &ledger(&wallet)[number];
        assert_eq!((&entry["captures"], &entry["captured_fen"]), (&json!(1), &json!(1288)), "{entry}");
        assert_eq!((&entry["returned_fen"], &entry["violations"]), (&json!(returned), &json!([])), "{entry}");
        assert_eq!(entry["pay_requests"], 1, "{entry}");
    }
}
