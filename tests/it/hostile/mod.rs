//! Hostile requests through a real socket, at a switch with a wallet behind it: each class is refused for its own
//! cause, nothing goes upstream or is stored, and the next good request works. Source: faults-and-invariants MI, NM-04.

mod bytes;
mod class;
mod documents;
mod fields;
mod json;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::switch::Switch;
use signer::{Case, Key, Kind, Scratch};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::World;
use crate::support::road::Road;
use class::{BEARER, CODE, Class, KEY, NUMBER, QUERY, THEIRS, Want, about, post, signed};

/// How long the log may lag behind an answer: hyper answers bytes that are no HTTP by itself, and the switch hears of
/// it, and logs it, after the till has its answer.
const LOG_LAG: Duration = Duration::from_secs(10);

/// What the switch logs, one line an event.
#[derive(Clone, Default)]
struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    written: Arc<Notify>,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.lock().expect("the log is whole").extend_from_slice(bytes);
        self.written.notify_waiters();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Begins to keep what this process logs.
    fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber)
            .expect("nobody else keeps the log of this process");
        log
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().expect("the log is whole").clone()).expect("text")
    }

    /// Where the next line will stand: ports are used again, so what is said of one connection is read from here.
    fn end(&self) -> usize {
        self.bytes.lock().expect("the log is whole").len()
    }

    /// The lines about one connection since `start`, once one of them names a refusal; after `LOG_LAG` what there is.
    async fn refusal(&self, start: usize, till: SocketAddr) -> String {
        let named = async {
            loop {
                let written = self.written.notified();
                let lines = self.of(start, till);
                if lines.contains("refused") {
                    return lines;
                }
                written.await;
            }
        };
        timeout(LOG_LAG, named).await.unwrap_or_else(|_| self.of(start, till))
    }

    /// The lines about one connection since `start`.
    fn of(&self, start: usize, till: SocketAddr) -> String {
        let name = format!("peer={till} ");
        self.text()[start..]
            .lines()
            .filter(|line| format!("{line} ").contains(&name))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// One HTTP answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Reads exactly one answer; an interim one before it is passed over.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {text:?}"))?;
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if length != body.len().to_string() && !body.is_empty() {
            return Err(format!("more than one answer: {text:?}"));
        }
        Ok(Self { status, body: body.to_owned(), head })
    }

    fn fields(&self) -> Result<Vec<(String, String)>, String> {
        simulator::read_xml(self.body.as_bytes()).map_err(|err| format!("{err:?}: {:?}", self.body))
    }
}

fn get<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default()
}

/// Whether an answer is signed as the merchant signs.
fn is_signed(fields: &[(String, String)]) -> bool {
    let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let key = Key::new(KEY).expect("a key");
    // Refusals of requests that named HMAC are signed so.
    [Kind::Md5, Kind::HmacSha256]
        .into_iter()
        .any(|kind| key.verify(kind, pairs.clone(), get(fields, "sign"), Case::Exact, &mut Scratch::new()))
}

/// What is wrong with an answer, if anything.
fn judge(class: &Class, bytes: &[u8], logged: &str) -> Result<(), String> {
    let fail = |what: String| Err(format!("{}: {what}", class.name));
    if let Want::Silence = class.want {
        return if bytes.is_empty() { Ok(()) } else { fail(format!("{:?}", String::from_utf8_lossy(bytes))) };
    }
    let answer = Answer::read(bytes).map_err(|what| format!("{}: {what}", class.name))?;
    let shown = format!("{} {:?}, logged {logged:?}", answer.status, answer.body);
    if answer.status >= 500 {
        return fail(format!("a server's error: {shown}"));
    }
    if class.want.is_logged() && !logged.contains("refused") {
        return fail(format!("the log does not name it: {shown}"));
    }
    let closes = answer.head.contains("connection: close");
    let right = match &class.want {
        Want::Silence => false,
        Want::Head(cause) => {
            answer.status == 400 && closes && answer.body.trim_end() == *cause && logged.contains(cause)
        }
        Want::Bytes(cause) => {
            matches!(answer.status, 400 | 431) && logged.contains("bytes refused") && logged.contains(cause)
        }
        Want::Plain(status, says) => answer.status == *status && answer.body.trim_end() == *says && closes,
        Want::Unsigned(says) => {
            let fields = answer.fields()?;
            answer.status == 200
                && fields.len() == 2
                && get(&fields, "return_code") == "FAIL"
                && get(&fields, "return_msg").starts_with(says.as_str())
        }
        Want::Signed(code, says) => {
            let fields = answer.fields()?;
            answer.status == 200
                && is_signed(&fields)
                && get(&fields, "result_code") == "FAIL"
                && get(&fields, "err_code") == *code
                && get(&fields, "err_code_des").contains(says)
        }
        Want::Problem(status, kind, says) => {
            answer.status == *status
                && answer.head.contains("content-type: application/problem+json")
                && answer.body.contains(&format!("\"type\":\"{kind}\""))
                && answer.body.contains("\"money_may_have_moved\":false")
                && serde_json::from_str::<serde_json::Value>(&answer.body).is_ok()
                && (answer.body.contains(says) || answer.body.contains(&says.replace('"', "\\\"")))
        }
        Want::Ignored => get(&answer.fields()?, "err_code") == "ORDERNOTEXIST",
    };
    // One event is one line, and neither key nor code is in it (MI-17, INV-26).
    let secret = [CODE, KEY, BEARER]
        .into_iter()
        .find(|secret| logged.contains(secret) || answer.body.contains(secret));
    match (right, secret) {
        (true, None) => Ok(()),
        (true, Some(secret)) => fail(format!("{secret} is told: {shown}")),
        (false, _) => fail(format!("wanted {:?}, came {shown}", class.want)),
    }
}

/// The next good request, on a new connection.
async fn works(road: &Road, at: SocketAddr, number: &str) -> Result<(), String> {
    let mut pairs = about();
    pairs.retain(|(name, _)| *name != "out_trade_no");
    pairs.push(("out_trade_no", number));
    let sent = road.send(at, &post(QUERY, signed(&pairs)), false).await;
    let (_, bytes) = sent.ok_or("a good request that cannot be sent")?;
    let fields = Answer::read(&bytes)?.fields()?;
    let right = is_signed(&fields) && get(&fields, "err_code") == "ORDERNOTEXIST";
    if right { Ok(()) } else { Err(format!("the next good request: {fields:?}")) }
}

/// Everything that the wallet has ever been asked.
fn asked(world: &World) -> simulator::Stats {
    world.wallet.lock().expect("the wallet is whole").stats()
}

/// A payment that goes all the way.
async fn pays(world: &World, switch: &Switch, n: u8, number: &str, code: &str) {
    let answer = world.till(switch, n).pay(number, code, 1288).await;
    assert_eq!(answer.get("result_code").map(String::as_str), Some("SUCCESS"), "{answer:?}");
    assert_eq!(world.money(n, number), (1288, 1));
}

/// Sends every class over `road`; returns what is wrong.
async fn hostile(world: &World, switch: &Switch, log: &Log, road: &Road, classes: &[Class]) -> Vec<String> {
    let at = switch.gateway_addr();
    let mut wrong = Vec::new();
    let mut sent = 0;
    for (n, class) in classes.iter().enumerate() {
        let (before, start) = (asked(world), log.end());
        let Some((till, bytes)) = road.send(at, &class.bytes, class.cut).await else { continue };
        sent += 1;
        let logged =
            if class.want.is_logged() { log.refusal(start, till).await } else { log.of(start, till) };
        let judged = judge(class, &bytes, &logged);
        let after = works(road, at, &format!("NOBODY-{n:06}")).await;
        let after = after.map_err(|what| format!("{}: {what}", class.name));
        wrong.extend([judged, after].into_iter().filter_map(Result::err));
        if asked(world) != before {
            wrong.push(format!("{}: the wallet was asked", class.name));
        }
    }
    assert!(sent * 10 >= classes.len() * 9, "{sent} of {} were sent", classes.len());
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_hostile_requests_is_refused_for_its_own_cause() {
    let _covers = covers::covers(&[
        "MI-01", "MI-02", "MI-03", "MI-04", "MI-05", "MI-06", "MI-07", "MI-10", "MI-11", "MI-12", "MI-13",
        "MI-14", "MI-15", "MI-17", "MI-18", "MI-21", "MI-22", "MI-23", "MI-24", "MI-25", "NM-04", "INV-20",
        "INV-24", "INV-25",
    ]);
    let log = Log::start();
    let world = World::new(20).await;
    let switch = world.switch().await;
    pays(&world, &switch, 0, "GOOD-0001", "100000000000000011").await;
    pays(&world, &switch, 1, THEIRS, "100000000000000013").await;
    let read = [documents::classes(), fields::classes(), json::classes()].concat();
    let classes: Vec<Class> = [bytes::classes(), read.clone()].concat();
    let names: BTreeSet<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names.len(), classes.len(), "two classes have one name");
    let mut wrong = hostile(&world, &switch, &log, &Road::Plain, &classes).await;
    switch.stop().await;
    let switch = world.switch_over_tls().await;
    // In HTTP/2 there are no bytes that two readers could read in two ways: what the requests say remains.
    for (http2, classes) in [(false, &classes), (true, &read)] {
        let road = Road::over_tls(world.trusting(), http2);
        wrong.extend(hostile(&world, &switch, &log, &road, classes).await);
    }
    println!("{} classes", classes.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(classes.len() >= 100, "{} classes", classes.len());
    switch.stop().await;
    let switch = world.switch().await;
    assert!(world.record(&switch, 0, NUMBER).await.is_none(), "a record of what was refused");
    assert!(!log.text().contains("panicked"), "a panic");
    // One event is one line, whatever was sent (MI-17).
    let text = log.text();
    let odd = text.lines().find(|line| !line.starts_with("20") || line.chars().any(char::is_control));
    assert_eq!(odd, None, "a line of the log that is none");
    pays(&world, &switch, 0, "GOOD-0002", "100000000000000012").await;
    assert_eq!(world.violations(), Vec::<String>::new());
}
