//! `hufu merchant rotate`: new keys for a merchant, and the old ones for as long as tills change over.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use gateway::admin::{Command, MerchantRef, MerchantView, NewKeys, new_api_key};
use gateway::config::Config;
use serde_json::json;
use state_machine::MerchantId;

use super::add::new_signing_key;
use crate::exit::{Failure, Outcome};
use crate::link::{command, one, running};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Gives a merchant new keys; the ones before are taken too, until --finish or for as long as --keep says.
///
/// Change the keys here, then till by till, then finish. A till is always answered with the key that it signed with.
/// While an earlier change of the same key lasts, another one is refused: tills could have either key.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["signing_key", "signing_key_file", "api_key"]).multiple(true), after_help = "\
Examples:
  hufu merchant rotate 1900000201                          both keys that it has
  hufu merchant rotate 1900000201 --api-key --keep 7d
  hufu merchant rotate '#7' --signing-key-file till.key
  hufu merchant rotate '#7' --keep 0s                      a key that has leaked: the one before ends at once
  hufu merchant rotate '#7' --finish                       takes the new keys only

hufu merchant list --json shows what is still taken, under previous_keys.")]
pub(super) struct RotateArgs {
    /// #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID].
    merchant: String,
    /// A new key for what its tills sign with.
    #[arg(long)]
    signing_key: bool,
    /// That key, from a file: 32 letters or digits; - for standard input.
    #[arg(long, value_name = "FILE")]
    signing_key_file: Option<PathBuf>,
    /// A new key for the JSON API.
    #[arg(long)]
    api_key: bool,
    /// How long the keys before are taken: 90s, 30m, 12h or 7d [default: until --finish].
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    keep: Option<u64>,
    /// End the change: only the present keys are taken from now on.
    #[arg(long, conflicts_with_all = ["what", "keep"])]
    finish: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// Reads a number with s, m, h or d behind it; in milliseconds.
fn milliseconds(text: &str) -> Result<u64, String> {
    let unit_ms = match text.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000_u64,
        Some(_) | None => return Err("is no number with s, m, h or d behind it".to_owned()),
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|digits| digits.parse::<u64>().ok());
    let whole = number.and_then(|number| number.checked_mul(unit_ms)).filter(|ms| *ms <= KEEP_MS_MAX);
    whole.ok_or_else(|| "is no number with s, m, h or d behind it, of a year at most".to_owned())
}

/// The longest `--keep`: a year, in milliseconds.
const KEEP_MS_MAX: u64 = 366 * 86_400_000;

/// Runs the verb.
pub(super) fn run(args: &RotateArgs) -> Outcome {
    let config = load(&args.config.config)?;
    if args.finish {
        return finish(args, &config);
    }
    let random =
        |err: getrandom::Error| Failure::internal(format!("no randomness: {err}. Nothing was changed."));
    let all = !(args.signing_key || args.signing_key_file.is_some() || args.api_key);
    let given = args.signing_key_file.as_deref().map(super::read).transpose()?;
    let given = given.map(|text| text.trim_end_matches('\n').to_owned());
    let made = match given {
        None if args.signing_key || all => Some(new_signing_key().map_err(random)?),
        Some(_) | None => None,
    };
    let new_api_key = new_api_key().map_err(random)?;
    let (view, api_key) = change(args, &config, |view| {
        let api_key = (args.api_key || (all && view.has_api_key)).then(|| new_api_key.clone());
        let of = MerchantRef::Id { merchant: view.merchant };
        let signing_key = made.clone().or_else(|| given.clone());
        let keys = NewKeys { signing_key, api_key: api_key.clone() };
        let rotate = Command::MerchantRotate { of, keys, keep_ms: args.keep };
        (rotate, api_key)
    })?;
    if args.json.json {
        let mut shown = serde_json::to_value(&view).map_err(|err| Failure::internal(err.to_string()))?;
        if let Some(fields) = shown.as_object_mut() {
            fields.extend(made.map(|key| ("signing_key".to_owned(), json!(key))));
            fields.extend(api_key.map(|key| ("api_key".to_owned(), json!(key))));
        }
        return output::json(&shown);
    }
    output::line(format!("Merchant #{} has new keys; they are taken now.", view.merchant));
    let signing_key = made.is_some() || given.is_some();
    for (name, kind, _) in
        [("signing key", "signing_key", signing_key), ("API key", "api_key", api_key.is_some())]
            .into_iter()
            .filter(|(_, _, changed)| *changed)
    {
        let previous = view.previous_keys.iter().find(|previous| previous.kind == kind);
        output::line(match previous.map(|previous| previous.until.as_deref()) {
            None => format!("The {name} before is not taken any more."),
            Some(None) => {
                format!("The {name} before is taken too, until hufu merchant rotate --finish.")
            }
            Some(Some(until)) => format!("The {name} before is taken too, until {until}."),
        });
    }
    if made.is_some() || api_key.is_some() {
        output::line("\nThe new keys, shown this once:");
    }
    if let Some(key) = made {
        output::line(format!("  signing key   {key}"));
    }
    if let Some(key) = api_key {
        output::line(format!("  API key       {key}"));
    }
    Ok(())
}

fn finish(args: &RotateArgs, config: &Config) -> Outcome {
    let mut changing = false;
    let (view, ()) = change(args, config, |view| {
        changing = !view.previous_keys.is_empty();
        (Command::MerchantRotateFinish { of: MerchantRef::Id { merchant: view.merchant } }, ())
    })?;
    if args.json.json {
        return output::json(&view);
    }
    output::line(if changing {
        format!("Merchant #{}: only its present keys are taken now.", view.merchant)
    } else {
        format!("Merchant #{} had no other keys; nothing has changed.", view.merchant)
    });
    Ok(())
}

/// Has a command about the merchant carried out: by the running switch, or else in the store under its lock.
fn change<T>(
    args: &RotateArgs,
    config: &Config,
    of: impl FnOnce(&MerchantView) -> (Command, T),
) -> Result<(MerchantView, T), Failure> {
    if let Some(socket) = running(config)? {
        let all: Vec<MerchantView> = command(&socket, &Command::MerchantList)?;
        let (asked, kept) = of(one(&all, &args.merchant)?);
        return Ok((command(&socket, &asked)?, kept));
    }
    let mut book = super::open_book(config, "changed")?;
    let all = book.merchants().map_err(|err| Failure::internal(format!("nothing was changed: {err}")))?;
    let views: Vec<MerchantView> = all.rows.iter().map(MerchantView::of).collect();
    let view = one(&views, &args.merchant)?;
    let id = MerchantId(view.merchant);
    let (asked, kept) = of(view);
    let changed = if let Command::MerchantRotate { keys, keep_ms, .. } = asked {
        gateway::admin::rotate(&mut book, id, &keys, keep_ms, gateway::switch::wall())
    } else {
        gateway::admin::finish_rotation(&mut book, id)
    };
    Ok((changed.map_err(Failure::failed)?, kept))
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_have_a_unit_and_a_bound() {
        for (text, ms) in
            [("0s", Some(0)), ("90s", Some(90_000)), ("30m", Some(1_800_000)), ("7d", Some(604_800_000))]
        {
            assert_eq!(milliseconds(text).ok(), ms, "{text}");
        }
        for text in ["", "7", "d", "-1d", "1.5h", "367d", "99999999999999999999d", "7days", "七"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }
}
