//! One payment, one key, and the five operations under one roof.

use protocol::fact::{PayFact, QueryFact, RefundFact, ReverseFact, Row};
use protocol::wechat_v2::verdict::{self, Alarm, Exchange, Expected, RefundsPage, Signature, Verdict};
use protocol::xml::{Message, Reader, Writer};
use protocol::{Fen, OutTradeNo};
use signer::{Case, Key, Kind, Scratch};

pub(crate) const APPID: &str = "wxd930ea5d5a258f4f";
pub(crate) const MCH_ID: &str = "1900000109";
pub(crate) const SUB_MCH_ID: &str = "1900000110";
pub(crate) const NUMBER: &str = "P20261123000000000001";
pub(crate) const REFUND_NUMBER: &str = "R20261123000000000001";

pub(crate) fn key() -> Key {
    Key::new("192006250b4c09247ec02edce69f6a2d").expect("well-formed")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Pay,
    Query,
    Reverse,
    Refund,
    RefundQuery,
}

pub(crate) const OPERATIONS: [Operation; 5] =
    [Operation::Pay, Operation::Query, Operation::Reverse, Operation::Refund, Operation::RefundQuery];

/// A fact of any operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Pay(PayFact),
    Query(QueryFact),
    Reverse(ReverseFact),
    Refund(RefundFact),
    RefundQuery(RefundsPage),
}

impl Fact {
    /// Whether it leaves an order as it was.
    pub(crate) fn is_unclear(&self) -> bool {
        matches!(
            self,
            Self::Pay(PayFact::Unclear | PayFact::RefusedUnsigned | PayFact::Unsent)
                | Self::Query(QueryFact::Unclear)
                | Self::Reverse(ReverseFact::Unclear | ReverseFact::NoCertificate)
                | Self::Refund(RefundFact::Unclear)
                | Self::RefundQuery(RefundsPage::Unclear)
        )
    }
}

pub(crate) fn number() -> OutTradeNo {
    NUMBER.parse().expect("well-formed")
}

/// What the record of the payment in the vectors says.
pub(crate) fn expected(number: &OutTradeNo, amount: u64) -> Expected<'_> {
    Expected {
        appid: APPID,
        mch_id: MCH_ID,
        sub_appid: Some("wx2421b1c4370ec43b"),
        sub_mch_id: Some(SUB_MCH_ID),
        out_trade_no: number,
        amount: Some(Fen::new(amount).expect("an amount")),
        delivered_once: true,
    }
}

/// Checks a signature as the gateway does.
pub(crate) fn verify(kind: Kind) -> impl Fn(&Message<'_>) -> Signature {
    let key = key();
    move |message| match message.get("sign") {
        None => Signature::Missing,
        Some(sign) if key.verify(kind, message.iter(), sign, Case::Exact, &mut Scratch::new()) => {
            Signature::Valid
        }
        Some(_) => Signature::Wrong,
    }
}

fn any<F>(verdict: Verdict<F>, fact: impl FnOnce(F) -> Fact) -> Verdict<Fact> {
    Verdict {
        row: verdict.row,
        fact: fact(verdict.fact),
        alarm: verdict.alarm,
        keep_connection: verdict.keep_connection,
        throttled: verdict.throttled,
        err_code: verdict.err_code,
    }
}

/// Judges one exchange of any operation.
pub(crate) fn judge(
    operation: Operation,
    exchange: &Exchange<'_>,
    expected: &Expected<'_>,
    verify: impl FnOnce(&Message<'_>) -> Signature,
) -> Verdict<Fact> {
    let reader = &mut Reader::new();
    match operation {
        Operation::Pay => any(verdict::micropay(exchange, expected, reader, verify), Fact::Pay),
        Operation::Query => any(verdict::orderquery(exchange, expected, reader, verify), Fact::Query),
        Operation::Reverse => any(verdict::reverse(exchange, expected, reader, verify), Fact::Reverse),
        Operation::Refund => {
            any(verdict::refund(exchange, expected, REFUND_NUMBER, reader, verify), Fact::Refund)
        }
        Operation::RefundQuery => any(
            verdict::refundquery(exchange, expected, Some(REFUND_NUMBER), reader, verify),
            Fact::RefundQuery,
        ),
    }
}

/// Writes an answer; with a key it is signed, and with `extra` instead of what is there by default. A field
/// that is changed to "" is left out.
pub(crate) fn answer(extra: &[(&str, &str)], signed: bool) -> Vec<u8> {
    let base = [
        ("return_code", "SUCCESS"),
        ("return_msg", "OK"),
        ("appid", APPID),
        ("mch_id", MCH_ID),
        ("sub_mch_id", SUB_MCH_ID),
        ("nonce_str", "IITRi8Iabbblz1Jc"),
    ];
    let changed = |name: &str| extra.iter().any(|(changed, _)| *changed == name);
    let pairs: Vec<_> = base
        .into_iter()
        .filter(|(name, _)| !changed(name))
        .chain(extra.iter().copied())
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let mut buffer = Vec::new();
    let mut writer = Writer::new(&mut buffer);
    for (name, value) in &pairs {
        writer.exact(name, value);
    }
    if signed {
        writer.text("sign", key().sign(Kind::Md5, pairs.iter().copied(), &mut Scratch::new()).as_str());
    }
    writer.finish();
    buffer
}

/// Judges a signed answer about the payment in the vectors.
pub(crate) fn judge_answer(operation: Operation, extra: &[(&str, &str)]) -> Verdict<Fact> {
    let (number, body) = (number(), answer(extra, true));
    let exchange = Exchange::Answer { status: 200, body: &body };
    judge(operation, &exchange, &expected(&number, 1288), verify(Kind::Md5))
}

/// Judges a signed answer and checks row, alarm and whether the connection is kept.
pub(crate) fn check(
    operation: Operation,
    extra: &[(&str, &str)],
    row: Row,
    alarm: Option<Alarm>,
    keep_connection: bool,
) -> Verdict<Fact> {
    let verdict = judge_answer(operation, extra);
    assert_eq!(
        (verdict.row, verdict.alarm, verdict.keep_connection),
        (row, alarm, keep_connection),
        "{operation:?} {extra:?}"
    );
    verdict
}
