//! `hufu merchant rotate`: new keys for a merchant, and the old ones for as long as tills change over.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use gateway::admin::{Command, MerchantRef, MerchantView, NewKeys, new_api_key};
use gateway::config::Config;
use serde_json::{Map, Value, json};
use state_machine::MerchantId;
use store::MerchantBook;

use super::add::new_signing_key;
use crate::exit::{Failure, Outcome};
use crate::link::{Undone, command, one, running, try_command};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Gives a merchant new keys; the ones before are taken too, until --finish or for as long as --keep says.
///
/// Change the keys here, then till by till, then finish. A till is always answered with the key that it signed with.
/// While an earlier change of the same key lasts, another one is refused: tills could have either key. New keys are shown,
/// or written to --out, before the switch is told of them, so that a command that is cut off loses none; with --json and
/// without --out they are shown at its end.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["signing_key", "signing_key_file", "api_key"]).multiple(true), after_help = "\
Examples:
  hufu merchant rotate 1900000201                          both keys that it has
  hufu merchant rotate 1900000201 --api-key --keep 7d
  hufu merchant rotate '#7' --signing-key-file till.key
  hufu merchant rotate '#7' --json --out new-keys.json     for scripts: on the disk before they are taken
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
    /// A file that must not exist yet, for the new keys as JSON; only its owner may read it. Nothing is shown then.
    #[arg(long, value_name = "FILE", conflicts_with = "finish")]
    out: Option<PathBuf>,
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
    let book = Book::open(&config)?;
    if args.finish { finish(args, book) } else { change(args, book) }
}

/// New keys for a merchant, those that are made here apart from one that was given.
struct Fresh {
    merchant: u32,
    signing_key: Option<String>,
    given: Option<String>,
    api_key: Option<String>,
}

impl Fresh {
    fn make(args: &RotateArgs, view: &MerchantView) -> Result<Self, Failure> {
        let random =
            |err: getrandom::Error| Failure::internal(format!("no randomness: {err}. Nothing was changed."));
        let all = !(args.signing_key || args.signing_key_file.is_some() || args.api_key);
        let given = args.signing_key_file.as_deref().map(super::read).transpose()?;
        let makes = given.is_none() && (args.signing_key || all);
        let makes_api_key = args.api_key || (all && view.has_api_key);
        Ok(Self {
            merchant: view.merchant,
            signing_key: makes.then(new_signing_key).transpose().map_err(random)?,
            given: given.map(|text| text.trim_end_matches('\n').to_owned()),
            api_key: makes_api_key.then(new_api_key).transpose().map_err(random)?,
        })
    }

    /// Those that nobody has yet, by their names.
    fn made(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let signing_key = self.signing_key.iter().map(|key| ("signing_key", key));
        signing_key.chain(self.api_key.iter().map(|key| ("api_key", key)))
    }

    fn json(&self) -> Map<String, Value> {
        let mut shown = Map::from_iter([("merchant".to_owned(), json!(self.merchant))]);
        shown.extend(self.made().map(|(name, key)| (name.to_owned(), json!(key))));
        shown
    }

    /// Writes them into a new file that only its owner may read, and to the disk.
    fn keep(&self, file: &Path) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut out = options.write(true).create_new(true).mode(0o600).open(file)?;
        writeln!(out, "{}", Value::Object(self.json()))?;
        out.sync_all()?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// New keys are shown or kept before anybody may take them: whatever happens afterwards, they are not lost.
fn change(args: &RotateArgs, mut book: Book) -> Outcome {
    let fresh = Fresh::make(args, &book.find(&args.merchant)?)?;
    let made = fresh.made().next().is_some();
    if let Some(file) = &args.out {
        fresh
            .keep(file)
            .map_err(|err| Failure::usage(format!("{}: {err}. Nothing was changed.", file.display())))?;
    } else if made && !args.json.json {
        output::line(format!("New keys for merchant #{}, shown this once; not taken yet:", fresh.merchant));
        for (name, key) in fresh.made() {
            output::line(format!("  {:<14}{key}", word(name)));
        }
    }
    let keys = NewKeys {
        signing_key: fresh.signing_key.clone().or_else(|| fresh.given.clone()),
        api_key: fresh.api_key.clone(),
    };
    let view = match book.rotate(fresh.merchant, keys, args.keep) {
        Ok(view) => view,
        Err(undone) => return Err(undone_with(args, &fresh, undone)),
    };
    if let Some(why) = &view.not_in_use {
        let why = format!(
            "the store has the new keys, but the switch goes on with the ones before: {why}. It takes them when it \
             is started again"
        );
        return Err(undone_with(args, &fresh, Undone::Unknown(Failure::internal(why))));
    }
    if args.json.json {
        let mut shown = serde_json::to_value(&view).map_err(|err| Failure::internal(err.to_string()))?;
        if let (Some(fields), None) = (shown.as_object_mut(), &args.out) {
            fields.extend(fresh.json());
        }
        return output::json(&shown);
    }
    output::line(format!("Merchant #{} has new keys; they are taken now.", view.merchant));
    if let Some(file) = &args.out {
        output::line(format!("They are in {}.", file.display()));
    }
    let signing_key = fresh.signing_key.is_some() || fresh.given.is_some();
    for kind in [signing_key.then_some("signing_key"), fresh.api_key.is_some().then_some("api_key")] {
        let Some(kind) = kind else { continue };
        let previous = view.previous_keys.iter().find(|previous| previous.kind == kind);
        output::line(match previous.map(|previous| previous.until.as_deref()) {
            None => format!("The {} before is not taken any more.", word(kind)),
            Some(None) => {
                format!("The {} before is taken too, until hufu merchant rotate --finish.", word(kind))
            }
            Some(Some(until)) => format!("The {} before is taken too, until {until}.", word(kind)),
        });
    }
    Ok(())
}

/// A kind of key, for people.
fn word(kind: &str) -> &str {
    if kind == "api_key" { "API key" } else { "signing key" }
}

/// Says what is to be done with keys of which it is not known whether they are taken.
fn undone_with(args: &RotateArgs, fresh: &Fresh, undone: Undone) -> Failure {
    match undone {
        Undone::Refused(failure) => {
            if let Some(file) = &args.out {
                // They were never taken, and nobody else has them.
                let _ = fs::remove_file(file);
            }
            failure
        }
        Undone::Unknown(failure) => {
            let whereabouts = match &args.out {
                Some(file) => format!("They are in {}", file.display()),
                None if args.json.json => {
                    output::line(Value::Object(fresh.json()));
                    "They are on standard output".to_owned()
                }
                None => "They are shown above".to_owned(),
            };
            let text = format!(
                "{}. It is not known whether the new keys are taken. {whereabouts}: keep them. hufu merchant list --json \
                 shows under previous_keys whether they are.",
                failure.text.trim_end_matches('.')
            );
            Failure { text, ..failure }
        }
    }
}

fn finish(args: &RotateArgs, mut book: Book) -> Outcome {
    let before = book.find(&args.merchant)?;
    let view = book.finish(before.merchant)?;
    if args.json.json {
        return output::json(&view);
    }
    output::line(if before.previous_keys.is_empty() {
        format!("Merchant #{} had no other keys; nothing has changed.", view.merchant)
    } else {
        format!("Merchant #{}: only its present keys are taken now.", view.merchant)
    });
    Ok(())
}

/// Where merchants are changed: by the running switch, or else in the store under its lock.
enum Book {
    Switch(PathBuf),
    Store(Box<MerchantBook>),
}

impl Book {
    fn open(config: &Config) -> Result<Self, Failure> {
        Ok(match running(config)? {
            Some(socket) => Self::Switch(socket),
            None => Self::Store(Box::new(super::open_book(config, "changed")?)),
        })
    }

    fn find(&mut self, which: &str) -> Result<MerchantView, Failure> {
        let all: Vec<MerchantView> = match self {
            Self::Switch(socket) => command(socket, &Command::MerchantList)?,
            Self::Store(book) => {
                let all = book.merchants();
                let all = all.map_err(|err| Failure::internal(format!("nothing was changed: {err}")))?;
                all.rows.iter().map(MerchantView::of).collect()
            }
        };
        one(&all, which).cloned()
    }

    fn rotate(&mut self, merchant: u32, keys: NewKeys, keep_ms: Option<u64>) -> Result<MerchantView, Undone> {
        match self {
            Self::Switch(socket) => {
                let of = MerchantRef::Id { merchant };
                try_command(socket, &Command::MerchantRotate { of, keys, keep_ms })
            }
            // A commit that fails may be there all the same.
            Self::Store(book) => {
                let now = gateway::switch::wall();
                let rotated = gateway::admin::rotate(book, MerchantId(merchant), &keys, keep_ms, now);
                rotated.map_err(|why| Undone::Unknown(Failure::failed(why)))
            }
        }
    }

    fn finish(&mut self, merchant: u32) -> Result<MerchantView, Failure> {
        match self {
            Self::Switch(socket) => {
                command(socket, &Command::MerchantRotateFinish { of: MerchantRef::Id { merchant } })
            }
            Self::Store(book) => {
                gateway::admin::finish_rotation(book, MerchantId(merchant)).map_err(Failure::failed)
            }
        }
    }
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
