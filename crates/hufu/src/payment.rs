//! `hufu payment`: what an operator sees of payments, and the one thing an operator may do to one.

use clap::{Args, Subcommand, ValueEnum};
use gateway::admin::{Command, MerchantRef, PaymentView};

use crate::exit::{Failure, Outcome};
use crate::link::{Link, command, one, running};
use crate::output::{self, yuan};
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Shows, lists or reverses payments.
#[derive(Debug, Args)]
pub(crate) struct PaymentArgs {
    #[command(subcommand)]
    verb: PaymentVerb,
}

#[derive(Debug, Subcommand)]
enum PaymentVerb {
    Show(ShowArgs),
    List(ListArgs),
    Reverse(ReverseArgs),
}

/// Shows one payment, from a running switch or else from the store.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu payment show P20261123000000000001
  hufu payment show P20261123000000000001 --merchant 1900000201 --json

Exits 1 if there is no such payment.")]
struct ShowArgs {
    /// The merchant's number (out_trade_no).
    number: String,
    /// Whose: #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID]. Two merchants may use the same number.
    #[arg(long, value_name = "MERCHANT")]
    merchant: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    json: JsonFlag,
}

/// Lists payments, the newest first, from a running switch or else from the store.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu payment list
  hufu payment list --which held
  hufu payment list --which all --merchant 1900000201 --limit 100 --json")]
struct ListArgs {
    /// Which payments.
    #[arg(long, value_enum, default_value_t = Which::Open)]
    which: Which,
    /// Whose: #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID].
    #[arg(long, value_name = "MERCHANT")]
    merchant: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    json: JsonFlag,
}

/// Reverses a payment through a running switch, as its till could.
///
/// If the customer has not paid, the order is closed and never can be paid; if the customer has paid, all of the
/// money goes back. It waits as long as a till would for the proof; repeating it changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu payment reverse P20261123000000000001 --merchant 1900000201

Exits 69, and does nothing, if no switch runs: only a switch may call the wallet.")]
struct ReverseArgs {
    /// The merchant's number (out_trade_no).
    number: String,
    /// Whose: #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID]; may be left out while only one merchant has the number.
    #[arg(long, value_name = "MERCHANT")]
    merchant: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    json: JsonFlag,
}

/// Which payments are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Those that something is still to be done for.
    Open,
    /// Those that wait for an operator.
    Held,
    /// Every one.
    All,
}

impl PaymentArgs {
    /// Whether results go out as JSON.
    pub(crate) const fn json(&self) -> bool {
        match &self.verb {
            PaymentVerb::Show(args) => args.json.json,
            PaymentVerb::List(args) => args.json.json,
            PaymentVerb::Reverse(args) => args.json.json,
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &PaymentArgs) -> Outcome {
    match &args.verb {
        PaymentVerb::Show(args) => {
            let config = load(&args.config.config)?;
            let found =
                single(Link::open(&config)?.find(&args.number, args.merchant.as_deref())?, &args.number)?;
            print(&found, args.json.json)
        }
        PaymentVerb::List(args) => list(args),
        PaymentVerb::Reverse(args) => reverse(args),
    }
}

/// The one payment of those found.
fn single(mut found: Vec<PaymentView>, number: &str) -> Result<PaymentView, Failure> {
    if found.len() > 1 {
        let whose: Vec<String> = found.iter().map(|view| format!("#{}", view.merchant)).collect();
        return Err(Failure::usage(format!(
            "{} merchants have a payment {number}: {}. Nothing was done. Say with --merchant whose you mean.",
            found.len(),
            whose.join(", ")
        )));
    }
    found.pop().ok_or_else(|| {
        Failure::failed(format!(
            "there is no payment {number}. Nothing was ever accepted under this number, so no money has moved \
             through this switch. Check the number and the merchant."
        ))
    })
}

fn list(args: &ListArgs) -> Outcome {
    let config = load(&args.config.config)?;
    let which = match args.which {
        Which::Open => "open",
        Which::Held => "held",
        Which::All => "all",
    };
    let payments = Link::open(&config)?.list(which, args.merchant.as_deref(), args.limit.into())?;
    if args.json.json {
        return payments.iter().try_for_each(output::json);
    }
    let mut table = output::table(&["Number", "Merchant", "State", "CNY", "Accepted (UTC)", "Note"], &[3]);
    for view in &payments {
        let note = [view.held.as_ref().map(|held| format!("HELD: {held}")), view.cause.clone()];
        table.add_row([
            view.out_trade_no.clone(),
            format!("#{}", view.merchant),
            view.state.clone(),
            view.amount_fen.map_or_else(|| "?".to_owned(), yuan),
            view.accepted_at.chars().take(19).collect(),
            note.into_iter().flatten().collect::<Vec<_>>().join(", "),
        ]);
    }
    output::line(table);
    output::line(match (payments.len(), args.which) {
        (0, Which::Open) => "No payment is open.".to_owned(),
        (0, Which::Held) => "No payment waits for an operator.".to_owned(),
        (0, Which::All) => "No payment has been accepted.".to_owned(),
        (count, _) if count == usize::from(args.limit) => format!("The newest {count}; --limit shows more."),
        (count, _) => format!("{count} in all."),
    });
    Ok(())
}

fn reverse(args: &ReverseArgs) -> Outcome {
    let config = load(&args.config.config)?;
    let Some(socket) = running(&config)? else {
        return Err(Failure::unavailable(format!(
            "payment {} was not reversed: no switch answers at {}. Nothing was done, and no money has moved. Start \
             the switch (hufu serve) and repeat this; only in an emergency reverse it on the wallet's merchant \
             platform.",
            args.number,
            config.listen.admin_socket.display()
        )));
    };
    let mut link = Link::Switch(socket.clone());
    let merchant = match &args.merchant {
        Some(text) => one(&link.merchants()?, text)?.merchant,
        None => single(link.find(&args.number, None)?, &args.number)?.merchant,
    };
    let of = MerchantRef::Id { merchant };
    let asked = Command::PaymentReverse { of, out_trade_no: args.number.clone() };
    let view: PaymentView = command(&socket, &asked).map_err(|failure| Failure {
        text: format!("payment {} was not reversed: {}", args.number, failure.text),
        ..failure
    })?;
    print(&view, args.json.json)?;
    if !args.json.json {
        output::line(match view.state.as_str() {
            "reversed" | "failed" => "Reversed, and proven: no money is kept.".to_owned(),
            _ => format!(
                "The reversal is recorded and goes on; it is not proven yet, and the customer may not have the money \
                 back. Look again: hufu payment show {}",
                args.number
            ),
        });
    }
    Ok(())
}

fn print(view: &PaymentView, json: bool) -> Outcome {
    if json {
        return output::json(view);
    }
    let mut table = output::table(&["Payment", &view.out_trade_no], &[]);
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.add_row([name.to_owned(), value]);
        }
    };
    row("state", Some(format!("{}: {}", view.state, meaning(&view.state))));
    row("held", view.held.clone().map(|held| format!("{held}: waits for an operator; do not charge again")));
    row("amount", view.amount_fen.map(|fen| format!("{} CNY", yuan(fen))));
    row("merchant", Some(format!("#{}", view.merchant)));
    row("wallet's number", view.transaction_id.clone());
    row("cause", view.cause.clone());
    row("failure", view.failure.as_ref().map(|why| format!("{} {}", why.code, why.message)));
    row("till's reversal", view.till_reversal.clone());
    row("accepted", Some(view.accepted_at.clone()));
    row("changed", Some(format!("{} (version {})", view.changed_at, view.version)));
    output::line(table);
    Ok(())
}

/// What a state means for the money.
fn meaning(state: &str) -> &'static str {
    match state {
        "paid" => "the merchant has the money",
        "failed" => "not paid, no money is kept",
        "reversed" => "closed or returned, proven",
        "reversing" => "will not be paid; money that was taken goes back, not proven yet",
        "awaiting_password" => "the customer is asked for the password; money may move",
        _ => "the outcome is not known yet; money may have moved",
    }
}
