//! `hufu check-config`: every problem at once, or what the settings come to.

use clap::Args;
use gateway::admin::TlsView;
use gateway::config::{Config, Mode};
use gateway::northbound::tls;
use serde_json::{Value, json};
use signer::Kind;
use state_machine::Policy;

use crate::exit::{Failure, Outcome};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Checks the settings without starting anything: lists every problem, or the settings in effect.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu check-config --config /etc/hufu/hufu.toml
  HUFU_STORE__SEAL_KEY=$(openssl rand -hex 32) hufu check-config --config hufu.toml --json

Exits 0 if there is nothing wrong with the settings, 2 if there are problems. The store is not opened: whether the
seal key fits it shows when the switch starts. Secrets are never printed.")]
pub(crate) struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

/// Runs the verb.
pub(crate) fn run(args: &CheckConfigArgs) -> Outcome {
    let path = &args.config.config;
    if !args.json.json {
        let config = load(path)?;
        if let Some(problem) = tls_problem(&config) {
            return Err(Failure::usage(format!("{}: listen.tls: {problem}", path.display())));
        }
        output::line("ok");
        print(&effective(&config));
        return Ok(());
    }
    match Config::load(path, std::env::vars()) {
        Ok(config) if tls_problem(&config).is_some() => {
            let problem = json!({ "setting": "listen.tls", "what": tls_problem(&config) });
            output::json(&json!({ "ok": false, "problems": [problem] }))?;
            Err(Failure::usage(""))
        }
        Ok(config) => output::json(&json!({ "ok": true, "problems": [], "settings": effective(&config) })),
        Err(errors) => {
            let problems: Vec<Value> = errors
                .0
                .iter()
                .map(|problem| json!({ "setting": problem.setting, "what": problem.what }))
                .collect();
            output::json(&json!({ "ok": false, "problems": problems }))?;
            Err(Failure::usage(""))
        }
    }
}

/// The settings in effect, without secrets.
fn effective(config: &Config) -> Value {
    let Config { mode, listen, store, providers, policy, northbound, limits, log } = config;
    let providers: Vec<Value> = providers
        .iter()
        .map(|provider| {
            let hosts: Vec<String> = provider
                .hosts
                .iter()
                .map(|host| {
                    let scheme = if host.tls { "https" } else { "http" };
                    format!("{scheme}://{}:{}{}", host.name, host.port, host.base)
                })
                .collect();
            json!({
                "mch_id": provider.mch_id.as_str(),
                "appid": provider.appid.as_str(),
                "sign_type": Kind::as_str(provider.kind),
                "hosts": hosts,
                "client_certificate": provider.client_cert_file.is_some(),
                "ca_file": provider.ca_file,
                "pay_per_second": provider.quota.pay,
                "query_per_second": provider.quota.query,
                "reverse_per_second": provider.quota.reverse,
                "calls_max": provider.quota.calls_max,
            })
        })
        .collect();
    json!({
        "mode": match mode { Mode::Production => "production", Mode::Sandbox => "sandbox" },
        "listen": {
            "gateway": listen.gateway.to_string(),
            "tls": listen.tls.as_ref().map(certificate),
            "admin": listen.admin.to_string(),
            "admin_socket": listen.admin_socket,
        },
        "store": { "path": store.path },
        "provider": providers,
        "policy": clocks(policy),
        "northbound": {
            "connections_max": northbound.connections_max,
            "address_connections_max": northbound.address_connections_max,
            "newcomers_per_second": northbound.newcomers_per_second,
            "per_second": northbound.per_second,
            "burst": northbound.burst,
            "hold_ms": ms(northbound.hold),
            "long_poll_ms": ms(northbound.long_poll),
            "absent_till": northbound.absence.rule.as_str(),
            "absent_after_ms": northbound.absence.after_ms,
            "merchant_per_second": northbound.merchant_per_second,
            "merchant_burst": northbound.merchant_burst,
            "drain_ms": ms(northbound.drain),
        },
        "limits": { "orders_max": limits.orders_max, "shards": limits.shards },
        "log": { "format": format!("{:?}", log.format).to_lowercase(), "filter": log.filter },
    })
}

/// Why certificate and key for tills cannot be used, if they cannot. Other verbs do without them.
fn tls_problem(config: &Config) -> Option<String> {
    tls::look(config.listen.tls.as_ref()?).err().map(|err| err.to_string())
}

/// The certificate for tills.
fn certificate(files: &gateway::config::Tls) -> Value {
    let shown = tls::look(files).ok().map(|shown| TlsView::of(&shown));
    json!({
        "certificate_file": files.certificate_file,
        "key_file": files.key_file,
        "client_ca_file": files.client_ca_file,
        "shown": shown,
    })
}

fn clocks(policy: &Policy) -> Value {
    json!({
        "first_query_ms": policy.first_query_ms,
        "query_gap_ms": policy.query_gap_ms,
        "give_up_ms": policy.give_up_ms,
        "reversal_guard_ms": policy.reversal_guard_ms,
        "confirm_ms": policy.confirm_ms,
        "reversal_pause_ms": policy.reversal_pause_ms,
        "reversal_pause_max_ms": policy.reversal_pause_max_ms,
        "dialog_query_ms": policy.dialog_query_ms,
        "absent_apart_ms": policy.absent_apart_ms,
        "absent_grace_ms": policy.absent_grace_ms,
        "retain_ms": policy.retain_ms,
    })
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Prints settings as a file would have them: `name = value`, then sections.
fn print(settings: &Value) {
    let Value::Object(all) = settings else { return };
    let fields = |value: &Value| {
        for (name, value) in value.as_object().into_iter().flatten() {
            output::line(format!("{name} = {value}"));
        }
    };
    for (name, value) in all.iter().filter(|(_, value)| value.is_string()) {
        output::line(format!("{name} = {value}"));
    }
    for (name, value) in all.iter().filter(|(_, value)| value.is_object()) {
        output::line(format!("\n[{name}]"));
        fields(value);
    }
    for (name, value) in all {
        for item in value.as_array().into_iter().flatten() {
            output::line(format!("\n[[{name}]]"));
            fields(item);
        }
    }
}
