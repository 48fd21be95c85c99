//! What the wallet said, as the facts that the automaton understands.

use protocol::fact::{
    Paid, PayFact, QueryFact, RefundFact, RefundStatus, RefundsFact, Refusal, ReverseFact, Row,
};
use protocol::ids::Text;
use protocol::{Fen, Fields, TransactionId};
use state_machine::shard::{Call, Input, OrderRef};
use timer_wheel::Tick;

use crate::spoil::Spoil;
use crate::wallet::{Order, PayWord, Word};

/// The amount of every payment, fen.
pub(crate) const AMOUNT_FEN: u64 = 100;

/// A stranger's payment is so much older than ours, seconds.
const STRANGER_S: i64 = 86_400;

pub(crate) fn amount() -> Fen {
    Fen::new(AMOUNT_FEN).expect("not zero")
}

fn paid(at_s: i64) -> Box<Paid> {
    Box::new(Paid {
        amount: amount(),
        transaction_id: transaction(),
        time_end_s: Some(at_s),
        attach: 0,
        merchant_matches: true,
        fields: Fields::default(),
    })
}

fn transaction() -> TransactionId {
    "4200000000202611230000000001".parse().expect("a well-formed number")
}

fn refusal(code: &str) -> Refusal {
    Refusal { code: Text::truncated(code), description: Box::default() }
}

/// The answer to a pay request; `None` if none came.
pub(crate) fn pay(word: Option<PayWord>, accepted_s: i64, spoil: Spoil) -> (Row, PayFact) {
    match word {
        None if spoil == Spoil::TimeoutIsRefusal => (Row::A15, PayFact::RefusedOutright(refusal("TIMEOUT"))),
        None => (Row::A2, PayFact::Unclear),
        Some(PayWord::Asking) if spoil == Spoil::AskingIsPaid => (Row::A6, PayFact::Paid(paid(accepted_s))),
        Some(PayWord::Paid) => (Row::A6, PayFact::Paid(paid(accepted_s))),
        Some(PayWord::Asking) => (Row::A7, PayFact::InProgress),
        Some(PayWord::Refused) => (Row::A9, PayFact::Refused(refusal("AUTHCODEEXPIRE"))),
        Some(PayWord::ErrorPaid | PayWord::ErrorAsking | PayWord::ErrorNothing) => {
            (Row::A8, PayFact::Unclear)
        }
        Some(PayWord::UnsignedNothing | PayWord::UnsignedPaid) => (Row::A3, PayFact::RefusedUnsigned),
        Some(PayWord::TakenPaid | PayWord::TakenStranger | PayWord::TakenNothing)
            if spoil == Spoil::TakenIsReversed =>
        {
            (Row::A8, PayFact::Unclear)
        }
        Some(PayWord::TakenPaid | PayWord::TakenStranger | PayWord::TakenNothing) => {
            (Row::A12, PayFact::NumberTaken { refusal: refusal("ORDERPAID"), ours_possible: true })
        }
    }
}

fn query(order: Order, accepted_s: i64, spoil: Spoil) -> (Row, QueryFact) {
    match order {
        Order::Unseen | Order::Refused if spoil == Spoil::NotFoundIsClosed => (Row::B8, QueryFact::Closed),
        Order::Unseen | Order::Refused => (Row::B2, QueryFact::NotFound),
        Order::Asking if spoil == Spoil::AskingIsPaid => (Row::B4, QueryFact::Paid(paid(accepted_s))),
        Order::Asking => (Row::B6, QueryFact::InProgress),
        Order::Paid if spoil == Spoil::SuccessIsClosed => (Row::B8, QueryFact::Closed),
        Order::Paid => (Row::B4, QueryFact::Paid(paid(accepted_s))),
        Order::PayError | Order::PayErrorTaken => (Row::B7, QueryFact::PayError),
        Order::Revoked => (Row::B8, QueryFact::Revoked),
        Order::Refunded => (Row::B9, QueryFact::Returned(paid(accepted_s))),
        Order::Stranger if spoil == Spoil::StrangerIsOurs => (Row::B4, QueryFact::Paid(paid(accepted_s))),
        Order::Stranger if spoil == Spoil::TakenIsReversed => (Row::B6, QueryFact::InProgress),
        Order::Stranger => (Row::B4, QueryFact::Paid(paid(accepted_s.saturating_sub(STRANGER_S)))),
    }
}

/// The answer to any other call; `None` if none came.
pub(crate) fn reply(
    kind: Call,
    word: Option<Word>,
    order: OrderRef,
    call: u32,
    accepted_s: i64,
    spoil: Spoil,
) -> Input {
    let throttled = false;
    match kind {
        Call::Query | Call::LastQuery => {
            let (row, fact) = match word {
                Some(Word::Shows(shown)) => query(shown, accepted_s, spoil),
                Some(Word::Lag) => query(Order::Unseen, accepted_s, spoil),
                _ => (Row::B1, QueryFact::Unclear),
            };
            Input::QueryReply { order, call, row, fact, throttled }
        }
        Call::Reverse => {
            let (row, fact) = match word {
                Some(Word::CallAgain) if spoil == Spoil::RecallIgnored => (Row::C1, ReverseFact::Done),
                Some(Word::Done) => (Row::C1, ReverseFact::Done),
                Some(Word::Absent) => (Row::C9, ReverseFact::Absent),
                Some(Word::CallAgain) => (Row::C2, ReverseFact::CallAgain),
                Some(Word::ErrorDone) => (Row::C4, ReverseFact::SystemError),
                Some(Word::Dialog) => (Row::C5, ReverseFact::InProgress),
                Some(Word::Expired) => (Row::C6, ReverseFact::Expired),
                Some(Word::Refused) => (Row::C7, ReverseFact::Refused),
                _ => (Row::C3, ReverseFact::Unclear),
            };
            Input::ReverseReply { order, call, row, fact, throttled }
        }
        Call::Refund => {
            let (row, fact) = match word {
                Some(Word::Accepted) => (Row::D1, RefundFact::Accepted),
                Some(Word::Refused) => (Row::D5, RefundFact::Refused(refusal("TRADE_STATE_ERROR"))),
                _ => (Row::D2, RefundFact::Unclear),
            };
            Input::RefundReply { order, call, row, fact }
        }
        Call::RefundQuery => {
            let fact = match word {
                Some(Word::Lists(true)) => RefundsFact::Listed {
                    returned_fen: AMOUNT_FEN,
                    pending_fen: 0,
                    ours: Some(RefundStatus::Success),
                },
                Some(Word::Lists(false)) => RefundsFact::None,
                _ => RefundsFact::Unclear,
            };
            Input::RefundsReply { order, call, fact }
        }
    }
}

/// When a pay request was answered or given up.
pub(crate) const fn pay_reply(order: OrderRef, left_at: Option<Tick>, row: Row, fact: PayFact) -> Input {
    Input::PayReply { order, left_at, row, fact }
}
