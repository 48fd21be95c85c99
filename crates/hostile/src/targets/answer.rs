//! A wallet's answer, through the production parsing, verification and classification, into an order's automaton.
//!
//! Two sorts of input: bytes as somebody on the way could have bent them, which decide nothing unless they say what
//! the wallet signed; and fields that the harness signs with the wallet's key, which decide only as the table has it.
//! Source: wechatpay-v2 §4.5; faults-and-invariants INV-04, INV-09, INV-10, INV-25.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;

use protocol::fact::{PayFact, QueryFact, ReverseFact, Row};
use protocol::wechat_v2::verdict::{self, Exchange, Expected, Signature};
use protocol::xml::{Message, Reader};
use protocol::{Fen, OutTradeNo};
use signer::{Case, Key, KeyRing, Kind, Scratch};
use state_machine::record::State;

use crate::KEY;
use crate::oracle::{self, Pairs, field};
use crate::order::Order;

const APPID: &str = "wxd930ea5d5a258f4f";
const MCH_ID: &str = "1900000109";
const SUB_MCH_ID: &str = "1900000110";
/// The amount of the payment in the vectors.
pub const FEN: u64 = 1288;
/// The number of the payment in the vectors.
pub const NUMBER: &str = "P20261123000000000001";

/// What the order is doing when the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Pay,
    Query,
    Reverse,
}

macro_rules! vectors {
    ($($file:literal)*) => {
        /// Every answer that the wallet has signed in the vectors.
        const VECTORS: &[&[u8]] = &[$(include_bytes!(concat!("../../../protocol/tests/vectors/", $file, ".xml"))),*];
    };
}

vectors! {
    "04_micropay_resp_success" "05_micropay_resp_success_coupons" "06_micropay_resp_userpaying"
    "07_micropay_resp_userpaying_same_amount" "08_micropay_resp_notenough" "09_micropay_resp_systemerror"
    "10_micropay_resp_bankerror" "11_micropay_resp_code_used" "12_micropay_resp_code_expired"
    "13_micropay_resp_cancelled" "14_micropay_resp_orderpaid" "21_orderquery_resp_success"
    "22_orderquery_resp_success_coupons" "23_orderquery_resp_refund" "24_orderquery_resp_notpay"
    "25_orderquery_resp_closed" "26_orderquery_resp_revoked" "27_orderquery_resp_userpaying"
    "28_orderquery_resp_payerror" "29_orderquery_resp_accept" "30_orderquery_resp_notexist"
    "31_orderquery_resp_systemerror" "41_reverse_resp_done" "42_reverse_resp_recall_y"
    "43_reverse_resp_success_recall_y" "44_reverse_resp_userpaying" "45_reverse_resp_expired"
    "51_refund_resp_accepted" "52_refund_resp_coupons" "53_refund_resp_need_retry" "54_refund_resp_notenough"
    "61_refundquery_resp_two_refunds" "62_refundquery_resp_notexist" "90_resp_unknown_fields"
    "91_resp_whitespace_value" "92_resp_escaped_text" "98_resp_hmac"
}

/// Judges an answer. The first byte says of what (`0` pay, `1` query, `2` reversal; `+3` for fields to be signed;
/// `+6` for HMAC-SHA256), the rest is the body, or lines `name=value`.
///
/// # Panics
///
/// When an answer moves an order that it must not move.
pub fn judge(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let operation = match first % 3 {
        0 => Operation::Pay,
        1 => Operation::Query,
        _ => Operation::Reverse,
    };
    let kind = if first / 6 % 2 == 0 { Kind::Md5 } else { Kind::HmacSha256 };
    if first / 3 % 2 == 0 {
        bent(operation, kind, rest);
    } else {
        signed(operation, kind, &String::from_utf8_lossy(rest));
    }
}

/// Feeds a body to an order; what its state was before and is after, and whether the fact says nothing.
fn feed(operation: Operation, kind: Kind, body: &[u8]) -> (State, State, bool) {
    let number: OutTradeNo = NUMBER.parse().expect("a number");
    let expected = Expected {
        appid: APPID,
        mch_id: MCH_ID,
        sub_appid: Some("wx2421b1c4370ec43b"),
        sub_mch_id: Some(SUB_MCH_ID),
        out_trade_no: &number,
        amount: Some(Fen::new(FEN).expect("an amount")),
        delivered_once: true,
    };
    let keys = KeyRing::new(Key::new(KEY).expect("a key"), None);
    let verify = |message: &Message<'_>| {
        let claimed = message.get("sign").unwrap_or_default();
        let right = keys.verify(kind, message.iter(), claimed, Case::Exact, &mut Scratch::new());
        if right { Signature::Valid } else { Signature::Wrong }
    };
    let exchange = Exchange::Answer { status: 200, body };
    let reader = &mut Reader::new();
    match operation {
        Operation::Pay => {
            let said = verdict::micropay(&exchange, &expected, reader, verify);
            assert_ne!(said.fact, PayFact::Unsent, "an answer proves that something was sent");
            let unclear = matches!(said.fact, PayFact::Unclear | PayFact::RefusedUnsigned);
            let (before, after) = moved(operation, unclear, said.row, &said.fact, || {
                let mut order = Order::paying();
                let before = order.state();
                order.pay_reply(said.row, said.fact.clone());
                // A refusal is told when the wallet has been asked about the order too; to have heard nothing
                // and then that there is no such order ends nothing (INV-11).
                order.confirm();
                (before, order.state())
            });
            (before, after, unclear)
        }
        Operation::Query => {
            let said = verdict::orderquery(&exchange, &expected, reader, verify);
            let unclear = matches!(said.fact, QueryFact::Unclear);
            let (before, after) = moved(operation, unclear, said.row, &said.fact, || {
                let mut order = Order::asked();
                let before = order.state();
                order.query_reply(said.row, said.fact.clone());
                (before, order.state())
            });
            (before, after, unclear)
        }
        Operation::Reverse => {
            let said = verdict::reverse(&exchange, &expected, reader, verify);
            let unclear = matches!(said.fact, ReverseFact::Unclear | ReverseFact::NoCertificate);
            let (before, after) = moved(operation, unclear, said.row, &said.fact, || {
                let mut order = Order::reversing();
                let before = order.state();
                order.reverse_reply(said.row, said.fact);
                (before, order.state())
            });
            (before, after, unclear)
        }
    }
}

thread_local! {
    /// What each fact that says nothing came to: the automaton is a function of row and fact, and nearly every bent
    /// answer comes to one of a few.
    static SEEN: RefCell<BTreeMap<String, (State, State)>> = const { RefCell::new(BTreeMap::new()) };
}

/// Where a fact moves an order.
fn moved(
    operation: Operation,
    unclear: bool,
    row: Row,
    fact: &impl Debug,
    run: impl FnOnce() -> (State, State),
) -> (State, State) {
    if !unclear {
        return run();
    }
    let name = format!("{operation:?} {row} {fact:?}");
    SEEN.with_borrow_mut(|seen| *seen.entry(name).or_insert_with(run))
}

/// What counts of a message: everything that is not empty, its signature too, in one order.
fn content(body: &[u8]) -> Option<Pairs> {
    let mut pairs = oracle::ours(body).ok()?;
    pairs.retain(|(_, value)| !value.is_empty());
    pairs.sort();
    Some(pairs)
}

/// What the wallet has signed in the vectors.
static SIGNED: LazyLock<Vec<Pairs>> =
    LazyLock::new(|| VECTORS.iter().filter_map(|vector| content(vector)).collect());

fn bent(operation: Operation, kind: Kind, body: &[u8]) {
    let (before, after, unclear) = feed(operation, kind, body);
    let is_signed = content(body).is_some_and(|content| SIGNED.contains(&content));
    if !is_signed {
        assert!(unclear, "what the wallet never said says something");
    }
    if unclear {
        assert_eq!(before, after, "what says nothing moved the order");
    }
}

fn signed(operation: Operation, kind: Kind, text: &str) {
    let mut pairs = crate::lines(text);
    pairs.retain(|(name, _)| name != "sign" && name != "SIGN");
    let sign = match kind {
        Kind::Md5 => oracle::md5_sign(&pairs, KEY),
        Kind::HmacSha256 => oracle::hmac_sign(&pairs, KEY),
    };
    pairs.push(("sign".to_owned(), sign));
    let body = oracle::write(&pairs);
    let (before, after, unclear) = feed(operation, kind, body.as_bytes());
    if unclear || before == after {
        assert_eq!(before, after, "what says nothing moved the order");
        return;
    }
    // From here on the order moved: everything that this needs must be there, letter by letter.
    let is = |name: &str, value: &str| field(&pairs, name) == value;
    assert!(is("return_code", "SUCCESS"), "{operation:?} {pairs:?}");
    let ours = is("appid", APPID) && is("mch_id", MCH_ID) && is("sub_mch_id", SUB_MCH_ID);
    let this_order = is("out_trade_no", NUMBER) || is("out_trade_no", "");
    assert!(this_order, "another order's answer: {pairs:?}");
    match after {
        State::Paid => {
            assert!(ours && is("result_code", "SUCCESS") && is("out_trade_no", NUMBER), "{pairs:?}");
            assert_eq!(oracle::amount(field(&pairs, "total_fee")), Some(FEN), "{pairs:?}");
            assert!(is("fee_type", "") || is("fee_type", "CNY"), "{pairs:?}");
            let transaction = field(&pairs, "transaction_id");
            let plain = transaction.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!((1..=32).contains(&transaction.len()) && plain, "{pairs:?}");
            assert!(operation != Operation::Query || is("trade_state", "SUCCESS"), "{pairs:?}");
            assert_ne!(operation, Operation::Reverse, "a reversal's answer proves no payment");
        }
        State::Failed => {
            assert!(ours, "{pairs:?}");
            match operation {
                Operation::Pay => assert!(is("result_code", "FAIL") && !is("err_code", ""), "{pairs:?}"),
                Operation::Query => {
                    let closed = ["CLOSED", "REVOKED", "REFUND"].contains(&field(&pairs, "trade_state"));
                    assert!(
                        closed && is("result_code", "SUCCESS") && is("out_trade_no", NUMBER),
                        "{pairs:?}"
                    );
                }
                Operation::Reverse => panic!("a reversal's answer fails no payment: {pairs:?}"),
            }
        }
        State::Reversing => {
            // A PAYERROR is reversed, never taken for an end.
            assert!(ours && operation == Operation::Query && is("trade_state", "PAYERROR"), "{pairs:?}");
        }
        State::Reversed => panic!("no answer alone proves a reversal: {pairs:?}"),
        State::Pending => {
            let in_dialog = is("err_code", "USERPAYING")
                || ["USERPAYING", "ACCEPT"].contains(&field(&pairs, "trade_state"));
            assert!(ours && in_dialog, "{pairs:?}");
        }
        State::Accepted => panic!("nothing leads back"),
    }
}

#[cfg(test)]
mod tests {
    use signer::Kind;
    use state_machine::record::State;

    use super::{Operation, VECTORS, feed};

    #[test]
    fn answers_that_the_wallet_signed_move_the_order() {
        let _covers = covers::covers(&["INV-10"]);
        let all = |operation, kind| -> Vec<State> {
            let mut ends: Vec<_> = VECTORS.iter().map(|body| feed(operation, kind, body).1).collect();
            ends.sort_unstable();
            ends.dedup();
            ends
        };
        assert_eq!(
            all(Operation::Pay, Kind::Md5),
            [State::Accepted, State::Pending, State::Paid, State::Failed]
        );
        assert_eq!(all(Operation::Pay, Kind::HmacSha256), [State::Accepted, State::Paid]);
        assert_eq!(
            all(Operation::Query, Kind::Md5),
            [State::Accepted, State::Pending, State::Paid, State::Failed, State::Reversing]
        );
        assert_eq!(all(Operation::Reverse, Kind::Md5), [State::Reversing]);
    }

    #[test]
    fn no_bit_of_a_signed_answer_can_be_turned() {
        let _covers = covers::covers(&["INV-10", "INV-25"]);
        for (at, vector) in VECTORS.iter().enumerate() {
            let mut body = vector.to_vec();
            for place in 0..body.len() {
                let bit = 1 << ((place + at) % 8);
                body[place] ^= bit;
                for operation in [Operation::Pay, Operation::Query, Operation::Reverse] {
                    super::bent(operation, Kind::Md5, &body);
                }
                body[place] ^= bit;
            }
        }
    }
}
