//! `hufu merchant`: who may be paid.

mod add;
mod certificate;
mod check;
mod csv;
mod rotate;
mod set;
mod setting;
mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gateway::admin::{Command, Form, MerchantView};
use gateway::config::Config;
use state_machine::Channel;
use store::merchant::Status;
use store::{MerchantBook, Options, SqliteStore};

use crate::exit::{Failure, Outcome};
use crate::link::{Link, command, running};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Adds, imports, lists, changes, checks, disables or enables merchants, and gives them new keys.
#[derive(Debug, Args)]
pub(crate) struct MerchantArgs {
    #[command(subcommand)]
    verb: MerchantVerb,
}

#[derive(Debug, Subcommand)]
enum MerchantVerb {
    Add(Box<add::AddArgs>),
    Import(ImportArgs),
    List(ListArgs),
    Set(set::SetArgs),
    Certificate(certificate::CertificateArgs),
    Check(check::CheckArgs),
    Rotate(rotate::RotateArgs),
    Disable(status::DisableArgs),
    Enable(status::EnableArgs),
}

/// Adds every merchant of a CSV file, or none.
#[derive(Debug, Args)]
#[command(after_help = csv::help())]
struct ImportArgs {
    /// The file; - for standard input.
    file: PathBuf,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    json: JsonFlag,
}

/// Lists merchants, without keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hufu merchant list\n  hufu merchant list --json | jq -r .mch_id")]
struct ListArgs {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    json: JsonFlag,
}

impl MerchantArgs {
    /// Whether results go out as JSON.
    pub(crate) const fn json(&self) -> bool {
        match &self.verb {
            MerchantVerb::Add(args) => args.json.json,
            MerchantVerb::Import(args) => args.json.json,
            MerchantVerb::List(args) => args.json.json,
            MerchantVerb::Set(args) => args.json.json,
            MerchantVerb::Certificate(args) => args.json.json,
            MerchantVerb::Check(args) => args.json.json,
            MerchantVerb::Rotate(args) => args.json.json,
            MerchantVerb::Disable(args) => args.which.json.json,
            MerchantVerb::Enable(args) => args.which.json.json,
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &MerchantArgs) -> Outcome {
    match &args.verb {
        MerchantVerb::Add(args) => add::run(args),
        MerchantVerb::Import(args) => {
            let config = load(&args.config.config)?;
            let text = read(&args.file)?;
            let forms = csv::forms(&text, only_provider(&config).as_deref()).map_err(|why| {
                Failure::usage(format!("{}: {why}. Nothing was added.", args.file.display()))
            })?;
            let added = store_merchants(&config, forms)?;
            if args.json.json {
                return added.iter().try_for_each(output::json);
            }
            output::line(format!("{} merchants added; they can take payments now.", added.len()));
            Ok(())
        }
        MerchantVerb::List(args) => {
            let config = load(&args.config.config)?;
            let all = Link::open(&config)?.merchants()?;
            print(&all, args.json.json)
        }
        MerchantVerb::Set(args) => set::run(args),
        MerchantVerb::Certificate(args) => certificate::run(args),
        MerchantVerb::Check(args) => check::run(args),
        MerchantVerb::Rotate(args) => rotate::run(args),
        MerchantVerb::Disable(args) => status::run(&args.which, Status::Disabled),
        MerchantVerb::Enable(args) => status::run(&args.which, Status::Active),
    }
}

/// The provider that is meant where none is named.
fn only_provider(config: &Config) -> Option<String> {
    match config.providers.as_slice() {
        [provider] => Some(provider.mch_id.to_string()),
        [..] => None,
    }
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|err| Failure::usage(format!("{}: {err}. Nothing was added.", file.display())))
}

/// Adds merchants through the running switch, or else into the store under its lock.
fn store_merchants(config: &Config, forms: Vec<Form>) -> Result<Vec<MerchantView>, Failure> {
    if let Some(socket) = running(config)? {
        return command(&socket, &Command::MerchantAdd { merchants: forms });
    }
    let mut book = open_book(config, "added")?;
    let internal = |err: &dyn std::fmt::Display| Failure::internal(format!("nothing was added: {err}"));
    for provider in &config.providers {
        book.provider(Channel::WechatV2, &provider.mch_id).map_err(|err| internal(&err))?;
    }
    gateway::admin::add(&mut book, &forms, gateway::switch::wall()).map_err(Failure::failed)
}

/// How the tills are answered; only what the merchant has set.
fn answers(view: &MerchantView) -> String {
    let ms = |name: &str, ms: Option<u32>| ms.map_or_else(String::new, |ms| format!(", {name} {ms} ms"));
    let rate = view.per_second.map_or_else(String::new, |rate| format!(", {rate}/s"));
    let burst = view.burst.map_or_else(String::new, |burst| format!(", {burst} at once"));
    let absent = view.absent_till.as_ref().map_or_else(String::new, |rule| format!(", absent till {rule}"));
    let after = ms("absent after", view.absent_after_ms);
    let (hold, poll) = (ms("hold", view.hold_ms), ms("poll", view.long_poll_ms));
    format!("{}{hold}{poll}{rate}{burst}{absent}{after}", view.mode)
}

/// Opens the merchants of the store under its lock; where that fails, nothing was `done`.
fn open_book(config: &Config, done: &str) -> Result<MerchantBook, Failure> {
    let store = SqliteStore::open(&config.store.path, &config.store.seal_key, Options::default())
        .map_err(|err| Failure::unavailable(format!("nothing was {done}: {err}")))?;
    store.merchant_book().map_err(|err| Failure::internal(format!("nothing was {done}: {err}")))
}

fn print(all: &[MerchantView], json: bool) -> Outcome {
    if json {
        return all.iter().try_for_each(output::json);
    }
    let header =
        ["#", "mch_id", "sub_mch_id", "appid", "Provider", "At the wallet", "JSON", "Answers", "Status"];
    let mut table = output::table(&header, &[0]);
    for view in all {
        table.add_row([
            view.merchant.to_string(),
            view.mch_id.clone(),
            view.sub_mch_id.clone().unwrap_or_default(),
            view.appid.clone(),
            view.provider.clone(),
            view.upstream_sub_mch_id.clone(),
            if view.has_api_key { "key" } else { "" }.to_owned(),
            answers(view),
            view.status.clone(),
        ]);
    }
    output::line(table);
    output::line(match all.len() {
        0 => "There is no merchant; hufu merchant add --help says how to add one.".to_owned(),
        count => format!("{count} in all."),
    });
    Ok(())
}
