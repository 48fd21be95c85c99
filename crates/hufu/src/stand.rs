//! A switch against a simulated wallet: its folder, its configuration, its merchants.
//!
//! The configuration is written as a file and read as `hufu serve` reads it, so that what is shown here is what is
//! run there, and so that `hufu payment --config` works against a sandbox.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gateway::config::Config;
use gateway::switch::Switch;
use secrecy::SecretString;
use state_machine::planner::Quota;
use state_machine::{Channel, MerchantId, Policy};
use store::merchant::{Mode, NewMerchant, SignKinds, api_key_digest};
use store::{Options, SealKey, SqliteStore};

use crate::exit::Failure;
use till::credentials::{PROVIDER_APPID, PROVIDER_KEY, PROVIDER_MCH_ID, TestMerchant};

const SEAL_KEY: &str = "seal.key";
const PROVIDER_KEY_FILE: &str = "provider.key";
const STORE: &str = "hufu.db";
/// The name of the configuration in the folder.
pub(crate) const CONFIG: &str = "hufu.toml";

/// How the switch reaches its wallet.
pub(crate) struct WalletAt {
    /// `https://…` or `http://…`.
    pub(crate) url: String,
    /// Folder with `ca.pem`, `apiclient_cert.pem` and `apiclient_key.pem`; needed for https.
    pub(crate) pki: Option<PathBuf>,
}

/// What a stand is made of.
pub(crate) struct Plan<'a> {
    /// Where everything is kept; it exists.
    pub(crate) folder: &'a Path,
    /// Where tills connect.
    pub(crate) gateway: SocketAddr,
    /// Where metrics and probes are.
    pub(crate) admin: SocketAddr,
    /// The wallet.
    pub(crate) wallet: WalletAt,
    /// Divides the switch's policy clocks.
    pub(crate) speed: u32,
    /// The provider's quotas.
    pub(crate) quota: Quota,
    /// Who may be paid.
    pub(crate) merchants: &'a [TestMerchant],
}

/// A running switch in a folder.
pub(crate) struct Stand {
    /// The switch.
    pub(crate) switch: Switch,
    /// The numbers of the merchants, in the order of the plan.
    pub(crate) merchants: Vec<MerchantId>,
    /// The database.
    pub(crate) store: PathBuf,
    /// What it is sealed with.
    pub(crate) seal_key: SealKey,
}

impl Stand {
    /// Writes the folder, adds the merchants that are not there yet, and starts the switch.
    pub(crate) async fn start(plan: Plan<'_>) -> Result<Self, Failure> {
        let folder = plan.folder;
        keep(folder, SEAL_KEY, || random_hex(32))?;
        keep(folder, PROVIDER_KEY_FILE, || Ok(PROVIDER_KEY.to_owned()))?;
        let policy = Policy::default().scaled(u64::from(plan.speed));
        let text = config_text(&plan, &policy);
        fs::write(folder.join(CONFIG), &text).map_err(|err| unwritable(folder, &err))?;
        let mut config = Config::parse(&text, []).map_err(|err| Failure::internal(err.to_string()))?;
        // The file cannot say all of it.
        config.policy = policy;
        let (store, seal_key) = (config.store.path.clone(), config.store.seal_key.clone());
        let merchants = add_merchants(&store, &seal_key, plan.merchants)?;
        let switch = Switch::start(config)
            .await
            .map_err(|err| Failure::unavailable(format!("the switch does not start: {err}")))?;
        Ok(Self { switch, merchants, store, seal_key })
    }
}

/// The configuration of a stand.
fn config_text(plan: &Plan<'_>, policy: &Policy) -> String {
    let at = |name: &str| quoted(&plan.folder.join(name).to_string_lossy());
    let mut text = format!(
        "# Written by hufu at every start of this sandbox.\n\
         mode = \"sandbox\"\n\n\
         [listen]\ngateway = \"{}\"\nadmin = \"{}\"\nadmin_socket = {}\n\n\
         [store]\npath = {}\nseal_key_file = {}\n\n\
         [northbound]\nconnections_max = 20000\nmerchant_per_second = 10000\nmerchant_burst = 10000\n\n",
        plan.gateway,
        plan.admin,
        at("admin.sock"),
        at(STORE),
        at(SEAL_KEY),
    );
    let Policy { first_query_ms, query_gap_ms, give_up_ms, reversal_guard_ms, .. } = *policy;
    let Policy { reversal_pause_ms, reversal_pause_max_ms, dialog_query_ms, .. } = *policy;
    let Policy { absent_apart_ms, absent_grace_ms, .. } = *policy;
    let _ = write!(
        text,
        "[policy]\nfirst_query_ms = {first_query_ms}\nquery_gap_ms = {query_gap_ms}\ngive_up_ms = \
         {give_up_ms}\nreversal_guard_ms = {reversal_guard_ms}\nreversal_pause_ms = {reversal_pause_ms}\n\
         reversal_pause_max_ms = {reversal_pause_max_ms}\ndialog_query_ms = {dialog_query_ms}\n\
         absent_apart_ms = {absent_apart_ms}\nabsent_grace_ms = {absent_grace_ms}\n\n"
    );
    let _ = write!(
        text,
        "[[provider]]\nmch_id = \"{PROVIDER_MCH_ID}\"\nappid = \"{PROVIDER_APPID}\"\nkey_file = {}\nhosts = [{}]\n",
        at(PROVIDER_KEY_FILE),
        quoted(&plan.wallet.url),
    );
    if let Some(pki) = &plan.wallet.pki {
        for (setting, name) in [
            ("ca_file", "ca.pem"),
            ("client_cert_file", "apiclient_cert.pem"),
            ("client_key_file", "apiclient_key.pem"),
        ] {
            let _ = writeln!(text, "{setting} = {}", quoted(&pki.join(name).to_string_lossy()));
        }
    }
    let Quota { pay, query, reverse, calls_max } = plan.quota;
    let _ = write!(
        text,
        "\n[provider.quota]\npay_per_second = {pay}\nquery_per_second = {query}\nreverse_per_second = \
         {reverse}\ncalls_max = {calls_max}\n"
    );
    text
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Makes a file that only its owner may read, unless it is there already.
fn keep(folder: &Path, name: &str, content: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(folder.join(name)) {
        Ok(mut file) => file.write_all(content()?.as_bytes()).map_err(|err| unwritable(folder, &err)),
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(unwritable(folder, &err)),
    }
}

pub(crate) fn unwritable(folder: &Path, err: &std::io::Error) -> Failure {
    Failure::unavailable(format!("{}: cannot be written: {err}. Nothing was started.", folder.display()))
}

fn random_hex(bytes: usize) -> Result<String, Failure> {
    let mut random = vec![0_u8; bytes];
    getrandom::fill(&mut random).map_err(|err| Failure::internal(format!("no randomness: {err}")))?;
    Ok(random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Puts the merchants that are missing into the store, and returns the numbers of all, in their order.
fn add_merchants(
    path: &Path,
    seal_key: &SealKey,
    merchants: &[TestMerchant],
) -> Result<Vec<MerchantId>, Failure> {
    let store = SqliteStore::open(path, seal_key, Options::default())
        .map_err(|err| Failure::unavailable(err.to_string()))?;
    let internal = |err: &dyn std::fmt::Display| Failure::internal(err.to_string());
    let mut book = store.merchant_book().map_err(|err| internal(&err))?;
    let mch_id = PROVIDER_MCH_ID.parse().map_err(|err| internal(&err))?;
    let provider = book.provider(Channel::WechatV2, &mch_id).map_err(|err| internal(&err))?;
    let known = book.merchants().map_err(|err| internal(&err))?.rows;
    let mut numbers = Vec::with_capacity(merchants.len());
    let mut missing = Vec::new();
    for merchant in merchants {
        let northbound = merchant.northbound().map_err(|err| internal(&err))?;
        let found = known.iter().find(|row| row.northbound == northbound).map(|row| row.id);
        numbers.push(found);
        if found.is_none() {
            missing.push(NewMerchant {
                northbound,
                provider,
                upstream_sub_mch_id: merchant.upstream.parse().map_err(|err| internal(&err))?,
                sub_appid: None,
                signing_key: SecretString::from(merchant.key.as_str()),
                api_key_digest: Some(api_key_digest(&merchant.api_key)),
                mode: Mode::Relay,
                settings: store::Settings::default(),
                sign_kinds: SignKinds::Both,
            });
        }
    }
    let mut added = book.import(&missing, gateway::switch::wall()).map_err(|err| internal(&err))?.into_iter();
    numbers
        .into_iter()
        .map(|known| known.or_else(|| added.next()).ok_or_else(|| internal(&"a merchant has no number")))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway::config::{Config, Mode};
    use state_machine::Policy;
    use state_machine::planner::Quota;

    use super::{Plan, WalletAt, config_text, keep};

    #[test]
    fn what_is_written_is_what_serve_reads() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), "seal.key", || Ok("5a".repeat(32))).unwrap();
        keep(folder.path(), "provider.key", || Ok("k".repeat(32))).unwrap();
        let plan = Plan {
            folder: folder.path(),
            gateway: "127.0.0.1:0".parse().unwrap(),
            admin: "127.0.0.1:0".parse().unwrap(),
            wallet: WalletAt { url: "http://127.0.0.1:9".to_owned(), pki: None },
            speed: 10,
            quota: Quota { pay: 5, query: 6, reverse: 7, calls_max: 8 },
            merchants: &[],
        };
        let policy = Policy::default().scaled(10);
        let config = Config::parse(&config_text(&plan, &policy), []).expect("no problems");
        assert_eq!(config.mode, Mode::Sandbox);
        assert_eq!(config.policy.give_up_ms, 4_500);
        assert_eq!(config.policy.absent_grace_ms, 6_000);
        assert_eq!(config.providers[0].quota, plan.quota);
        assert_eq!(config.store.path, folder.path().join("hufu.db"));
        assert!(Path::new(&config.listen.admin_socket).starts_with(folder.path()));
    }

    #[test]
    fn a_key_that_is_there_is_kept_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for text in ["first", "second"] {
            keep(folder.path(), "a.key", || Ok(text.to_owned())).unwrap();
        }
        let path = folder.path().join("a.key");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
