use serde_json::{Value, json};

use crate::support::{Running, http, run};

/// Pays through the JSON API and waits for the outcome.
fn pay(gateway: &str, api_key: &str, number: &str, auth_code: &str) -> Value {
    let head =
        format!("POST\nAuthorization: Bearer {api_key}\nContent-Type: application/json\nPrefer: wait=30");
    let body = json!({"out_trade_no": number, "auth_code": auth_code, "amount_fen": 1288, "body": "Tea"});
    let (status, answer) = http(&format!("{gateway}/v1/payments"), &head, &body.to_string());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

#[test]
fn a_sandbox_takes_payments_and_an_operator_sees_them_after_its_end_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let sandbox =
        Running::start(&["sandbox", "--listen", "127.0.0.1:0", "--speed", "20", "--data", data, "--json"]);
    let (gateway, wallet) = (sandbox.text("gateway"), sandbox.text("wallet"));
    let merchants = sandbox.ready["merchants"].as_array().expect("a list").clone();
    assert!(merchants.len() >= 2);
    for merchant in &merchants {
        assert_eq!(merchant["key"].as_str().map(str::len), Some(32));
        let api_key = merchant["api_key"].as_str().expect("a key");
        let code =
            format!("10000{}0000010104", merchant["mch_id"].as_str().and_then(|id| id.get(7..)).unwrap());
        let paid = pay(&gateway, api_key, "SAME-NUMBER-1", &code);
        assert_eq!((&paid["state"], &paid["amount_fen"]), (&json!("paid"), &json!(1288)), "{paid}");
    }
    let ready = http(&format!("{}/readyz", sandbox.text("admin")), "GET", "");
    assert_eq!(ready.0, 200, "{ready:?}");
    let (_, ledger) = http(&format!("{wallet}/sim/ledger"), "GET", "");
    assert_eq!(ledger.matches("\"captures\":1").count(), merchants.len(), "{ledger}");

    // Two merchants use one number: an operator must say whose is meant.
    let config = sandbox.text("config");
    let ambiguous = run(&["payment", "show", "SAME-NUMBER-1", "--config", &config]);
    assert_eq!(ambiguous.code, 2, "{ambiguous:?}");
    let whose = merchants[0]["mch_id"].as_str().expect("an id");
    let first = ["SAME-NUMBER-1", "--merchant", whose, "--config", &config, "--json"];
    let shown = |verb: &str| run(&[&["payment", verb], first.as_slice()].concat());
    assert_eq!(shown("show").json()[0]["state"], "paid");
    let reversed = shown("reverse");
    assert_eq!((reversed.code, &reversed.json()[0]["state"]), (0, &json!("reversed")), "{reversed:?}");
    let (_, ledger) = http(&format!("{wallet}/sim/ledger"), "GET", "");
    assert_eq!(ledger.matches("\"returned_fen\":1288").count(), 1, "{ledger}");
    let checked = run(&["merchant", "check", "--config", &config, "--json"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.json().iter().all(|line| line["check"] == "ok"), "{checked:?}");

    // One store has one switch.
    let second = run(&["serve", "--config", &config]);
    assert_eq!(second.code, 69, "{second:?}");
    assert!(second.err.contains("in use"), "{second:?}");

    assert_eq!(sandbox.stop().code(), Some(0));
    assert_eq!(shown("show").json()[0]["state"], "reversed", "from the store");
    let all = run(&["payment", "list", "--which", "all", "--config", &config, "--json"]);
    assert_eq!(all.json().len(), merchants.len(), "{all:?}");
    let refused = shown("reverse");
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(refused.err.contains("Nothing was done") && refused.err.contains("hufu serve"), "{refused:?}");
}

#[test]
fn a_sandbox_can_use_a_wallet_that_already_runs() {
    let wallet = Running::start(&["simulate", "--listen", "127.0.0.1:0", "--speed", "20", "--json"]);
    let url = wallet.text("wallet");
    let args = ["sandbox", "--listen", "127.0.0.1:0", "--speed", "20", "--json", "--wallet", &url];
    let sandbox = Running::start(&args);
    assert_eq!(sandbox.text("wallet"), url);
    let api_key = sandbox.ready["merchants"][0]["api_key"].as_str().expect("a key").to_owned();
    let paid = pay(&sandbox.text("gateway"), &api_key, "OTHER-WALLET-1", "100000010000010000");
    assert_eq!(paid["state"], "paid", "{paid}");
    let (_, ledger) = http(&format!("{url}/sim/ledger"), "GET", "");
    assert!(ledger.contains("OTHER-WALLET-1") && ledger.contains("\"captured_fen\":1288"), "{ledger}");
    assert_eq!(sandbox.stop().code(), Some(0));
    assert_eq!(wallet.stop().code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let done = run(&["simulate", "--listen", &address, "--tls-listen", "127.0.0.1:0"]);
    assert_eq!(done.code, 69, "{done:?}");
    assert!(done.err.contains(&address), "{done:?}");
}

#[test]
fn help_shows_customers_and_population() {
    let done = run(&["simulate", "--help"]);
    assert_eq!(done.code, 0);
    for text in ["18  charged; unsigned return_code=FAIL", "40 %  pays at once"] {
        assert!(done.out.contains(text), "{text} in {}", done.out);
    }
    for verb in ["demo", "sandbox", "load", "serve", "payment", "merchant", "check-config"] {
        let help = run(&[verb, "--help"]);
        let wide: Vec<&str> = help.out.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{verb}: {wide:?}");
    }
}
