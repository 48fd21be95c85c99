//! `hufu merchant add`.

use std::path::PathBuf;

use clap::Args;
use gateway::admin::{Form, new_api_key};
use serde_json::json;

use super::setting::SettingArgs;
use crate::exit::{Failure, Outcome};
use crate::output;
use crate::settings::{ConfigFlag, JsonFlag, load};

/// Adds a merchant; it can take payments at once.
///
/// A signing key and a key for the JSON API are made and shown once, unless they are given. Only the merchant
/// needs them: the store keeps the signing key sealed, and of the API key a digest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hufu merchant add --mch-id 1900000201 --appid wx0000000000000001 --upstream 1900000111
  hufu merchant add --mch-id 1900000109 --sub-mch-id 1900000113 --appid wxd930ea5d5a258f4f \\
      --upstream 1900000113 --signing-key-file till.key --no-api-key
  hufu merchant add --mch-id 1900000202 --appid wx0000000000000001 --upstream 1900000112 \\
      --mode hold --hold-ms 20000 --absent-till reverse")]
pub(super) struct AddArgs {
    /// What its tills send as mch_id.
    #[arg(long, value_name = "MCH_ID")]
    mch_id: String,
    /// What its tills send as sub_mch_id, if they send one.
    #[arg(long, value_name = "SUB_MCH_ID")]
    sub_mch_id: Option<String>,
    /// What its tills send as appid.
    #[arg(long, value_name = "APPID")]
    appid: String,
    /// The provider account that carries it; may be left out if there is only one.
    #[arg(long, value_name = "MCH_ID")]
    provider: Option<String>,
    /// Its sub_mch_id at the wallet.
    #[arg(long, value_name = "SUB_MCH_ID")]
    upstream: String,
    /// Its sub_appid at the wallet, if it has one.
    #[arg(long, value_name = "APPID")]
    sub_appid: Option<String>,
    /// A file with the key that its tills sign with, 32 letters or digits; - for standard input.
    #[arg(long, value_name = "FILE")]
    signing_key_file: Option<PathBuf>,
    /// Make no key for the JSON API.
    #[arg(long)]
    no_api_key: bool,
    /// Which signatures are taken: md5, hmac-sha256, or "md5,hmac-sha256" [default: both].
    #[arg(long, value_name = "KINDS")]
    sign_kinds: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    pub(super) json: JsonFlag,
}

/// Runs the verb.
pub(super) fn run(args: &AddArgs) -> Outcome {
    let config = load(&args.config.config)?;
    let provider = args.provider.clone().or_else(|| super::only_provider(&config)).ok_or_else(|| {
        Failure::usage("there are several providers: say with --provider which carries the merchant")
    })?;
    let random =
        |err: getrandom::Error| Failure::internal(format!("no randomness: {err}. Nothing was added."));
    let signing_key = match &args.signing_key_file {
        Some(file) => super::read(file)?.trim_end_matches('\n').to_owned(),
        None => new_signing_key().map_err(random)?,
    };
    let api_key = if args.no_api_key { None } else { Some(new_api_key().map_err(random)?) };
    let form = Form {
        mch_id: args.mch_id.clone(),
        sub_mch_id: args.sub_mch_id.clone(),
        appid: args.appid.clone(),
        provider,
        upstream_sub_mch_id: args.upstream.clone(),
        sub_appid: args.sub_appid.clone(),
        signing_key: signing_key.clone(),
        api_key: api_key.clone(),
        sign_kinds: args.sign_kinds.clone(),
        settings: args.settings.changes.clone(),
    };
    let added = super::store_merchants(&config, vec![form])?;
    let view = added.first().ok_or_else(|| Failure::internal("the merchant was not added"))?;
    let made = args.signing_key_file.is_none().then_some(signing_key);
    if args.json.json {
        let mut shown = serde_json::to_value(view).map_err(|err| Failure::internal(err.to_string()))?;
        if let Some(fields) = shown.as_object_mut() {
            fields.extend(made.map(|key| ("signing_key".to_owned(), json!(key))));
            fields.extend(api_key.map(|key| ("api_key".to_owned(), json!(key))));
        }
        return output::json(&shown);
    }
    output::line(format!("Merchant #{} added; it can take payments now.", view.merchant));
    if made.is_some() || api_key.is_some() {
        output::line("\nIts keys, shown this once:");
    }
    if let Some(key) = made {
        output::line(format!("  signing key   {key}"));
    }
    if let Some(key) = api_key {
        output::line(format!("  API key       {key}"));
    }
    Ok(())
}

/// 32 letters and digits, over 160 bits from the kernel.
pub(super) fn new_signing_key() -> Result<String, getrandom::Error> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random)?;
    let letters = random.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 31)));
    Ok(letters.map(|letter| char::from(*letter)).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn new_signing_keys_have_the_shape_and_differ() {
        let (one, other) = (super::new_signing_key().unwrap(), super::new_signing_key().unwrap());
        assert!(signer::Key::new(&one).is_ok());
        assert_ne!(one, other);
    }
}
