//! `hufu merchant disable` and `enable`.

use clap::Args;
use gateway::admin::{Command, MerchantRef, MerchantView};
use serde_json::json;
use state_machine::MerchantId;
use store::merchant::Status;

use crate::exit::{Failure, Outcome};
use crate::link::{command, one, running};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Which merchant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID].
    merchant: String,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// Refuses new payments of a merchant from now on.
///
/// They are answered NOAUTH (JSON: 403), and nothing of them is stored or sent. What is open is finished; queries and
/// reversals are answered as before. Doing it twice changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hufu merchant disable 1900000201\n  hufu merchant disable '#7' --json")]
pub(super) struct DisableArgs {
    #[command(flatten)]
    pub(super) which: Which,
}

/// Takes new payments of a merchant again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hufu merchant enable 1900000201\n  hufu merchant enable '#7' --json")]
pub(super) struct EnableArgs {
    #[command(flatten)]
    pub(super) which: Which,
}

/// Runs either verb.
pub(super) fn run(which: &Which, status: Status) -> Outcome {
    let config = load(&which.config.config)?;
    let view = match running(&config)? {
        Some(socket) => {
            let all: Vec<MerchantView> = command(&socket, &Command::MerchantList)?;
            let view = one(&all, &which.merchant)?.clone();
            let of = MerchantRef::Id { merchant: view.merchant };
            let active = status == Status::Active;
            command::<String>(&socket, &Command::MerchantStatus { of, active })?;
            view
        }
        None => {
            let mut book = super::open_book(&config, "changed")?;
            let all =
                book.merchants().map_err(|err| Failure::internal(format!("nothing was changed: {err}")))?;
            let views: Vec<MerchantView> = all.rows.iter().map(MerchantView::of).collect();
            let view = one(&views, &which.merchant)?.clone();
            book.set_status(MerchantId(view.merchant), status)
                .map_err(|err| Failure::failed(err.to_string()))?;
            view
        }
    };
    if which.json.json {
        return output::json(&json!({
            "merchant": view.merchant, "mch_id": view.mch_id, "sub_mch_id": view.sub_mch_id,
            "status": status.as_str(),
        }));
    }
    output::line(match status {
        Status::Active => format!("Merchant #{} is active: it can take payments now.", view.merchant),
        Status::Disabled => format!(
            "Merchant #{} is disabled: its new payments are refused; what is open is finished, and its queries and \
             reversals are answered.",
            view.merchant
        ),
    });
    Ok(())
}
