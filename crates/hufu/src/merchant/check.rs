//! `hufu merchant check`: whether the wallet takes a merchant's requests.

use clap::Args;
use gateway::acquirer::wechat_v2::SubMerchant;
use gateway::admin::{Command, MerchantRef, MerchantView};
use gateway::config::Config;
use gateway::switch::acquirer;
use protocol::fact::QueryFact;
use protocol::wechat_v2::verdict::{Alarm, Verdict};
use protocol::{MchId, OutTradeNo};
use serde_json::json;
use state_machine::ProviderId;

use crate::exit::{Failure, Outcome};
use crate::link::{Link, command, one};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Checks that merchants can take payments: asks the wallet for an order that does not exist.
///
/// That is one harmless orderquery for each merchant: a signed "no such order" proves the provider's key, its
/// appid, and the binding of the sub-merchant.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu merchant check
  hufu merchant check 1900000201
  hufu merchant check '#7' --json

Exits 1 if a merchant cannot take payments, 69 if the wallet is silent.")]
pub(super) struct CheckArgs {
    /// #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID]; every merchant if left out.
    merchant: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// What a check found.
enum Found {
    Good,
    Bad(String),
    Silent(String),
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
        let (word, text) = match runtime.block_on(check(&config, &link, view)) {
            Found::Good => ("ok", "the wallet takes its requests".to_owned()),
            Found::Bad(why) => {
                bad = bad.saturating_add(1);
                ("bad", why)
            }
            Found::Silent(why) => {
                silent = silent.saturating_add(1);
                ("silent", why)
            }
        };
        if args.json.json {
            let line =
                json!({ "merchant": view.merchant, "mch_id": view.mch_id, "check": word, "what": text });
            output::json(&line)?;
        }
        table.add_row([view.merchant.to_string(), view.mch_id.clone(), format!("{word}: {text}")]);
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

async fn check(config: &Config, link: &Link, view: &MerchantView) -> Found {
    if view.status != "active" {
        return Found::Bad("it is disabled: new payments are refused".to_owned());
    }
    let Some(provider) = config.providers.iter().find(|one| one.mch_id.as_str() == view.provider) else {
        return Found::Bad(format!("its provider {} is not in the configuration", view.provider));
    };
    if let Link::Switch(socket) = link {
        let of = MerchantRef::Id { merchant: view.merchant };
        if let Err(failure) = command::<MerchantView>(socket, &Command::MerchantCheck { of }) {
            return Found::Bad(failure.text);
        }
    }
    let acquirer =
        // Only records name the number of a provider.
        match acquirer(provider, ProviderId(0)).map_err(|err| err.to_string()) {
            Ok(acquirer) => acquirer,
            Err(why) => return Found::Bad(why),
        };
    let (Ok(sub_mch_id), Ok(number)) = (view.upstream_sub_mch_id.parse::<MchId>(), unused_number()) else {
        return Found::Bad(format!("its number at the wallet is malformed: {}", view.upstream_sub_mch_id));
    };
    let sub_appid = view.sub_appid.as_deref().and_then(|appid| appid.parse().ok());
    let merchant = SubMerchant { sub_mch_id: &sub_mch_id, sub_appid: sub_appid.as_ref() };
    judge(&acquirer.query(merchant, &number, None, false, None).await)
}

/// A number that no payment has.
fn unused_number() -> Result<OutTradeNo, protocol::IdError> {
    format!("HUFU-CHECK-{}", gateway::switch::wall().0).parse()
}

/// What the answer says of keys and bindings.
fn judge(verdict: &Verdict<QueryFact>) -> Found {
    let refused = |why: &str| Found::Bad(why.to_owned());
    match (&verdict.fact, verdict.alarm) {
        (QueryFact::Unclear, Some(Alarm::UnsignedRefusal)) => refused(
            "the wallet refuses the request: wrong key or appid of the provider, or the sub-merchant is not bound \
             to it",
        ),
        (QueryFact::Unclear, Some(Alarm::NotVerified)) => {
            refused("the wallet's answer is not signed with the provider's key")
        }
        (QueryFact::Unclear, Some(alarm)) => {
            refused(&format!("the wallet's answer does not fit: {}", alarm.as_str()))
        }
        (QueryFact::Unclear, None) => Found::Silent(
            "the wallet gave no clear answer; check its hosts and the network, then repeat".to_owned(),
        ),
        (
            QueryFact::NotFound
            | QueryFact::Paid(_)
            | QueryFact::InProgress
            | QueryFact::Unpaid
            | QueryFact::UnknownState
            | QueryFact::PayError
            | QueryFact::Closed
            | QueryFact::Revoked
            | QueryFact::Returned(_),
            _,
        ) => Found::Good,
    }
}
