//! One file that is right, and every way in which it can be wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use signer::Kind;
use tempfile::TempDir;

use super::{Config, Host, LogFormat, Mode};

const SAMPLE: &str = include_str!("../../../../deploy/hufu.toml");
const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

/// The sample with its files in a directory of its own.
struct Place {
    dir: TempDir,
    text: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        };
        write("seal.key", &format!("{}\n", "0f".repeat(32)));
        write("1900000109.key", KEY);
        write("1900000109.cert.pem", "-----BEGIN CERTIFICATE-----\n");
        write("1900000109.key.pem", "-----BEGIN PRIVATE KEY-----\n");
        let text = SAMPLE.replace("/etc/hufu", dir.path().to_str().unwrap());
        Self { dir, text }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Checks that `text` is refused with exactly `problems`, each as the beginning of a line.
fn refuses(text: &str, variables: &[(&str, &str)], problems: &[&str]) {
    let err = Config::parse(text, environment(variables)).expect_err(text).to_string();
    let mut lines: Vec<_> = err.lines().collect();
    for problem in problems {
        let at = lines.iter().position(|line| line.starts_with(problem));
        let at = at.unwrap_or_else(|| panic!("no {problem:?} in\n{err}"));
        lines.remove(at);
    }
    assert!(lines.is_empty(), "more than {problems:?}:\n{err}");
    assert!(!err.contains(KEY) && !err.contains("0f0f"), "a secret in\n{err}");
}

#[test]
fn the_sample_is_right_and_says_what_holds_without_it() {
    let place = Place::new();
    let path = place.path("hufu.toml");
    fs::write(&path, &place.text).unwrap();
    let config = Config::load(&path, environment(&[("HUFU_CONFIG", "x"), ("PATH", "/bin")])).unwrap();
    assert_eq!(config.mode, Mode::Production);
    assert_eq!(config.listen.gateway.port(), 8080);
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:9464");
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.providers[0].mch_id.as_str(), "1900000109");
    assert_eq!(config.providers[0].kind, Kind::HmacSha256);
    assert_eq!(config.policy, state_machine::Policy::default());
    assert_eq!(config.northbound, super::Northbound::default());
    assert_eq!(config.log.format, LogFormat::Plain);
    let hosts: Vec<_> = config.providers[0].hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(hosts, ["api.mch.weixin.qq.com", "api2.mch.weixin.qq.com"]);
    let shown = format!("{config:?}");
    assert!(!shown.contains(KEY) && !shown.contains("0f0f"), "{shown}");

    // What the sample shows as commented out is what holds: turned on, nothing changes.
    let on: String = place
        .text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting)
                if setting.split_once(" = ").is_some_and(|(name, _)| {
                    name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9'))
                }) && !setting.starts_with("previous_key_file")
                    && !setting.starts_with("ca_file")
                    && !setting.contains("/tls.")
                    && !setting.starts_with("client_ca_file")
                    && !setting.starts_with("spbill_create_ip") =>
            {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(on, place.text);
    let same = Config::parse(&on, []).unwrap();
    assert_eq!(same.policy, config.policy);
    assert_eq!(same.northbound, config.northbound);
    assert_eq!((same.listen, same.log), (config.listen, config.log));
    assert_eq!(same.limits, config.limits);
    assert_eq!(same.providers[0].quota, config.providers[0].quota);
    assert_eq!(same.providers[0].hosts, config.providers[0].hosts);
}

#[test]
fn the_environment_goes_over_the_file() {
    let place = Place::new();
    let text = place.text.replace("seal_key_file", "# seal_key_file").replace("key_file = ", "# key_file = ");
    let text = text.replace("client_# key_file", "client_key_file");
    let variables = environment(&[
        ("HUFU_LISTEN__GATEWAY", "127.0.0.1:9000"),
        ("HUFU_NORTHBOUND__HOLD_MS", "500"),
        ("HUFU_POLICY__GIVE_UP_MS", "30000"),
        ("HUFU_LOG__FORMAT", "json"),
        ("HUFU_STORE__SEAL_KEY", &"0f".repeat(32)),
        ("HUFU_PROVIDER__1900000109__KEY", KEY),
        ("HUFU_PROVIDER__1900000109__SIGN_TYPE", "MD5"),
        ("HUFU_PROVIDER__1900000109__HOSTS", "https://pay.example.com:8443/base/, https://b.example.com"),
        ("HUFU_PROVIDER__1900000109__QUOTA__PAY_PER_SECOND", "7"),
    ]);
    let config = Config::parse(&text, variables).unwrap();
    assert_eq!(config.listen.gateway.to_string(), "127.0.0.1:9000");
    assert_eq!(config.northbound.hold, Duration::from_millis(500));
    assert_eq!(config.policy.give_up_ms, 30_000);
    assert_eq!(config.log.format, LogFormat::Json);
    let provider = &config.providers[0];
    assert_eq!((provider.kind, provider.quota.pay), (Kind::Md5, 7));
    let first = Host { tls: true, name: "pay.example.com".to_owned(), port: 8443, base: "/base".to_owned() };
    assert_eq!(provider.hosts[0], first);
    // The same secret by either way is the same digest key: a store outlives the way its key is given.
    let by_file = Config::parse(&place.text, []).unwrap();
    let digest = |config: &Config| config.store.digest_key.content([("a", "1")].into_iter());
    assert_eq!(digest(&config), digest(&by_file));
}

#[test]
fn every_problem_is_reported_at_once() {
    let _covers = covers::covers(&["CF-01"]);
    refuses(
        "mode = \"live\"\n[store]\npaht = \"x\"\n[northbound]\nhold_ms = -1\nx = 1\n[wallet]\n",
        &[("HUFU_LISTEN__GATEWY", "1"), ("HUFU_LIMITS__SHARDS", "many")],
        &[
            "mode: is neither",
            "store.path: is missing (here or in HUFU_STORE__PATH)",
            "store.paht: no such setting: did you mean path?",
            "store.seal_key_file: is missing (this, or HUFU_STORE__SEAL_KEY)",
            "northbound.hold_ms: is not a whole number from 10 to 60000",
            "northbound.x: no such setting",
            "limits.shards: is not a whole number",
            "provider: is missing",
            "wallet: no such setting",
            "HUFU_LISTEN__GATEWY: no setting has this variable",
        ],
    );
    refuses("", &[], &["mode: is missing", "store.path: is", "store.seal_key_file: is", "provider: is"]);
    refuses("mode = production", &[], &["the file: is no TOML at line 1: string values"]);
    refuses(
        "mode = \"sandbox\"\nmode = \"sandbox\"",
        &[],
        &["the file: is no TOML at line 2: duplicate key"],
    );
    // A line that is no TOML is not shown: a secret may stand there that does not belong into the file.
    let broken = format!("[[provider]]\nkey = \"{KEY}");
    refuses(&broken, &[], &["the file: is no TOML at line 2: "]);
    let missing = Config::load(Path::new("/nonexistent/hufu.toml"), []).unwrap_err().to_string();
    assert!(missing.contains("/nonexistent/hufu.toml: No such file"), "{missing}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let _covers = covers::covers(&["CF-02"]);
    let place = Place::new();
    let with = |section: &str, line: &str| {
        place.text.replace(&format!("[{section}]"), &format!("[{section}]\n{line}"))
    };
    for (section, line, problems) in [
        ("policy", "reversal_guard_ms = 14999", &["policy.reversal_guard_ms: is under 15000"][..]),
        ("policy", "query_gap_ms = 0", &["policy: query_gap is 0"]),
        ("policy", "query_gap_ms = 50", &["policy.query_gap_ms: is under 100"]),
        ("policy", "query_gap_ms = 45000", &["policy.query_gap_ms: is not under give_up_ms"]),
        ("policy", "first_query_ms = 45000", &["policy: first_query is not before give_up"]),
        ("policy", "give_up_ms = 14000", &["policy: reversal_guard is after give_up"]),
        ("policy", "give_up_ms = 0", &["policy.give_up_ms: is not a whole number"]),
        ("policy", "absent_grace_ms = 1000", &["policy.absent_grace_ms: is under 60000"]),
        ("policy", "reversal_pause_ms = 3600001", &["policy: reversal_pause is over"]),
        ("policy", "give_up_s = 45", &["policy.give_up_s: no such setting"]),
        ("policy", "give_up_ms = \"45\"", &["policy.give_up_ms: is not a whole number"]),
        ("policy", "give_up_ms = 45.0", &["policy.give_up_ms: is not a whole number"]),
        (
            "northbound",
            "idle_deadline_ms = 20000",
            &["northbound.heartbeat_ms: is over half of idle_deadline_ms"],
        ),
        ("northbound", "drain_ms = 100", &["northbound.drain_ms: is under hold_ms"]),
        (
            "northbound",
            "body_bytes_max = 70000",
            &["northbound.body_bytes_max: is not a whole number from 1024 to 65536"],
        ),
        ("northbound", "spbill_create_ip = \"here\"", &["northbound.spbill_create_ip: invalid IP"]),
        ("listen", "admin = \"0.0.0.0:9464\"", &["listen.admin: is no loopback address"]),
        (
            "listen",
            "admin = \"127.0.0.1:1\"\ngateway = \"127.0.0.1:1\"",
            &["listen.admin: is the address of"],
        ),
        ("listen", "gateway = \"8080\"", &["listen.gateway: invalid socket address"]),
        ("listen", "admin_anywhere = \"yes\"", &["listen.admin_anywhere: is neither true nor false"]),
        ("limits", "orders_max = 1\nshards = 2", &["limits.orders_max: is under shards"]),
        ("log", "format = \"xml\"", &["log.format: is neither"]),
        ("log", "filter = \"gateway=loud\"", &["log.filter: "]),
        ("provider.quota", "pay_per_second = 0", &["provider.1900000109.quota.pay_per_second: is not"]),
        ("provider.quota", "pay = 1", &["provider.1900000109.quota.pay: no such setting"]),
    ] {
        refuses(&with(section, line), &[], problems);
    }
    let faster =
        with("policy", "reversal_guard_ms = 150\nquery_gap_ms = 10\ngive_up_ms = 450\nfirst_query_ms = 50");
    let faster = faster.replace("mode = \"production\"", "mode = \"sandbox\"");
    let faster = faster.replace("sign_type", "sign_type = \"MD5\"\nhosts = [\"http://127.0.0.1:9100\"]\n#");
    let faster = faster.replace("# sign_type = \"MD5\"", "sign_type = \"MD5\"");
    let config = Config::parse(&faster, []).expect("a simulation may be faster");
    assert_eq!(config.policy.reversal_guard_ms, 150);
}

#[test]
fn mode_and_address_must_agree() {
    let _covers = covers::covers(&["CF-08"]);
    let place = Place::new();
    for (mode, host, problem) in [
        ("production", "https://api.mch.weixin.qq.com", None),
        ("production", "https://pay.example.com:8443/base", None),
        ("production", "http://api.mch.weixin.qq.com", Some("is not https")),
        ("production", "https://localhost", Some("is an address of this machine")),
        ("production", "https://wallet", Some("is an address of this machine")),
        ("production", "https://127.1.2.3", Some("is an address of this machine")),
        ("production", "https://10.0.0.1", Some("is an address of this machine")),
        ("production", "https://[::1]:443", Some("is an address of this machine")),
        ("production", "https://[::ffff:127.0.0.1]", Some("is an address of this machine")),
        ("production", "https://api.mch.weixin.qq.com/xdc/apiv2sandbox", Some("is the wallet's sandbox")),
        ("production", "https://api.mch.weixin.qq.com/sandboxnew", Some("is the wallet's sandbox")),
        ("sandbox", "http://127.0.0.1:9100", None),
        ("sandbox", "http://[::1]:9100", None),
        ("sandbox", "https://api.mch.weixin.qq.com/xdc/apiv2sandbox", None),
        ("sandbox", "https://api.mch.weixin.qq.com", Some("is the wallet itself")),
        ("sandbox", "https://API2.mch.weixin.qq.com", Some("is the wallet itself")),
        ("sandbox", "ftp://127.0.0.1", Some("begins with neither")),
        ("sandbox", "http://user@127.0.0.1", Some("holds a user name")),
        ("sandbox", "http://127.0.0.1:0", Some("has a bad port")),
        ("sandbox", "http://127.0.0.1:99999", Some("has a bad port")),
        ("sandbox", "http://127.0.0.1:", Some("has a bad port")),
        ("sandbox", "http:///x", Some("names no host")),
        ("sandbox", "http://127.0.0.1/a?b", Some("has a path with")),
    ] {
        let text = place.text.replace("mode = \"production\"", &format!("mode = \"{mode}\""));
        let text = text.replace("# hosts = [", &format!("hosts = [\"{host}\"] # ["));
        match problem {
            None => assert!(Config::parse(&text, []).is_ok(), "{mode} {host}"),
            Some(what) => {
                refuses(&text, &[], &[&format!("provider.1900000109.hosts: {host:?} {what}")]);
            }
        }
    }
    let sandbox = place.text.replace("mode = \"production\"", "mode = \"sandbox\"");
    refuses(&sandbox, &[], &["provider.1900000109.hosts: is missing: sandbox mode has no host of its own"]);
}

#[test]
fn secrets_and_files_are_checked() {
    let place = Place::new();
    let text = &place.text;
    let cert = text.replace("client_cert_file", "# client_cert_file");
    refuses(&cert, &[], &["provider.1900000109.client_cert_file: is missing: certificate and key"]);
    let neither = cert.replace("client_key_file", "# client_key_file");
    refuses(
        &neither,
        &[],
        &["provider.1900000109.client_cert_file: is missing: without it nothing can be reversed"],
    );
    let inline = text.replace("[[provider]]", &format!("[[provider]]\nkey = \"{KEY}\""));
    refuses(&inline, &[], &["provider.1900000109.key: secrets do not belong into this file"]);
    refuses(
        text,
        &[("HUFU_STORE__SEAL_KEY", "0f")],
        &["store.seal_key: is given both in the environment and by seal_key_file"],
    );
    let twice = text.split_once("[[provider]]").unwrap().1.split_once("# What the wallet allows").unwrap().0;
    refuses(&format!("{text}\n[[provider]]{twice}"), &[], &["provider.1900000109: occurs twice"]);

    for (name, bytes, mode, problem) in [
        ("seal.key", "0f", 0o600, "store.seal_key: the master key of the store must be 64"),
        ("seal.key", "\n", 0o600, "store.seal_key: the master key of the store must be 64"),
        (
            "1900000109.key",
            "192006250b4c09247ec02edce69f6a2",
            0o600,
            "provider.1900000109.key: an API key is",
        ),
        (
            "1900000109.key",
            "192006250b4c09247ec02edce69f6a2d ",
            0o600,
            "provider.1900000109.key: an API key is",
        ),
        ("1900000109.key", KEY, 0o644, "provider.1900000109.key_file: "),
        ("1900000109.key", "", 0o600, "provider.1900000109.key: an API key is"),
    ] {
        let place = Place::new();
        fs::write(place.path(name), bytes).unwrap();
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
        refuses(&place.text, &[], &[problem]);
    }
    fs::remove_file(place.path("1900000109.key.pem")).unwrap();
    fs::remove_file(place.path("1900000109.key")).unwrap();
    refuses(text, &[], &["provider.1900000109.client_key_file: ", "provider.1900000109.key_file: "]);
}
