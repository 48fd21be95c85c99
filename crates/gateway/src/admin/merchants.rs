//! Adding and listing merchants; also used by commands that open the store themselves.

use protocol::MchId;
use secrecy::SecretString;
use state_machine::{MerchantId, UnixMs};
use store::merchant::{NewMerchant, Northbound, ProviderRow, Rotation, SignKinds, api_key_digest};
use store::{MerchantBook, MerchantError, MerchantRow, Settings};

use super::protocol::{Form, MerchantView, NewKeys};
use super::settings::{Answering, Changes};

/// The shortest bearer key taken: its prefix and 32 characters.
const API_KEY_MIN: usize = 40;
const API_KEY_PREFIX: &str = "hufu_sk_";

/// A new bearer key: `hufu_sk_` and 43 characters, 256 bits from the kernel. It is shown once and never kept.
///
/// # Errors
///
/// If the kernel gives no randomness.
pub fn new_api_key() -> Result<String, getrandom::Error> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let mut random = [0_u8; 43];
    getrandom::fill(&mut random)?;
    let digits = random.iter().filter_map(|byte| DIGITS.get(usize::from(byte & 63)));
    Ok(API_KEY_PREFIX.chars().chain(digits.map(|digit| char::from(*digit))).collect())
}

/// Adds all of `forms` or none.
///
/// # Errors
///
/// What is wrong with the first form that is wrong, or why the store did not take them.
pub fn add(book: &mut MerchantBook, forms: &[Form], now: UnixMs) -> Result<Vec<MerchantView>, String> {
    let providers = book.providers().map_err(|err| err.to_string())?;
    let merchants = forms
        .iter()
        .zip(1..)
        .map(|(form, place)| read(form, &providers).map_err(|why| format!("merchant {place}: {why}")))
        .collect::<Result<Vec<_>, _>>()?;
    let added = book.import(&merchants, now).map_err(|err| err.to_string())?;
    let all = book.merchants().map_err(|err| err.to_string())?;
    Ok(all.rows.iter().filter(|row| added.contains(&row.id)).map(MerchantView::of).collect())
}

/// Every merchant that can be read, and what is wrong with the others.
///
/// # Errors
///
/// [`MerchantError`] if the store cannot be read.
pub fn list(book: &mut MerchantBook) -> Result<(Vec<MerchantView>, Vec<String>), MerchantError> {
    let all = book.merchants()?;
    let damaged = all.damaged.iter().map(ToString::to_string).collect();
    Ok((all.rows.iter().map(MerchantView::of).collect(), damaged))
}

/// The provider that carries `row` must be among those configured.
pub(super) fn is_carried(row: &MerchantRow, configured: &[MchId]) -> Result<(), String> {
    if configured.contains(&row.provider_mch_id) {
        return Ok(());
    }
    Err(format!(
        "its provider {} is not in the configuration: none of its payments can be sent",
        row.provider_mch_id
    ))
}

fn read(form: &Form, providers: &[ProviderRow]) -> Result<NewMerchant, String> {
    let id = |name: &str, text: &str| text.parse::<MchId>().map_err(|err| format!("{name} {err}"));
    let provider = id("provider", &form.provider)?;
    let row = providers.iter().find(|row| row.mch_id == provider);
    let row = row.ok_or_else(|| format!("provider {provider} is not in the configuration"))?;
    if let Some(key) = &form.api_key
        && !is_api_key(key)
    {
        return Err(format!("api_key is not {API_KEY_PREFIX} and at least 32 characters"));
    }
    let sign_kinds = match form.sign_kinds.as_deref() {
        None => SignKinds::Both,
        Some(word) => SignKinds::from_word(word)
            .ok_or_else(|| "sign_kinds is none of md5, hmac-sha256, \"md5,hmac-sha256\"".to_owned())?,
    };
    let answering = form.settings.apply(Answering::default())?;
    Ok(NewMerchant {
        northbound: Northbound {
            mch_id: id("mch_id", &form.mch_id)?,
            sub_mch_id: form.sub_mch_id.as_deref().map(|text| id("sub_mch_id", text)).transpose()?,
            appid: form.appid.parse().map_err(|err| format!("appid {err}"))?,
        },
        provider: row.id,
        upstream_sub_mch_id: id("upstream_sub_mch_id", &form.upstream_sub_mch_id)?,
        sub_appid: form
            .sub_appid
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|err| format!("sub_appid {err}"))?,
        signing_key: SecretString::from(form.signing_key.as_str()),
        api_key_digest: form.api_key.as_deref().map(api_key_digest),
        mode: answering.mode,
        settings: answering.settings,
        sign_kinds,
    })
}

/// Answers the tills of a merchant in another way.
///
/// # Errors
///
/// In words: no such merchant, no such word, or a value out of its bounds; nothing was written.
pub fn set(book: &mut MerchantBook, id: MerchantId, changes: &Changes) -> Result<MerchantView, String> {
    let row = |book: &mut MerchantBook| {
        let all = book.merchants().map_err(|err| err.to_string())?;
        let found = all.rows.into_iter().find(|row| row.id == id);
        found.ok_or_else(|| "no such merchant in the store".to_owned())
    };
    let before = row(book)?;
    let after = changes.apply(Answering { mode: before.mode, settings: before.settings })?;
    book.set_answering(id, after.mode, &after.settings).map_err(|err| err.to_string())?;
    Ok(MerchantView::of(&row(book)?))
}

/// Has the tills of a merchant served only where they showed one of `fingerprints` (SHA-256 in hexadecimal digits, with
/// or without colons; two at most); none lifts that.
///
/// # Errors
///
/// What is wrong with them, or why the store did not take it; nothing was changed.
pub fn set_certificates(
    book: &mut MerchantBook,
    id: MerchantId,
    fingerprints: &[String],
) -> Result<MerchantView, String> {
    let row = |book: &mut MerchantBook| {
        let all = book.merchants().map_err(|err| err.to_string())?;
        let found = all.rows.into_iter().find(|row| row.id == id);
        found.ok_or_else(|| "no such merchant in the store".to_owned())
    };
    let read = |text: &String| {
        let digits = text.replace(':', "");
        store::settings::fingerprint(&digits)
            .ok_or_else(|| format!("{text:?} is no SHA-256: 64 hexadecimal digits, with or without colons"))
    };
    let read = fingerprints.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if read.len() > 2 {
        return Err("two certificates at most: the one in use, and the one that replaces it".to_owned());
    }
    let mut read = read.into_iter();
    let before = row(book)?;
    let settings = Settings { client_certificates: [read.next(), read.next()], ..before.settings };
    book.set_answering(id, before.mode, &settings).map_err(|err| err.to_string())?;
    Ok(MerchantView::of(&row(book)?))
}

/// Gives a merchant new keys; those before are taken for `keep_ms` more, or until they are finished.
///
/// # Errors
///
/// In words: no such merchant, a key of another shape, or a change that lasts already; nothing was written.
pub fn rotate(
    book: &mut MerchantBook,
    id: MerchantId,
    keys: &NewKeys,
    keep_ms: Option<u64>,
    now: UnixMs,
) -> Result<MerchantView, String> {
    let NewKeys { signing_key, api_key } = keys;
    if api_key.as_deref().is_some_and(|key| !is_api_key(key)) {
        return Err(format!("api_key is not {API_KEY_PREFIX} and at least 32 characters"));
    }
    let until = keep_ms.map(|ms| UnixMs(now.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX))));
    let rotation = Rotation {
        signing_key: signing_key.as_deref().map(SecretString::from),
        api_key_digest: api_key.as_deref().map(api_key_digest),
        until,
    };
    book.rotate(id, &rotation, now).map_err(|err| err.to_string())?;
    view(book, id)
}

/// Takes the present keys of a merchant only.
///
/// # Errors
///
/// In words: no such merchant, or a store that fails; nothing was written.
pub fn finish_rotation(book: &mut MerchantBook, id: MerchantId) -> Result<MerchantView, String> {
    book.finish_rotation(id).map_err(|err| err.to_string())?;
    view(book, id)
}

fn view(book: &mut MerchantBook, id: MerchantId) -> Result<MerchantView, String> {
    let all = book.merchants().map_err(|err| err.to_string())?;
    let found = all.rows.iter().find(|row| row.id == id);
    found.map(MerchantView::of).ok_or_else(|| "no such merchant in the store".to_owned())
}

/// Whether a bearer key has the shape of those that are made here.
fn is_api_key(key: &str) -> bool {
    key.starts_with(API_KEY_PREFIX) && key.len() >= API_KEY_MIN
}
