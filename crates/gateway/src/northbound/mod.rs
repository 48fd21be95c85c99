//! Tills: HTTP/1.1 and HTTP/2 with every limit, the drop-in XML of WeChat Pay V2, and JSON. Source: DESIGN §4.

mod accept;
pub mod body;
mod digest;
pub mod frames;
pub mod framing;
mod guard;
mod json;
mod receipt;
pub mod server;
#[cfg(test)]
pub(crate) mod tests;
pub mod tls;
mod xml;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::LINK;
use hyper::{Method, Request, StatusCode};
use state_machine::Record;
use state_machine::record::State;
use state_machine::shard::{NotAccepted, Said, Wait, relation};
use tokio::sync::oneshot;

pub use accept::{Accept, Opened, Protocol, TlsListener};
pub use digest::DigestKey;
pub use json::{Failure, Payment, rfc3339};

use crate::clock::Clock;
use crate::config::Northbound;
use crate::engine::{Engine, NewPayment, StoreDown, Told};
use crate::merchants::{Merchant, Merchants, Rate};
use crate::metrics::{self, Refusal};
use guard::Link;
use server::{Handler, Reply};

/// The northbound side: give it to [`server::serve`].
pub struct Gateway {
    engine: Arc<dyn Engine>,
    merchants: Merchants,
    config: Northbound,
    digest: DigestKey,
    /// Of all merchants together.
    total: Rate,
    streams: Arc<json::Places>,
}

impl Gateway {
    /// Puts the parts together; `digest` is the same as long as the store is.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, merchants: Merchants, config: Northbound, digest: DigestKey) -> Self {
        let streams_max = config.streams_max.min(config.connections_max.div_ceil(2));
        let streams = json::Places::new(streams_max, config.merchant_streams_max);
        Self { engine, merchants, config, digest, total: Rate::default(), streams }
    }

    /// Whether `merchant` may ask once more at this moment, by its own rate and by that of all merchants (OV-03). Who
    /// is over its own uses up nothing of the others', and who is not known to be a merchant uses up nothing at all.
    fn may_ask(&self, merchant: &Merchant) -> Result<(), Refusal> {
        let now_us = Clock::tick().as_ms().saturating_mul(1_000);
        let config = &self.config;
        let (per_second, burst) = merchant.allowance(config);
        if !merchant.rate.take(now_us, per_second, burst) {
            return Err(Refusal::Rate);
        }
        if !self.total.take(now_us, config.per_second, config.burst) {
            return Err(Refusal::TotalRate);
        }
        Ok(())
    }
}

impl Handler for Gateway {
    const PROVES: bool = true;

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Reply {
        let link = request.extensions().get::<Arc<Link>>().cloned();
        let path = request.uri().path();
        let began_ns = Clock::monotonic_ns();
        let timed = |asked, mut reply| {
            if let Some(link) = &link {
                link.receipts.owe_for(&mut reply, &self.engine);
            }
            let took_ns = Clock::monotonic_ns().saturating_sub(began_ns);
            metrics::asked(asked, Duration::from_nanos(took_ns));
            reply
        };
        if let Some(endpoint) = xml::Endpoint::of(path) {
            return timed(endpoint.asked(), xml::handle(self, endpoint, request, peer).await);
        }
        if let Some(route) = json::Route::of(request.method(), path) {
            return timed(route.asked(), json::handle(self, route, request, peer).await);
        }
        if request.method() == Method::GET && path == "/" {
            let mut reply = server::plain(StatusCode::OK, "hufu: the JSON API is described in /openapi.json");
            reply.headers_mut().insert(LINK, json::SERVICE_DESC);
            return reply;
        }
        if request.method() == Method::GET && path == "/openapi.json" {
            return json::document();
        }
        metrics::refused(Refusal::Route);
        tracing::info!(%peer, cause = "no such route", "request refused");
        server::plain(StatusCode::NOT_FOUND, "no such route")
    }
}

/// What came of waiting for the engine.
enum Waited {
    /// It answered in time.
    Told(Told),
    /// Not in time, or the engine is gone: the order goes on, and money may have moved.
    Open,
}

/// What a request to pay comes to, once the number itself has been looked at.
enum Known {
    /// There is a payment under the number.
    Payment(Arc<Record>, Said),
    /// There is none, and this request was not taken.
    NotTaken(NotAccepted),
    /// The same, because of this earlier payment.
    Unsettled(Arc<Record>),
    /// Nobody can tell at the moment.
    Nothing,
}

impl Gateway {
    /// Waits for what a request to pay comes to. Where the engine takes nothing, or says nothing in time, the
    /// number may still be that of a payment that it no longer has at hand: that payment is then the answer, or
    /// a till that repeats itself would be told that nothing was charged (INV-13, INV-16).
    async fn paid(&self, payment: NewPayment, hold: Duration) -> Known {
        let (key, digest) = (payment.key, payment.digest);
        let refused = match wait(self.engine.pay(payment), hold).await {
            Waited::Told(Told::Answer { record, said }) => return Known::Payment(record, said),
            Waited::Told(Told::Refused(why)) => Some(Known::NotTaken(why)),
            Waited::Told(Told::Unsettled(first)) => Some(Known::Unsettled(first)),
            Waited::Open => None,
        };
        match (self.engine.find(&key).wait().await, refused) {
            (Ok(Some(record)), refused) => {
                let relation = relation(&record, &digest);
                let own = refused.is_none() && relation == Said::Repeated;
                let said = if own { Said::Watched } else { relation };
                Known::Payment(record, said)
            }
            (Ok(None), Some(refused)) => refused,
            (Ok(None), None) | (Err(StoreDown), _) => Known::Nothing,
        }
    }
}

/// How long the engine may take for a question that waits for no outcome: a commit, where the question decides one.
const QUESTION_MAX: Duration = Duration::from_secs(1);

impl Gateway {
    /// What a till is told that asks about `found` and waits for no outcome. That it asks moves its payment forward,
    /// and money that is held back for want of a till is the till's from here on: it is told so at once.
    async fn asked(&self, found: Arc<Record>, absent_after_ms: u64) -> Arc<Record> {
        if !found.is_definite() {
            return match wait(self.engine.watch(found.key, Wait::Nothing), QUESTION_MAX).await {
                Waited::Told(Told::Answer { record, .. }) => record,
                Waited::Told(Told::Refused(_) | Told::Unsettled(_)) | Waited::Open => found,
            };
        }
        self.heard(&found, absent_after_ms);
        found
    }

    /// Some till hears of `found`: nobody need be told that no till has, as long as the engine would.
    fn heard(&self, found: &Record, absent_after_ms: u64) {
        let paid_at = found.decided_at.filter(|_| found.state == State::Paid);
        let since_ms = paid_at.map(|at| Clock::wall().0.saturating_sub(at.0));
        if since_ms.is_some_and(|ms| u64::try_from(ms).unwrap_or(0) <= absent_after_ms) {
            drop(self.engine.watch(found.key, Wait::Nothing));
        }
    }
}

/// Waits at most `hold`. The order does not depend on it (NM-01).
async fn wait(told: oneshot::Receiver<Told>, hold: Duration) -> Waited {
    match tokio::time::timeout(hold, told).await {
        Ok(Ok(told)) => Waited::Told(told),
        Ok(Err(_)) | Err(_) => Waited::Open,
    }
}
