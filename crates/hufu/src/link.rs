//! How a command reaches payments and merchants: through a running switch, or in the store where none runs.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use gateway::admin::{CallError, Command, MerchantRef, MerchantView, PaymentView, Response, call};
use gateway::config::Config;
use serde::de::DeserializeOwned;
use state_machine::{MerchantId, OrderKey};
use store::{Filter, SqliteReader};

use crate::exit::Failure;

/// A payment or merchant is looked for under this many merchants at most, unless `--merchant` says whose.
const SEARCHED_MAX: usize = 1_000;

/// Where the answers come from.
pub(crate) enum Link {
    /// A switch that runs.
    Switch(PathBuf),
    /// The store, of which nothing is changed.
    Store(Box<SqliteReader>),
}

/// Whether a switch listens on its admin socket.
pub(crate) fn running(config: &Config) -> Result<Option<PathBuf>, Failure> {
    let socket = &config.listen.admin_socket;
    match UnixStream::connect(socket) {
        Ok(_) => Ok(Some(socket.clone())),
        Err(err) if err.kind() == ErrorKind::PermissionDenied => Err(Failure::unavailable(format!(
            "{}: this user may not use it. Nothing was done. Run the command as the user who runs the switch.",
            socket.display()
        ))),
        Err(_) => Ok(None),
    }
}

/// What became of a command that was not answered as it should be.
#[derive(Debug)]
pub(crate) enum Undone {
    /// Nothing was done.
    Refused(Failure),
    /// It may have been done.
    Unknown(Failure),
}

impl From<Undone> for Failure {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Refused(failure) | Undone::Unknown(failure) => failure,
        }
    }
}

/// Gives a command to a running switch.
pub(crate) fn command<T: DeserializeOwned>(
    socket: &std::path::Path,
    command: &Command,
) -> Result<T, Failure> {
    try_command(socket, command).map_err(Failure::from)
}

/// As [`command`], and says whether it may have been done all the same.
pub(crate) fn try_command<T: DeserializeOwned>(
    socket: &std::path::Path,
    command: &Command,
) -> Result<T, Undone> {
    match call(socket, command) {
        Ok(Response::Done { result }) => serde_json::from_value(result).map_err(|err| {
            let why = format!("the switch answered what this version does not understand: {err}");
            Undone::Unknown(Failure::internal(why))
        }),
        Ok(Response::Failed { error }) => Err(Undone::Refused(Failure::failed(error))),
        Err(err @ CallError::NoSwitch(..)) => {
            Err(Undone::Refused(Failure::unavailable(format!("{err}. Nothing was done."))))
        }
        Err(err @ (CallError::NoAnswer(_) | CallError::Answer(_))) => {
            Err(Undone::Unknown(Failure::unavailable(err.to_string())))
        }
    }
}

impl Link {
    /// The running switch, or else the store.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        if let Some(socket) = running(config)? {
            return Ok(Self::Switch(socket));
        }
        let reader = SqliteReader::open(&config.store.path, &config.store.seal_key).map_err(|err| {
            Failure::unavailable(format!(
                "no switch answers at {}, and {err}",
                config.listen.admin_socket.display()
            ))
        })?;
        Ok(Self::Store(Box::new(reader)))
    }

    /// Every merchant.
    pub(crate) fn merchants(&mut self) -> Result<Vec<MerchantView>, Failure> {
        match self {
            Self::Switch(socket) => command(socket, &Command::MerchantList),
            Self::Store(reader) => {
                let all = reader.merchants().map_err(|err| Failure::internal(err.to_string()))?;
                for damaged in &all.damaged {
                    eprintln!("hufu: {damaged}");
                }
                Ok(all.rows.iter().map(MerchantView::of).collect())
            }
        }
    }

    /// The payments of this number, of one merchant or of any.
    pub(crate) fn find(&mut self, number: &str, merchant: Option<&str>) -> Result<Vec<PaymentView>, Failure> {
        let all = self.merchants()?;
        let wanted: Vec<u32> = match merchant {
            Some(text) => vec![one(&all, text)?.merchant],
            None if all.len() > SEARCHED_MAX => {
                return Err(Failure::usage(format!(
                    "there are {} merchants: say with --merchant whose payment {number} is",
                    all.len()
                )));
            }
            None => all.iter().map(|view| view.merchant).collect(),
        };
        let mut found = Vec::new();
        for merchant in wanted {
            found.extend(self.find_one(number, merchant)?);
        }
        Ok(found)
    }

    fn find_one(&mut self, number: &str, merchant: u32) -> Result<Option<PaymentView>, Failure> {
        match self {
            Self::Switch(socket) => {
                let of = MerchantRef::Id { merchant };
                let show = Command::PaymentShow { of, out_trade_no: number.to_owned() };
                match command(socket, &show) {
                    Ok(view) => Ok(Some(view)),
                    Err(failure) if failure.text == "no such payment" => Ok(None),
                    Err(failure) => Err(failure),
                }
            }
            Self::Store(reader) => {
                let number = number.parse().map_err(|err| Failure::usage(format!("out_trade_no {err}")))?;
                let key = OrderKey { merchant: MerchantId(merchant), number };
                let record = reader.find(&key).map_err(|err| Failure::internal(err.to_string()))?;
                Ok(record.map(|record| PaymentView::of(&record)))
            }
        }
    }

    /// Payments for the operator: `open`, `held` or `all`, the newest first.
    pub(crate) fn list(
        &mut self,
        which: &str,
        merchant: Option<&str>,
        limit: usize,
    ) -> Result<Vec<PaymentView>, Failure> {
        let merchant = match merchant {
            Some(text) => Some(one(&self.merchants()?, text)?.merchant),
            None => None,
        };
        match self {
            Self::Switch(socket) => {
                let of = merchant.map(|merchant| MerchantRef::Id { merchant });
                command(socket, &Command::PaymentList { of, which: which.to_owned(), limit })
            }
            Self::Store(reader) => {
                let mut filter = Filter {
                    merchant: merchant.map(MerchantId),
                    held_only: which == "held",
                    open_only: which == "open",
                    newest_first: true,
                    limit: u32::try_from(limit).unwrap_or(0),
                    ..Filter::default()
                };
                let mut views = Vec::new();
                loop {
                    let page = reader.list(&filter).map_err(|err| Failure::internal(err.to_string()))?;
                    for damaged in &page.damaged {
                        eprintln!("hufu: {damaged}");
                    }
                    views.extend(page.records.iter().map(PaymentView::of));
                    filter.after = page.next.filter(|_| views.len() < limit);
                    if filter.after.is_none() {
                        views.truncate(limit);
                        return Ok(views);
                    }
                }
            }
        }
    }
}

/// The one merchant that `text` names: `#NUMBER`, or `MCH_ID[/SUB_MCH_ID][:APPID]`.
pub(crate) fn one<'a>(all: &'a [MerchantView], text: &str) -> Result<&'a MerchantView, Failure> {
    let found: Vec<&MerchantView> = all.iter().filter(|view| is(view, text)).collect();
    match found.as_slice() {
        [view] => Ok(*view),
        [] => Err(Failure::failed(format!(
            "there is no merchant {text}. Name it as #NUMBER or MCH_ID[/SUB_MCH_ID][:APPID]; hufu merchant list \
             shows all."
        ))),
        [..] => Err(Failure::usage(format!(
            "{} merchants are {text}: add /SUB_MCH_ID or :APPID, or use the #NUMBER of hufu merchant list",
            found.len()
        ))),
    }
}

fn is(view: &MerchantView, text: &str) -> bool {
    if let Some(number) = text.strip_prefix('#') {
        return number.parse() == Ok(view.merchant);
    }
    let (ids, appid) = text.split_once(':').map_or((text, None), |(ids, appid)| (ids, Some(appid)));
    let (mch_id, sub) = ids.split_once('/').map_or((ids, None), |(mch_id, sub)| (mch_id, Some(sub)));
    view.mch_id == mch_id
        && appid.is_none_or(|appid| view.appid == appid)
        && sub.is_none_or(|sub| view.sub_mch_id.as_deref() == Some(sub))
}

#[cfg(test)]
mod tests {
    use gateway::admin::MerchantView;

    use super::one;

    fn view(merchant: u32, mch_id: &str, sub: Option<&str>, appid: &str) -> MerchantView {
        MerchantView {
            merchant,
            mch_id: mch_id.to_owned(),
            sub_mch_id: sub.map(str::to_owned),
            appid: appid.to_owned(),
            provider: String::new(),
            upstream_sub_mch_id: String::new(),
            sub_appid: None,
            mode: String::new(),
            hold_ms: None,
            long_poll_ms: None,
            per_second: None,
            burst: None,
            absent_till: None,
            absent_after_ms: None,
            not_in_use: None,
            client_certificates: Vec::new(),
            sign_kinds: String::new(),
            status: String::new(),
            has_api_key: false,
            previous_keys: Vec::new(),
            created_at: String::new(),
        }
    }

    #[test]
    fn a_merchant_is_named_by_number_or_by_what_its_tills_send() {
        let all =
            [view(1, "19", None, "wxa"), view(2, "20", Some("7"), "wxa"), view(3, "20", Some("8"), "wxb")];
        for (text, found) in [
            ("#2", Some(2)),
            ("19", Some(1)),
            ("19:wxa", Some(1)),
            ("20/7", Some(2)),
            ("20:wxb", Some(3)),
            ("20/8:wxb", Some(3)),
            ("20", None),
            ("20/9", None),
            ("#9", None),
            ("19:wxb", None),
            ("", None),
        ] {
            assert_eq!(one(&all, text).ok().map(|view| view.merchant), found, "{text}");
        }
    }
}
