//! Probes over HTTP, commands over the socket, against a store on disk and an engine that does as it is told.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::TransactionId;
use serde_json::{Value, json};
use state_machine::record::State;
use state_machine::shard::{NotAccepted, Said, Wait};
use state_machine::{Channel, MerchantId, OrderKey, ProviderId, Record, UnixMs};
use store::merchant::Mode;
use store::{EventQuery, Events, Filter, Listing, Options, SealKey, SqliteStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::socket::CONNECTIONS_MAX;
use super::{
    Admin, CallError, Command, Commands, Form, MerchantRef, Probes, Response, SocketError, bind, call, serve,
};
use crate::config::Northbound;
use crate::driver::Following;
use crate::engine::{Engine, Health, ListRequest, Lookup, NewPayment, Told, Topic};
use crate::merchants::{Directory, Merchants};
use crate::northbound::server::{self, Life, Limits};

const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
const PROVIDER: &str = "1900000109";

/// An engine with the payments that it is given.
struct Shelf {
    records: Vec<Record>,
    health: Mutex<Health>,
    reversed: Mutex<Vec<OrderKey>>,
    undo: Mutex<Option<NotAccepted>>,
}

impl Engine for Shelf {
    fn pay(&self, _: NewPayment) -> oneshot::Receiver<Told> {
        unreachable!("no command pays")
    }

    fn reverse(&self, key: OrderKey, _: ProviderId) -> oneshot::Receiver<Told> {
        self.reversed.lock().unwrap().push(key);
        let (sender, receiver) = oneshot::channel();
        let record = self.records.iter().find(|record| record.key == key).unwrap().clone();
        let told = match *self.undo.lock().unwrap() {
            Some(why) => Told::Refused(why),
            None => Told::Answer {
                record: Arc::new(Record { state: State::Reversed, ..record }),
                said: Said::Reversal,
            },
        };
        sender.send(told).unwrap();
        receiver
    }

    fn watch(&self, _: OrderKey, _: Wait) -> oneshot::Receiver<Told> {
        unreachable!("no command watches")
    }

    fn find(&self, key: &OrderKey) -> Lookup<Option<Arc<Record>>> {
        Lookup::Now(self.records.iter().find(|record| record.key == *key).cloned().map(Arc::new))
    }

    fn find_by_transaction(&self, _: MerchantId, _: &TransactionId) -> Lookup<Option<Arc<Record>>> {
        unreachable!("no command goes by it")
    }

    fn list(&self, request: ListRequest) -> Lookup<Vec<Arc<Record>>> {
        let of = |record: &&Record| request.merchant.is_none_or(|merchant| record.key.merchant == merchant);
        Lookup::Now(self.records.iter().filter(of).take(request.limit).cloned().map(Arc::new).collect())
    }

    fn page(&self, _: Filter) -> Lookup<Listing> {
        unreachable!("no command listens")
    }

    fn events(&self, _: EventQuery) -> Lookup<Events> {
        unreachable!("no command listens")
    }

    fn follow(&self, _: Topic) -> Following {
        unreachable!("no command listens")
    }

    fn health(&self) -> Health {
        *self.health.lock().unwrap()
    }

    fn drain(&self) {
        self.health.lock().unwrap().draining = true;
    }
}

struct Harness {
    dir: TempDir,
    engine: Arc<Shelf>,
    merchants: Merchants,
    life: watch::Receiver<Life>,
    _store: SqliteStore,
}

impl Harness {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SealKey::from_hex(&"0f".repeat(32)).unwrap();
        let store = SqliteStore::open(&dir.path().join("hufu.db"), &key, Options::default()).unwrap();
        let mut book = store.merchant_book().unwrap();
        book.provider(Channel::WechatV2, &PROVIDER.parse().unwrap()).unwrap();
        let record = |merchant, number| Record {
            key: OrderKey {
                merchant: MerchantId(merchant),
                ..crate::northbound::tests::record(number, State::Pending).key
            },
            ..crate::northbound::tests::record(number, State::Pending)
        };
        let engine = Arc::new(Shelf {
            records: vec![record(1, "P20261123-1"), record(2, "P20261123-2")],
            health: Mutex::new(Health { recovered: true, store: true, draining: false }),
            reversed: Mutex::default(),
            undo: Mutex::default(),
        });
        let merchants = Merchants::new(Directory::default());
        let (life, watching) = watch::channel(Life::Running);
        let commands = Commands::new(Admin {
            engine: Arc::<Shelf>::clone(&engine),
            merchants: merchants.clone(),
            book,
            providers: vec![PROVIDER.parse().unwrap()],
            life,
            hold: Duration::from_millis(200),
            tls: None,
        });
        let listener = bind(&dir.path().join("admin.sock")).unwrap();
        tokio::spawn(serve(listener, commands));
        Self { dir, engine, merchants, life: watching, _store: store }
    }

    async fn run(&self, command: Command) -> Result<Value, String> {
        let path = self.socket();
        match tokio::task::spawn_blocking(move || call(&path, &command)).await.unwrap().unwrap() {
            Response::Done { result } => Ok(result),
            Response::Failed { error } => Err(error),
        }
    }
}

fn form(sub_mch_id: &str) -> Form {
    Form {
        mch_id: "1900000200".to_owned(),
        sub_mch_id: Some(sub_mch_id.to_owned()),
        appid: "wxd930ea5d5a258f4f".to_owned(),
        provider: PROVIDER.to_owned(),
        upstream_sub_mch_id: format!("16{sub_mch_id}"),
        sub_appid: None,
        signing_key: KEY.to_owned(),
        api_key: Some(format!("hufu_sk_{}{sub_mch_id}", "x".repeat(32))),
        sign_kinds: None,
        mode: None,
        hold_ms: None,
        long_poll_ms: None,
    }
}

fn by_id(merchant: u32) -> MerchantRef {
    MerchantRef::Id { merchant }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merchants_come_and_go_without_a_restart() {
    let harness = Harness::start();
    let added = harness.run(Command::MerchantAdd { merchants: vec![form("1"), form("2")] }).await.unwrap();
    assert_eq!((&added[0]["merchant"], &added[1]["merchant"]), (&json!(1), &json!(2)));
    assert_eq!(added[0]["upstream_sub_mch_id"], json!("161"));
    assert!(!added.to_string().contains(KEY) && !added.to_string().contains("hufu_sk_"));
    let find = |sub: &str| {
        let directory = harness.merchants.load();
        let found = directory.find(
            &"1900000200".parse().unwrap(),
            Some(&sub.parse().unwrap()),
            &"wxd930ea5d5a258f4f".parse().unwrap(),
        );
        found.map(|one| (one.binding.merchant.0, one.status))
    };
    assert_eq!(find("2"), Some((2, store::merchant::Status::Active)));
    assert!(harness.merchants.load().find_bearer(form("1").api_key.as_deref().unwrap()).is_some());

    let identity = MerchantRef::Identity {
        mch_id: "1900000200".to_owned(),
        sub_mch_id: Some("2".to_owned()),
        appid: "wxd930ea5d5a258f4f".to_owned(),
    };
    harness.run(Command::MerchantStatus { of: identity.clone(), active: false }).await.unwrap();
    assert_eq!(find("2"), Some((2, store::merchant::Status::Disabled)));
    assert_eq!(
        harness.run(Command::MerchantCheck { of: identity }).await.unwrap()["status"],
        json!("disabled")
    );
    assert_eq!(
        harness.run(Command::MerchantCheck { of: by_id(1) }).await.unwrap()["status"],
        json!("active")
    );
    let list = harness.run(Command::MerchantList).await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(harness.run(Command::MerchantReload).await, Ok(json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_tills_are_answered_is_set_without_a_restart() {
    let harness = Harness::start();
    let held = Form { mode: Some("hold".to_owned()), hold_ms: Some(20_000), ..form("2") };
    let added = harness.run(Command::MerchantAdd { merchants: vec![form("1"), held] }).await.unwrap();
    let answering =
        |view: &Value| (view["mode"].clone(), view["hold_ms"].clone(), view["long_poll_ms"].clone());
    assert_eq!(answering(&added[0]), (json!("relay"), Value::Null, Value::Null));
    assert_eq!(answering(&added[1]), (json!("hold"), json!(20_000), Value::Null));
    // In the words of the socket: what is absent stays, and "default" is not the merchant's own any more.
    let set = |rest: &str| {
        let line = format!(r#"{{"command":"merchant_set","of":{{"merchant":2}}{rest}}}"#);
        harness.run(serde_json::from_str(&line).expect("a command"))
    };
    let in_use = || {
        let one = harness.merchants.load();
        let one = one.find_id(MerchantId(2)).expect("it is there");
        (
            one.mode,
            one.hold(&Northbound::default()).as_millis(),
            one.long_poll(&Northbound::default()).as_millis(),
        )
    };
    assert_eq!(in_use(), (Mode::Hold, 20_000, 4_000));
    let view = set(r#","long_poll_ms":0"#).await.unwrap();
    assert_eq!(answering(&view), (json!("hold"), json!(20_000), json!(0)));
    assert_eq!(in_use(), (Mode::Hold, 20_000, 0));
    let view = set(r#","mode":"relay","hold_ms":"default""#).await.unwrap();
    assert_eq!(answering(&view), (json!("relay"), Value::Null, json!(0)));
    assert_eq!(in_use(), (Mode::Relay, 8_000, 0));
    let may_ask = || {
        let one = harness.merchants.load();
        one.find_id(MerchantId(2)).expect("it is there").allowance(&Northbound::default())
    };
    assert_eq!(may_ask(), (200, 400));
    let view = set(r#","rate":{"per_second":7,"burst":9}"#).await.unwrap();
    assert_eq!((&view["per_second"], &view["burst"]), (&json!(7), &json!(9)));
    assert_eq!((may_ask(), in_use()), ((7, 9), (Mode::Relay, 8_000, 0)));
    set(r#","rate":{"burst":"default"}"#).await.unwrap();
    assert_eq!(may_ask(), (7, 400));
    for (rest, says) in [
        (r#","rate":{"per_second":0}"#, "rate is 0 a second; it must be 1 to 100000 a second"),
        (r#","hold_ms":31000"#, "hold is 31000 ms; it must be 1000 to 30000 ms"),
        (r#","long_poll_ms":7001"#, "long poll is 7001 ms; it must be 0 to 7000 ms"),
        (r#","mode":"block""#, "mode \"block\" is neither relay nor hold"),
    ] {
        let err = set(rest).await.unwrap_err();
        assert!(err.contains(says), "{err}");
        assert_eq!(in_use(), (Mode::Relay, 8_000, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_is_all_or_nothing_and_says_what_is_wrong() {
    let _covers = covers::covers(&["CF-07"]);
    let harness = Harness::start();
    for (change, says) in [
        (Form { mch_id: "19 00".to_owned(), ..form("2") }, "merchant 2: mch_id holds a character"),
        (
            Form { provider: "1".to_owned(), ..form("2") },
            "merchant 2: provider 1 is not in the configuration",
        ),
        (Form { api_key: Some("secret".to_owned()), ..form("2") }, "merchant 2: api_key is not hufu_sk_"),
        (Form { sign_kinds: Some("sha1".to_owned()), ..form("2") }, "merchant 2: sign_kinds is none of"),
        (Form { mode: Some("block".to_owned()), ..form("2") }, "merchant 2: mode \"block\" is neither"),
        (Form { hold_ms: Some(60_000), ..form("2") }, "merchant 2 of this call: hold is 60000 ms"),
        (Form { signing_key: "short".to_owned(), ..form("2") }, "the signing key of merchant 2"),
        (form("1"), "merchant 2 of this import"),
    ] {
        let err = harness.run(Command::MerchantAdd { merchants: vec![form("1"), change] }).await.unwrap_err();
        assert!(err.contains(says), "{err}");
        assert!(!err.contains(KEY), "{err}");
        assert_eq!(harness.merchants.load().merchants().len(), 0);
    }
    assert_eq!(harness.run(Command::MerchantList).await, Ok(json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_are_shown_listed_and_reversed() {
    let harness = Harness::start();
    harness.run(Command::MerchantAdd { merchants: vec![form("1"), form("2")] }).await.unwrap();
    let show = |merchant, number: &str| Command::PaymentShow {
        of: by_id(merchant),
        out_trade_no: number.to_owned(),
    };
    let shown = harness.run(show(1, "P20261123-1")).await.unwrap();
    assert_eq!((&shown["state"], &shown["amount_fen"]), (&json!("awaiting_password"), &json!(1288)));
    for (command, says) in [
        (show(1, "P20261123-2"), "no such payment"),
        (show(3, "P20261123-1"), "no such merchant"),
        (show(1, "12"), "out_trade_no is shorter"),
    ] {
        assert!(harness.run(command).await.unwrap_err().contains(says), "{says}");
    }
    let list = |of, which: &str, limit| Command::PaymentList { of, which: which.to_owned(), limit };
    assert_eq!(harness.run(list(None, "open", 10)).await.unwrap().as_array().unwrap().len(), 2);
    assert_eq!(harness.run(list(Some(by_id(2)), "all", 10)).await.unwrap()[0]["merchant"], json!(2));
    assert_eq!(harness.run(list(None, "held", 0)).await.unwrap().as_array().unwrap().len(), 1);
    assert!(harness.run(list(None, "lost", 1)).await.unwrap_err().contains("none of open, held, all"));

    let reverse = |number: &str| Command::PaymentReverse { of: by_id(1), out_trade_no: number.to_owned() };
    assert_eq!(harness.run(reverse("P20261123-1")).await.unwrap()["state"], json!("reversed"));
    assert!(harness.run(reverse("P20261123-9")).await.unwrap_err().contains("nothing was done"));
    assert_eq!(harness.engine.reversed.lock().unwrap().len(), 1, "what is not there is not closed by a slip");
    *harness.engine.undo.lock().unwrap() = Some(NotAccepted::StoreBusy);
    assert!(harness.run(reverse("P20261123-1")).await.unwrap_err().contains("nothing was done"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_reaches_engine_and_tills() {
    let harness = Harness::start();
    for _ in 0..2 {
        assert_eq!(harness.run(Command::Drain).await, Ok(json!("draining")));
        assert!(harness.engine.health().draining);
        assert_eq!(*harness.life.borrow(), Life::Draining);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_for_its_owner_and_takes_only_commands() {
    let harness = Harness::start();
    let mode = std::fs::metadata(harness.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(bind(&harness.socket()), Err(SocketError::InUse(_))));
    let file = harness.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(bind(&file), Err(SocketError::NoSocket(_))));
    let socket = harness.socket();
    let answers = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        for line in [
            "{}\n",
            "not JSON\n",
            "{\"command\":\"merchant_add\",\"merchants\":[{\"signing_key\":\"192006250b4c09247ec02edce69f6a2d\"}]}\n",
            "{\"command\":\"drop_tables\"}\n",
            "\n",
        ] {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answers.push((line, answer));
        }
        answers
    })
    .await
    .unwrap();
    for (line, answer) in answers {
        assert!(answer.starts_with("{\"error\":\"no such command"), "{line}: {answer}");
        assert!(!answer.contains(KEY), "{answer}");
    }
    assert_eq!(harness.run(Command::MerchantList).await, Ok(json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_administrators_are_served_at_once_as_may_be() {
    let _covers = covers::covers(&["INV-24"]);
    let harness = Harness::start();
    let socket = harness.socket();
    tokio::task::spawn_blocking(move || {
        let patient = Some(Duration::from_secs(60));
        let ask = || {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.set_read_timeout(patient).unwrap();
            stream.write_all(b"{}\n").unwrap();
            stream
        };
        let mut inside: Vec<_> = (0..CONNECTIONS_MAX).map(|_| ask()).collect();
        for stream in &mut inside {
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1, "answered, and open");
        }
        let mut next = ask();
        next.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(next.read(&mut [0; 1]).is_err(), "it waits");
        next.set_read_timeout(patient).unwrap();
        drop(inside.pop());
        assert_eq!(next.read(&mut [0; 1]).unwrap(), 1);
    })
    .await
    .unwrap();
}

#[test]
fn what_a_crashed_process_left_is_taken_over_and_nobody_answers_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let err = call(&path, &Command::Drain).unwrap_err();
    assert!(matches!(err, CallError::NoSwitch(..)), "{err}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { drop(bind(&path).expect("a stale socket is no obstacle")) });
}

#[tokio::test]
async fn probes() {
    crate::metrics::install().unwrap();
    let engine = Arc::new(Shelf {
        records: Vec::new(),
        health: Mutex::new(Health { recovered: true, store: true, draining: false }),
        reversed: Mutex::default(),
        undo: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (_life, watching) = watch::channel(Life::Running);
    let asked: Arc<dyn Engine> = Arc::<Shelf>::clone(&engine);
    let limits = Limits::from(&Northbound::default());
    tokio::spawn(server::serve(listener, Arc::new(Probes::new(asked)), limits, watching));
    let get = |path: &'static str| async move {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics").await;
    assert!(
        metrics.contains("text/plain; version=0.0.4") && metrics.contains("# HELP hufu_money_at_risk_fen")
    );
    assert!(get("/other").await.starts_with("HTTP/1.1 404"));
    for (health, says) in [
        (Health { recovered: false, store: true, draining: false }, "recovery is not done"),
        (Health { recovered: true, store: false, draining: false }, "the store takes no records"),
        (Health { recovered: true, store: true, draining: true }, "stopping"),
    ] {
        *engine.health.lock().unwrap() = health;
        let answer = get("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(says), "{answer}");
        assert!(get("/livez").await.starts_with("HTTP/1.1 200"), "it lives all the same");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_nobody_asks_for_shut_no_merchant_out() {
    let harness = Harness::start();
    harness.run(Command::MerchantAdd { merchants: vec![form("1")] }).await.unwrap();
    let set = |fingerprints: Vec<String>, force| {
        let of = MerchantRef::Id { merchant: 1 };
        harness.run(Command::MerchantCertificates { of, fingerprints, force })
    };
    let needed = || {
        let one = harness.merchants.load();
        !one.find_id(MerchantId(1)).expect("it is there").may_connect(None, UnixMs(0))
    };
    // This switch speaks no TLS, whatever the file says that the command has read.
    let refused = set(vec!["0f".repeat(32)], false).await.unwrap_err();
    assert!(refused.contains("client_ca_file") && refused.contains("Nothing was changed"), "{refused}");
    assert!(!needed());
    set(vec!["0f".repeat(32)], true).await.unwrap();
    assert!(needed(), "by force");
    set(Vec::new(), false).await.unwrap();
    assert!(!needed(), "lifting it harms nobody");
}
