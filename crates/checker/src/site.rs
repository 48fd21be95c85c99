//! What a campaign runs on: a folder, its settings, its merchants, a wallet in a process of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;
use simulator::Rng;
use state_machine::MerchantId;
use store::SealKey;
use till::credentials::{PROVIDER_APPID, PROVIDER_KEY, PROVIDER_MCH_ID, TestMerchant, demo_merchants};

use crate::process::{Process, without_settings};

/// Merchants of a campaign.
const MERCHANTS: u32 = 40;
/// What the store is sealed with: it keeps nobody's secrets.
const SEAL_KEY: [u8; 32] = [0x5a; 32];
/// Ports are taken from here: below those that the system gives to outgoing connections, so that a switch that is
/// down keeps its own.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// The switch's clocks and budgets in a campaign.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The `[policy]` section, `name = value` a line.
    pub clocks: String,
    /// Pay requests to the wallet in a second.
    pub pay_per_second: u32,
    /// Queries to the wallet in a second.
    pub query_per_second: u32,
    /// Payments in memory at once.
    pub orders_max: u32,
    /// Connections of tills at once.
    pub connections_max: u64,
    /// Whether tills speak HTTPS: the switch then shows the certificate that the simulated wallet shows.
    pub tls: bool,
}

/// As many as one process of this machine may have besides what else it opens.
const CONNECTIONS_MAX: u64 = 20_000;

impl Policy {
    /// The documented clocks, but a customer is given up after `give_up_ms`, absence is believed sooner (no network
    /// keeps a request for a minute here), and reversals are repeated sooner.
    #[must_use]
    pub fn patient(give_up_ms: u64) -> Self {
        let clocks = format!(
            "give_up_ms = {give_up_ms}\nabsent_apart_ms = 4000\nabsent_grace_ms = 8000\n\
             reversal_pause_ms = 1000\nreversal_pause_max_ms = 8000\ndialog_query_ms = 2000\n"
        );
        Self::of(clocks)
    }

    /// The documented clocks divided by `speed`, as `hufu sandbox --speed` divides them.
    #[must_use]
    pub fn scaled(speed: u32) -> Self {
        let policy = state_machine::Policy::default().scaled(speed.into());
        let mut clocks = String::new();
        for (name, ms) in [
            ("first_query_ms", policy.first_query_ms),
            ("query_gap_ms", policy.query_gap_ms),
            ("give_up_ms", policy.give_up_ms),
            ("reversal_guard_ms", policy.reversal_guard_ms),
            ("reversal_pause_ms", policy.reversal_pause_ms),
            ("reversal_pause_max_ms", policy.reversal_pause_max_ms),
            ("dialog_query_ms", policy.dialog_query_ms),
            ("absent_apart_ms", policy.absent_apart_ms),
            ("absent_grace_ms", policy.absent_grace_ms),
        ] {
            let _ = writeln!(clocks, "{name} = {ms}");
        }
        Self::of(clocks)
    }

    const fn of(clocks: String) -> Self {
        Self {
            clocks,
            pay_per_second: 20_000,
            query_per_second: 1_800,
            orders_max: 400_000,
            connections_max: CONNECTIONS_MAX,
            tls: false,
        }
    }
}

/// Where everything of a campaign is.
#[derive(Debug)]
pub struct Site {
    /// The binary under test.
    pub hufu: PathBuf,
    /// Settings, keys and logs.
    pub folder: PathBuf,
    /// `hufu.toml`.
    pub config: PathBuf,
    /// Where the switch keeps its store.
    pub store: PathBuf,
    /// What the store is sealed with.
    pub seal_key: SealKey,
    /// Where tills connect.
    pub gateway: SocketAddr,
    /// Metrics and probes.
    pub admin: SocketAddr,
    /// Who is paid.
    pub merchants: Vec<TestMerchant>,
    /// Their numbers in the store.
    pub numbers: Vec<MerchantId>,
    /// The switch's log.
    pub log: PathBuf,
}

/// A wallet in a process of its own.
#[derive(Debug)]
pub struct Wallet {
    /// The process.
    pub process: Process,
    /// Its books.
    pub plain: SocketAddr,
    /// Its API.
    pub tls: SocketAddr,
}

impl Wallet {
    /// Starts `hufu simulate`; its certificates and log are in `folder`. Reversals may seem to come too early by
    /// `slack_ms`.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(hufu: &Path, folder: &Path, seed: u64, speed: u32, slack_ms: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(hufu);
        command.args(["simulate", "--listen", "127.0.0.1:0", "--json"]);
        command.args(["--seed", &seed.to_string(), "--speed", &speed.to_string()]);
        command.args(["--reversal-slack-ms", &slack_ms.to_string()]);
        command.arg("--pki-dir").arg(folder.join("pki")).stdout(Stdio::piped());
        let mut process = Process::spawn(command, &folder.join("wallet.log"))?;
        let mut line = String::new();
        BufReader::new(process.stdout().context("its standard output")?).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).context("the wallet does not start")?;
        let address = |name: &str, scheme: &str| -> anyhow::Result<SocketAddr> {
            let url = ready.get(name).and_then(Value::as_str).unwrap_or_default();
            Ok(url.strip_prefix(scheme).context("a URL")?.parse()?)
        };
        Ok(Self { plain: address("wallet", "http://")?, tls: address("wallet_tls", "https://")?, process })
    }
}

impl Site {
    /// Makes the settings and a store in `data` with the merchants; the switch will reach its wallet at `wallet`.
    ///
    /// # Errors
    ///
    /// When something cannot be written, or `hufu merchant import` fails.
    pub fn make(
        hufu: &Path,
        folder: &Path,
        data: &Path,
        wallet: SocketAddr,
        policy: &Policy,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut rng = Rng::keyed(seed ^ u64::from(std::process::id()), "ports");
        let (gateway, admin) = (free_port(&mut rng)?, free_port(&mut rng)?);
        let merchants = demo_merchants(MERCHANTS);
        let site = Self {
            hufu: hufu.to_owned(),
            folder: folder.to_owned(),
            config: folder.join("hufu.toml"),
            store: data.join("hufu.db"),
            seal_key: SealKey::from_bytes(SEAL_KEY),
            gateway,
            admin,
            merchants,
            numbers: Vec::new(),
            log: folder.join("switch.log"),
        };
        let hex: String = SEAL_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        secret(&folder.join("seal.key"), &hex)?;
        secret(&folder.join("provider.key"), PROVIDER_KEY)?;
        if policy.tls {
            // What the switch shows to tills nobody else may read.
            let key = folder.join("pki/server_key.pem");
            fs::set_permissions(key, fs::Permissions::from_mode(0o600))?;
        }
        fs::write(&site.config, site.settings(wallet, policy))?;
        let numbers = site.import()?;
        Ok(Self { numbers, ..site })
    }

    fn settings(&self, wallet: SocketAddr, policy: &Policy) -> String {
        let at = |path: &Path| format!("{:?}", path.display().to_string());
        let file = |name: &str| at(&self.folder.join(name));
        let Policy { clocks, pay_per_second, query_per_second, orders_max, connections_max, tls } = policy;
        let tls = if *tls {
            let (certificate, key) = (file("pki/server_cert.pem"), file("pki/server_key.pem"));
            format!("[listen.tls]\ncertificate_file = {certificate}\nkey_file = {key}\n\n")
        } else {
            String::new()
        };
        format!(
            "mode = \"sandbox\"\n\n[listen]\ngateway = \"{}\"\nadmin = \"{}\"\nadmin_socket = {}\n\n\
             [store]\npath = {}\nseal_key_file = {}\n\n\
             {tls}[northbound]\nconnections_max = {connections_max}\nmerchant_per_second = 10000\nmerchant_burst = 10000\n\n\
             [limits]\norders_max = {orders_max}\n\n[log]\nformat = \"json\"\nfilter = \"info\"\n\n\
             [policy]\n{clocks}\n\
             [[provider]]\nmch_id = \"{PROVIDER_MCH_ID}\"\nappid = \"{PROVIDER_APPID}\"\nkey_file = {}\n\
             hosts = [\"https://{wallet}\"]\nca_file = {}\nclient_cert_file = {}\nclient_key_file = {}\n\n\
             [provider.quota]\npay_per_second = {pay_per_second}\nquery_per_second = {query_per_second}\n\
             reverse_per_second = 4000\ncalls_max = 4096\n",
            self.gateway,
            self.admin,
            file("admin.sock"),
            at(&self.store),
            file("seal.key"),
            file("provider.key"),
            file("pki/ca.pem"),
            file("pki/apiclient_cert.pem"),
            file("pki/apiclient_key.pem"),
        )
    }

    /// Adds the merchants as an operator does, and returns their numbers.
    fn import(&self) -> anyhow::Result<Vec<MerchantId>> {
        let mut lines = String::from("mch_id,appid,upstream_sub_mch_id,signing_key,api_key\n");
        for one in &self.merchants {
            let TestMerchant { mch_id, appid, upstream, key, api_key, .. } = one;
            let _ = writeln!(lines, "{mch_id},{appid},{upstream},{key},{api_key}");
        }
        let file = self.folder.join("merchants.csv");
        fs::write(&file, lines)?;
        let file = file.display().to_string();
        self.hufu(&["merchant", "import", &file])?;
        let listed = self.hufu(&["merchant", "list", "--json"])?;
        let rows = listed.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let number = |one: &TestMerchant| {
            let row = rows.iter().find(|row| row.get("mch_id").and_then(Value::as_str) == Some(&one.mch_id));
            let number = row.and_then(|row| row.get("merchant")?.as_u64());
            number
                .and_then(|number| u32::try_from(number).ok())
                .map(MerchantId)
                .context("a merchant's number")
        };
        self.merchants.iter().map(number).collect()
    }

    /// Runs a verb to its end and returns what it prints.
    ///
    /// # Errors
    ///
    /// When it fails, with what it says.
    pub fn hufu(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.hufu);
        without_settings(&mut command);
        let done = command.args(args).arg("--config").arg(&self.config).output()?;
        if !done.status.success() {
            bail!("hufu {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Starts the switch and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn serve(&self) -> anyhow::Result<(Process, crate::process::Started)> {
        crate::process::serve(&self.hufu, &self.config, self.admin, &self.log).await
    }
}

/// A file that only its owner may read.
fn secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// An address that nobody listens on.
pub(crate) fn free_port(rng: &mut Rng) -> anyhow::Result<SocketAddr> {
    let span = u64::from(PORTS.end - PORTS.start);
    for _ in 0..1_000 {
        let port = PORTS.start + u16::try_from(rng.below(span))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port from {} to {}", PORTS.start, PORTS.end)
}
