//! The wallet's ledger as it shows it over HTTP: the record of money that nobody else writes.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde_json::Value;
use simulator::{Entry, Key, State, Violation};

use crate::web;

/// The ledger, by the merchant's number at the wallet and the merchant's own number.
pub type Ledger = HashMap<(String, String), Entry>;

const STATES: [State; 11] = [
    State::InFlight,
    State::Lost,
    State::Refused,
    State::Paying,
    State::Accepted,
    State::NotPay,
    State::Paid,
    State::Refund,
    State::PayError,
    State::Closed,
    State::Revoked,
];

const VIOLATIONS: [Violation; 6] = [
    // How early is not shown.
    Violation::EarlyReversal { after_ms: 0 },
    Violation::PayRequestRepeated,
    Violation::ContentChanged,
    Violation::PayAfterReversal,
    Violation::DoubleCapture,
    Violation::RefundOverCeiling,
];

/// Reads all of it from the wallet at `plain`.
///
/// # Errors
///
/// When the wallet does not answer, or a line is not understood.
pub async fn fetch(plain: SocketAddr) -> anyhow::Result<Ledger> {
    let (status, body) = web::get(plain, "/sim/ledger").await?;
    if status != 200 {
        bail!("the ledger: HTTP {status}");
    }
    let text = std::str::from_utf8(&body)?;
    text.lines()
        .map(|line| {
            let entry = entry(line).with_context(|| format!("a line of the ledger: {line}"))?;
            Ok(((entry.key.sub_mch_id.to_string(), entry.key.out_trade_no.to_string()), entry))
        })
        .collect()
}

/// Reads one line.
fn entry(line: &str) -> anyhow::Result<Entry> {
    let value: Value = serde_json::from_str(line)?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).with_context(|| name.to_owned());
    let number = |name: &str| value.get(name).and_then(Value::as_u64).with_context(|| name.to_owned());
    let count = |name: &str| anyhow::Ok(u32::try_from(number(name)?)?);
    let digits = |name: &str| anyhow::Ok(text(name)?.parse()?);
    let moment = |name: &str| value.get(name).and_then(Value::as_i64);
    let state = text("state")?;
    let violation = |name: &Value| {
        let known = VIOLATIONS.into_iter().find(|one| Some(one.as_str()) == name.as_str());
        known.with_context(|| format!("a rule called {name}"))
    };
    let violations = value.get("violations").and_then(Value::as_array).context("violations")?;
    Ok(Entry {
        key: Key::new(text("mch_id")?, text("sub_mch_id")?, text("out_trade_no")?),
        transaction_id: text("transaction_id")?.to_owned(),
        customer: digits("customer")?,
        acted: digits("acted")?,
        payer: text("payer")?.parse()?,
        amount_fen: number("amount_fen")?,
        content: text("content")?.to_owned(),
        state: STATES.into_iter().find(|one| one.as_str() == state).context("state")?,
        pay_requests: count("pay_requests")?,
        first_pay_at_ms: moment("first_pay_at_ms").context("first_pay_at_ms")?,
        last_pay_at_ms: moment("last_pay_at_ms").context("last_pay_at_ms")?,
        captures: count("captures")?,
        captured_fen: number("captured_fen")?,
        returned_fen: number("returned_fen")?,
        paid_at_ms: moment("paid_at_ms"),
        customer_done_at_ms: moment("customer_done_at_ms"),
        queries: count("queries")?,
        reversals: count("reversals")?,
        first_reverse_at_ms: moment("first_reverse_at_ms"),
        refunds: count("refunds")?,
        violations: violations.iter().map(violation).collect::<anyhow::Result<_>>()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use simulator::{Entry, Key, State, Violation};

    use super::entry;

    /// A page of the ledger: so many charges of so much, and what went back.
    pub(crate) fn page(number: &str, captures: u32, captured_fen: u64, returned_fen: u64) -> Entry {
        Entry {
            key: Key::new("1900000109", "1920000001", number),
            transaction_id: "4200000001".to_owned(),
            customer: 124,
            acted: 124,
            payer: 7,
            amount_fen: 1288,
            content: "a \"quoted\" text\u{1}".to_owned(),
            state: if captured_fen > returned_fen { State::Paid } else { State::Revoked },
            pay_requests: 1,
            first_pay_at_ms: 1_795_400_000_000,
            last_pay_at_ms: 1_795_400_000_000,
            captures,
            captured_fen,
            returned_fen,
            paid_at_ms: Some(1_795_400_000_100),
            customer_done_at_ms: None,
            queries: 3,
            reversals: 0,
            first_reverse_at_ms: None,
            refunds: 0,
            violations: Vec::new(),
        }
    }

    #[test]
    fn what_the_wallet_writes_is_what_is_read() {
        let plain = page("C0000000001", 1, 1288, 0);
        let broken = Entry {
            violations: vec![Violation::DoubleCapture, Violation::EarlyReversal { after_ms: 0 }],
            ..page("C0000000002", 2, 2576, 0)
        };
        for written in [plain, broken] {
            assert_eq!(entry(&written.to_json()).unwrap(), written);
        }
        let unknown = page("C1", 1, 1, 0).to_json().replace("\"violations\":[", "\"violations\":[\"theft\"");
        assert!(entry(&unknown).is_err(), "a rule that is not known is not passed over");
    }
}
