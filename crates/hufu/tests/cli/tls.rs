//! Tills over TLS at a real process: certificates that are renewed while tills pay, and merchants whose tills must show
//! one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use simulator::http::TestPki;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::interval;

use crate::secure::{Card, Connection, PROTOCOLS, fingerprint, pki, put};
use crate::serving::{Serving, settings_before, wallet};
use crate::support::{DEADLINE, Done, Running, http, run};

/// How often a till pays, and how often somebody looks whether something has come about.
const PACE: Duration = Duration::from_millis(50);

/// Settings for a switch that speaks TLS in `folder`, before `wallet`.
fn settings_over_tls(folder: &Path, wallet: &Running) -> String {
    let at = |name: &str| format!("{:?}", folder.join(name).to_str().expect("UTF-8"));
    let more = format!(
        "[listen.tls]\ncertificate_file = {}\nkey_file = {}\nclient_ca_file = {}\n",
        at("cert.pem"),
        at("key.pem"),
        at("ca.pem"),
    );
    settings_before(folder, wallet, &more)
}

/// Adds a merchant and returns its keys.
fn add(config: &str, mch_id: &str) -> Value {
    let who = ["--mch-id", mch_id, "--appid", "wx07", "--upstream", mch_id];
    let added = run(&[&["merchant", "add"], &who[..], &["--config", config, "--json"]].concat());
    assert_eq!(added.code, 0, "{added:?}");
    added.json()[0].clone()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// A command that ends by itself, while tills go on.
fn command(args: &[&str]) -> Done {
    block_in_place(|| run(args))
}

/// The wallet's books, by number.
fn ledger(wallet: &Running) -> BTreeMap<String, Value> {
    let (_, lines) = block_in_place(|| http(&format!("{}/sim/ledger", wallet.text("wallet")), "GET", ""));
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    entries.map(|entry| (text(&entry, "out_trade_no").to_owned(), entry)).collect()
}

/// A till that pays until `over`: on the connection that it began with, or on a new one each time.
struct Till {
    at: String,
    protocol: &'static str,
    card: Card,
    bearer: String,
    name: String,
    keeps: bool,
    paid: Arc<AtomicU32>,
}

impl Till {
    /// Pays on and on; no request may fail.
    async fn work(self, over: watch::Receiver<bool>) -> Vec<String> {
        let mut connection = Connection::open(&self.at, self.protocol, &self.card).await;
        let (mut pace, mut numbers) = (interval(PACE), Vec::new());
        while !*over.borrow() {
            pace.tick().await;
            if !self.keeps {
                connection = Connection::open(&self.at, self.protocol, &self.card).await;
            }
            let number = format!("{}-{:05}", self.name, numbers.len());
            // Nobody pays often enough to be asked for a password.
            let till: usize = self.name.bytes().map(usize::from).sum();
            let code = format!("10{:06}{till:06}0000", numbers.len());
            let (status, told) = connection.pay(&self.bearer, &number, &code).await;
            assert_eq!((status, &told["state"]), (200, &json!("paid")), "{number}: {told}");
            self.paid.fetch_add(1, Ordering::Relaxed);
            numbers.push(number);
        }
        numbers
    }
}

/// Asks until `answer` says yes.
async fn until(what: &str, mut answer: impl AsyncFnMut() -> bool) {
    let asking = async {
        let mut pace = interval(PACE);
        while !answer().await {
            pace.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// How the switch comes to look at its certificate again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Command,
    Signal,
    Itself,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_while_tills_pay() {
    let _covers = covers::covers(&["CF-07"]);
    let folder = tempfile::tempdir().expect("a folder");
    let wallet = block_in_place(|| wallet("1"));
    let config = settings_over_tls(folder.path(), &wallet);
    // One for the start, one for each way, and one that is never taken.
    let pairs: [TestPki; 5] = std::array::from_fn(|_| pki());
    let [first, renewed @ .., bad] = &pairs;
    put(folder.path(), first);
    std::fs::write(folder.path().join("ca.pem"), &first.ca_pem).expect("written");
    let merchant = block_in_place(|| add(&config, "1900000207"));
    let bearer = text(&merchant, "api_key");
    let switch = block_in_place(|| Serving::start(&config));
    let card = Card::new(&pairs.each_ref(), None);
    let open = async |protocol| Connection::open(&switch.gateway, protocol, &card).await;
    // By either protocol: while a pair is taken into use, the one may still show the old and the other the new.
    let shown = async || [open("http/1.1").await.shown, open("h2").await.shown];
    let digits = |pki: &TestPki| fingerprint(&pki.server_cert_pem).replace(':', "").to_lowercase();
    let both = |pki: &TestPki| [digits(pki), digits(pki)];

    let (end, over) = watch::channel(false);
    let mut tills = Vec::new();
    for protocol in PROTOCOLS {
        for (kind, keeps) in [("KEPT", true), ("NEW", false)] {
            let paid = Arc::new(AtomicU32::new(0));
            let till = Till {
                at: switch.gateway.clone(),
                protocol,
                card: card.clone(),
                bearer: bearer.to_owned(),
                name: format!("{kind}-{}", protocol.replace(['/', '.'], "")),
                keeps,
                paid: Arc::clone(&paid),
            };
            tills.push((tokio::spawn(till.work(over.clone())), paid));
        }
    }
    let go_on = async || {
        for (_, paid) in &tills {
            let before = paid.load(Ordering::Relaxed);
            until("a till goes on", async || paid.load(Ordering::Relaxed) > before + 1).await;
        }
    };
    go_on().await;
    assert_eq!(shown().await, both(first));

    let mut before = first;
    for (way, next) in [Way::Command, Way::Signal, Way::Itself].into_iter().zip(renewed) {
        let step = way as usize;
        // A pair that is none: what is in use stays in use, whoever asks.
        std::fs::write(folder.path().join("cert.pem"), &bad.server_cert_pem).expect("written");
        let refused = command(&["reload", "--config", &config]);
        assert!(refused.code == 1 && refused.err.contains("stays in use"), "{way:?}: {refused:?}");
        let told = switch.logged("was not loaded");
        switch.signal("-HUP");
        block_in_place(|| switch.until_logged("was not loaded", told + 1));
        assert_eq!(shown().await, both(before), "{way:?}");
        go_on().await;

        // Two payments that wait for a password all the while, on connections from before.
        let mut waiting = Vec::new();
        for (n, protocol) in PROTOCOLS.into_iter().enumerate() {
            let (mut connection, bearer) = (open(protocol).await, bearer.to_owned());
            let number = format!("WAITING-{way:?}-{n}");
            assert_eq!(connection.shown, digits(before), "{way:?}");
            let asks = number.clone();
            let code = format!("11{n:06}{step:06}0104");
            let told = tokio::spawn(async move { connection.pay(&bearer, &asks, &code).await });
            waiting.push((number, told));
        }
        let mut other = open("h2").await;
        for (number, _) in &waiting {
            until("it is accepted", async || other.query(bearer, number).await.0 != 404).await;
        }
        put(folder.path(), next);
        match way {
            Way::Command => {
                let loaded = command(&["reload", "--config", &config, "--json"]);
                assert_eq!((loaded.code, text(&loaded.json()[0], "fingerprint")), (0, digits(next).as_str()));
                assert_eq!(shown().await, both(next), "at once");
            }
            Way::Signal => {
                switch.signal("-HUP");
                until("a signal is enough", async || shown().await == both(next)).await;
            }
            Way::Itself => until("it looks by itself", async || shown().await == both(next)).await,
        }
        for (number, told) in waiting {
            let (status, told) = told.await.expect("its connection goes on");
            assert_eq!((status, &told["state"]), (200, &json!("paid")), "{way:?} {number}: {told}");
        }
        go_on().await;
        before = next;
    }
    assert!(switch.metric("hufu_tls_reloads_total{outcome=\"kept\"}") >= 6);
    assert!(switch.metric("hufu_tls_reloads_total{outcome=\"taken\"}") >= 3);

    end.send(true).expect("tills listen");
    let mut numbers = Vec::new();
    for (till, _) in tills {
        numbers.extend(till.await.expect("no request failed"));
    }
    let ledger = ledger(&wallet);
    assert_eq!(ledger.len(), numbers.len() + 6, "nothing else was paid");
    for number in numbers {
        assert_eq!((&ledger[&number]["captures"], &ledger[&number]["returned_fen"]), (&json!(1), &json!(0)));
    }
}

/// Connections that showed something, and what it was.
struct Shown {
    name: &'static str,
    connection: Connection,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merchant_is_served_where_its_certificate_was_shown() {
    let _covers = covers::covers(&["INV-25"]);
    let folder = tempfile::tempdir().expect("a folder");
    let wallet = block_in_place(|| wallet("1"));
    let config = settings_over_tls(folder.path(), &wallet);
    let [server, right, next, other, stranger]: [TestPki; 5] = std::array::from_fn(|_| pki());
    put(folder.path(), &server);
    let trusted = [&right.ca_pem, &next.ca_pem, &other.ca_pem].map(String::as_str).concat();
    std::fs::write(folder.path().join("ca.pem"), trusted).expect("written");
    let (guarded, free) = block_in_place(|| (add(&config, "1900000207"), add(&config, "1900000208")));
    let switch = block_in_place(|| Serving::start(&config));
    let shows = [
        ("none", None),
        ("stranger", Some(&stranger)),
        ("other", Some(&other)),
        ("right", Some(&right)),
        ("next", Some(&next)),
    ];
    let open = async || {
        let mut all = Vec::new();
        for protocol in PROTOCOLS {
            for (name, shows) in shows {
                let card = Card::new(&[&server], shows);
                let connection = Connection::open(&switch.gateway, protocol, &card).await;
                all.push(Shown { name, connection });
            }
        }
        all
    };
    let require = |certificates: &[&TestPki]| {
        let fingerprints: Vec<String> =
            certificates.iter().map(|pki| fingerprint(&pki.client_cert_pem)).collect();
        let mut args = vec!["merchant", "certificate", "1900000207", "--config", &config];
        args.extend(fingerprints.iter().flat_map(|digits| ["--sha256", digits.as_str()]));
        if certificates.is_empty() {
            args.push("--none");
        }
        let done = command(&args);
        assert_eq!(done.code, 0, "{done:?}");
    };

    // The same connections all the while, and new ones after each change.
    let mut kept = open().await;
    let mut served_numbers = 0;
    let all = ["none", "stranger", "other", "right", "next"];
    let steps: [(Option<&[&TestPki]>, &[&str]); 5] = [
        (None, &all),
        (Some(&[&right]), &["right"]),
        (Some(&[&right, &next]), &["right", "next"]),
        (Some(&[&next]), &["next"]),
        (Some(&[]), &all),
    ];
    for (step, (change, served)) in steps.into_iter().enumerate() {
        if let Some(certificates) = change {
            require(certificates);
        }
        let mut fresh = open().await;
        for (n, shown) in kept.iter_mut().chain(&mut fresh).enumerate() {
            let place = format!("step {step}, {} ({n})", shown.name);
            let pay = async |connection: &mut Connection, merchant: &Value| {
                let number = format!("CARD-{}-{step}-{n:02}", text(merchant, "mch_id"));
                let code = format!("12{:06}{}0000", step * 20 + n, &text(merchant, "mch_id")[4..]);
                connection.pay(text(merchant, "api_key"), &number, &code).await
            };
            let (status, told) = pay(&mut shown.connection, &free).await;
            assert_eq!((status, &told["state"]), (200, &json!("paid")), "{place}, another merchant: {told}");
            let (status, told) = pay(&mut shown.connection, &guarded).await;
            let who = [text(&guarded, "mch_id"), text(&guarded, "appid")];
            let xml = shown.connection.query_xml(who, text(&guarded, "signing_key"), "NOBODYS-1").await;
            served_numbers += 1;
            if served.contains(&shown.name) {
                assert_eq!((status, &told["state"]), (200, &json!("paid")), "{place}: {told}");
                assert_eq!(xml, "ORDERNOTEXIST", "{place}");
                served_numbers += 1;
            } else {
                let cause = json!("urn:hufu:client_certificate");
                assert_eq!((status, &told["type"]), (403, &cause), "{place}: {told}");
                assert_eq!(xml, "NOAUTH", "{place}");
            }
        }
    }
    let ledger = ledger(&wallet);
    assert_eq!(ledger.len(), served_numbers, "of those refused nothing reached the wallet");
    assert!(ledger.values().all(|entry| entry["captures"] == json!(1)));
}
