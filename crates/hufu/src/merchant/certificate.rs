//! `hufu merchant certificate`: which client certificates a merchant's tills must show.

use clap::Args;
use gateway::admin::{Command, MerchantRef, MerchantView};
use gateway::config::Config;
use state_machine::MerchantId;

use crate::exit::{Failure, Outcome};
use crate::link::{command, one, running};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Serves a merchant's tills only on connections that showed one of these client certificates, from the next request on.
///
/// The switch asks for certificates where listen.tls.client_ca_file is set, and believes those of its issuers while they
/// hold. Name both while tills change from one to the other. Behind a proxy that speaks TLS the switch sees no
/// certificate: such a merchant is then refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openssl x509 -in till.pem -noout -fingerprint -sha256
  hufu merchant certificate 1900000201 --sha256 9F:86:D0:81:…
  hufu merchant certificate 1900000201 --none")]
pub(super) struct CertificateArgs {
    /// #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID].
    merchant: String,
    /// SHA-256 of a certificate, as openssl shows it; once or twice.
    #[arg(long, value_name = "FINGERPRINT", required_unless_present = "none")]
    sha256: Vec<String>,
    /// Its tills need no certificate any more.
    #[arg(long, conflicts_with = "sha256")]
    none: bool,
    /// Also where tills are not asked for certificates: every request of the merchant is then refused.
    #[arg(long, conflicts_with = "none")]
    force: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// Runs the verb.
pub(super) fn run(args: &CertificateArgs) -> Outcome {
    let config = load(&args.config.config)?;
    let asks = config.listen.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    if !args.none && !args.force && !asks {
        return Err(Failure::usage(
            "tills are not asked for certificates: set listen.tls.client_ca_file first, or every request of this \
             merchant would be refused; nothing was changed. To refuse them until then, say --force",
        ));
    }
    let view = match running(&config)? {
        Some(socket) => {
            let all: Vec<MerchantView> = command(&socket, &Command::MerchantList)?;
            let of = MerchantRef::Id { merchant: one(&all, &args.merchant)?.merchant };
            command(
                &socket,
                &Command::MerchantCertificates { of, fingerprints: args.sha256.clone(), force: args.force },
            )?
        }
        None => in_store(&config, args)?,
    };
    if args.json.json {
        return output::json(&view);
    }
    let needed = match view.client_certificates.as_slice() {
        [] => "its tills need no certificate".to_owned(),
        some => format!("its tills show {}", some.join(" or ")),
    };
    output::line(format!("Merchant #{}: {needed}; in use now.", view.merchant));
    Ok(())
}

/// Changes it in the store, under its lock.
fn in_store(config: &Config, args: &CertificateArgs) -> Result<MerchantView, Failure> {
    let mut book = super::open_book(config, "changed")?;
    let internal = |err: &dyn std::fmt::Display| Failure::internal(format!("nothing was changed: {err}"));
    let all = book.merchants().map_err(|err| internal(&err))?;
    let views: Vec<MerchantView> = all.rows.iter().map(MerchantView::of).collect();
    let id = MerchantId(one(&views, &args.merchant)?.merchant);
    gateway::admin::set_certificates(&mut book, id, &args.sha256).map_err(Failure::failed)
}
