//! `hufu serve`: the product.

use std::sync::Arc;

use clap::Args;
use gateway::config::Config;
use gateway::northbound::tls::Tls;
use gateway::switch::{StartError, Switch};
use store::OpenError;

use crate::exit::{Exit, Failure, Outcome};
use crate::settings::{ConfigFlag, load};

/// Runs the switch until it is asked to stop (SIGTERM or Ctrl-C).
///
/// At the start it takes up every payment that is still open. When asked to stop it refuses new payments, answers
/// the tills that wait, and closes the store; what is open then goes on at the next start. A second signal ends it
/// at once, which loses nothing either. SIGHUP has it read the certificate for tills again, as `hufu reload` does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu serve --config /etc/hufu/hufu.toml
  HUFU_LOG__FILTER=info,gateway=debug hufu serve --config hufu.toml

Exit codes:
  0    stopped as asked, everything closed whole
  2    the configuration has problems (hufu check-config lists them)
  69   the store is in use by another process, or an address is taken
  70   the store or the machine failed; start again, recovery takes up what is open
  130  stopped at once by a second signal")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigFlag,
}

/// Runs the switch.
pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let config = load(&args.config.config)?;
    gateway::logging::install(&config.log).map_err(|err| Failure::usage(err.to_string()))?;
    crate::runtime()?.block_on(serve(config))
}

async fn serve(config: Config) -> Outcome {
    let switch = Switch::start(config).await.map_err(|err| not_started(&err))?;
    let recovery = switch.recovery();
    if recovery.damaged > 0 {
        tracing::error!(
            rows = recovery.damaged,
            "rows of the store are damaged and set aside: their payments are told no outcome, and money may have \
             moved; restore them from a backup"
        );
    }
    let reloads = tokio::spawn(reload_when_asked(switch.tls().cloned()));
    crate::stop_asked().await;
    reloads.abort();
    tracing::info!("asked to stop: no new payments are taken, waiting tills are answered");
    tokio::select! {
        () = switch.stop() => Ok(()),
        () = crate::stop_asked() => Err(Failure {
            exit: Exit::Interrupted,
            text: "stopped at once. Every decision is in the store; open payments go on at the next start.".to_owned(),
        }),
    }
}

/// Reads the certificate for tills again at each SIGHUP. It says itself how that went.
async fn reload_when_asked(tls: Option<Arc<Tls>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut asked) = signal(SignalKind::hangup()) else { return };
    while asked.recv().await.is_some() {
        match tls.clone() {
            Some(tls) => drop(tokio::task::spawn_blocking(move || tls.reload()).await),
            None => tracing::info!("SIGHUP: tills speak plain HTTP here, there is no certificate to load"),
        }
    }
}

/// Why there is no switch, and the code for it.
fn not_started(err: &StartError) -> Failure {
    let text = format!("the switch does not start: {err}");
    match err {
        StartError::Open(OpenError::InUse { .. } | OpenError::Unavailable { .. })
        | StartError::Listen { .. }
        | StartError::Socket(_) => Failure::unavailable(text),
        StartError::Open(OpenError::WrongKey { .. } | OpenError::NotAStore { .. })
        | StartError::File { .. }
        | StartError::Tls(_)
        | StartError::Provider { .. } => Failure::usage(text),
        StartError::Open(_)
        | StartError::Store(_)
        | StartError::Merchants(_)
        | StartError::Engine(_)
        | StartError::Metrics(_) => Failure::internal(text),
    }
}
