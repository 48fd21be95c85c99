//! Merchants as CSV (RFC 4180): a header, quotes where a value holds a comma.

use std::collections::BTreeSet;

use gateway::admin::Form;

const COLUMNS: [&str; 12] = [
    "mch_id",
    "sub_mch_id",
    "appid",
    "provider",
    "upstream_sub_mch_id",
    "sub_appid",
    "signing_key",
    "api_key",
    "sign_kinds",
    "mode",
    "hold_ms",
    "long_poll_ms",
];

/// Reads every line; `provider` is meant where a line names none. The error says which line, and never repeats a
/// key.
pub(super) fn forms(text: &str, provider: Option<&str>) -> Result<Vec<Form>, String> {
    let mut records = records(text.trim_start_matches('\u{feff}'))?.into_iter();
    let (_, header) = records.next().ok_or("is empty")?;
    let header: Vec<String> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    if let Some(unknown) = header.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(format!("line 1: no column is called {unknown:?}; there are {}", COLUMNS.join(", ")));
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
        let ms = |name: &str| {
            let parsed = value(name).map(|text| text.parse::<u32>()).transpose();
            parsed.map_err(|_| format!("line {line}: {name} is no number of milliseconds"))
        };
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
            mode: value("mode"),
            hold_ms: ms("hold_ms")?,
            long_poll_ms: ms("long_poll_ms")?,
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
        assert_eq!((&read[0].mode, read[0].hold_ms, read[0].long_poll_ms), (&None, None, None));
        let text = format!(
            "long_poll_ms,hold_ms,mode,mch_id,appid,upstream_sub_mch_id,signing_key\n0,20000,hold,1,wx,2,{}",
            "k".repeat(32)
        );
        let read = forms(&text, Some("9")).expect("one merchant");
        assert_eq!(
            (read[0].mode.as_deref(), read[0].hold_ms, read[0].long_poll_ms),
            (Some("hold"), Some(20_000), Some(0))
        );
        let told = forms(&text.replace("20000", "20s"), Some("9")).map(|_| ()).unwrap_err();
        assert_eq!(told, "line 2: hold_ms is no number of milliseconds");
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
