//! Runs over real sockets: servers that freeze, are slow and break connections, and the simulated wallet.

mod server;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load::{Limit, Live, LoadError, Outcome, Plan, Process, Report, Target};
use server::{KEY, Whim, serve};
use signer::Kind;
use simulator::http::{PlainCounts, SharedWallet, TestPki, serve_plain, serve_tls};
use simulator::{Options, Wallet};
use till::credentials::{PROVIDER_APPID, PROVIDER_KEY, PROVIDER_MCH_ID, provider};
use tokio::net::TcpListener;

/// 200 payments a second for one second.
fn plan(target: &str, account: &str) -> Plan {
    Plan {
        target: target.parse().expect("an endpoint"),
        tls: None,
        accounts: vec![account.parse().expect("a merchant")],
        customers: "00".parse().expect("a customer"),
        arrivals: Process::Constant,
        per_second: 200,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(1),
        drain: Duration::from_secs(60),
        connections: 8,
        poll_connections: 8,
        poll: None,
        timeout: Duration::from_secs(20),
        sign: Kind::Md5,
        amount_fen: 100,
        seed: 1,
        run: 7,
    }
}

fn to(address: SocketAddr) -> Plan {
    plan(&format!("http://{address}"), &format!("1900000201:{KEY}:wx01"))
}

fn run(plan: Plan) -> Outcome {
    load::run(&Arc::new(plan), &Live::default()).expect("the server can be reached")
}

/// A simulated wallet on a runtime of its own: without TLS, with it, and the authority that vouches for it.
fn wallet(speed: u32) -> (SocketAddr, SocketAddr, String) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let options = Options { speed, ..Options::new(provider()) };
            let wallet: SharedWallet = Arc::new(Mutex::new(Wallet::new(1, options)));
            let pki = TestPki::generate(&["127.0.0.1"], PROVIDER_MCH_ID).expect("certificates");
            let plain = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let tls = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let addresses = (plain.local_addr().expect("bound"), tls.local_addr().expect("bound"));
            sender.send((addresses.0, addresses.1, pki.ca_pem.clone())).expect("somebody waits");
            let config = pki.server_config().expect("certificates");
            tokio::join!(
                serve_plain(Arc::clone(&wallet), plain, PlainCounts::AsCertified),
                serve_tls(wallet, tls, config)
            );
        });
    });
    receiver.recv().expect("it serves")
}

fn provider_account() -> String {
    format!("{PROVIDER_MCH_ID}/1900000111:{PROVIDER_KEY}:{PROVIDER_APPID}")
}

fn every_payment_is_accounted_for(report: &Report) {
    let sent = &report.payments;
    assert_eq!(sent.sent + report.unsent, report.due);
    assert_eq!(sent.answered + sent.lost + sent.timed_out + sent.unanswered, sent.sent);
    let ends = &report.outcomes;
    let ended = ends.paid + ends.not_paid + ends.reversed + ends.not_taken + ends.open + ends.unknown;
    assert_eq!(ended + ends.wrong_amount, sent.sent);
}

#[test]
fn a_freeze_shows_in_every_payment_that_was_due_meanwhile() {
    // 3 s at 200/s; at the 100th the server stops for 1.5 s. 300 payments are due meanwhile, eight can be sent.
    let freeze = Whim::Freezes { at: 100, for_: Duration::from_millis(1_500) };
    let report = run(Plan { duration: Duration::from_secs(3), ..to(serve(freeze)) }).report;
    every_payment_is_accounted_for(&report);
    assert_eq!((report.due, report.payments.answered, report.outcomes.paid), (600, 600, 600));
    // A third waited for half a second or more: counted from when they were sent, only eight did.
    assert!(report.payments.latency_us.p90 > 500_000, "{:?}", report.payments);
    assert!(report.payments.latency_us.max > 1_400_000, "{:?}", report.payments);
    assert!(report.payments.service_us.p90 < 500_000, "{:?}", report.payments);
    assert!(report.generator.connection_wait_us.p90 > 500_000, "{:?}", report.generator);
}

#[test]
fn too_few_connections_are_named_as_the_limit() {
    let slow = serve(Whim::Slow(Duration::from_millis(50)));
    let report = run(Plan { connections: 2, ..to(slow) }).report;
    every_payment_is_accounted_for(&report);
    let seen = &report.generator;
    assert!(seen.was_the_limit && seen.limit != Limit::None, "{seen:?}");
    assert!(seen.reason.contains("The generator was the limit"), "{seen:?}");
    // 40 of 200 can be sent in the second.
    assert!(seen.left_behind >= 140, "{seen:?}");
    assert!(report.payments.latency_us.max > 3_000_000, "{:?}", report.payments);
}

#[test]
fn a_rate_beyond_the_machine_is_not_blamed_on_the_server() {
    let plan = Plan { per_second: 1_000_000, drain: Duration::ZERO, ..to(serve(Whim::Prompt)) };
    let report = run(plan).report;
    every_payment_is_accounted_for(&report);
    assert!(report.unsent > 0, "{report:?}");
    assert!(report.generator.was_the_limit, "{:?}", report.generator);
}

#[test]
fn broken_connections_and_time_outs_are_counted_and_replaced() {
    let report = run(to(serve(Whim::Hangs(10)))).report;
    every_payment_is_accounted_for(&report);
    assert_eq!((report.payments.answered, report.payments.lost), (180, 20));
    assert_eq!((report.outcomes.paid, report.outcomes.unknown), (180, 20));
    assert!(report.generator.connections_lost >= 20);

    let slow = serve(Whim::Slow(Duration::from_millis(600)));
    let report = run(Plan { per_second: 4, timeout: Duration::from_millis(100), ..to(slow) }).report;
    every_payment_is_accounted_for(&report);
    assert_eq!((report.payments.sent, report.payments.timed_out), (4, 4));
    assert!(report.payments.latency_us.count == 4 && report.payments.latency_us.p50 >= 100_000);
}

#[test]
fn the_warm_up_is_sent_and_not_measured() {
    let plan = Plan {
        warmup: Duration::from_secs(1),
        ..to(serve(Whim::Freezes { at: 1, for_: Duration::from_millis(600) }))
    };
    let report = run(plan).report;
    every_payment_is_accounted_for(&report);
    assert_eq!((report.due, report.payments.sent), (200, 200));
    assert!(report.payments.service_us.max < 600_000, "{:?}", report.payments);
}

#[test]
fn customers_are_followed_to_their_end_and_the_books_agree() {
    let (plain, ..) = wallet(20);
    let mut plan = plan(&format!("http://{plain}"), &provider_account());
    plan.customers = "00=50,0104=30,05=10,03=5,11=5".parse().expect("a mix");
    plan.poll = Some(Duration::from_millis(150));
    plan.sign = Kind::HmacSha256;
    let done = run(plan);
    let report = &done.report;
    every_payment_is_accounted_for(report);
    let ends = &report.outcomes;
    assert!(ends.paid > 100 && ends.not_paid > 5, "{report:?}");
    assert_eq!((ends.open, ends.unknown, ends.wrong_amount), (0, 0, 0), "{report:?}");
    for result in ["SUCCESS", "USERPAYING", "NOTENOUGH"] {
        assert!(report.payments.results.contains_key(result), "{result}: {:?}", report.payments.results);
    }
    assert!(report.payments.lost > 0 && report.polls.answered > 30, "{report:?}");
    assert!(report.definite_us.count > 30 && report.definite_us.p50 >= 150_000, "{report:?}");
    assert!(report.open_max > 0 && report.poll_connections > 0);
    let books =
        done.compare(&format!("http://{plain}").parse::<Target>().expect("an endpoint")).expect("books");
    assert!(books.agree && books.found > 150, "{books:?}");
}

#[test]
fn a_wallet_behind_tls_is_verified_and_paid_through() {
    let (_, tls, ca) = wallet(20);
    let target = format!("https://{tls}");
    let trusted = Plan {
        tls: Some(load::trust(Some(ca.as_bytes())).expect("an authority")),
        ..plan(&target, &provider_account())
    };
    let report = run(trusted.clone()).report;
    every_payment_is_accounted_for(&report);
    assert_eq!((report.outcomes.paid, report.generator.connections_lost), (200, 0));

    let strangers = Plan { tls: Some(load::trust(None).expect("authorities")), ..trusted };
    let refused = load::run(&Arc::new(strangers), &Live::default()).expect_err("a stranger's certificate");
    assert!(matches!(&refused, LoadError::Connect { open: 0, .. }), "{refused}");
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[test]
fn a_wrong_key_is_not_waited_for() {
    let (plain, ..) = wallet(20);
    let account = provider_account().replace("192006250b4c", "292006250b4c");
    let mut plan = plan(&format!("http://{plain}"), &account);
    (plan.poll, plan.drain) = (Some(Duration::from_millis(100)), Duration::from_secs(3_600));
    let report = run(plan).report;
    every_payment_is_accounted_for(&report);
    assert_eq!((report.outcomes.unknown, report.payments.answered), (200, 200));
    let told: Vec<_> = report.payments.results.keys().collect();
    assert!(told.len() == 1 && told[0].starts_with("unsigned: "), "{told:?}");
}

#[test]
fn a_server_that_is_not_there_is_named_and_a_run_can_be_ended() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = taken.local_addr().expect("bound");
    drop(taken);
    let refused = load::run(&Arc::new(to(nobody)), &Live::default()).expect_err("nobody listens");
    assert!(refused.to_string().contains(&format!("0 of 8 connections to http://{nobody}")), "{refused}");

    let live = Arc::new(Live::default());
    let plan = Arc::new(Plan { duration: Duration::from_secs(3_600), ..to(serve(Whim::Prompt)) });
    let watch = Arc::clone(&live);
    let run = std::thread::spawn(move || load::run(&plan, &watch).expect("a run"));
    while live.seconds() < 1 {
        std::thread::yield_now();
    }
    live.stop.store(true, Ordering::Relaxed);
    let report = run.join().expect("no panic").report;
    assert!(report.interrupted && report.outcomes.paid >= 100, "{report:?}");
    every_payment_is_accounted_for(&report);
}
