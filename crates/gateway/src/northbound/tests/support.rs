//! An engine that does as it is told, and a till of a few lines.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::fact::{Paid, Refusal, Row, attach_digest};
use protocol::{Fen, Fields, OutTradeNo, Text, TransactionId};
use signer::{Case, Key, Kind, Scratch};
use state_machine::record::{Cause, Record, State};
use state_machine::shard::{NotAccepted, Said, Wait};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Tick, UnixMs};
use store::memory::CrashStore;
use store::merchant::{Mode, SignKinds, Status, api_key_digest};
use store::{EventQuery, Events, Filter, Listing, Store as _, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::super::server::{Life, Limits, serve};
use super::super::{Accept, DigestKey, Gateway};
use crate::config::Northbound;
use crate::driver::{Feed, Following};
use crate::engine::{Engine, Health, ListRequest, Lookup, NewPayment, StoreDown, Told, Topic};
use crate::merchants::{Binding, Directory, Keys, Merchant, Merchants, Rate};

pub(super) const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
pub(super) const OTHER_KEY: &str = "0123456789abcdef0123456789ABCDEF";
pub(super) const APPID: &str = "wxd930ea5d5a258f4f";
pub(super) const MCH_ID: &str = "1900000109";
pub(super) const SUB_MCH_ID: &str = "1900000110";
pub(super) const NUMBER: &str = "P20261123000000000001";
pub(super) const CODE: &str = "134567890123456789";
pub(super) const BEARER: &str = "hufu_sk_0123456789abcdef0123456789abcdef";
pub(super) const OTHER_BEARER: &str = "hufu_sk_fedcba9876543210fedcba9876543210";
pub(super) const TRANSACTION: &str = "4200002611202611231234567890";
/// Seconds of `ACCEPTED_MS`, plus three: 2026-11-23 10:15:03 in Beijing.
const PAID_AT_S: i64 = 1_795_400_103;
const ACCEPTED_MS: i64 = 1_795_400_100_000;

/// What the engine does with a payment it has not seen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Paid,
    Pending,
    Refused(&'static str, &'static str),
    NotAccepted(NotAccepted),
    /// Keeps the till waiting until it is told otherwise.
    Silent,
    /// Forgets the till.
    Gone,
    /// Takes nothing, whatever the number.
    Shut(NotAccepted),
    /// Says nothing, and nothing is durable.
    Unheard,
    Panic,
}

/// What the engine does with a reversal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    Proven,
    Unproven,
    TooOld,
    NotAccepted(NotAccepted),
    Silent,
}

/// What the engine was asked.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Pay(NewPayment),
    Reverse(OrderKey, ProviderId),
    Watch(OrderKey, Wait),
    Find,
    FindTransaction(MerchantId),
}

pub(super) struct TestEngine {
    pub(super) script: Mutex<Script>,
    pub(super) undo: Mutex<Undo>,
    pub(super) store_down: Mutex<bool>,
    pub(super) records: Mutex<HashMap<OrderKey, Arc<Record>>>,
    /// What lists and events are read from.
    store: Mutex<CrashStore>,
    feed: Arc<Feed>,
    calls: Mutex<Vec<Call>>,
    waiting: Mutex<Vec<oneshot::Sender<Told>>>,
    asked: watch::Sender<usize>,
}

impl TestEngine {
    fn note(&self, call: Call) {
        let mut calls = self.calls.lock().unwrap();
        calls.push(call);
        self.asked.send_replace(calls.len());
    }

    /// Waits until the engine was asked `count` times.
    pub(super) async fn asked(&self, count: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= count).await.unwrap();
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The only payment that was asked for.
    pub(super) fn payment(&self) -> NewPayment {
        match self.calls().as_slice() {
            [Call::Pay(payment)] => payment.clone(),
            calls => panic!("not one payment: {calls:?}"),
        }
    }

    pub(super) fn put(&self, record: Record) {
        let (key, record) = (record.key, Arc::new(record));
        self.records.lock().unwrap().insert(key, Arc::clone(&record));
        self.store.lock().unwrap().commit(&[record]).unwrap();
        self.feed.wake(&key);
    }

    /// Nothing of the payment's row can be trusted any more.
    pub(super) fn damage(&self, key: OrderKey) {
        self.store.lock().unwrap().damage(key);
    }

    fn read<T>(&self, read: impl FnOnce(&mut CrashStore) -> Result<T, StoreError>) -> Lookup<T> {
        let (sender, receiver) = oneshot::channel();
        let down = *self.store_down.lock().unwrap();
        let found = read(&mut self.store.lock().unwrap()).map_err(|_| StoreDown);
        drop(sender.send(if down { Err(StoreDown) } else { found }));
        Lookup::Later(receiver)
    }

    /// Tells everybody who waits.
    pub(super) fn tell(&self, record: &Arc<Record>, said: Said) {
        for waiting in self.waiting.lock().unwrap().drain(..) {
            let _ = waiting.send(Told::Answer { record: Arc::clone(record), said });
        }
    }

    /// Does not take the request that came last.
    pub(super) fn refuse_last(&self, why: NotAccepted) {
        let last = self.waiting.lock().unwrap().pop().expect("one waits");
        let _ = last.send(Told::Refused(why));
    }

    fn lookup(&self, found: Option<Arc<Record>>) -> Lookup<Option<Arc<Record>>> {
        let (sender, receiver) = oneshot::channel();
        if *self.store_down.lock().unwrap() {
            sender.send(Err(StoreDown)).unwrap();
        } else {
            sender.send(Ok(found)).unwrap();
        }
        Lookup::Later(receiver)
    }
}

impl Engine for TestEngine {
    fn pay(&self, request: NewPayment) -> oneshot::Receiver<Told> {
        self.note(Call::Pay(request.clone()));
        let (sender, receiver) = oneshot::channel();
        if let Script::Shut(why) = *self.script.lock().unwrap() {
            sender.send(Told::Refused(why)).unwrap();
            return receiver;
        }
        if let Some(record) = self.records.lock().unwrap().get(&request.key) {
            let same = record.digest == request.digest;
            let said = if same { Said::Repeated } else { Said::OtherContent };
            sender.send(Told::Answer { record: Arc::clone(record), said }).unwrap();
            return receiver;
        }
        let base = Record {
            digest: request.digest,
            amount: Some(request.amount),
            ..record(NUMBER, State::Accepted)
        };
        let base = Record { key: request.key, provider: request.provider, ..base };
        let made = match *self.script.lock().unwrap() {
            Script::Paid => paid(base),
            Script::Pending => Record { state: State::Pending, ..base },
            Script::Refused(code, text) => refused(base, code, text),
            Script::NotAccepted(why) => {
                sender.send(Told::Refused(why)).unwrap();
                return receiver;
            }
            Script::Silent => {
                self.put(base);
                self.waiting.lock().unwrap().push(sender);
                return receiver;
            }
            Script::Gone => {
                self.put(base);
                return receiver;
            }
            Script::Unheard => {
                self.waiting.lock().unwrap().push(sender);
                return receiver;
            }
            Script::Shut(_) => unreachable!("refused above"),
            Script::Panic => panic!("as the test asked"),
        };
        self.put(made.clone());
        sender.send(Told::Answer { record: Arc::new(made), said: Said::Fresh }).unwrap();
        receiver
    }

    fn reverse(&self, key: OrderKey, provider: ProviderId) -> oneshot::Receiver<Told> {
        self.note(Call::Reverse(key, provider));
        let (sender, receiver) = oneshot::channel();
        let state = |state| Arc::new(Record { key, cause: Some(Cause::Till), ..record(NUMBER, state) });
        let answer = |record, said| Told::Answer { record, said };
        let told = match *self.undo.lock().unwrap() {
            Undo::Proven => answer(state(State::Reversed), Said::Reversal),
            Undo::Unproven => answer(state(State::Reversing), Said::Reversal),
            Undo::TooOld => answer(Arc::new(paid(record(NUMBER, State::Paid))), Said::TooOld),
            Undo::NotAccepted(why) => Told::Refused(why),
            Undo::Silent => {
                self.waiting.lock().unwrap().push(sender);
                return receiver;
            }
        };
        sender.send(told).unwrap();
        receiver
    }

    fn watch(&self, key: OrderKey, wait: Wait) -> oneshot::Receiver<Told> {
        let (sender, receiver) = oneshot::channel();
        let known = self.records.lock().unwrap().get(&key).cloned();
        match known.filter(|_| wait == Wait::Nothing) {
            Some(record) => drop(sender.send(Told::Answer { record, said: Said::Watched })),
            None => self.waiting.lock().unwrap().push(sender),
        }
        self.note(Call::Watch(key, wait));
        receiver
    }

    fn find(&self, key: &OrderKey) -> Lookup<Option<Arc<Record>>> {
        self.note(Call::Find);
        self.lookup(self.records.lock().unwrap().get(key).cloned())
    }

    fn find_by_transaction(&self, merchant: MerchantId, id: &TransactionId) -> Lookup<Option<Arc<Record>>> {
        self.note(Call::FindTransaction(merchant));
        let records = self.records.lock().unwrap();
        let is_it = |record: &&Arc<Record>| {
            record.key.merchant == merchant
                && record.paid.as_ref().is_some_and(|paid| paid.transaction_id == *id)
        };
        self.lookup(records.values().find(is_it).cloned())
    }

    fn list(&self, _: ListRequest) -> Lookup<Vec<Arc<Record>>> {
        let mut all: Vec<_> = self.records.lock().unwrap().values().cloned().collect();
        all.sort_by_key(|record| record.key);
        Lookup::Now(all)
    }

    fn page(&self, filter: Filter) -> Lookup<Listing> {
        self.read(|store| store.list(&filter))
    }

    fn events(&self, query: EventQuery) -> Lookup<Events> {
        self.read(|store| store.events(&query))
    }

    fn follow(&self, topic: Topic) -> Following {
        self.feed.follow(topic)
    }

    fn health(&self) -> Health {
        Health { recovered: true, store: !*self.store_down.lock().unwrap(), draining: false }
    }

    fn drain(&self) {}
}

/// A record of merchant 1.
pub(crate) fn record(number: &str, state: State) -> Record {
    let now = Now { tick: Tick::from_ms(1), wall: UnixMs(ACCEPTED_MS) };
    Record {
        state,
        amount: Some(Fen::new(1_288).unwrap()),
        ..Record::begun(key(1, number), ProviderId(9), now, BootId(1))
    }
}

pub(super) fn paid(record: Record) -> Record {
    let amount = record.amount.unwrap();
    let paid = Paid {
        amount,
        transaction_id: TRANSACTION.parse().unwrap(),
        time_end_s: Some(PAID_AT_S),
        attach: attach_digest(""),
        merchant_matches: true,
        fields: Fields::new([
            ("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
            ("is_subscribe", "N"),
            ("trade_type", "MICROPAY"),
            ("bank_type", "OTHERS"),
            ("fee_type", "CNY"),
            ("total_fee", "1288"),
            ("cash_fee", "1288"),
            ("transaction_id", TRANSACTION),
            ("attach", " 店员=07&班次=早 "),
            ("time_end", "20261123101503"),
            ("empty", ""),
            // What the wallet may add one day must not displace what we say.
            ("mch_id", "6666"),
            ("nonce_str", "theirs"),
            ("sign", "theirs"),
            ("result_code", "theirs"),
        ]),
    };
    Record { state: State::Paid, paid: Some(Box::new(paid)), decided_at: Some(UnixMs(ACCEPTED_MS)), ..record }
}

pub(super) fn refused(record: Record, code: &str, text: &str) -> Record {
    let refusal = Refusal { code: Text::truncated(code), description: text.into() };
    Record {
        state: State::Failed,
        cause: Some(Cause::Row(Row::A11)),
        refusal: Some(Box::new(refusal)),
        ..record
    }
}

pub(super) fn key(merchant: u32, number: &str) -> OrderKey {
    OrderKey { merchant: MerchantId(merchant), number: number.parse::<OutTradeNo>().unwrap() }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A gateway that listens, its engine, and what it logs.
pub(super) struct Harness {
    pub(super) at: SocketAddr,
    pub(super) engine: Arc<TestEngine>,
    pub(super) log: Log,
    pub(super) life: watch::Sender<Life>,
    pub(super) served: JoinHandle<()>,
    pub(super) merchants: Merchants,
    _logging: tracing::subscriber::DefaultGuard,
}

pub(super) fn merchant(id: u32, sub_mch_id: Option<&str>, signing_key: &str, bearer: &str) -> Merchant {
    Merchant {
        mch_id: MCH_ID.parse().unwrap(),
        sub_mch_id: sub_mch_id.map(|id| id.parse().unwrap()),
        appid: APPID.parse().unwrap(),
        keys: Keys::new(Key::new(signing_key).unwrap(), None),
        kinds: SignKinds::Both,
        bearer: Some(api_key_digest(bearer)),
        mode: Mode::Relay,
        settings: store::Settings::default(),
        status: Status::Active,
        binding: Binding {
            merchant: MerchantId(id),
            provider: ProviderId(9),
            sub_mch_id: "1612345678".parse().unwrap(),
            sub_appid: Some("wx2421b1c4370ec43b".parse().unwrap()),
        },
        rate: Rate::default(),
    }
}

/// Short deadlines, so that tests of them are short too.
pub(super) fn short() -> Northbound {
    Northbound {
        handshake_deadline: Duration::from_millis(600),
        head_deadline: Duration::from_millis(150),
        body_deadline: Duration::from_millis(150),
        idle_deadline: Duration::from_millis(300),
        write_deadline: Duration::from_millis(150),
        hold: Duration::from_millis(120),
        long_poll: Duration::ZERO,
        drain: Duration::from_secs(5),
        ..Northbound::default()
    }
}

impl Harness {
    pub(super) async fn start() -> Self {
        Self::with(short()).await
    }

    pub(super) async fn with(config: Northbound) -> Self {
        Self::over(config, |listener| listener, |_| {}).await
    }

    /// As [`Harness::with`], behind what `listen` makes of the socket, and with merchants as `change` leaves them.
    pub(super) async fn over<A: Accept + Sync>(
        config: Northbound,
        listen: impl FnOnce(TcpListener) -> A,
        change: impl FnOnce(&mut Vec<Merchant>),
    ) -> Self {
        let mut all =
            vec![merchant(1, Some(SUB_MCH_ID), KEY, BEARER), merchant(2, None, OTHER_KEY, OTHER_BEARER)];
        change(&mut all);
        let merchants = Merchants::new(Directory::new(all).unwrap());
        let engine = Arc::new(TestEngine {
            script: Mutex::new(Script::Paid),
            undo: Mutex::new(Undo::Proven),
            store_down: Mutex::new(false),
            records: Mutex::default(),
            store: Mutex::new(CrashStore::synced()),
            feed: Arc::default(),
            calls: Mutex::default(),
            waiting: Mutex::default(),
            asked: watch::Sender::new(0),
        });
        let limits = Limits::from(&config);
        let asked: Arc<dyn Engine> = Arc::<TestEngine>::clone(&engine);
        let gateway = Gateway::new(asked, merchants.clone(), config, DigestKey::new(&[7; 32]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (life, watching) = watch::channel(Life::Running);
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let served = tokio::spawn(serve(listen(listener), Arc::new(gateway), limits, watching));
        Self { at, engine, log, life, served, merchants, _logging }
    }

    pub(super) fn script(&self, script: Script) {
        *self.engine.script.lock().unwrap() = script;
    }

    pub(super) fn undo(&self, undo: Undo) {
        *self.engine.undo.lock().unwrap() = undo;
    }

    /// Sends one request on a connection of its own and reads the answer to its end.
    pub(super) async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answered {
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Answered::read(self.raw(&bytes).await)
    }

    /// Writes `bytes` and reads until the gateway closes.
    pub(super) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answered {
        self.send("POST", path, "", body.as_bytes()).await
    }
}

/// Reads until the peer closes, or resets what it does not want to read.
pub(super) async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return bytes,
            Ok(Ok(count)) => bytes.extend_from_slice(&buffer[..count]),
            Err(_) => panic!("the gateway neither answers nor closes: {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

/// One HTTP answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answered {
    pub(super) fn read(bytes: Vec<u8>) -> Self {
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("{text:?}")),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The fields of an XML answer. Read by splitting, not by our reader: it writes nothing but CDATA.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        let inner = self.body.strip_prefix("<xml>").and_then(|rest| rest.strip_suffix("</xml>"));
        let mut rest = inner.unwrap_or_else(|| panic!("no XML: {self:?}"));
        let mut fields = Vec::new();
        while let Some((name, after)) = rest.strip_prefix('<').and_then(|rest| rest.split_once("><![CDATA["))
        {
            let (value, after) =
                after.split_once(&format!("]]></{name}>")).unwrap_or_else(|| panic!("{self:?}"));
            fields.push((name.to_owned(), value.to_owned()));
            rest = after;
        }
        assert!(rest.is_empty(), "{rest:?} in {self:?}");
        fields
    }

    pub(super) fn get(&self, name: &str) -> String {
        let fields = self.fields();
        let mut found = fields.iter().filter(|(field, _)| field == name);
        let value = found.next().map(|(_, value)| value.clone()).unwrap_or_default();
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// Checks that the answer is signed with `key` as the protocol has it.
    pub(super) fn assert_signed(&self, kind: Kind, key: &str) {
        let fields = self.fields();
        let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sign = self.get("sign");
        let mut scratch = Scratch::new();
        assert!(Key::new(key).unwrap().verify(kind, pairs, &sign, Case::Exact, &mut scratch), "{self:?}");
        assert!((16..=32).contains(&self.get("nonce_str").len()), "{self:?}");
        for (name, value) in &fields {
            assert_eq!(value.trim(), value, "{name}");
            assert!(!value.is_empty() && !value.contains('\r'), "{name}");
        }
    }
}

/// A till's XML: `pairs` and their signature.
pub(super) fn signed(key: &str, kind: Kind, pairs: &[(&str, &str)]) -> String {
    let mut scratch = Scratch::new();
    let sign = Key::new(key).unwrap().sign(kind, pairs.iter().copied(), &mut scratch);
    unsigned(&[pairs, &[("sign", sign.as_str())]].concat())
}

/// A till's XML as it is.
pub(super) fn unsigned(pairs: &[(&str, &str)]) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let inner: String =
        pairs.iter().map(|(name, value)| format!("<{name}>{}</{name}>\n", escaped(value))).collect();
    format!("<xml>\n{inner}</xml>")
}

/// The pairs of a good payment.
pub(super) fn micropay() -> Vec<(&'static str, &'static str)> {
    vec![
        ("appid", APPID),
        ("mch_id", MCH_ID),
        ("sub_mch_id", SUB_MCH_ID),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("body", "深圳店-便利店购物"),
        ("out_trade_no", NUMBER),
        ("total_fee", "1288"),
        ("spbill_create_ip", "203.0.113.10"),
        ("auth_code", CODE),
    ]
}

/// The pairs of a good query or reversal.
pub(super) fn about(number: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("appid", APPID),
        ("mch_id", MCH_ID),
        ("sub_mch_id", SUB_MCH_ID),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("out_trade_no", number),
    ]
}

/// `pairs` with one value changed, added (`Some`) or taken out (`None`).
pub(super) fn with<'a>(
    mut pairs: Vec<(&'a str, &'a str)>,
    name: &'a str,
    value: Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    let place = pairs.iter().position(|(known, _)| *known == name);
    match (place, value) {
        (Some(at), Some(value)) => pairs[at].1 = value,
        (Some(at), None) => {
            pairs.remove(at);
        }
        (None, Some(value)) => pairs.push((name, value)),
        (None, None) => {}
    }
    pairs
}
