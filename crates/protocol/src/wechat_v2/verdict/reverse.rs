//! Table C: after `/secapi/pay/reverse`.

use super::reply::{Cause, Misfit, Outcome, Reply};
use super::{Alarm, Exchange, Expected, Line, Signature, Verdict, is_configuration, line};
use crate::fact::{ReverseFact, Row};
use crate::xml::{Message, Reader};

/// What an answer to a reversal says; never proof by itself. `verify` is called at most once, with a message
/// that has a `sign`.
///
/// Source: wechatpay-v2 §4.5 C.
pub fn reverse(
    exchange: &Exchange<'_>,
    expected: &Expected<'_>,
    reader: &mut Reader,
    verify: impl FnOnce(&Message<'_>) -> Signature,
) -> Verdict<ReverseFact> {
    match Reply::read(exchange, expected, reader, verify).and_then(Reply::of_merchant) {
        Ok(reply) => answer(&reply).fits(&reply),
        Err(misfit) => unfit(&misfit),
    }
}

/// Rows C3 and C8.
fn unfit(misfit: &Misfit) -> Verdict<ReverseFact> {
    let line = match misfit.cause {
        Cause::NoCertificate => line(Row::C8, ReverseFact::NoCertificate).alarm(Alarm::NoCertificate),
        Cause::Unsent
        | Cause::Lost
        | Cause::NotXml
        | Cause::RefusedOurs
        | Cause::Refused
        | Cause::NotVerified => line(Row::C3, ReverseFact::Unclear),
    };
    line.unfit(misfit)
}

/// Rows C1 to C9, for a verified answer.
fn answer(reply: &Reply<'_>) -> Line<ReverseFact> {
    let again = reply.recall == "Y";
    let err_code = match reply.outcome() {
        Outcome::Success if !again => return line(Row::C1, ReverseFact::Done),
        // An open dialog comes before the call-again flag that may stand beside it (vector 44): both mean
        // again, but this one says why, and sets the pace (C5).
        Outcome::Fail("USERPAYING") => return line(Row::C5, ReverseFact::InProgress),
        Outcome::Success | Outcome::Fail(_) | Outcome::Unknown if again => {
            return line(Row::C2, ReverseFact::CallAgain);
        }
        Outcome::Fail(err_code) => err_code,
        Outcome::Success | Outcome::Unknown => "",
    };
    match err_code {
        "SYSTEMERROR" => line(Row::C4, ReverseFact::SystemError),
        "REVERSE_EXPIRE" => line(Row::C6, ReverseFact::Expired),
        "TRADE_ERROR" | "INVALID_REQUEST" | "INVALID_TRANSACTIONID" | "ORDERPAID" => {
            line(Row::C7, ReverseFact::Refused).alarm(Alarm::ReversalRefused)
        }
        code if is_configuration(code) => line(Row::C7, ReverseFact::Refused).alarm(Alarm::ReversalRefused),
        "ORDERNOTEXIST" => line(Row::C9, ReverseFact::Absent),
        "FREQUENCY_LIMITED" => line(Row::C3, ReverseFact::Unclear),
        _ => line(Row::C3, ReverseFact::Unclear).alarm(Alarm::UnknownWord),
    }
}
