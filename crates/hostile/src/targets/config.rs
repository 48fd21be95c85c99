//! Settings: taken whole or not at all, every value as it is written, and no secret in what is said of them.

use std::time::Duration;

use gateway::config::Config;
use toml::{Table, Value};

/// A secret that nobody may see again.
const CANARY: &str = "CANARYCANARYCANARYCANARYCANARY32";
const SEAL_CANARY: &str = "5a5b5c5d5e5f5a5b5c5d5e5f5a5b5c5d5e5f5a5b5c5d5e5f5a5b5c5d5e5f5a5b";
/// What stands between the file and the environment, one `NAME=value` a line.
const ENVIRONMENT: &str = "\n%%%\n";

/// Every setting that the file may hold, a provider's without its number.
const SETTINGS: &[&str] = &[
    "mode",
    "listen.gateway",
    "listen.admin",
    "listen.admin_anywhere",
    "listen.admin_socket",
    "store.path",
    "store.seal_key_file",
    "policy.first_query_ms",
    "policy.query_gap_ms",
    "policy.give_up_ms",
    "policy.reversal_guard_ms",
    "policy.confirm_ms",
    "policy.reversal_pause_ms",
    "policy.reversal_pause_max_ms",
    "policy.dialog_query_ms",
    "policy.absent_apart_ms",
    "policy.absent_grace_ms",
    "policy.retain_ms",
    "northbound.connections_max",
    "northbound.headers_max",
    "northbound.head_bytes_max",
    "northbound.body_bytes_max",
    "northbound.head_deadline_ms",
    "northbound.body_deadline_ms",
    "northbound.idle_deadline_ms",
    "northbound.write_deadline_ms",
    "northbound.hold_ms",
    "northbound.merchant_per_second",
    "northbound.merchant_burst",
    "northbound.spbill_create_ip",
    "northbound.drain_ms",
    "limits.orders_max",
    "limits.shards",
    "log.format",
    "log.filter",
    "provider.mch_id",
    "provider.appid",
    "provider.key_file",
    "provider.previous_key_file",
    "provider.sign_type",
    "provider.hosts",
    "provider.client_cert_file",
    "provider.client_key_file",
    "provider.ca_file",
    "provider.quota.pay_per_second",
    "provider.quota.query_per_second",
    "provider.quota.reverse_per_second",
    "provider.quota.calls_max",
];

/// Reads `data` as a settings file and, below a line `%%%`, an environment.
///
/// # Panics
///
/// When a file with an unknown setting is taken, a number holds another value than was written, a rule between two
/// settings is broken, a refusal names nothing, or a secret is repeated.
pub fn parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files of the machine are not the subject, and some of them never end.
    if text.contains("/dev") || text.contains("/proc") || text.contains("..") {
        return;
    }
    let (file, variables) = text.split_once(ENVIRONMENT).unwrap_or((text, ""));
    let environment: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain([
            ("HUFU_STORE__SEAL_KEY".to_owned(), SEAL_CANARY.to_owned()),
            ("HUFU_PROVIDER__1900000109__KEY".to_owned(), CANARY.to_owned()),
        ])
        .collect();
    let read = |more: Option<(&str, &str)>| {
        let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::parse(file, environment.iter().cloned().chain(more))
    };
    let shown = match read(None) {
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused for nothing");
            for problem in &problems.0 {
                assert!(!problem.setting.is_empty() && !problem.what.is_empty(), "{problem:?}");
            }
            assert_eq!(read(None).expect_err("as before"), problems);
            problems.to_string()
        }
        Ok(config) => {
            check(file, variables.contains("HUFU_"), &config);
            for wrong in [("HUFU_NO_SUCH__SETTING", "1"), ("HUFU_LIMITS__ORDERS_MAX", "0")] {
                assert!(read(Some(wrong)).is_err(), "half of it is taken with {wrong:?}");
            }
            format!("{config:?}")
        }
    };
    assert!(!shown.contains(&SEAL_CANARY[..24]), "a secret in {shown}");
    // In the place of a secret it must not be shown; a name that nobody knows must be.
    let is_secret = !text.replace(&format!("key = \"{CANARY}"), "").contains("CANARYC");
    assert!(!is_secret || !shown.contains("CANARYC"), "a secret in {shown}");
}

/// Compares what was taken with what a plain reading of the file says.
fn check(file: &str, overridden: bool, config: &Config) {
    let table: Table = file.parse().expect("what was taken is TOML");
    let mut found = Vec::new();
    walk("", &table, &mut found);
    for (setting, _) in &found {
        assert!(SETTINGS.contains(&setting.as_str()), "{setting} is no setting, and was taken");
    }
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).expect("within limits");
    let int = |count: usize| i64::try_from(count).expect("within limits");
    let long = |count: u64| i64::try_from(count).expect("within limits");
    let (north, policy) = (&config.northbound, &config.policy);
    let numbers = [
        ("northbound.connections_max", i64::from(north.connections_max)),
        ("northbound.headers_max", int(north.headers_max)),
        ("northbound.head_bytes_max", int(north.head_bytes_max)),
        ("northbound.body_bytes_max", int(north.body_bytes_max)),
        ("northbound.head_deadline_ms", ms(north.head_deadline)),
        ("northbound.body_deadline_ms", ms(north.body_deadline)),
        ("northbound.idle_deadline_ms", ms(north.idle_deadline)),
        ("northbound.write_deadline_ms", ms(north.write_deadline)),
        ("northbound.hold_ms", ms(north.hold)),
        ("northbound.drain_ms", ms(north.drain)),
        ("northbound.merchant_per_second", i64::from(north.merchant_per_second)),
        ("northbound.merchant_burst", i64::from(north.merchant_burst)),
        ("limits.orders_max", i64::from(config.limits.orders_max)),
        ("limits.shards", i64::from(config.limits.shards)),
        ("policy.first_query_ms", long(policy.first_query_ms)),
        ("policy.query_gap_ms", long(policy.query_gap_ms)),
        ("policy.give_up_ms", long(policy.give_up_ms)),
        ("policy.reversal_guard_ms", long(policy.reversal_guard_ms)),
        ("policy.confirm_ms", long(policy.confirm_ms)),
        ("policy.absent_apart_ms", long(policy.absent_apart_ms)),
        ("policy.absent_grace_ms", long(policy.absent_grace_ms)),
    ];
    for (setting, taken) in numbers {
        assert!(taken >= 0);
        let written =
            found.iter().find(|(name, _)| name == setting).and_then(|(_, value)| value.as_integer());
        assert!(
            overridden || written.is_none_or(|written| written == taken),
            "{setting}: {written:?} {taken}"
        );
    }
    let providers = table.get("provider").and_then(Value::as_array).map_or(0, Vec::len);
    assert_eq!(config.providers.len(), providers, "a provider is missing");
    // CF-02, INV-08, CF-08.
    assert!(policy.contradictions().is_empty() && north.drain >= north.hold);
    assert!(north.body_bytes_max <= protocol::xml::BYTES_MAX, "a body that the reader would not take");
    if config.mode == gateway::config::Mode::Production {
        assert!(policy.reversal_guard_ms >= 15_000, "an early reversal with real money");
        assert!(config.providers.iter().all(|one| one.client_cert_file.is_some()), "no certificate");
    }
}

/// Every value of the file under its setting's name.
fn walk(path: &str, table: &Table, found: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let setting = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Table(inner) => walk(&setting, inner, found),
            Value::Array(list) if setting == "provider" => {
                for inner in list.iter().filter_map(Value::as_table) {
                    walk(&setting, inner, found);
                }
            }
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => found.push((setting, value.clone())),
        }
    }
}
