//! `hufu merchant set`: how a merchant's tills are answered, and how much they may ask.

use clap::Args;
use gateway::admin::{Command, MerchantRef, MerchantView};
use gateway::config::Config;
use state_machine::MerchantId;

use super::setting::{SettingArgs, options};
use crate::exit::{Failure, Outcome};
use crate::link::{command, one, running};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Changes how a merchant's tills are answered and how much they may ask, at once; what is not named stays as it is.
///
/// In relay mode a pay request is answered with the wallet's first word, and the till asks again. In hold mode it is
/// answered with the outcome, or with USERPAYING after the hold time. In both, a query of an open payment waits for the
/// outcome up to the long-poll time. Each must end before the tills stop reading: 8 s for the official Java SDK as it
/// comes, 10 s for most others. What a merchant asks over its rate is refused as 未受理，未扣款: nothing was sent.
///
/// A payment may turn out to be paid while no till is there to hear it. Then the money is kept, and the log says so if no
/// till asks in time; or it goes back if none does. A till that was told SUCCESS keeps it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu merchant set 1900000201 --mode hold --hold-ms 20000
  hufu merchant set '#7' --long-poll-ms 0
  hufu merchant set '#7' --per-second 1000 --burst 2000
  hufu merchant set 1900000201 --absent-till reverse --absent-after-ms 90000
  hufu merchant set 1900000201 --rescan settle
  hufu merchant set 1900000201 --mode relay --hold-ms default --long-poll-ms default")]
pub(super) struct SetArgs {
    /// #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID].
    merchant: String,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// Runs the verb.
pub(super) fn run(args: &SetArgs) -> Outcome {
    let settings = &args.settings.changes;
    if settings.is_empty() {
        return Err(Failure::usage(format!("say what is to change: {}", options())));
    }
    let config = load(&args.config.config)?;
    let view = match running(&config)? {
        Some(socket) => {
            let all: Vec<MerchantView> = command(&socket, &Command::MerchantList)?;
            let of = MerchantRef::Id { merchant: one(&all, &args.merchant)?.merchant };
            command(&socket, &Command::MerchantSet { of, settings: settings.clone() })?
        }
        None => in_store(&config, args)?,
    };
    if args.json.json {
        return output::json(&view);
    }
    output::line(format!("Merchant #{}: {}; in use now.", view.merchant, super::answers(&view)));
    Ok(())
}

/// Changes it in the store, under its lock.
fn in_store(config: &Config, args: &SetArgs) -> Result<MerchantView, Failure> {
    let mut book = super::open_book(config, "changed")?;
    let internal = |err: &dyn std::fmt::Display| Failure::internal(format!("nothing was changed: {err}"));
    let all = book.merchants().map_err(|err| internal(&err))?;
    let views: Vec<MerchantView> = all.rows.iter().map(MerchantView::of).collect();
    let id = MerchantId(one(&views, &args.merchant)?.merchant);
    gateway::admin::set(&mut book, id, &args.settings.changes).map_err(Failure::failed)
}
