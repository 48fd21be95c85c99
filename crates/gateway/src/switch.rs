//! The whole switch in one value: opens, recovers, binds, serves, and stops in the right order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use hyper::Request;
use hyper::body::Incoming;
use state_machine::{BootId, Channel, ProviderId, Tick, UnixMs};
use store::{MerchantBook, OpenError, SqliteStore, StoreError};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, interval, sleep_until};

use crate::acquirer::wechat_v2::{Acquirer, Deadlines, HostConfig, ProviderAccount};
use crate::acquirer::{ClientCertificate, PoolLimits, SetupError};
use crate::admin::{self, Admin, Commands, Probes, SocketError};
use crate::archiving::Archiving;
use crate::clock::{Clock, boot_id};
use crate::config::{Config, Host, Northbound, Provider};
use crate::descriptors;
use crate::driver::{self, Core, EngineConfig, Recovery, Threads};
use crate::engine::Engine;
use crate::merchants::{Directory, DirectoryError, Merchants};
use crate::metrics::{self, MetricsError};
use crate::northbound::server::{self, Handler, Life, Limits, Reply};
use crate::northbound::tls::{Tls, TlsError};
use crate::northbound::{Gateway, TlsListener};

/// Connections that may wait to be taken; the kernel's own limit, usually 4096, may be lower.
const BACKLOG: u32 = 8_192;
/// How often histograms are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often the files of the certificate for tills are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(30);
/// How often an operator hears of a certificate that ends soon.
const CERTIFICATE_REPORT: Duration = Duration::from_secs(24 * 3600);

/// Why the switch does not start. Nothing was accepted; open payments stay as they are in the store.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The merchants in the store contradict each other.
    #[error("the merchants in the store cannot be used: {0}. Correct them with `hufu merchant`.")]
    Merchants(#[from] DirectoryError),
    /// A file that a provider needs.
    #[error("provider {mch_id}: {path}: {why}. Correct the path or the file, then start again.")]
    File {
        /// Whose.
        mch_id: String,
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: std::io::Error,
    },
    /// A provider's hosts or certificates.
    #[error("provider {mch_id}: {why}")]
    Provider {
        /// Whose.
        mch_id: String,
        /// What is wrong.
        why: SetupError,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {why}. Is another switch running, or the port taken?")]
    Listen {
        /// Which.
        address: String,
        /// What the system says.
        why: std::io::Error,
    },
    /// Certificate and key for tills.
    #[error("TLS for tills: {0}. Correct listen.tls or the file, then start again.")]
    Tls(#[from] TlsError),
    /// The admin socket.
    #[error("the admin socket cannot be made: {0}")]
    Socket(#[from] SocketError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] driver::StartError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// A running switch.
#[derive(Debug)]
pub struct Switch {
    core: Arc<Core>,
    threads: Threads,
    archiving: Archiving,
    recovery: Recovery,
    gateway_addr: SocketAddr,
    admin_addr: SocketAddr,
    admin_socket: PathBuf,
    tls: Option<Arc<Tls>>,
    life: watch::Sender<Life>,
    admin_life: watch::Sender<Life>,
    tills: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
}

impl Switch {
    /// Opens the store, takes up every open payment, and serves. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartError`]; then nothing listens and nothing was changed, apart from the store's fence.
    #[expect(clippy::unused_async, reason = "it needs the runtime that a caller who awaits it is on")]
    pub async fn start(config: Config) -> Result<Self, StartError> {
        metrics::install()?;
        let store = SqliteStore::open(&config.store.path, &config.store.seal_key, store::Options::default())?;
        let mut book = store.merchant_book()?;
        let merchants = Merchants::new(Directory::of(&book.merchants()?)?);
        let providers = number(&config.providers, &mut book)?;
        let acquirers = acquirers(&config.providers, &providers)?;
        let tls = config.listen.tls.map(Tls::open).transpose()?.map(Arc::new);
        let tills = listen(config.listen.gateway)?;
        let probes = listen(config.listen.admin)?;
        let socket = admin::bind(&config.listen.admin_socket)?;
        let (gateway_addr, admin_addr) = (address(&tills)?, address(&probes)?);
        let engine = EngineConfig {
            absence: config.northbound.absence,
            rescan: config.northbound.rescan,
            policy: config.policy,
            quotas: config.providers.iter().zip(&providers).map(|(p, id)| (*id, p.quota)).collect(),
            orders_max: config.limits.orders_max,
            shards: shards(config.limits.shards),
            // A kernel that does not name its boot makes every start a new one.
            boot: boot_id().unwrap_or(BootId(Clock::monotonic_ns())),
            store: config.store.path.clone(),
        };
        let archivist = store.archivist()?;
        let (core, threads, recovery) =
            driver::start(&engine, store, acquirers, merchants.clone(), Handle::current())?;
        let archiving =
            Archiving::start(archivist, config.store.keeping).map_err(driver::StartError::from)?;
        let (life, seen) = watch::channel(Life::Running);
        let (admin_life, admin_seen) = watch::channel(Life::Running);
        let shared: Arc<dyn Engine> = Arc::clone(&core) as Arc<dyn Engine>;
        let commands = Commands::new(Admin {
            engine: Arc::clone(&shared),
            merchants: merchants.clone(),
            book,
            providers: config.providers.iter().map(|provider| provider.mch_id).collect(),
            life: life.clone(),
            hold: config.northbound.hold,
            tls: tls.clone(),
        });
        let calls =
            config.providers.iter().map(|provider| provider.quota.calls_max).fold(0, u32::saturating_add);
        let connections_max = descriptors::connections(config.northbound.connections_max, calls);
        let northbound = Northbound { connections_max, ..config.northbound.clone() };
        metrics::limits(connections_max, driver::REQUESTS_MAX);
        metrics::lookup_limits([driver::ROWS_MAX, driver::PAGES_MAX]);
        let limits = Limits::from(&northbound);
        let digest = config.store.digest_key.clone();
        let gateway = Gateway::new(Arc::clone(&shared), merchants, northbound, digest);
        let early = Early { until: recovery.serve_from, gateway };
        let early = Arc::new(early);
        let tills = match &tls {
            None => tokio::spawn(server::serve(tills, early, limits.clone(), seen)),
            Some(tls) => {
                let listener = TlsListener::new(tills, Arc::clone(tls));
                tokio::spawn(server::serve(listener, early, limits.clone(), seen))
            }
        };
        let background = vec![
            tokio::spawn(server::serve(probes, Arc::new(Probes::new(shared)), limits, admin_seen)),
            tokio::spawn(admin::serve(socket, commands)),
            tokio::spawn(upkeep()),
            tokio::spawn(watch_certificate(tls.clone())),
        ];
        tracing::info!(
            gateway = %gateway_addr,
            tls = tls.is_some(),
            admin = %admin_addr,
            open_payments = recovery.open,
            damaged_rows = recovery.damaged,
            "the switch is ready"
        );
        Ok(Self {
            core,
            threads,
            archiving,
            recovery,
            gateway_addr,
            admin_addr,
            admin_socket: config.listen.admin_socket,
            tls,
            life,
            admin_life,
            tills,
            background,
        })
    }

    /// Where tills connect.
    #[must_use]
    pub const fn gateway_addr(&self) -> SocketAddr {
        self.gateway_addr
    }

    /// Where `/metrics`, `/livez` and `/readyz` are.
    #[must_use]
    pub const fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// What was taken up at the start.
    #[must_use]
    pub const fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The engine, for who runs the switch in its own process.
    #[must_use]
    pub const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What tills are shown, for who is asked to load it again; `None` where they speak plain HTTP.
    #[must_use]
    pub const fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Refuses new payments, answers the tills that wait, closes the store whole. Open payments are taken up
    /// at the next start.
    pub async fn stop(self) {
        self.core.drain();
        self.life.send_replace(Life::Stopping);
        drop(self.tills.await);
        self.admin_life.send_replace(Life::Stopping);
        for task in &self.background {
            task.abort();
        }
        drop(std::fs::remove_file(&self.admin_socket));
        let pending = self.core.pending();
        let (threads, archiving) = (self.threads, self.archiving);
        let stop = move || {
            archiving.stop();
            threads.stop();
        };
        drop(tokio::task::spawn_blocking(stop).await);
        tracing::info!(
            open_payments = pending,
            "the switch has stopped; open payments go on at the next start"
        );
    }
}

/// One shard for each processor but one, at least one.
fn shards(configured: u32) -> u32 {
    if configured > 0 {
        return configured;
    }
    let processors = available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    processors.saturating_sub(1).max(1)
}

/// The stable number of each provider account.
fn number(providers: &[Provider], book: &mut MerchantBook) -> Result<Vec<ProviderId>, StoreError> {
    providers.iter().map(|provider| book.provider(Channel::WechatV2, &provider.mch_id)).collect()
}

fn acquirers(
    providers: &[Provider],
    ids: &[ProviderId],
) -> Result<HashMap<ProviderId, Arc<Acquirer>>, StartError> {
    let made = providers.iter().zip(ids).map(|(provider, id)| Ok((*id, Arc::new(acquirer(provider, *id)?))));
    made.collect()
}

/// The client of a provider account, as its settings have it.
///
/// # Errors
///
/// [`StartError::File`] or [`StartError::Provider`].
pub fn acquirer(provider: &Provider, id: ProviderId) -> Result<Acquirer, StartError> {
    Acquirer::new(account(provider, id)?)
        .map_err(|why| StartError::Provider { mch_id: provider.mch_id.to_string(), why })
}

fn account(provider: &Provider, id: ProviderId) -> Result<ProviderAccount, StartError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|why| StartError::File {
            mch_id: provider.mch_id.to_string(),
            path: path.to_owned(),
            why,
        })
    };
    let certificate = match (&provider.client_cert_file, &provider.client_key_file) {
        (Some(certificate), Some(key)) => {
            Some(ClientCertificate { chain_pem: read(certificate)?, key_pem: read(key)?.into() })
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    Ok(ProviderAccount {
        id,
        appid: provider.appid,
        mch_id: provider.mch_id,
        keys: provider.keys.clone(),
        sign_kind: provider.kind,
        hosts: provider.hosts.iter().map(|host| HostConfig { base_url: url(host) }).collect(),
        certificate,
        extra_ca_pem: provider.ca_file.as_deref().map(read).transpose()?,
        deadlines: Deadlines::default(),
        pool: PoolLimits::default(),
    })
}

fn url(host: &Host) -> String {
    let scheme = if host.tls { "https" } else { "http" };
    let name = if host.name.contains(':') { format!("[{}]", host.name) } else { host.name.clone() };
    format!("{scheme}://{name}:{}{}", host.port, host.base)
}

/// Requests of tills that come before the budgets of a new process have room: they wait for it instead of being
/// refused. Their connections are taken at once, since all the tills of a process that was killed come back within
/// that second: more than the kernel's queue holds, and whom it leaves out tries again only after seconds.
struct Early {
    until: Tick,
    gateway: Gateway,
}

impl Handler for Early {
    const PROVES: bool = true;

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Reply {
        if Clock::tick() < self.until {
            sleep_until(Clock::instant(self.until)).await;
        }
        self.gateway.handle(request, peer).await
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|why| StartError::Listen { address: address.to_string(), why })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|why| StartError::Listen { address: "a listener".to_owned(), why })
}

async fn upkeep() {
    let mut ticks = interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics::upkeep();
    }
}

/// Takes a renewed certificate into use without being asked, and complains of one that ends soon once a day.
async fn watch_certificate(tls: Option<Arc<Tls>>) {
    let Some(tls) = tls else { return };
    let (mut looks, mut reports) = (interval(CERTIFICATE_LOOK), interval(CERTIFICATE_REPORT));
    // It was reported when it was opened.
    reports.tick().await;
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let tls = Arc::clone(&tls);
                // It reads the disk.
                drop(tokio::task::spawn_blocking(move || tls.reload_if_changed()).await);
            }
            _ = reports.tick() => tls.report(),
        }
    }
}

/// The moment, for who changes merchants while no switch runs.
#[must_use]
pub fn wall() -> UnixMs {
    Clock::wall()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use super::{BACKLOG, address, listen};
    use crate::descriptors;

    /// Nobody takes connections: the kernel keeps as many as it was asked to, or as it may, and lets the next one try
    /// again; once there is room, it gets in.
    #[tokio::test]
    async fn as_many_connections_wait_to_be_taken_as_the_kernel_keeps() {
        let _covers = covers::covers(&["INV-24"]);
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let kept = BACKLOG.min(allowed.trim().parse().unwrap());
        // Raises the limit as far as it goes; where that is not far enough the queue cannot be filled from here.
        if descriptors::connections(kept + 2, 0) < kept + 2 {
            return;
        }
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let at = address(&listener).unwrap();
        let connect = |patience| TcpStream::connect_timeout(&at, patience);
        // One more than it says.
        let waiting: Vec<_> = (0..=kept).map(|_| connect(Duration::from_secs(10)).unwrap()).collect();
        let refused = connect(Duration::from_millis(200)).expect_err("there is no room");
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
        listener.accept().await.unwrap();
        connect(Duration::from_secs(10)).expect("there is room again");
        // First the listener: it resets them, and no port stays taken.
        drop(listener);
        drop(waiting);
    }
}
