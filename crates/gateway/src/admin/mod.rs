//! What operators see and do: metrics and probes over HTTP on the loopback address, commands over a
//! unix-domain socket that only the owner may open. Source: DESIGN §6.

mod commands;
mod merchants;
mod protocol;
mod settings;
mod socket;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

pub use commands::{Admin, Commands};
pub use merchants::{add, finish_rotation, list, new_api_key, rotate, set, set_certificates};
pub use protocol::{
    Command, Failure, Form, MerchantRef, MerchantView, NewKeys, PaymentView, PreviousKeyView, Response,
    TlsView,
};
pub use settings::{Changes, Setting};
pub use socket::{CallError, LINE_MAX, SocketError, bind, call, serve};

use crate::engine::Engine;
use crate::metrics;
use crate::northbound::server::{Handler, Reply, plain, typed};

/// `/metrics`, `/livez`, `/readyz`: give it to [`crate::northbound::server::serve`].
pub struct Probes {
    engine: Arc<dyn Engine>,
}

impl Probes {
    /// Reports on `engine`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// 200 when recovery is done, the store takes records and nobody has asked for a stop; else 503 and why.
    fn readiness(&self) -> Reply {
        let health = self.engine.health();
        let lacking: Vec<_> = [
            (!health.recovered, "recovery is not done"),
            (!health.store, "the store takes no records"),
            (health.draining, "stopping"),
        ]
        .into_iter()
        .filter_map(|(lacks, what)| lacks.then_some(what))
        .collect();
        if health.is_ready() {
            plain(StatusCode::OK, "ready")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, &lacking.join("; "))
        }
    }
}

impl Handler for Probes {
    async fn handle(&self, request: Request<Incoming>, _peer: SocketAddr) -> Reply {
        if request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only");
        }
        match request.uri().path() {
            "/livez" => plain(StatusCode::OK, "alive"),
            "/readyz" => self.readiness(),
            "/metrics" => {
                metrics::observe(&self.engine.gauges());
                typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::render().into())
            }
            _ => plain(StatusCode::NOT_FOUND, "no such route"),
        }
    }
}
