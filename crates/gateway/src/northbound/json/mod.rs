//! Payments as JSON, for tills that are new. Source: DESIGN §4.

mod list;
mod openapi;
mod problem;
mod query;
mod request;
mod stream;
mod view;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method, Request, StatusCode};
use protocol::wechat_v2::{MicropayRequest, field};
use protocol::xml::Reader;
use protocol::{Fields, OutTradeNo};
use state_machine::shard::{Said, Wait};
use state_machine::till::{self, ReverseAnswer};
use state_machine::{OrderKey, Record};
use store::merchant::{Status, api_key_digest};

use super::guard::Link;
use super::receipt::tells;
use super::server::{Reply, Standing, Strike, read_body, typed};
use super::tls::PeerCertificate;
use super::{Gateway, Known, Waited, wait, xml};
use crate::clock::Clock;
use crate::engine::{NewPayment, Told};
use crate::merchants::{Binding, Directory, Merchant};
use crate::metrics::Ask;
use problem::Problem;

pub(super) use openapi::{SERVICE_DESC, document};
pub(super) use stream::Places;
pub use view::{Failure, Payment, rfc3339};

/// A route of the JSON API.
pub(super) enum Route {
    /// `POST /v1/payments`.
    Create,
    /// `GET /v1/payments`.
    List,
    /// `GET /v1/payments/{out_trade_no}`.
    Show(String),
    /// `GET /v1/payments/{out_trade_no}/events`.
    Follow(String),
    /// `POST /v1/payments/{out_trade_no}/reversal`.
    Reverse(String),
    /// `GET /v1/events`.
    FollowAll,
    /// A route with other methods: these.
    OtherMethod(&'static str),
    /// None of them.
    None,
}

impl Route {
    /// The word in metrics.
    pub(super) const fn asked(&self) -> Ask {
        match self {
            Self::Create => Ask::Pay,
            Self::Show(_) => Ask::Query,
            Self::Reverse(_) => Ask::Reverse,
            Self::List | Self::Follow(_) | Self::FollowAll | Self::OtherMethod(_) | Self::None => Ask::Other,
        }
    }

    /// The route of a path, if that is one below `/v1`.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        let mut parts = rest.split('/');
        let is_get = *method == Method::GET;
        let is_post = *method == Method::POST;
        let route = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("payments"), None, None, None) => match (is_get, is_post) {
                (true, _) => Self::List,
                (_, true) => Self::Create,
                (false, false) => Self::OtherMethod("GET, POST"),
            },
            (Some("payments"), Some(number), None, None) if !number.is_empty() => {
                if is_get {
                    Self::Show(number.to_owned())
                } else {
                    Self::OtherMethod("GET")
                }
            }
            (Some("payments"), Some(number), Some("events"), None) if !number.is_empty() => {
                if is_get {
                    Self::Follow(number.to_owned())
                } else {
                    Self::OtherMethod("GET")
                }
            }
            (Some("payments"), Some(number), Some("reversal"), None) if !number.is_empty() => {
                if is_post {
                    Self::Reverse(number.to_owned())
                } else {
                    Self::OtherMethod("POST")
                }
            }
            (Some("events"), None, None, None) => {
                if is_get {
                    Self::FollowAll
                } else {
                    Self::OtherMethod("GET")
                }
            }
            _ => Self::None,
        };
        Some(route)
    }
}

/// Who asks, beyond the life of the request.
struct Caller {
    binding: Binding,
    /// Of the key that it showed.
    key_digest: [u8; 32],
    /// Of its connection.
    certificate: Option<PeerCertificate>,
    /// Its connection.
    link: Option<Arc<Link>>,
}

thread_local! {
    static READER: RefCell<Reader> = const { RefCell::new(Reader::new()) };
}

/// Answers one request.
pub(super) async fn handle(
    gateway: &Gateway,
    route: Route,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Reply {
    match answer(gateway, route, request, peer).await {
        Ok(reply) => reply,
        Err(Refused::Whole(reply)) => *reply,
        Err(Refused::Problem(problem)) => {
            tracing::info!(%peer, ?problem, "request refused");
            problem.reply()
        }
        Err(Refused::Unauthorized) => {
            tracing::info!(%peer, "request refused: unknown bearer key");
            let mut reply = Problem::unauthorized().reply();
            reply.extensions_mut().insert(Strike);
            reply
        }
    }
}

/// A request that is not taken.
enum Refused {
    Problem(Box<Problem>),
    Unauthorized,
    Whole(Box<Reply>),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// The merchant of a key, where it may be served on its connection.
fn admit<'d>(
    merchants: &'d Directory,
    key_digest: &[u8; 32],
    certificate: Option<&PeerCertificate>,
) -> Result<&'d Merchant, Refused> {
    let merchant = merchants.find_digest(key_digest).ok_or(Refused::Unauthorized)?;
    if merchant.may_connect(certificate, Clock::wall()) {
        Ok(merchant)
    } else {
        Err(Problem::certificate().into())
    }
}

async fn answer(
    gateway: &Gateway,
    route: Route,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Reply, Refused> {
    let (head, body) = request.into_parts();
    // The key is looked at before a byte of the body is read.
    let merchants = gateway.merchants.load_full();
    let key = request::bearer(&head.headers).ok_or(Refused::Unauthorized)?;
    let key_digest = api_key_digest(key);
    let certificate = head.extensions.get::<PeerCertificate>().copied();
    admit(&merchants, &key_digest, certificate.as_ref())?;
    let body = read_body(&head.headers, body, &gateway.config).await.map_err(|err| {
        tracing::info!(%peer, %err, "request refused");
        Refused::Whole(Box::new(err.reply()))
    })?;
    // Again: a body may take seconds, and keys, certificates and merchants may be taken away meanwhile.
    let merchants = gateway.merchants.load_full();
    let merchant = admit(&merchants, &key_digest, certificate.as_ref())?;
    let link = head.extensions.get::<Arc<Link>>().cloned();
    let caller = Caller { binding: merchant.binding, key_digest, certificate, link };
    gateway.may_ask(merchant).map_err(Problem::rate)?;
    Standing::prove(&head.extensions);
    // Head and body lie in the connection's buffer: once both are gone, the connection can use it again while a till is
    // held.
    let headers = request::kept(&head.headers);
    let query = head.uri.query().map(str::to_owned);
    let query = query.as_deref();
    drop(head);
    match route {
        Route::Create => {
            if merchant.status == Status::Disabled {
                return Err(Problem::disabled().into());
            }
            if !request::is_json(&headers) {
                return Err(Problem::media_type().into());
            }
            let payment = read_payment(gateway, &body, merchant, &headers, peer)?;
            drop(body);
            create(gateway, payment, &headers).await
        }
        Route::List => list::list(gateway, &caller, query).await,
        Route::Follow(number) => {
            let key = key_of(merchant, &number)?;
            let absence = merchant.absence(gateway.config.absence);
            stream::of_payment(gateway, &caller, (key, absence.after_ms), &headers, query).await
        }
        Route::FollowAll => stream::of_merchant(gateway, &caller, &headers, query).await,
        Route::Show(number) => {
            let absence = merchant.absence(gateway.config.absence);
            show(gateway, key_of(merchant, &number)?, absence.after_ms, &headers).await
        }
        Route::Reverse(number) => {
            if !matches!(body.trim_ascii(), b"" | b"{}") {
                return Err(Problem::malformed("a reversal has no members".to_owned()).into());
            }
            drop(body);
            let key = key_of(merchant, &number)?;
            reverse(gateway, key, &merchant.binding, &headers).await
        }
        Route::OtherMethod(allowed) => Err(Problem::method(allowed).into()),
        Route::None => Err(Problem::no_route().into()),
    }
}

/// A number that cannot be one was never taken: it is not found.
fn key_of(merchant: &Merchant, number: &str) -> Result<OrderKey, Problem> {
    let number = request::decoded(number).and_then(|number| number.parse::<OutTradeNo>().ok());
    let number = number.ok_or_else(Problem::not_found)?;
    Ok(OrderKey { merchant: merchant.binding.merchant, number })
}

/// What the till waits for: as long as it said for a definite outcome, or by default for the first word.
fn wanted(gateway: &Gateway, headers: &HeaderMap) -> (Wait, Duration) {
    match request::wait_s(headers) {
        None => (Wait::FirstWord, gateway.config.hold),
        Some(0) => (Wait::Nothing, gateway.config.hold),
        Some(seconds) => (Wait::Definite, Duration::from_secs(seconds)),
    }
}

fn read_payment(
    gateway: &Gateway,
    body: &[u8],
    merchant: &Merchant,
    headers: &HeaderMap,
    peer: SocketAddr,
) -> Result<NewPayment, Problem> {
    let ip = gateway.config.spbill_create_ip.unwrap_or_else(|| peer.ip());
    let document = request::NewPayment::read(body)?.to_xml(ip)?;
    READER.with_borrow_mut(|reader| {
        let message = reader
            .read(&document)
            .map_err(|_| Problem::malformed("a member holds a character that is not allowed".to_owned()))?;
        let request = MicropayRequest::read(&message).map_err(|err| request::problem(&err))?;
        let payment = xml::new_payment(gateway, &request, &message, merchant, wanted(gateway, headers));
        // Ours to keep: the wallet refuses a moment that is less than a minute away.
        let upstream = payment.upstream.iter().filter(|(name, _)| *name != field::TIME_EXPIRE);
        Ok(NewPayment { upstream: Fields::new(upstream), ..payment })
    })
}

async fn create(gateway: &Gateway, payment: NewPayment, headers: &HeaderMap) -> Result<Reply, Refused> {
    let (_, hold) = wanted(gateway, headers);
    match gateway.paid(payment, hold).await {
        Known::Payment(record, Said::OtherContent) if record.amount.is_some() => {
            Err(Problem::conflict().into())
        }
        Known::Payment(record, _) => Ok(payment_reply(&record, headers)),
        Known::NotTaken(why) => Err(Problem::not_accepted(why, false).into()),
        Known::Unsettled(first) => {
            let mut reply = Problem::unsettled(&first).reply();
            tells(&mut reply, &first);
            Ok(reply)
        }
        Known::Nothing => Err(Problem::store_down().into()),
    }
}

/// The order goes on after the till's patience is over: it is told what is durable.
async fn open(gateway: &Gateway, key: OrderKey, headers: &HeaderMap) -> Result<Reply, Refused> {
    let found = gateway.engine.find(&key).wait().await;
    match found {
        Ok(Some(record)) => Ok(payment_reply(&record, headers)),
        Ok(None) | Err(_) => Err(Problem::store_down().into()),
    }
}

async fn show(
    gateway: &Gateway,
    key: OrderKey,
    absent_after_ms: u64,
    headers: &HeaderMap,
) -> Result<Reply, Refused> {
    let found = gateway.engine.find(&key).wait().await.map_err(|_| Problem::store_down())?;
    let record: Arc<Record> = found.ok_or_else(Problem::not_found)?;
    let seconds = request::wait_s(headers).unwrap_or(0);
    if record.is_definite() || seconds == 0 {
        return Ok(payment_reply(&*gateway.asked(record, absent_after_ms).await, headers));
    }
    let told = gateway.engine.watch(key, Wait::Definite);
    match wait(told, Duration::from_secs(seconds)).await {
        Waited::Told(Told::Answer { record, .. }) => Ok(payment_reply(&record, headers)),
        Waited::Told(Told::Refused(_) | Told::Unsettled(_)) => Ok(payment_reply(&record, headers)),
        Waited::Open => open(gateway, key, headers).await,
    }
}

async fn reverse(
    gateway: &Gateway,
    key: OrderKey,
    binding: &Binding,
    headers: &HeaderMap,
) -> Result<Reply, Refused> {
    let hold = request::wait_s(headers).map_or(gateway.config.hold, Duration::from_secs);
    let mut told = gateway.engine.reverse(key, binding.provider);
    let answered = match tokio::time::timeout(hold, &mut told).await {
        Ok(answered) => answered.ok(),
        // Patience may end before anything is durable, or before the shard has looked at it at all: whoever waits for
        // no outcome is told the first thing that is so.
        Err(_) => {
            let now = wait(gateway.engine.watch(key, Wait::Nothing), gateway.config.hold).await;
            let now = if let Waited::Told(now @ Told::Answer { .. }) = now { Some(now) } else { None };
            // A question that is not taken says nothing of the reversal, which may be under way.
            told.try_recv().ok().or(now)
        }
    };
    match answered {
        Some(Told::Answer { record, said }) => match till::reverse(&record, said) {
            ReverseAnswer::Done => Ok(payment_with(&record, StatusCode::OK, headers)),
            ReverseAnswer::CallAgain => Ok(payment_with(&record, StatusCode::ACCEPTED, headers)),
            ReverseAnswer::TooOld => Err(Problem::too_old().into()),
        },
        Some(Told::Refused(why)) => Err(Problem::not_accepted(why, true).into()),
        Some(Told::Unsettled(_)) | None => match gateway.engine.find(&key).wait().await {
            Ok(Some(record)) => Ok(payment_with(&record, StatusCode::ACCEPTED, headers)),
            Ok(None) | Err(_) => Err(Problem::store_down().into()),
        },
    }
}

/// 200 for a definite state, 202 for an open one.
fn payment_reply(record: &Record, headers: &HeaderMap) -> Reply {
    let status = if record.is_definite() { StatusCode::OK } else { StatusCode::ACCEPTED };
    payment_with(record, status, headers)
}

fn payment_with(record: &Record, status: StatusCode, headers: &HeaderMap) -> Reply {
    let body = serde_json::to_vec(&Payment::of(record)).unwrap_or_default();
    let mut reply = applied(typed(status, "application/json", body.into()), headers);
    tells(&mut reply, record);
    reply
}

/// Says how long would have been waited at most, if the till said how long. Source: RFC 7240, section 3.
fn applied(mut reply: Reply, headers: &HeaderMap) -> Reply {
    if let Some(applied) =
        request::wait_s(headers).and_then(|s| HeaderValue::from_str(&format!("wait={s}")).ok())
    {
        reply.headers_mut().insert("preference-applied", applied);
    }
    reply
}
