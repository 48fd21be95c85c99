//! A simulated wallet on real sockets, in this process.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use simulator::http::{PlainCounts, SharedWallet, TestPki, serve_plain, serve_tls};
use simulator::{Options, Wallet};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::exit::Failure;

/// The names under which the wallet's certificate is valid.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// A wallet that is being served until this is dropped.
pub(crate) struct WalletServer {
    /// The model.
    pub(crate) wallet: SharedWallet,
    /// Its address without TLS, where `/sim/ledger` and `/sim/stats` are for people.
    pub(crate) plain: SocketAddr,
    /// Its address with TLS.
    pub(crate) tls: SocketAddr,
    servers: JoinSet<()>,
}

impl WalletServer {
    /// Serves a new wallet on both addresses; port 0 takes a free one.
    pub(crate) async fn start(
        seed: u64,
        options: Options,
        plain: SocketAddr,
        tls: SocketAddr,
        pki: &TestPki,
    ) -> Result<Self, Failure> {
        let wallet: SharedWallet = Arc::new(Mutex::new(Wallet::new(seed, options)));
        let config = pki.server_config().map_err(|err| Failure::internal(err.to_string()))?;
        let (plain_listener, plain) = listen(plain).await?;
        let (tls_listener, tls) = listen(tls).await?;
        let mut servers = JoinSet::new();
        servers.spawn(serve_plain(Arc::clone(&wallet), plain_listener, PlainCounts::AsCertified));
        servers.spawn(serve_tls(Arc::clone(&wallet), tls_listener, config));
        Ok(Self { wallet, plain, tls, servers })
    }

    /// The model, for a short look.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Wallet> {
        // Its books are whole after every call, whatever happened to another thread.
        self.wallet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends its sockets; the model stays as it is.
    pub(crate) async fn stop(&mut self) {
        self.servers.shutdown().await;
    }
}

/// Certificates for a wallet on this machine.
pub(crate) fn make_pki(mch_id: &str) -> Result<TestPki, Failure> {
    TestPki::generate(&NAMES, mch_id).map_err(|err| Failure::internal(err.to_string()))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let taken = |err| {
        Failure::unavailable(format!(
            "cannot listen on {address}: {err}. Nothing was started. Choose another address; port 0 takes a \
             free one."
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok((listener, address))
}
