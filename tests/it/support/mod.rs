//! A wallet, a switch and tills, all on real sockets of this machine.

pub(crate) mod road;
pub(crate) mod till;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::admin::{Changes, Setting};
use gateway::config::{Config, Tls};
use gateway::engine::Engine;
use gateway::switch::Switch;
use protocol::OutTradeNo;
use simulator::http::{SharedWallet, TestPki, serve_tls};
use simulator::{Entry, Options, Provider, SubMerchants, Wallet};
use state_machine::{Channel, MerchantId, OrderKey, Policy, Record};
use store::merchant::{Mode, Northbound, SignKinds, api_key_digest};
use store::{NewMerchant, SqliteStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use till::Till;

pub(crate) const PROVIDER_MCH: &str = "1900000109";
pub(crate) const PROVIDER_APPID: &str = "wxd930ea5d5a258f4f";
const PROVIDER_KEY: &str = "192006250b4c09247ec02edce69f6a2d";
const SEAL_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A wallet that listens, and a folder for a switch.
pub(crate) struct World {
    pub(crate) wallet: SharedWallet,
    wallet_addr: SocketAddr,
    folder: TempDir,
    pub(crate) speed: u32,
    /// When a till counts as absent. So late where nothing else is said that no test sees it.
    pub(crate) absent_after_ms: u64,
    /// The two merchants, as records name them.
    pub(crate) merchants: Vec<MerchantId>,
}

impl World {
    /// A wallet behind TLS, its customers and the switch's clocks `speed` times as fast as real ones.
    pub(crate) async fn new(speed: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pki = TestPki::generate(&["localhost"], PROVIDER_MCH).expect("certificates");
        pki.write_to(folder.path()).expect("certificates are written");
        let mut options = Options::new(Provider {
            appid: PROVIDER_APPID.to_owned(),
            mch_id: PROVIDER_MCH.to_owned(),
            key: PROVIDER_KEY.to_owned(),
            sub_merchants: SubMerchants::Any,
        });
        options.speed = speed;
        // The model counts the guard from the arrival of the pay request, the switch from its departure.
        options.reversal_slack_ms = 300;
        let wallet = Arc::new(Mutex::new(Wallet::new(1, options)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let wallet_addr = listener.local_addr().expect("an address");
        tokio::spawn(serve_tls(Arc::clone(&wallet), listener, pki.server_config().expect("TLS settings")));
        let mut world =
            Self { wallet, wallet_addr, folder, speed, absent_after_ms: 600_000, merchants: Vec::new() };
        world.add_merchants();
        world
    }

    fn config(&self) -> Config {
        let folder = self.folder.path().display();
        let text = format!(
            r#"
            mode = "sandbox"
            [listen]
            gateway = "127.0.0.1:0"
            admin = "127.0.0.1:0"
            admin_socket = "{folder}/admin.sock"
            [store]
            path = "{folder}/hufu.db"
            [northbound]
            merchant_per_second = 10000
            merchant_burst = 10000
            [limits]
            orders_max = 10000
            [[provider]]
            mch_id = "{PROVIDER_MCH}"
            appid = "{PROVIDER_APPID}"
            hosts = ["https://localhost:{port}"]
            client_cert_file = "{folder}/apiclient_cert.pem"
            client_key_file = "{folder}/apiclient_key.pem"
            ca_file = "{folder}/ca.pem"
            [provider.quota]
            pay_per_second = 1000
            query_per_second = 2000
            reverse_per_second = 1000
            "#,
            port = self.wallet_addr.port(),
        );
        let secrets = [
            ("HUFU_STORE__SEAL_KEY".to_owned(), SEAL_KEY.to_owned()),
            (format!("HUFU_PROVIDER__{PROVIDER_MCH}__KEY"), PROVIDER_KEY.to_owned()),
        ];
        let mut config = Config::parse(&text, secrets).expect("the settings are right");
        // The file cannot say less than 15 s.
        config.northbound.absence.after_ms = self.absent_after_ms;
        config.policy = Policy { retain_ms: 1_000, ..Policy::default().scaled(u64::from(self.speed)) };
        config
    }

    fn add_merchants(&mut self) {
        let config = self.config();
        let store = SqliteStore::open(&config.store.path, &config.store.seal_key, store::Options::default())
            .expect("a new store");
        let mut book = store.merchant_book().expect("its merchants");
        let provider = book.provider(Channel::WechatV2, &parsed(PROVIDER_MCH)).expect("a provider");
        for n in 0..2 {
            let merchant = NewMerchant {
                northbound: Northbound {
                    mch_id: parsed(&format!("150000000{n}")),
                    sub_mch_id: None,
                    appid: parsed(&format!("wx000000000000000{n}")),
                },
                provider,
                upstream_sub_mch_id: parsed(&format!("190000011{n}")),
                sub_appid: None,
                signing_key: key_of(n).into(),
                api_key_digest: Some(api_key_digest(&format!("hufu_sk_test{n}"))),
                mode: Mode::Relay,
                settings: store::Settings::default(),
                sign_kinds: SignKinds::Both,
            };
            self.merchants.push(book.add(&merchant, gateway::switch::wall()).expect("a merchant"));
        }
        drop(book);
        drop(store);
    }

    /// Sets something for merchant `n`, as an operator does while no switch runs.
    pub(crate) fn set(&self, n: u8, settings: &[(Setting, &str)]) {
        let mut changes = Changes::default();
        for (setting, text) in settings {
            changes.insert(*setting, text).expect("a value");
        }
        let config = self.config();
        let store = SqliteStore::open(&config.store.path, &config.store.seal_key, store::Options::default())
            .expect("the store of this world");
        let mut book = store.merchant_book().expect("its merchants");
        gateway::admin::set(&mut book, self.merchants[usize::from(n)], &changes).expect("taken");
    }

    /// Starts a switch that has no client certificate.
    pub(crate) async fn switch_without_certificate(&self) -> Switch {
        let mut config = self.config();
        for provider in &mut config.providers {
            provider.client_cert_file = None;
            provider.client_key_file = None;
        }
        Switch::start(config).await.unwrap_or_else(|error| panic!("the switch starts: {error}"))
    }

    /// Starts a switch whose tills speak TLS; it shows itself as the wallet does.
    pub(crate) async fn switch_over_tls(&self) -> Switch {
        let mut config = self.config();
        let at = |name: &str| self.folder.path().join(name);
        let key_file = at("server_key.pem");
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("its own file");
        config.listen.tls = Some(Tls {
            certificate_file: at("server_cert.pem"),
            key_file,
            client_ca_file: Some(at("ca.pem")),
        });
        Switch::start(config).await.unwrap_or_else(|error| panic!("the switch starts: {error}"))
    }

    /// A client that trusts the certificates of this world.
    pub(crate) fn trusting(&self) -> rustls::ClientConfig {
        let pki = TestPki::read_from(self.folder.path()).expect("certificates");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(pki.roots().expect("an authority"))
            .with_no_client_auth()
    }

    /// Starts a switch on this world's store.
    pub(crate) async fn switch(&self) -> Switch {
        Switch::start(self.config()).await.unwrap_or_else(|error| panic!("the switch starts: {error}"))
    }

    /// The same with so many shards.
    pub(crate) async fn switch_of_shards(&self, shards: u32) -> Switch {
        let mut config = self.config();
        config.limits.shards = shards;
        Switch::start(config).await.unwrap_or_else(|error| panic!("the switch starts: {error}"))
    }

    /// A till of merchant `n` (0 or 1).
    pub(crate) fn till(&self, switch: &Switch, n: u8) -> Till {
        Till::new(
            switch.gateway_addr(),
            &format!("150000000{n}"),
            &format!("wx000000000000000{n}"),
            &key_of(n),
        )
    }

    /// The durable record of a payment of merchant `n`.
    pub(crate) async fn record(&self, switch: &Switch, n: u8, number: &str) -> Option<Arc<Record>> {
        let number: OutTradeNo = number.parse().expect("a number");
        let key = OrderKey { merchant: self.merchants[usize::from(n)], number };
        switch.core().find(&key).wait().await.expect("the store answers")
    }

    /// Fen that the wallet holds under a number of merchant `n`, and how often it captured money for it.
    pub(crate) fn money(&self, n: u8, number: &str) -> (u64, u32) {
        let key = simulator::Key::new(PROVIDER_MCH, &format!("190000011{n}"), number);
        let wallet = self.wallet.lock().expect("the wallet is whole");
        wallet.entry(&key).map_or((0, 0), |entry| (entry.held_fen(), entry.captures))
    }

    /// What stands in the wallet's books under a number of merchant `n`.
    pub(crate) fn entry(&self, n: u8, number: &str) -> Option<Entry> {
        let key = simulator::Key::new(PROVIDER_MCH, &format!("190000011{n}"), number);
        self.wallet.lock().expect("the wallet is whole").entry(&key).cloned()
    }

    /// What the wallet found wrong with the switch's behaviour, payment by payment.
    pub(crate) fn violations(&self) -> Vec<String> {
        let wallet = self.wallet.lock().expect("the wallet is whole");
        wallet.ledger().filter(|entry| !entry.violations.is_empty()).map(simulator::Entry::to_json).collect()
    }
}

fn key_of(n: u8) -> String {
    format!("0123456789abcdef0123456789abcde{n}")
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("well-formed")
}

/// Asks until `answer` says something, at most `limit`: tests wait for facts, not for time.
pub(crate) async fn until<T>(limit: Duration, mut answer: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + limit;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        if let Some(found) = answer().await {
            return Some(found);
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        pace.tick().await;
    }
}

/// The whole answer to a GET of the first merchant's.
pub(crate) async fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer hufu_sk_test0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("UTF-8");
    text
}
