//! The tills' side of the gateway on streams in memory, with an engine that takes everything and keeps what it took.

use std::cell::RefCell;
use std::future::Ready;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway::config::Northbound;
use gateway::driver::{Feed, Following};
use gateway::engine::{Engine, Health, ListRequest, Lookup, NewPayment, Told, Topic};
use gateway::merchants::{Binding, Directory, Keys, Merchant, Merchants, Rate};
use gateway::northbound::server::{Life, Limits, serve};
use gateway::northbound::{Accept, DigestKey, Gateway, Opened};
use protocol::TransactionId;
use signer::Key;
use state_machine::record::State;
use state_machine::shard::{Said, Wait};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};
use store::merchant::{Mode, SignKinds, Status, api_key_digest};
use store::{EventQuery, Events, Filter, Listing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use crate::KEY;

/// The merchant's number, as its tills send it.
pub const MCH_ID: &str = "1900000109";
/// The merchant's appid.
pub const APPID: &str = "wxd930ea5d5a258f4f";
/// The merchant's number below its provider.
pub const SUB_MCH_ID: &str = "1900000110";
/// The merchant's bearer key.
pub const BEARER: &str = "hufu_sk_0123456789abcdef0123456789abcdef";

/// How long an answer may take: far longer than any does.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than every answer and every input.
const PIPE_BYTES: usize = 1 << 20;

/// What the engine was asked for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A payment.
    Pay(Box<NewPayment>),
    /// A reversal.
    Reverse(OrderKey),
    /// A lookup by the merchant's number.
    Find(OrderKey),
    /// A lookup by the wallet's number.
    FindTransaction(TransactionId),
}

#[derive(Default)]
struct Keeper(Mutex<Vec<Asked>>);

impl Keeper {
    fn keep(&self, asked: Asked) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }

    fn tell(key: OrderKey, state: State, said: Said) -> oneshot::Receiver<Told> {
        let (sender, receiver) = oneshot::channel();
        let record = Arc::new(record(key, state));
        // The receiver is at hand: it cannot have been dropped.
        let _ = sender.send(Told::Answer { record, said });
        receiver
    }
}

fn record(key: OrderKey, state: State) -> Record {
    let now = Now { tick: Tick::from_ms(1), wall: UnixMs(1_795_400_100_000) };
    Record { state, ..Record::begun(key, ProviderId(9), now, BootId(1)) }
}

impl Engine for Keeper {
    fn pay(&self, request: NewPayment) -> oneshot::Receiver<Told> {
        let key = request.key;
        self.keep(Asked::Pay(Box::new(request)));
        Self::tell(key, State::Pending, Said::Fresh)
    }

    fn reverse(&self, key: OrderKey, _: ProviderId) -> oneshot::Receiver<Told> {
        self.keep(Asked::Reverse(key));
        Self::tell(key, State::Reversed, Said::Reversal)
    }

    fn watch(&self, key: OrderKey, _: Wait) -> oneshot::Receiver<Told> {
        Self::tell(key, State::Pending, Said::Watched)
    }

    fn find(&self, key: &OrderKey) -> Lookup<Option<Arc<Record>>> {
        self.keep(Asked::Find(*key));
        Lookup::Now(None)
    }

    fn find_by_transaction(&self, _: MerchantId, id: &TransactionId) -> Lookup<Option<Arc<Record>>> {
        self.keep(Asked::FindTransaction(*id));
        Lookup::Now(None)
    }

    fn list(&self, _: ListRequest) -> Lookup<Vec<Arc<Record>>> {
        Lookup::Now(Vec::new())
    }

    fn page(&self, _: Filter) -> Lookup<Listing> {
        Lookup::Now(Listing::default())
    }

    fn events(&self, _: EventQuery) -> Lookup<Events> {
        Lookup::Now(Events::default())
    }

    fn follow(&self, topic: Topic) -> Following {
        Arc::new(Feed::default()).follow(topic)
    }

    fn health(&self) -> Health {
        Health { recovered: true, store: true, draining: false }
    }

    fn drain(&self) {}
}

/// Streams in memory, one after another.
struct Pipes(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

impl Accept for Pipes {
    type Stream = DuplexStream;
    type Arrived = DuplexStream;
    type Opening = Ready<io::Result<Opened<DuplexStream>>>;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        let stream = self.0.lock().await.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((stream, SocketAddr::from(([203, 0, 113, 10], 1))))
    }

    fn open(&self, arrived: DuplexStream) -> Self::Opening {
        std::future::ready(Ok(Opened::plain(arrived)))
    }
}

/// A gateway and its runtime, on one thread, so that one input gives one run.
struct Rig {
    runtime: Runtime,
    connect: mpsc::Sender<DuplexStream>,
    keeper: Arc<Keeper>,
    _life: watch::Sender<Life>,
}

impl Rig {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let merchant = Merchant {
            mch_id: MCH_ID.parse().expect("a number"),
            sub_mch_id: Some(SUB_MCH_ID.parse().expect("a number")),
            appid: APPID.parse().expect("an appid"),
            keys: Keys::new(Key::new(KEY).expect("a key"), None),
            kinds: SignKinds::Both,
            bearer: Some(api_key_digest(BEARER)),
            mode: Mode::Relay,
            settings: store::Settings::default(),
            status: Status::Active,
            binding: Binding {
                merchant: MerchantId(1),
                provider: ProviderId(9),
                sub_mch_id: "1612345678".parse().expect("a number"),
                sub_appid: None,
            },
            rate: Rate::default(),
        };
        let config =
            Northbound { merchant_per_second: 100_000, merchant_burst: 100_000, ..Northbound::default() };
        let limits = Limits::from(&config);
        let keeper = Arc::new(Keeper::default());
        let engine: Arc<dyn Engine> = Arc::<Keeper>::clone(&keeper);
        let merchants = Merchants::new(Directory::new(vec![merchant]).expect("one merchant"));
        let gateway = Arc::new(Gateway::new(engine, merchants, config, DigestKey::new(&[7; 32])));
        let (connect, pipes) = mpsc::channel(1);
        let (life, watching) = watch::channel(Life::Running);
        runtime.spawn(serve(Pipes(tokio::sync::Mutex::new(pipes)), gateway, limits, watching));
        Self { runtime, connect, keeper, _life: life }
    }

    fn exchange(&self, bytes: &[u8], ends: bool) -> (Vec<u8>, Vec<Asked>) {
        let answer = self.runtime.block_on(async {
            let (till, gateway) = tokio::io::duplex(PIPE_BYTES);
            self.connect.send(gateway).await.expect("the gateway listens");
            let (mut read, mut write) = tokio::io::split(till);
            let sent = async {
                // Whoever refuses early need not read to the end.
                let _ = write.write_all(bytes).await;
                if ends {
                    let _ = write.shutdown().await;
                }
            };
            let mut answer = Vec::new();
            let both = async { tokio::join!(sent, read.read_to_end(&mut answer)) };
            let ended = tokio::time::timeout(PATIENCE, both).await;
            assert!(ended.is_ok(), "neither answered nor closed");
            answer
        });
        let asked = std::mem::take(&mut *self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner));
        (answer, asked)
    }
}

thread_local! {
    static RIG: RefCell<Option<Rig>> = const { RefCell::new(None) };
}

/// Sends `bytes` on a connection of its own, and the connection's end if `ends`; returns what came back and what the
/// engine was asked for.
///
/// # Panics
///
/// When the gateway neither answers nor closes.
#[must_use]
pub fn exchange(bytes: &[u8], ends: bool) -> (Vec<u8>, Vec<Asked>) {
    RIG.with_borrow_mut(|rig| rig.get_or_insert_with(Rig::new).exchange(bytes, ends))
}

/// Sends one request that asks to close, and reads its one answer: status, body, what the engine was asked for.
///
/// # Panics
///
/// When there is not exactly one answer, or one that says that the gateway failed.
#[must_use]
pub fn post(path: &str, headers: &str, body: &[u8]) -> (u16, String, Vec<Asked>) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    let (answer, asked) = exchange(&[head.as_bytes(), body].concat(), false);
    let text = String::from_utf8(answer).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    assert!(status < 500, "{text}");
    assert!(head.to_ascii_lowercase().contains(&format!("content-length: {}", body.len())), "{text}");
    (status, body.to_owned(), asked)
}
