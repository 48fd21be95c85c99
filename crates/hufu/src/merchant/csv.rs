//! Merchants as CSV (RFC 4180): a header, quotes where a value holds a comma.

use std::collections::BTreeSet;

use gateway::admin::{Changes, Form, Setting};

use super::setting;

/// The columns before those of [`Setting`], and what they hold.
const COLUMNS: [(&str, &str); 9] = [
    ("mch_id", "what the tills send as mch_id"),
    ("sub_mch_id", "what the tills send as sub_mch_id (may be empty)"),
    ("appid", "what the tills send as appid"),
    ("provider", "mch_id of the provider account that carries it (may be empty if there is only one)"),
    ("upstream_sub_mch_id", "its sub_mch_id at the wallet"),
    ("sub_appid", "its sub_appid at the wallet (may be empty)"),
    ("signing_key", "what its tills sign with: 32 letters or digits"),
    ("api_key", "its key for the JSON API, hufu_sk_… (may be empty)"),
    ("sign_kinds", "md5, hmac-sha256, or \"md5,hmac-sha256\" (may be empty: both)"),
];

/// Every column.
fn columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.into_iter().map(|(name, _)| name).chain(Setting::ALL.map(Setting::name))
}

/// What `--help` says of the file.
pub(super) fn help() -> String {
    let columns = COLUMNS.map(|(name, holds)| format!("  {name:<22} {holds}\n")).concat();
    format!(
        "\
The first line names the columns, in any order; those that may be empty may be left out:
{columns}{}
Examples:
  hufu merchant import merchants.csv
  hufu merchant import - --json < merchants.csv

The file holds keys: let nobody else read it, and remove it afterwards.",
        setting::columns()
    )
}

/// Reads every line; `provider` is meant where a line names none. The error says which line, and never repeats a
/// key.
pub(super) fn forms(text: &str, provider: Option<&str>) -> Result<Vec<Form>, String> {
    let mut records = records(text.trim_start_matches('\u{feff}'))?.into_iter();
    let (_, header) = records.next().ok_or("is empty")?;
    let header: Vec<String> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    if let Some(unknown) = header.iter().find(|name| columns().all(|column| column != name.as_str())) {
        let known: Vec<&str> = columns().collect();
        return Err(format!("line 1: no column is called {unknown:?}; there are {}", known.join(", ")));
    }
    let names: BTreeSet<&String> = header.iter().collect();
    if names.len() != header.len() {
        return Err("line 1: a column occurs twice".to_owned());
    }
    let mut forms = Vec::new();
    for (line, record) in records {
        if record.len() != header.len() {
            return Err(format!("line {line}: has {} values, the header has {}", record.len(), header.len()));
        }
        let value = |name: &str| {
            let at = header.iter().position(|column| column == name)?;
            record.get(at).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let required = |name: &str| value(name).ok_or_else(|| format!("line {line}: {name} is missing"));
        let mut settings = Changes::default();
        for setting in Setting::ALL {
            if let Some(text) = value(setting.name()) {
                let inserted = settings.insert(setting, &text);
                inserted.map_err(|why| format!("line {line}: {} {why}", setting.name()))?;
            }
        }
        settings.check().map_err(|(setting, why)| format!("line {line}: {}: {why}", setting.name()))?;
        forms.push(Form {
            mch_id: required("mch_id")?,
            sub_mch_id: value("sub_mch_id"),
            appid: required("appid")?,
            provider: value("provider").or_else(|| provider.map(str::to_owned)).ok_or_else(|| {
                format!("line {line}: provider is missing, and there are several in the configuration")
            })?,
            upstream_sub_mch_id: required("upstream_sub_mch_id")?,
            sub_appid: value("sub_appid"),
            signing_key: required("signing_key")?,
            api_key: value("api_key"),
            sign_kinds: value("sign_kinds"),
            settings,
        });
    }
    if forms.is_empty() { Err("holds no merchant".to_owned()) } else { Ok(forms) }
}

/// The records with the lines that they begin on; blank lines are passed over.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut records = Vec::new();
    let (mut record, mut value) = (Vec::new(), String::new());
    let (mut line, mut begun, mut quoted) = (1_usize, 1, false);
    let mut chars = text.chars().peekable();
    let mut end = |record: &mut Vec<String>, value: &mut String, begun: usize| {
        record.push(std::mem::take(value));
        let whole = std::mem::take(record);
        if whole.iter().any(|value| !value.trim().is_empty()) {
            records.push((begun, whole));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                value.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if value.trim().is_empty() => {
                value.clear();
                quoted = true;
            }
            '"' => return Err(format!("line {line}: a quote inside a value that is not quoted")),
            ',' if !quoted => record.push(std::mem::take(&mut value)),
            '\n' if !quoted => {
                end(&mut record, &mut value, begun);
                line = line.saturating_add(1);
                begun = line;
            }
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            c => {
                line = line.saturating_add(usize::from(c == '\n'));
                value.push(c);
            }
        }
    }
    if quoted {
        return Err(format!("line {begun}: a quote is not closed"));
    }
    end(&mut record, &mut value, begun);
    Ok(records)
}

#[cfg(test)]
mod tests {
    use gateway::admin::{Changes, Setting};

    use super::forms;

    const HEADER: &str = "mch_id,appid,upstream_sub_mch_id,signing_key,sign_kinds\n";

    #[test]
    fn lines_become_merchants() {
        let text = format!(
            "\u{feff}{HEADER}1900000201,wx01,1900000111,{0},\r\n\n1900000202,wx02,1900000112,{0},\"md5,hmac-sha256\"",
            "k".repeat(32)
        );
        let read = forms(&text, Some("1900000109")).expect("two merchants");
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].mch_id.as_str(), read[0].provider.as_str()), ("1900000201", "1900000109"));
        assert_eq!((read[0].sub_mch_id.as_deref(), read[0].sign_kinds.as_deref()), (None, None));
        assert_eq!(read[1].sign_kinds.as_deref(), Some("md5,hmac-sha256"));
        assert!(read[0].settings.is_empty());
    }

    #[test]
    fn each_setting_has_a_column_of_its_name() {
        let text = format!(
            "burst,per_second,absent_after_ms,absent_till,long_poll_ms,hold_ms,mode,mch_id,appid,\
             upstream_sub_mch_id,signing_key\n9,,90000,reverse,0,20000,hold,1,wx,2,{}",
            "k".repeat(32)
        );
        let read = forms(&text, Some("9")).expect("one merchant");
        let mut expected = Changes::default();
        for (setting, value) in [
            (Setting::Mode, "hold"),
            (Setting::HoldMs, "20000"),
            (Setting::LongPollMs, "0"),
            (Setting::Burst, "9"),
            (Setting::AbsentTill, "reverse"),
            (Setting::AbsentAfterMs, "90000"),
        ] {
            expected.insert(setting, value).expect("a value");
        }
        assert_eq!(read[0].settings, expected);
        for (right, wrong, why) in [
            ("hold,", "block,", "line 2: mode is neither relay nor hold"),
            ("20000", "20s", "line 2: hold_ms is neither a whole number nor \"default\""),
            ("20000", "60000", "line 2: hold_ms: hold is 60000 ms; it must be 1000 to 30000 ms: "),
            ("reverse", "give", "line 2: absent_till is none of keep, reverse, default"),
            ("90000", "1", "line 2: absent_after_ms: absent after is 1 ms; it must be 15000 to 600000 ms: "),
            ("\n9,,", "\n9,0,", "line 2: per_second: rate is 0 a second; it must be 1 to 100000 a second: "),
        ] {
            let told = forms(&text.replacen(right, wrong, 1), Some("9")).map(|_| ()).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
        // A key in a wrong column is not repeated either.
        let told = forms(&text.replace("hold,", &format!("{},", "k".repeat(32))), Some("9"))
            .map(|_| ())
            .unwrap_err();
        assert!(!told.contains("kkk"), "{told}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_without_keys() {
        let key = "SecretSecretSecretSecretSecret12";
        for (body, why) in [
            (String::new(), "holds no merchant"),
            (format!("1,wx,2,{key}"), "line 2: has 4 values, the header has 5"),
            (format!("1,wx,2,{key},\n\n,wx,2,{key},"), "line 4: mch_id is missing"),
            (format!("1,wx,2,{key},\n1,wx,2,\"{key},"), "line 3: a quote is not closed"),
            (format!("1,w\"x,2,{key},"), "line 2: a quote inside a value that is not quoted"),
        ] {
            let told = forms(&format!("{HEADER}{body}"), Some("9")).map(|_| ()).unwrap_err();
            assert_eq!(told, why);
            assert!(!told.contains(key));
        }
        assert!(
            forms("mch_id,key\n", None)
                .map(|_| ())
                .unwrap_err()
                .starts_with("line 1: no column is called \"key\"")
        );
        assert_eq!(forms("appid,appid\n", None).map(|_| ()).unwrap_err(), "line 1: a column occurs twice");
        let text = format!("{HEADER}1,wx,2,{key},");
        assert!(forms(&text, None).map(|_| ()).unwrap_err().contains("provider is missing"));
    }
}
