//! `hufu reload`: a renewed certificate, without a restart.

use clap::Args;
use gateway::admin::{Command, TlsView};
use serde_json::json;

use crate::exit::{Failure, Outcome};
use crate::link::{command, running};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Has the running switch read the certificate and key for tills again; connections go on.
///
/// All of it is taken or nothing: where a file is broken, or certificate and key do not belong together, or the
/// certificate has ended, the one in use stays in use and this command fails. The switch also looks at the files by
/// itself every 30 seconds, and takes SIGHUP for this command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu reload --config /etc/hufu/hufu.toml
  certbot renew --deploy-hook 'systemctl reload hufu'

Exit codes:
  0    the files are in use
  1    they are not: what was in use before still is
  69   no switch runs")]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

/// Runs the verb.
pub(crate) fn run(args: &ReloadArgs) -> Outcome {
    let config = load(&args.config.config)?;
    let socket = running(&config)?.ok_or_else(|| {
        Failure::unavailable(format!(
            "no switch answers at {}; nothing was done",
            config.listen.admin_socket.display()
        ))
    })?;
    let view: TlsView = command(&socket, &Command::TlsReload)?;
    if args.json.json {
        return output::json(&json!(view));
    }
    let ends_at = view.ends_at.as_deref().unwrap_or("a moment that cannot be read");
    output::line(format!("tills are shown the certificate {} until {ends_at}", view.fingerprint));
    Ok(())
}
