//! `hufu merchant set`: how a merchant's tills are answered, and how much they may ask.

use clap::Args;
use gateway::admin::{
    AbsenceChange, Change, Changes, Command, MerchantRef, MerchantView, RateChange, RuleWord,
};
use gateway::config::Config;
use state_machine::MerchantId;

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
  hufu merchant set 1900000201 --mode relay --hold-ms default --long-poll-ms default")]
pub(super) struct SetArgs {
    /// #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID].
    merchant: String,
    /// relay or hold.
    #[arg(long, value_name = "MODE", value_parser = ["relay", "hold"])]
    mode: Option<String>,
    /// In hold mode: milliseconds until USERPAYING, 1000 to 30000; or default, for northbound.hold_ms.
    #[arg(long, value_name = "MS")]
    hold_ms: Option<Change>,
    /// Milliseconds that a query waits, 0 (off) to 7000; or default, for northbound.long_poll_ms.
    #[arg(long, value_name = "MS")]
    long_poll_ms: Option<Change>,
    /// Requests of all its tills in a second, on average, 1 to 100000; or default, for northbound.merchant_per_second.
    #[arg(long, value_name = "N")]
    per_second: Option<Change>,
    /// Requests of all its tills at once, 1 to 100000; or default, for northbound.merchant_burst.
    #[arg(long, value_name = "N")]
    burst: Option<Change>,
    /// Money that no till asks about: keep, or reverse; or default, for northbound.absent_till.
    #[arg(long, value_name = "WORD")]
    absent_till: Option<RuleWord>,
    /// Milliseconds after which a till counts as absent, 15000 to 600000; or default, for northbound.absent_after_ms.
    #[arg(long, value_name = "MS")]
    absent_after_ms: Option<Change>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// Runs the verb.
pub(super) fn run(args: &SetArgs) -> Outcome {
    let rate = RateChange { per_second: args.per_second, burst: args.burst };
    let absence = AbsenceChange { rule: args.absent_till, after_ms: args.absent_after_ms };
    let answering = args.mode.is_some() || args.hold_ms.is_some() || args.long_poll_ms.is_some();
    if !answering && rate == RateChange::default() && absence == AbsenceChange::default() {
        return Err(Failure::usage(
            "say what is to change: --mode, --hold-ms, --long-poll-ms, --per-second, --burst, --absent-till or \
             --absent-after-ms",
        ));
    }
    let config = load(&args.config.config)?;
    let view = match running(&config)? {
        Some(socket) => {
            let all: Vec<MerchantView> = command(&socket, &Command::MerchantList)?;
            let set = Command::MerchantSet {
                of: MerchantRef::Id { merchant: one(&all, &args.merchant)?.merchant },
                mode: args.mode.clone(),
                hold_ms: args.hold_ms,
                long_poll_ms: args.long_poll_ms,
                rate,
                absence,
            };
            command(&socket, &set)?
        }
        None => in_store(&config, args, rate, absence)?,
    };
    if args.json.json {
        return output::json(&view);
    }
    output::line(format!("Merchant #{}: {}; in use now.", view.merchant, super::answers(&view)));
    Ok(())
}

/// Changes it in the store, under its lock.
fn in_store(
    config: &Config,
    args: &SetArgs,
    rate: RateChange,
    absence: AbsenceChange,
) -> Result<MerchantView, Failure> {
    let mut book = super::open_book(config, "changed")?;
    let internal = |err: &dyn std::fmt::Display| Failure::internal(format!("nothing was changed: {err}"));
    let all = book.merchants().map_err(|err| internal(&err))?;
    let views: Vec<MerchantView> = all.rows.iter().map(MerchantView::of).collect();
    let id = MerchantId(one(&views, &args.merchant)?.merchant);
    let changes = Changes {
        mode: args.mode.as_deref(),
        hold_ms: args.hold_ms,
        long_poll_ms: args.long_poll_ms,
        rate,
        absence,
    };
    gateway::admin::set(&mut book, id, &changes).map_err(Failure::failed)
}
