//! Tills: HTTP/1.1 with every limit, the drop-in XML of WeChat Pay V2, and JSON. Source: DESIGN §4.

mod digest;
pub mod framing;
mod guard;
mod json;
pub mod server;
#[cfg(test)]
pub(crate) mod tests;
mod xml;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tokio::sync::oneshot;

pub use digest::DigestKey;
pub use json::{Failure, Payment, rfc3339};

use crate::clock::Clock;
use crate::config::Northbound;
use crate::engine::{Engine, Told};
use crate::merchants::{Merchant, Merchants};
use crate::metrics::{self, Refusal};
use server::{Handler, Reply};

/// The northbound side: give it to [`server::serve`].
pub struct Gateway {
    engine: Arc<dyn Engine>,
    merchants: Merchants,
    config: Northbound,
    digest: DigestKey,
}

impl Gateway {
    /// Puts the parts together; `digest` is the same as long as the store is.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, merchants: Merchants, config: Northbound, digest: DigestKey) -> Self {
        Self { engine, merchants, config, digest }
    }

    /// Whether `merchant` may ask once more at this moment (OV-03).
    fn may_ask(&self, merchant: &Merchant) -> bool {
        let now_us = Clock::tick().as_ms().saturating_mul(1_000);
        let may = merchant.rate.take(now_us, self.config.merchant_per_second, self.config.merchant_burst);
        if !may {
            metrics::refused(Refusal::Rate);
        }
        may
    }
}

impl Handler for Gateway {
    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Reply {
        let path = request.uri().path();
        if let Some(endpoint) = xml::Endpoint::of(path) {
            return xml::handle(self, endpoint, request, peer).await;
        }
        if let Some(rest) = path.strip_prefix("/v1/payments") {
            let route = json::Route::of(request.method(), rest);
            return json::handle(self, route, request, peer).await;
        }
        if request.method() == Method::GET && path == "/" {
            return server::plain(StatusCode::OK, "hufu");
        }
        metrics::refused(Refusal::Route);
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

/// Waits at most `hold`. The order does not depend on it (NM-01).
async fn wait(told: oneshot::Receiver<Told>, hold: Duration) -> Waited {
    match tokio::time::timeout(hold, told).await {
        Ok(Ok(told)) => Waited::Told(told),
        Ok(Err(_)) | Err(_) => Waited::Open,
    }
}
