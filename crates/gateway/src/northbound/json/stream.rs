//! Streams of events: what becomes durable about a merchant's payments, as server-sent events.
//!
//! A stream is a place in the merchant's numbered events and nothing else. It reads what follows from the store, a
//! page at a time, when it is woken and when the peer has taken what came before; so no event is lost or repeated
//! over reconnects and restarts, and a slow reader holds one page. `Prefer: wait=N` ends it after N seconds, 0 as soon
//! as what is there has been told. Source: WHATWG HTML, *Server-sent events*;
//! faults-and-invariants INV-24.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use state_machine::till::{JsonState, json};
use state_machine::{MerchantId, OrderKey, Record};
use store::{Event, EventQuery, Events};
use tokio::time::Instant;

use super::problem::Problem;
use super::query::Query;
use super::view::Payment;
use super::{Caller, Refused, applied, request};
use crate::clock::Clock;
use crate::driver::Following;
use crate::engine::{Engine, Topic};
use crate::merchants::Merchants;
use crate::metrics;
use crate::northbound::Gateway;
use crate::northbound::body::{Body, Pieces};
use crate::northbound::guard::Link;
use crate::northbound::receipt::tells;
use crate::northbound::server::{Reply, typed};
use crate::northbound::tls::PeerCertificate;

/// Events read at once.
const PAGE: u32 = 100;
/// What a client that is cut waits before it comes again, as the stream says.
const RETRY: &str = "retry: 1000\n\n";

/// Digits of an event's number: more than there will ever be.
const DIGITS_MAX: usize = 18;

/// The places of streams: in all, and for each merchant.
#[derive(Debug)]
pub(in crate::northbound) struct Places {
    all_max: usize,
    merchant_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    merchants: HashMap<MerchantId, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    merchant: MerchantId,
}

impl Places {
    pub(in crate::northbound) fn new(all: u32, merchant: u32) -> Arc<Self> {
        let count = |most: u32| usize::try_from(most).unwrap_or(usize::MAX);
        metrics::streams(0, count(all));
        Arc::new(Self { all_max: count(all), merchant_max: count(merchant), taken: Mutex::default() })
    }

    fn take(self: &Arc<Self>, merchant: MerchantId) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_merchant = taken.merchants.get(&merchant).copied().unwrap_or(0);
        if taken.all >= self.all_max || of_merchant >= self.merchant_max {
            return None;
        }
        taken.all = taken.all.saturating_add(1);
        metrics::streams(taken.all, self.all_max);
        taken.merchants.insert(merchant, of_merchant.saturating_add(1));
        Some(Place { places: Arc::clone(self), merchant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        metrics::streams(taken.all, self.places.all_max);
        if let Some(of_merchant) = taken.merchants.get_mut(&self.merchant) {
            *of_merchant = of_merchant.saturating_sub(1);
            if *of_merchant == 0 {
                taken.merchants.remove(&self.merchant);
            }
        }
    }
}

/// `GET /v1/events`: all payments of the merchant; without a word of what was heard last, from now on.
pub(super) async fn of_merchant(
    gateway: &Gateway,
    caller: &Caller,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Reply, Refused> {
    let after = heard(headers, query)?;
    let merchant = caller.binding.merchant;
    let opened = Opened::new(gateway, caller, Topic::Merchant(merchant))?;
    // Far behind everything: this asks for the last number only.
    let first = EventQuery { merchant, number: None, after: after.unwrap_or(u64::MAX), limit: PAGE };
    let found = opened.read(gateway, first).await?;
    check_heard(after, &found)?;
    let after = after.unwrap_or(found.last);
    Ok(opened.reply(gateway, caller, EventQuery { after, ..first }, found.events, headers))
}

/// `GET /v1/payments/{out_trade_no}/events`: one payment, from its beginning, until its outcome has been told. As long
/// as it is open, the payment's till listens.
pub(super) async fn of_payment(
    gateway: &Gateway,
    caller: &Caller,
    (key, absent_after_ms): (OrderKey, u64),
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Reply, Refused> {
    let after = heard(headers, query)?;
    let opened = Opened::new(gateway, caller, Topic::Payment(key))?;
    let found = gateway.engine.find(&key).wait().await.map_err(|_| Problem::store_down())?;
    // After it follows: what was proven before is claimed here, and what is proven later finds it listening.
    let present = gateway.asked(found.ok_or_else(Problem::not_found)?, absent_after_ms).await;
    let first = EventQuery {
        merchant: key.merchant,
        number: Some(key.number),
        after: after.unwrap_or(0),
        limit: PAGE,
    };
    let found = opened.read(gateway, first).await?;
    check_heard(after, &found)?;
    if found.events.is_empty() && is_over(&present) {
        if after.is_some_and(|after| after > 0) {
            // Everything was heard: 204 is how a client is told not to come again.
            let mut reply = Response::new(Body::from(Bytes::new()));
            *reply.status_mut() = StatusCode::NO_CONTENT;
            return Ok(reply);
        }
        // It ended before there were events; what it came to can be told all the same, without a number.
        let mut text = RETRY.to_owned();
        write_payment(&mut text, &present);
        let mut reply = event_stream(Body::from(Bytes::from(text)));
        tells(&mut reply, &present);
        return Ok(reply);
    }
    Ok(opened.reply(gateway, caller, first, found.events, headers))
}

/// What the client says that it heard last: in the header, as a client does that comes again, or in `after`.
fn heard(headers: &HeaderMap, query: Option<&str>) -> Result<Option<u64>, Problem> {
    let mut query = Query::read(query, &["after"])?;
    let number = |name, text: &str| {
        let digits = text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse::<u64>().ok()).flatten();
        number.ok_or_else(|| Problem::field(name, "is no number of an event".to_owned()))
    };
    let after = query.take("after").map(|text| number("after", &text)).transpose()?;
    let mut values = headers.get_all(request::LAST_EVENT_ID).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(after),
        // What a client sends that was told no number yet.
        (Some(value), None) if value.is_empty() => Ok(after),
        (Some(value), None) => number("Last-Event-ID", value.to_str().unwrap_or_default()).map(Some),
        (Some(_), Some(_)) => Err(Problem::field("Last-Event-ID", "is there twice".to_owned())),
    }
}

/// A number that was never given: the client followed another merchant, or the store is an older one.
fn check_heard(after: Option<u64>, found: &Events) -> Result<(), Problem> {
    if after.is_some_and(|after| after > found.last) { Err(Problem::unknown_event()) } else { Ok(()) }
}

/// Whether its outcome is told, so that nothing is waited for.
fn is_over(record: &Record) -> bool {
    matches!(json(record).0, JsonState::Paid | JsonState::Failed | JsonState::Reversed)
}

/// A stream that has its place and is woken from now on.
struct Opened {
    place: Place,
    following: Following,
}

impl Opened {
    fn new(gateway: &Gateway, caller: &Caller, topic: Topic) -> Result<Self, Problem> {
        let place = gateway.streams.take(caller.binding.merchant).ok_or_else(Problem::streams)?;
        Ok(Self { place, following: gateway.engine.follow(topic) })
    }

    async fn read(&self, gateway: &Gateway, query: EventQuery) -> Result<Events, Problem> {
        gateway.engine.events(query).wait().await.map_err(|_| Problem::no_page())
    }

    fn reply(
        self,
        gateway: &Gateway,
        caller: &Caller,
        query: EventQuery,
        events: Vec<Event>,
        headers: &HeaderMap,
    ) -> Reply {
        // So that a client that is cut before its first event goes on from here all the same.
        let mut head = RETRY.to_owned();
        if query.after > 0 {
            let _ = write!(head, "id: {}\n\n", query.after);
        }
        let wait_s = request::wait_s(headers);
        let stream = Body::stream(Stream {
            engine: Arc::clone(&gateway.engine),
            merchants: gateway.merchants.clone(),
            key_digest: caller.key_digest,
            certificate: caller.certificate,
            heartbeat: gateway.config.heartbeat,
            head: Some(head),
            read: events,
            query,
            is_live: false,
            is_over: false,
            ends_at: wait_s.map(|seconds| Clock::after(Duration::from_secs(seconds))),
            following: self.following,
            link: caller.link.clone(),
            _place: self.place,
        });
        applied(event_stream(stream), headers)
    }
}

fn event_stream(body: Body) -> Reply {
    let mut reply = typed(StatusCode::OK, "text/event-stream", Bytes::new());
    *reply.body_mut() = body;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What nginx would keep until its buffer is full.
    reply.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

/// A stream on its way.
struct Stream {
    engine: Arc<dyn Engine>,
    merchants: Merchants,
    /// Of the key that it was opened with.
    key_digest: [u8; 32],
    /// Of its connection.
    certificate: Option<PeerCertificate>,
    heartbeat: Duration,
    /// What is sent before anything else.
    head: Option<String>,
    /// Events read and not sent yet: the first page.
    read: Vec<Event>,
    /// What was sent last, and what is read next.
    query: EventQuery,
    /// Whether what is read next has just become durable.
    is_live: bool,
    is_over: bool,
    /// When it ends although nothing has ended: `Prefer: wait`.
    ends_at: Option<Instant>,
    following: Following,
    /// Its connection.
    link: Option<Arc<Link>>,
    _place: Place,
}

impl Pieces for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if let Some(head) = self.head.take() {
            let events = std::mem::take(&mut self.read);
            return Some(self.written(head, &events));
        }
        loop {
            if !self.is_allowed() {
                return None;
            }
            // A store that does not answer: the client comes again, and goes on where it was.
            let found = self.engine.events(self.query).wait().await.ok()?;
            if !found.events.is_empty() {
                return Some(self.written(String::new(), &found.events));
            }
            let heartbeat = Clock::after(self.heartbeat);
            let until = self.ends_at.map_or(heartbeat, |ends_at| ends_at.min(heartbeat));
            let woken = tokio::time::timeout_at(until, self.following.changed()).await.is_ok();
            self.is_live = woken;
            if !woken && until != heartbeat {
                return None;
            }
            if !woken {
                return self.is_allowed().then(|| Bytes::from_static(b":\n\n"));
            }
        }
    }
}

impl Stream {
    /// A key or a certificate that was taken away, or has ended, ends what was opened with it.
    fn is_allowed(&self) -> bool {
        let merchants = self.merchants.load();
        let one = merchants.find_digest(&self.key_digest);
        one.filter(|one| one.binding.merchant == self.query.merchant)
            .is_some_and(|one| one.may_connect(self.certificate.as_ref(), Clock::wall()))
    }

    /// `text`, and the events behind it; they count as sent.
    fn written(&mut self, mut text: String, events: &[Event]) -> Bytes {
        for event in events {
            let _ = writeln!(text, "id: {}", event.number);
            match &event.payment {
                Ok(record) => {
                    write_payment(&mut text, record);
                    self.told(record);
                }
                Err(damaged) => {
                    tracing::error!(merchant = self.query.merchant.0, %damaged, "an event cannot be told");
                    text.push_str("event: unreadable\ndata: {\"money_may_have_moved\":true}\n\n");
                }
            }
            self.query.after = event.number;
        }
        let last = events.last().and_then(|event| event.payment.as_ref().ok());
        self.is_over = self.query.number.is_some() && last.is_some_and(|record| is_over(record));
        Bytes::from(text)
    }

    /// An event is on its way. Measures how long an outcome took to its listener, where it was heard as it came.
    fn told(&self, record: &Record) {
        // The stream of a whole merchant is no till.
        if let (Some(link), Some(_)) = (&self.link, self.query.number) {
            link.receipts.owe_for_piece(record, &self.engine);
        }
        let decided = record.decided_at.filter(|at| self.is_live && *at == record.changed_at);
        if let Some(decided) = decided {
            let ms = Clock::wall().0.saturating_sub(decided.0);
            metrics::told_delay(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        }
    }
}

fn write_payment(text: &mut String, record: &Record) {
    let data = serde_json::to_string(&Payment::of(record)).unwrap_or_default();
    let _ = write!(text, "event: payment\ndata: {data}\n\n");
}
