use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{Done, Running, finish, http, hufu, run, settings};

fn add(config: &str, mch_id: &str, upstream: &str) -> Done {
    let who = ["--mch-id", mch_id, "--appid", "wx07", "--upstream", upstream];
    run(&[&["merchant", "add"], &who[..], &["--config", config, "--json"]].concat())
}

#[test]
fn a_merchant_that_was_added_is_listed_and_its_keys_are_shown_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let add = |mch_id: &str, upstream: &str| add(&config, mch_id, upstream);
    let added = add("1900000207", "1900000117");
    assert_eq!(added.code, 0, "{added:?}");
    let keys = &added.json()[0];
    assert_eq!(keys["signing_key"].as_str().map(str::len), Some(32), "{keys}");
    assert!(keys["api_key"].as_str().is_some_and(|key| key.starts_with("hufu_sk_")), "{keys}");
    let twice = add("1900000207", "1900000118");
    assert_eq!(twice.code, 1, "{twice:?}");
    assert!(twice.err.contains("1900000207") && twice.err.contains("Nothing was added"), "{twice:?}");

    let listed = run(&["merchant", "list", "--config", &config, "--json"]);
    assert_eq!(listed.json().len(), 1, "{listed:?}");
    let view = &listed.json()[0];
    assert_eq!(view["merchant"], keys["merchant"]);
    assert_eq!((&view["mch_id"], &view["status"]), (&"1900000207".into(), &"active".into()));
    for secret in ["signing_key", "api_key"] {
        assert!(!listed.out.contains(keys[secret].as_str().expect("a key")), "{listed:?}");
    }

    // How its tills are answered is changed in the store while no switch runs.
    let set = |args: &[&str]| {
        let all = [&["merchant", "set", "1900000207", "--config", &config, "--json"], args].concat();
        run(&all)
    };
    let changed = set(&["--mode", "hold", "--hold-ms", "20000"]);
    assert_eq!(changed.code, 0, "{changed:?}");
    assert_eq!((&changed.json()[0]["mode"], &changed.json()[0]["hold_ms"]), (&"hold".into(), &20_000.into()));
    let refused = set(&["--long-poll-ms", "60000"]);
    assert!(refused.code == 1 && refused.err.contains("0 to 7000 ms"), "{refused:?}");
    assert_eq!(set(&[]).code, 2, "nothing is to change");
    let absent = set(&["--absent-till", "reverse", "--absent-after-ms", "90000"]);
    assert_eq!(absent.code, 0, "{absent:?}");
    let view = &absent.json()[0];
    assert_eq!((&view["absent_till"], &view["absent_after_ms"]), (&"reverse".into(), &90_000.into()));
    let shown = run(&["merchant", "list", "--config", &config]);
    assert!(shown.out.contains("90000"), "the table says it too, in a cell that wraps: {shown:?}");
    let refused = set(&["--absent-after-ms", "14999"]);
    assert!(refused.code == 1 && refused.err.contains("15000 to 600000 ms"), "{refused:?}");
    assert_eq!(set(&["--absent-till", "give"]).code, 2, "there is no such rule");
    let unset = set(&["--absent-till", "default"]);
    assert_eq!(unset.json()[0]["absent_till"], serde_json::Value::Null);
    let back = set(&["--hold-ms", "default"]);
    assert_eq!(
        (&back.json()[0]["mode"], &back.json()[0]["hold_ms"]),
        (&"hold".into(), &serde_json::Value::Null)
    );
}

#[test]
fn an_import_is_all_or_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let file = folder.path().join("merchants.csv");
    let path = file.to_str().expect("UTF-8");
    let key = "k".repeat(32);
    let import = |second_key: &str| {
        let text = format!(
            "mch_id,appid,upstream_sub_mch_id,signing_key\n19301,wx31,19131,{key}\n19302,wx32,19132,{second_key}\n"
        );
        std::fs::File::create(&file).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        run(&["merchant", "import", path, "--config", &config])
    };
    let count = || run(&["merchant", "list", "--config", &config, "--json"]).json().len();
    let refused = import("short");
    assert_eq!((refused.code, count()), (1, 0), "{refused:?}");
    assert!(refused.err.contains("merchant 2") && !refused.err.contains("short"), "{refused:?}");
    let taken = import(&key);
    assert_eq!((taken.code, count()), (0, 2), "{taken:?}");
}

/// What a merchant has set, as `--json` shows it.
fn set_of(view: &Value) -> Value {
    let names = ["mode", "hold_ms", "long_poll_ms", "per_second", "burst", "absent_till", "absent_after_ms"];
    names
        .into_iter()
        .map(|name| (name.to_owned(), view[name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn whatever_can_be_set_can_be_set_from_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let full = json!({
        "mode": "hold", "hold_ms": 20_000, "long_poll_ms": 0, "per_second": 7, "burst": 9,
        "absent_till": "reverse", "absent_after_ms": 90_000,
    });
    let nothing = json!({
        "mode": "relay", "hold_ms": null, "long_poll_ms": null, "per_second": null, "burst": null,
        "absent_till": null, "absent_after_ms": null,
    });
    // The same options for add and set.
    let options: Vec<String> = full
        .as_object()
        .expect("settings")
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("--{}={value}", name.replace('_', "-"))
        })
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let add = |mch_id: &str, options: &[&str]| {
        let who = ["merchant", "add", "--appid", "wx07", "--upstream", mch_id, "--config", &config, "--json"];
        run(&[&who[..], &["--mch-id", mch_id], options].concat())
    };
    let added = add("19401", &options);
    assert_eq!((added.code, set_of(&added.json()[0])), (0, full.clone()), "{added:?}");
    assert_eq!(set_of(&add("19402", &[]).json()[0]), nothing);
    let set = run(&[&["merchant", "set", "19402", "--config", &config, "--json"], &options[..]].concat());
    assert_eq!(set_of(&set.json()[0]), full, "{set:?}");
    let wrong = add("19403", &["--absent-till", "give"]);
    assert!(wrong.code == 2 && wrong.err.contains("none of keep, reverse, default"), "{wrong:?}");
    let outside = add("19403", &["--burst", "0"]);
    assert!(outside.code == 1 && outside.err.contains("1 to 100000 requests"), "{outside:?}");

    // Columns of the same names; a cell that is empty is a setting that is not set.
    let file = folder.path().join("merchants.csv");
    let path = file.to_str().expect("UTF-8");
    let import = |cells: &str| {
        let key = "k".repeat(32);
        let text = format!(
            "mch_id,appid,upstream_sub_mch_id,signing_key,absent_after_ms,absent_till,burst,per_second,mode,hold_ms,\
             long_poll_ms\n19404,wx,19404,{key},,,,,,,\n19405,wx,19405,{key},{cells}\n"
        );
        std::fs::write(&file, text).expect("written");
        run(&["merchant", "import", path, "--config", &config, "--json"])
    };
    for (cells, why) in [
        (
            "14999,reverse,9,7,hold,20000,0",
            "line 3: absent_after_ms: absent after is 14999 ms; it must be 15000 to",
        ),
        ("90000,reverse,9,many,hold,20000,0", "line 3: per_second is neither a whole number nor"),
    ] {
        let refused = import(cells);
        assert!(refused.code == 2 && refused.err.contains(why), "{refused:?}");
        assert!(refused.err.contains("Nothing was added"), "{refused:?}");
    }
    let taken = import("90000,reverse,9,7,hold,20000,0");
    assert_eq!(taken.code, 0, "{taken:?}");
    let all: Vec<Value> =
        run(&["merchant", "list", "--config", &config, "--json"]).json().iter().map(set_of).collect();
    assert_eq!(all, [full.clone(), full.clone(), nothing, full.clone()]);
    let shown = run(&["merchant", "list", "--config", &config]).out;
    for text in ["20000", "90000", "reverse", "7/s"] {
        assert!(shown.contains(text), "the table says {text}, in a cell that wraps: {shown}");
    }
    let help = run(&["merchant", "import", "--help"]).out;
    for name in full.as_object().expect("settings").keys() {
        assert!(help.contains(&format!("\n  {name} ")), "the help names the column {name}: {help}");
    }
}

#[test]
fn a_silent_wallet_proves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let none = run(&["merchant", "check", "--config", &config]);
    assert_eq!(none.code, 69, "there is no store yet: {none:?}");
    let mut add = hufu(&["merchant", "add", "--mch-id", "19", "--appid", "wx07", "--upstream", "20"]);
    add.env("HUFU_CONFIG", &config);
    assert_eq!(finish(add).code, 0);
    let silent = run(&["merchant", "check", "--config", &config, "--json"]);
    assert_eq!((silent.code, &silent.json()[0]["check"]), (69, &"unreachable".into()), "{silent:?}");
}

/// A payment over JSON: the status and the answer.
fn pay(gateway: &str, api_key: &str, number: &str, customer: &str) -> (u16, Value) {
    let head =
        format!("POST\nAuthorization: Bearer {api_key}\nContent-Type: application/json\nPrefer: wait=30");
    let code =
        format!("10{:012}{customer}", number.bytes().chain(api_key.bytes()).map(u64::from).sum::<u64>());
    let body = json!({"out_trade_no": number, "auth_code": code, "amount_fen": 1288, "body": "Tea"});
    let (status, answer) = http(&format!("{gateway}/v1/payments"), &head, &body.to_string());
    (status, serde_json::from_str(&answer).expect("JSON"))
}

#[test]
fn a_disabled_merchant_finishes_what_is_open_and_begins_nothing() {
    let _covers = covers::covers(&["OP-06"]);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let sandbox =
        Running::start(&["sandbox", "--listen", "127.0.0.1:0", "--speed", "20", "--data", data, "--json"]);
    let (gateway, config) = (sandbox.text("gateway"), sandbox.text("config"));
    let merchants = sandbox.ready["merchants"].clone();
    let merchant = &merchants[0];
    let (mch_id, key) =
        (merchant["mch_id"].as_str().expect("an id"), merchant["api_key"].as_str().expect("a key"));
    let other = merchants[1]["api_key"].as_str().expect("a key");
    let set = |verb: &str| {
        let done = run(&["merchant", verb, mch_id, "--config", &config, "--json"]);
        assert_eq!(done.code, 0, "{done:?}");
        done.json()[0]["status"].as_str().expect("a word").to_owned()
    };
    let ask = |method: &str, path: &str| {
        let head = format!("{method}\nAuthorization: Bearer {key}\nPrefer: wait=30");
        let (status, answer) = http(&format!("{gateway}/v1/payments/{path}"), &head, "");
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).expect("JSON")
    };

    assert_eq!(pay(&gateway, key, "PAID-1", "0000").1["state"], "paid");
    let head = format!("POST\nAuthorization: Bearer {key}\nContent-Type: application/json");
    let body = json!({"out_trade_no": "OPEN-1", "auth_code": "100000000000010130", "amount_fen": 1288, "body": "Tea"});
    let (status, open) = http(&format!("{gateway}/v1/payments"), &head, &body.to_string());
    assert_eq!(status, 202, "{open}");
    for _ in 0..2 {
        assert_eq!(set("disable"), "disabled");
    }
    let (status, refused) = pay(&gateway, key, "AFTER-1", "0000");
    assert_eq!(
        (status, &refused["money_may_have_moved"]),
        (403, &json!(true)),
        "nobody has looked: {refused}"
    );
    let paid = pay(&gateway, other, "AFTER-1", "0000").1;
    assert_eq!(paid["state"], "paid", "of another merchant: {paid}");
    // Customer 01 30 enters the password 1.5 s after the scan here.
    assert_eq!(ask("GET", "OPEN-1")["state"], "paid", "what is open is finished");
    assert_eq!(ask("POST", "PAID-1/reversal")["state"], "reversed", "a reversal is taken");
    let checked = run(&["merchant", "check", mch_id, "--config", &config, "--json"]);
    let found = &checked.json()[0];
    assert_eq!((checked.code, &found["check"], &found["status"]), (0, &json!("ok"), &json!("disabled")));

    assert_eq!(set("enable"), "active");
    assert_eq!(
        pay(&gateway, key, "AFTER-1", "0000").1["state"],
        "paid",
        "nothing was kept of the refused one"
    );
    let ledger = http(&format!("{}/sim/ledger", sandbox.text("wallet")), "GET", "").1;
    assert_eq!(ledger.matches("\"pay_requests\":1").count(), 4, "{ledger}");

    // The same without a switch, and the next one finds it so.
    assert_eq!(sandbox.stop().code(), Some(0));
    assert_eq!(set("disable"), "disabled");
    let unknown = run(&["merchant", "disable", "1234", "--config", &config]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    let sandbox =
        Running::start(&["sandbox", "--listen", "127.0.0.1:0", "--speed", "20", "--data", data, "--json"]);
    assert_eq!(pay(&sandbox.text("gateway"), key, "AFTER-2", "0000").0, 403);
}

#[test]
fn a_check_tells_apart_what_is_wrong() {
    let _covers = covers::covers(&["CF-04"]);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let wallet = |pki: &str| {
        let pki = at(pki);
        let args =
            ["simulate", "--listen", "127.0.0.1:0", "--pki-dir", &pki, "--sub-merchants", "1900000111"];
        Running::start(&[&args[..], &["--json"]].concat())
    };
    // Two wallets: the client certificate of one is nothing to the other.
    let (wallet, stranger) = (wallet("pki"), wallet("other"));
    let config = settings(folder.path());
    let write = |host: &str, appid: &str, key: &str, certificate: Option<&Running>| {
        std::fs::write(at("provider.key"), key).expect("written");
        let section = std::fs::read_to_string(&config).expect("read");
        let head = section.split("[[provider]]").next().expect("a head");
        let certificate = certificate.map_or_else(String::new, |of| {
            let (chain, key) = (of.text("client_cert_file"), of.text("client_key_file"));
            format!("client_cert_file = {chain:?}\nclient_key_file = {key:?}\n")
        });
        let text = format!(
            "{head}[[provider]]\nmch_id = \"1900000109\"\nappid = {appid:?}\nkey_file = {:?}\nhosts = [{host:?}]\n\
             ca_file = {:?}\n{certificate}",
            at("provider.key"),
            wallet.text("ca_file"),
        );
        std::fs::write(&config, text).expect("written");
    };
    let (tls, plain) = (wallet.text("wallet_tls"), wallet.text("wallet"));
    let (appid, key) = (wallet.text("appid"), wallet.text("key"));
    write(&tls, &appid, &key, Some(&wallet));
    for (mch_id, upstream) in [("19201", "1900000111"), ("19202", "1900000112")] {
        let added = add(&config, mch_id, upstream);
        assert_eq!(added.code, 0, "{added:?}");
    }
    let check = |mch_id: &str| {
        let done = run(&["merchant", "check", mch_id, "--config", &config, "--json"]);
        let found = done.json()[0]["check"].as_str().expect("a word").to_owned();
        let people = run(&["merchant", "check", mch_id, "--config", &config]);
        assert!(people.code == done.code && people.out.contains(&format!("{found}: ")), "{people:?}");
        (done.code, found)
    };
    let expect = |code: i32, found: &str| (code, found.to_owned());

    assert_eq!(check("19201"), expect(0, "ok"));
    assert_eq!(check("19202"), expect(1, "not_bound"));
    write(&tls, &appid, &"w".repeat(32), Some(&wallet));
    assert_eq!(check("19201"), expect(1, "wrong_key"));
    write(&tls, "wx0000000000000009", &key, Some(&wallet));
    assert_eq!(check("19201"), expect(1, "wrong_provider"));
    write(&tls, &appid, &key, Some(&stranger));
    assert_eq!(check("19201"), expect(1, "certificate"));
    write(&tls, &appid, &key, None);
    assert_eq!(check("19201"), expect(1, "certificate"));
    write(&plain, &appid, &key, None);
    assert_eq!(check("19201"), expect(0, "ok"), "no certificate is needed without TLS");
    write(&stranger.text("wallet_tls"), &appid, &key, Some(&wallet));
    assert_eq!(check("19201"), expect(69, "unreachable"), "its certificate is not trusted");
    write("http://127.0.0.1:9", &appid, &key, None);
    assert_eq!(check("19201"), expect(69, "unreachable"));
    // Something that is bad is bad, whatever else is silent.
    write(&plain, &appid, &key, None);
    let all = run(&["merchant", "check", "--config", &config, "--json"]);
    let found: Vec<_> = all.json().iter().filter_map(|line| line.get("check").cloned()).collect();
    assert_eq!((all.code, found), (1, vec![json!("ok"), json!("not_bound")]), "{all:?}");
    // Nothing of it is an order.
    let ledger = http(&format!("{}/sim/ledger", wallet.text("wallet")), "GET", "").1;
    assert_eq!(ledger, "");
}

#[test]
fn two_keys_are_taken_while_tills_change_over() {
    let _covers = covers::covers(&["CF-05"]);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let args = ["sandbox", "--listen", "127.0.0.1:0", "--speed", "20", "--data", data, "--json"];
    let sandbox = Running::start(&args);
    let (gateway, config) = (sandbox.text("gateway"), sandbox.text("config"));
    let merchant = sandbox.ready["merchants"][0].clone();
    let text = |name: &str| merchant[name].as_str().expect("text").to_owned();
    let (mch_id, old_key, old_bearer) = (text("mch_id"), text("key"), text("api_key"));
    let rotate = |rest: &[&str]| {
        run(&[&["merchant", "rotate", &mch_id, "--config", &config, "--json"], rest].concat())
    };
    // A query of an order that does not exist, signed by hand: whether the key is taken and the answer made with it.
    let signed = |gateway: &str, key: &str| {
        let key = signer::Key::new(key).expect("a key");
        let pairs = [
            ("appid", text("appid")),
            ("mch_id", mch_id.clone()),
            ("nonce_str", "n".to_owned()),
            ("out_trade_no", "NOBODYS-1".to_owned()),
        ];
        let all = pairs.iter().map(|(name, value)| (*name, value.as_str()));
        let sign = key.sign(signer::Kind::Md5, all.clone(), &mut signer::Scratch::new());
        let body: String = all
            .chain([("sign", sign.as_str())])
            .map(|(name, value)| format!("<{name}>{value}</{name}>"))
            .collect();
        let (_, answer) = http(&format!("{gateway}/pay/orderquery"), "POST", &format!("<xml>{body}</xml>"));
        let mut reader = protocol::xml::Reader::new();
        let message = reader.read(answer.as_bytes()).expect("XML");
        let claimed = message.get("sign").unwrap_or_default();
        key.verify(
            signer::Kind::Md5,
            message.iter(),
            claimed,
            signer::Case::Exact,
            &mut signer::Scratch::new(),
        )
    };
    let bearer = |gateway: &str, key: &str| {
        http(&format!("{gateway}/v1/payments/NOBODYS-1"), &format!("GET\nAuthorization: Bearer {key}"), "").0
            == 404
    };

    let done = rotate(&[]);
    assert_eq!(done.code, 0, "{done:?}");
    let new = &done.json()[0];
    let (new_key, new_bearer) =
        (new["signing_key"].as_str().expect("shown"), new["api_key"].as_str().expect("shown"));
    let previous = json!([{"kind": "signing_key", "until": null}, {"kind": "api_key", "until": null}]);
    assert_eq!(new["previous_keys"], previous);
    for key in [old_key.as_str(), new_key] {
        assert!(signed(&gateway, key), "each till is answered with its own key");
    }
    assert!(bearer(&gateway, &old_bearer) && bearer(&gateway, new_bearer));
    assert!(!signed(&gateway, &"x".repeat(32)) && !bearer(&gateway, "hufu_sk_x"));
    // A third key would shut out the tills that have the first.
    let third = rotate(&["--signing-key"]);
    assert_eq!((third.code, third.err.contains("being changed already")), (1, true), "{third:?}");

    // They outlive the switch; finished without one, they are gone in the next.
    assert_eq!(sandbox.stop().code(), Some(0));
    let sandbox = Running::start(&args);
    let gateway = sandbox.text("gateway");
    assert!(signed(&gateway, &old_key) && signed(&gateway, new_key) && bearer(&gateway, &old_bearer));
    let finished = rotate(&["--finish"]);
    assert_eq!((finished.code, finished.json()[0].get("previous_keys")), (0, None), "{finished:?}");
    assert!(!signed(&gateway, &old_key) && signed(&gateway, new_key));
    assert!(!bearer(&gateway, &old_bearer) && bearer(&gateway, new_bearer));

    // A key that has leaked ends at once; another one in a week.
    let leaked = rotate(&["--signing-key", "--keep", "0s"]);
    let fresh = leaked.json()[0]["signing_key"].as_str().expect("shown").to_owned();
    assert!(!signed(&gateway, new_key) && signed(&gateway, &fresh), "{leaked:?}");
    assert!(bearer(&gateway, new_bearer), "the other kind of key stays");
    let timed = rotate(&["--api-key", "--keep", "7d"]);
    assert!(timed.json()[0]["previous_keys"][0]["until"].is_string(), "{timed:?}");
    assert!(bearer(&gateway, new_bearer), "taken for a week");
    assert!(bearer(&gateway, timed.json()[0]["api_key"].as_str().expect("shown")));
}
