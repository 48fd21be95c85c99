//! The words of a script as facts of the wallet, and durable states as words.

use std::fmt::Write as _;

use protocol::fact::{
    Paid, PayFact, QueryFact, RefundFact, RefundStatus, RefundsFact, Refusal, ReverseFact, Row,
};
use protocol::{Fen, Fields, Text};

use crate::key::{Now, UnixMs};
use crate::record::{Claim, Record, TillReversal};
use crate::shard::{Call, Input, OrderRef};

/// The amount of every payment here.
pub(super) const FEN: u64 = 1_288;

/// A success as the wallet shows it at `wall`.
pub(super) fn paid(fen: u64, wall: UnixMs) -> Box<Paid> {
    Box::new(Paid {
        amount: Fen::new(fen).unwrap(),
        transaction_id: "4200000000202611230000000001".parse().unwrap(),
        time_end_s: Some(wall.0.div_euclid(1_000)),
        attach: 0,
        merchant_matches: true,
        fields: Fields::new([("bank_type", "OTHERS")]),
    })
}

fn refusal(code: &str) -> Refusal {
    Refusal { code: Text::new(code).unwrap(), description: "…".into() }
}

/// The answer to a pay request, by its row; `A13!` is BUYER_MISMATCH, `A6:999` another amount.
pub(super) fn pay(word: &str, wall: UnixMs) -> (Row, PayFact) {
    let (id, detail) = word.split_once(['!', ':']).map_or((word, ""), |(id, _)| (id, &word[id.len()..]));
    let row = *Row::ALL.iter().find(|row| row.as_str() == id).expect("a row");
    let taken = |code, ours_possible| PayFact::NumberTaken { refusal: refusal(code), ours_possible };
    let fact = match (id, detail) {
        ("A1", _) => PayFact::Unsent,
        ("A2" | "A4" | "A5" | "A8" | "A10" | "A16" | "A17", _) => PayFact::Unclear,
        ("A3", _) => PayFact::RefusedUnsigned,
        ("A6", "") => PayFact::Paid(paid(FEN, wall)),
        ("A6", _) => PayFact::Paid(paid(999, wall)),
        ("A7", _) => PayFact::InProgress,
        ("A9", _) => PayFact::Refused(refusal("AUTHCODEEXPIRE")),
        ("A11", _) => PayFact::Refused(refusal("NOTENOUGH")),
        ("A12", _) => taken("ORDERPAID", true),
        ("A13", "") => taken("OUT_TRADE_NO_USED", true),
        ("A13", _) => taken("BUYER_MISMATCH", false),
        ("A14", _) => PayFact::RefusedOutright(refusal("ORDERCLOSED")),
        ("A15", _) => PayFact::RefusedOutright(refusal("NOAUTH")),
        _ => panic!("no answer to a pay request: {word}"),
    };
    (row, fact)
}

/// The answer to a query.
pub(super) fn query(word: &str, wall: UnixMs) -> (Row, QueryFact) {
    let strange = |change: fn(&mut Paid)| {
        let mut paid = paid(FEN, wall);
        change(&mut paid);
        QueryFact::Paid(paid)
    };
    match word {
        "unclear" => (Row::B1, QueryFact::Unclear),
        "notfound" => (Row::B2, QueryFact::NotFound),
        "paid" => (Row::B4, QueryFact::Paid(paid(FEN, wall))),
        "paid:999" => (Row::B5, QueryFact::Paid(paid(999, wall))),
        "paid:stranger" => (Row::B5, strange(|paid| paid.merchant_matches = false)),
        "paid:old" => (Row::B4, strange(|paid| paid.time_end_s = paid.time_end_s.map(|end| end - 86_400))),
        "paid:attach" => (Row::B4, strange(|paid| paid.attach = 7)),
        "userpaying" => (Row::B6, QueryFact::InProgress),
        "unpaid" => (Row::B6, QueryFact::Unpaid),
        "odd" => (Row::B6, QueryFact::UnknownState),
        "payerror" => (Row::B7, QueryFact::PayError),
        "closed" => (Row::B8, QueryFact::Closed),
        "revoked" => (Row::B8, QueryFact::Revoked),
        "refund" => (Row::B9, QueryFact::Returned(paid(FEN, wall))),
        "refund:999" => (Row::B9, QueryFact::Returned(paid(999, wall))),
        _ => panic!("no answer to a query: {word}"),
    }
}

/// The answer to a reversal.
pub(super) fn reverse(word: &str) -> (Row, ReverseFact) {
    match word {
        "done" => (Row::C1, ReverseFact::Done),
        "again" => (Row::C2, ReverseFact::CallAgain),
        "unclear" => (Row::C3, ReverseFact::Unclear),
        "systemerror" => (Row::C4, ReverseFact::SystemError),
        "dialog" => (Row::C5, ReverseFact::InProgress),
        "expired" => (Row::C6, ReverseFact::Expired),
        "refused" => (Row::C7, ReverseFact::Refused),
        "nocert" => (Row::C8, ReverseFact::NoCertificate),
        "absent" => (Row::C9, ReverseFact::Absent),
        _ => panic!("no answer to a reversal: {word}"),
    }
}

/// The answer to a repair refund.
pub(super) fn refund(word: &str) -> (Row, RefundFact) {
    match word {
        "accepted" => (Row::D1, RefundFact::Accepted),
        "unclear" => (Row::D2, RefundFact::Unclear),
        "notenough" => (Row::D3, RefundFact::NotEnough),
        "throttled" => (Row::D4, RefundFact::Throttled),
        "refused" => (Row::D5, RefundFact::Refused(refusal("ERROR"))),
        _ => panic!("no answer to a refund: {word}"),
    }
}

/// The list of refunds.
pub(super) fn refunds(word: &str) -> RefundsFact {
    let listed = |returned_fen, pending_fen, ours| RefundsFact::Listed { returned_fen, pending_fen, ours };
    match word {
        "unclear" => RefundsFact::Unclear,
        "none" => RefundsFact::None,
        "full" => listed(FEN, 0, None),
        "part" => listed(288, 0, None),
        "coming" => listed(0, FEN, None),
        "processing" => listed(0, FEN, Some(RefundStatus::Processing)),
        "success" => listed(FEN, 0, Some(RefundStatus::Success)),
        "refundclose" => listed(0, 0, Some(RefundStatus::Closed)),
        "change" => listed(0, 0, Some(RefundStatus::Change)),
        _ => panic!("no list of refunds: {word}"),
    }
}

pub(super) const fn letter(call: Call) -> char {
    match call {
        Call::Query | Call::LastQuery => 'q',
        Call::Reverse => 'r',
        Call::RefundQuery => 'l',
        Call::Refund => 'f',
    }
}

/// `kind:answer` as the reply to `call`.
pub(super) fn reply(kind: char, answer: &str, order: OrderRef, call: u32, asked: Call, now: Now) -> Input {
    assert_eq!(kind, letter(asked), "{answer} does not answer {asked:?}");
    let (answer, throttled) = answer.strip_suffix('~').map_or((answer, false), |answer| (answer, true));
    match asked {
        Call::Query | Call::LastQuery => {
            let (row, fact) = query(answer, now.wall);
            Input::QueryReply { order, call, row, fact, throttled }
        }
        Call::Reverse => {
            let (row, fact) = reverse(answer);
            Input::ReverseReply { order, call, row, fact, throttled }
        }
        Call::RefundQuery => Input::RefundsReply { order, call, fact: refunds(answer) },
        Call::Refund => {
            let (row, fact) = refund(answer);
            Input::RefundReply { order, call, row, fact }
        }
    }
}

/// `5s`, `10m`, `1h`, `7d`, or milliseconds.
pub(super) fn duration(text: &str) -> u64 {
    let units = [('s', 1_000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
    let found = units.into_iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
    let (number, ms) = found.unwrap_or((text, 1));
    number.parse::<u64>().unwrap() * ms
}

/// A durable state in a word: `REVERSED(B7,C9)/looks2`.
pub(super) fn describe(record: &Record) -> String {
    let mut word = format!("{:?}", record.state).to_uppercase();
    match (record.cause, record.proof) {
        (Some(cause), Some(proof)) => write!(word, "({},{proof})", cause.as_str()).unwrap(),
        (Some(cause), None) => write!(word, "({})", cause.as_str()).unwrap(),
        (None, Some(proof)) => write!(word, "(,{proof})").unwrap(),
        (None, None) => {}
    }
    match record.claim {
        Claim::Ours => {}
        Claim::Contested => word.push_str("/contested"),
        Claim::Foreign => word.push_str("/foreign"),
    }
    if let Some(held) = record.held {
        write!(word, "/{}", held.as_str()).unwrap();
    }
    match record.till_reversal {
        TillReversal::None => {}
        TillReversal::Asked => word.push_str("/asked"),
        TillReversal::Done => word.push_str("/done"),
    }
    if record.repair {
        word.push_str("/repair");
    }
    if record.looks_left > 0 {
        write!(word, "/looks{}", record.looks_left).unwrap();
    }
    word
}
