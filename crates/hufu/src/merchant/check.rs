//! `hufu merchant check`: whether the wallet takes a merchant's requests.

use clap::Args;
use gateway::acquirer::wechat_v2::{Finding, SubMerchant};
use gateway::admin::{Command, MerchantRef, MerchantView};
use gateway::config::Config;
use gateway::switch::acquirer;
use protocol::{MchId, OutTradeNo};
use serde_json::json;
use state_machine::ProviderId;

use crate::exit::{Failure, Outcome};
use crate::link::{Link, command, one};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Checks that merchants can take payments: asks the wallet for an order that does not exist.
///
/// That is a harmless orderquery for each merchant, and another one over the connections that carry reversals: a
/// signed "no such order" proves the provider's key, its appid, the binding of the sub-merchant, and the client
/// certificate. Nothing is paid, reversed or recorded.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu merchant check
  hufu merchant check 1900000201
  hufu merchant check '#7' --json

What is found (\"check\" in JSON; \"what\" has the words):
  ok              the wallet takes its requests
  wrong_key       the provider's key is not the one that the wallet has
  wrong_provider  the provider's mch_id or appid is unknown, or they do not belong together
  not_bound       the sub-merchant or its sub_appid is not bound to the provider
  certificate     no client certificate, an ended one, or one that the wallet does not accept
  refused         the wallet refuses for another reason
  configuration   the merchant's provider is not in the configuration, or not in the running switch
  unreachable     no connection to the wallet
  unclear         the wallet answered, but nothing that proves anything; repeat

Exits 0 if all is well, also for a disabled merchant; 1 if a merchant cannot take payments; 69 if the wallet is
unreachable or unclear and nothing else is wrong.")]
pub(super) struct CheckArgs {
    /// #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID]; every merchant if left out.
    merchant: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// What a check came to.
struct Checked {
    /// The word for programs.
    word: &'static str,
    /// The words for people.
    what: String,
    kind: Kind,
}

/// What it means for the exit code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Bad,
    Silent,
}

/// Runs the verb.
pub(super) fn run(args: &CheckArgs) -> Outcome {
    let config = load(&args.config.config)?;
    let mut link = Link::open(&config)?;
    let all = link.merchants()?;
    let wanted: Vec<&MerchantView> = match &args.merchant {
        Some(text) => vec![one(&all, text)?],
        None => all.iter().collect(),
    };
    if wanted.is_empty() {
        return Err(Failure::failed(
            "there is no merchant to check; hufu merchant add --help says how to add one",
        ));
    }
    let runtime = crate::runtime()?;
    let (mut bad, mut silent) = (0_usize, 0_usize);
    let mut table = output::table(&["#", "mch_id", "Check"], &[0]);
    for view in wanted {
        let Checked { word, mut what, kind } = runtime.block_on(check(&config, &link, view));
        bad = bad.saturating_add(usize::from(kind == Kind::Bad));
        silent = silent.saturating_add(usize::from(kind == Kind::Silent));
        if view.status != "active" {
            what.push_str("; it is disabled here, and its new payments are refused");
        }
        if args.json.json {
            let MerchantView { merchant, mch_id, sub_mch_id, status, .. } = view;
            output::json(&json!({
                "merchant": merchant, "mch_id": mch_id, "sub_mch_id": sub_mch_id, "status": status,
                "check": word, "what": what,
            }))?;
        }
        table.add_row([view.merchant.to_string(), view.mch_id.clone(), format!("{word}: {what}")]);
    }
    if !args.json.json {
        output::line(table);
    }
    match (bad, silent) {
        (0, 0) => Ok(()),
        (0, _) => {
            Err(Failure::unavailable(format!("{silent} merchants could not be checked. No money has moved.")))
        }
        (_, _) => Err(Failure::failed(format!("{bad} merchants cannot take payments. No money has moved."))),
    }
}

async fn check(config: &Config, link: &Link, view: &MerchantView) -> Checked {
    let configuration = |what: String| Checked { word: "configuration", what, kind: Kind::Bad };
    let Some(provider) = config.providers.iter().find(|one| one.mch_id.as_str() == view.provider) else {
        return configuration(format!("its provider {} is not in the configuration", view.provider));
    };
    if let Link::Switch(socket) = link {
        let of = MerchantRef::Id { merchant: view.merchant };
        if let Err(failure) = command::<MerchantView>(socket, &Command::MerchantCheck { of }) {
            return configuration(failure.text);
        }
    }
    let acquirer =
        // Only records name the number of a provider.
        match acquirer(provider, ProviderId(0)).map_err(|err| err.to_string()) {
            Ok(acquirer) => acquirer,
            Err(why) => return configuration(why),
        };
    let (Ok(sub_mch_id), Ok(number)) = (view.upstream_sub_mch_id.parse::<MchId>(), unused_number()) else {
        return configuration(format!("its number at the wallet is malformed: {}", view.upstream_sub_mch_id));
    };
    let sub_appid = view.sub_appid.as_deref().and_then(|appid| appid.parse().ok());
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: sub_appid.as_ref() };
    told(&acquirer.check(merchant, &number, gateway::switch::wall()).await, view)
}

/// A number that no payment has.
fn unused_number() -> Result<OutTradeNo, protocol::IdError> {
    format!("HUFU-CHECK-{}", gateway::switch::wall().0).parse()
}

/// What was found, and what to do about it.
fn told(finding: &Finding, view: &MerchantView) -> Checked {
    let (kind, what) = match finding {
        Finding::Good => (Kind::Good, "the wallet takes its requests".to_owned()),
        Finding::WrongKey(why) => (
            Kind::Bad,
            format!(
                "the key of provider {} is not the wallet's: {why}; copy the API key again",
                view.provider
            ),
        ),
        Finding::WrongProvider(why) => {
            (Kind::Bad, format!("the wallet does not know provider {} with this appid: {why}", view.provider))
        }
        Finding::NotBound(why) => (
            Kind::Bad,
            format!(
                "{} is not bound to provider {} at the wallet: {why}",
                view.sub_appid.as_ref().map_or_else(
                    || view.upstream_sub_mch_id.clone(),
                    |appid| format!("{} with {appid}", view.upstream_sub_mch_id)
                ),
                view.provider
            ),
        ),
        Finding::Refused(why) => (Kind::Bad, format!("the wallet refuses the request: {why}")),
        Finding::Certificate(why) => (Kind::Bad, format!("{why}: no payment could be reversed")),
        Finding::Unreachable(why) => (Kind::Silent, format!("{why}; check its hosts and the network")),
        Finding::Unclear(why) => (Kind::Silent, format!("the wallet gave no clear answer: {why}; repeat")),
    };
    Checked { word: finding.as_str(), what, kind }
}
