//! The merchants that payments are made for.

use std::str::FromStr;

use protocol::{AppId, MchId};
use signer::Key;
use thiserror::Error;

/// A merchant as its tills name it, and the key that they sign with.
#[derive(Clone, Debug)]
pub struct Account {
    /// `mch_id`.
    pub mch_id: String,
    /// `sub_mch_id`, if its tills send one.
    pub sub_mch_id: Option<String>,
    /// `appid`.
    pub appid: String,
    /// What its tills sign with.
    pub key: Key,
}

/// Why a text is no merchant. None of these repeats the key.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum AccountError {
    /// Not three parts.
    #[error("a merchant is MCH_ID[/SUB_MCH_ID]:KEY:APPID")]
    Form,
    /// A number or an appid that nobody may have.
    #[error("{0}: {1}")]
    Id(&'static str, protocol::IdError),
    /// A key of the wrong form.
    #[error("{0}: its {1}")]
    Key(String, signer::KeyError),
}

impl FromStr for Account {
    type Err = AccountError;

    /// Reads `MCH_ID:KEY:APPID`, or `MCH_ID/SUB_MCH_ID:KEY:APPID` for tills that send a `sub_mch_id` too.
    fn from_str(text: &str) -> Result<Self, AccountError> {
        let [ids, key, appid] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err(AccountError::Form);
        };
        let (mch_id, sub_mch_id) = ids.split_once('/').map_or((ids, None), |(id, sub)| (id, Some(sub)));
        let number = |name, id: &str| id.parse::<MchId>().map_err(|err| AccountError::Id(name, err));
        number("mch_id", mch_id)?;
        sub_mch_id.map(|id| number("sub_mch_id", id)).transpose()?;
        appid.parse::<AppId>().map_err(|err| AccountError::Id("appid", err))?;
        let key = Key::new(key).map_err(|err| AccountError::Key(mch_id.to_owned(), err))?;
        let sub_mch_id = sub_mch_id.map(str::to_owned);
        Ok(Self { mch_id: mch_id.to_owned(), sub_mch_id, appid: appid.to_owned(), key })
    }
}

impl Account {
    /// Reads a list: one merchant a line; blank lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    ///
    /// The first line that is no merchant, counted from 1.
    pub fn list(text: &str) -> Result<Vec<Self>, (usize, AccountError)> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let wanted = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        wanted.map(|(n, line)| line.parse().map_err(|err| (n, err))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, AccountError};

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

    #[test]
    fn a_merchant_has_three_parts_and_its_key_is_never_repeated() {
        let plain: Account = format!("1900000201:{KEY}:wx01").parse().unwrap();
        assert_eq!(
            (plain.mch_id.as_str(), plain.sub_mch_id, plain.appid.as_str()),
            ("1900000201", None, "wx01")
        );
        let sub: Account = format!("1900000109/1900000113:{KEY}:wx01").parse().unwrap();
        assert_eq!(sub.sub_mch_id.as_deref(), Some("1900000113"));
        for text in [
            "1900000201".to_owned(),
            format!("1900000201:{KEY}"),
            format!("19-1:{KEY}:wx01"),
            format!("1900000201/:{KEY}:wx01"),
            format!("1900000201:{KEY}:"),
            format!("1900000201:{KEY}x:wx01"),
        ] {
            let told = text.parse::<Account>().map(|_| ()).unwrap_err().to_string();
            assert!(!told.contains(KEY) && !told.is_empty(), "{told}");
        }
    }

    #[test]
    fn a_list_names_the_line_that_is_wrong() {
        let text = format!("# two\n1900000201:{KEY}:wx01\n\n 1900000202:{KEY}:wx02 \n");
        assert_eq!(Account::list(&text).map(|list| list.len()).unwrap(), 2);
        let wrong = Account::list(&format!("{text}1900000203\n")).map(|_| ()).unwrap_err();
        assert_eq!(wrong, (5, AccountError::Form));
    }
}
