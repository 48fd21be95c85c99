//! A gateway that listens, and what it logs.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use signer::Key;
use state_machine::{MerchantId, ProviderId};
use store::merchant::{Mode, SignKinds, Status, api_key_digest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::super::server::{Life, Limits, serve};
use super::super::super::{Accept, DigestKey, Gateway};
use super::engine::{Script, TestEngine, Undo};
use super::till::Answered;
use super::{APPID, BEARER, KEY, MCH_ID, OTHER_BEARER, OTHER_KEY, SUB_MCH_ID};
use crate::config::Northbound;
use crate::engine::Engine;
use crate::merchants::{Binding, Directory, Keys, Merchant, Merchants, Rate};

/// What is logged on this thread.
#[derive(Clone, Default)]
pub(in super::super) struct Log(Arc<Mutex<Vec<u8>>>);

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
    pub(in super::super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A gateway that listens, its engine, and what it logs.
pub(in super::super) struct Harness {
    pub(in super::super) at: SocketAddr,
    pub(in super::super) engine: Arc<TestEngine>,
    pub(in super::super) log: Log,
    pub(in super::super) life: watch::Sender<Life>,
    pub(in super::super) served: JoinHandle<()>,
    pub(in super::super) merchants: Merchants,
    _logging: tracing::subscriber::DefaultGuard,
}

pub(in super::super) fn merchant(
    id: u32,
    sub_mch_id: Option<&str>,
    signing_key: &str,
    bearer: &str,
) -> Merchant {
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
pub(in super::super) fn short() -> Northbound {
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
    pub(in super::super) async fn start() -> Self {
        Self::with(short()).await
    }

    pub(in super::super) async fn with(config: Northbound) -> Self {
        Self::over(config, |listener| listener, |_| {}).await
    }

    /// As [`Harness::with`], behind what `listen` makes of the socket, and with merchants as `change` leaves them.
    pub(in super::super) async fn over<A: Accept + Sync>(
        config: Northbound,
        listen: impl FnOnce(TcpListener) -> A,
        change: impl FnOnce(&mut Vec<Merchant>),
    ) -> Self {
        let mut all =
            vec![merchant(1, Some(SUB_MCH_ID), KEY, BEARER), merchant(2, None, OTHER_KEY, OTHER_BEARER)];
        change(&mut all);
        let merchants = Merchants::new(Directory::new(all).unwrap());
        let engine = Arc::new(TestEngine::new());
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

    pub(in super::super) fn script(&self, script: Script) {
        *self.engine.script.lock().unwrap() = script;
    }

    pub(in super::super) fn undo(&self, undo: Undo) {
        *self.engine.undo.lock().unwrap() = undo;
    }

    /// Sends one request on a connection of its own and reads the answer to its end.
    pub(in super::super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Answered {
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Answered::read(self.raw(&bytes).await)
    }

    /// Writes `bytes` and reads until the gateway closes.
    pub(in super::super) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    }

    pub(in super::super) async fn post(&self, path: &str, body: &str) -> Answered {
        self.send("POST", path, "", body.as_bytes()).await
    }
}

/// Reads until the peer closes, or resets what it does not want to read.
pub(in super::super) async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
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
