//! Table A: after `/pay/micropay`.

use planted::planted;

use super::reply::{Cause, Misfit, Outcome, Reply};
use super::{Alarm, Exchange, Expected, Line, Signature, Verdict, is_configuration, line};
use crate::fact::{PayFact, Row};
use crate::xml::{Message, Reader};

/// What an answer to a pay request says. `verify` is called at most once, with a message that has a `sign`.
///
/// Source: wechatpay-v2 §4.5 A.
pub fn micropay(
    exchange: &Exchange<'_>,
    expected: &Expected<'_>,
    reader: &mut Reader,
    verify: impl FnOnce(&Message<'_>) -> Signature,
) -> Verdict<PayFact> {
    let reply = match Reply::read(exchange, expected, reader, verify).and_then(Reply::of_merchant) {
        Ok(reply) => reply,
        Err(misfit) => return unfit(&misfit),
    };
    match answer(&reply, expected) {
        Ok(line) => line.fits(&reply),
        Err(misfit) => unfit(&misfit),
    }
}

/// Rows A1 to A5.
fn unfit(misfit: &Misfit) -> Verdict<PayFact> {
    let line = match misfit.cause {
        Cause::Unsent => line(Row::A1, PayFact::Unsent),
        Cause::Lost | Cause::NoCertificate | Cause::NotXml => line(Row::A2, PayFact::Unclear),
        Cause::RefusedOurs => line(Row::A3, PayFact::RefusedUnsigned),
        Cause::Refused => line(Row::A4, PayFact::Unclear),
        Cause::NotVerified => line(Row::A5, PayFact::Unclear),
    };
    line.unfit(misfit)
}

/// Rows A6 to A17, for a verified answer.
fn answer(reply: &Reply<'_>, expected: &Expected<'_>) -> Result<Line<PayFact>, Misfit> {
    let err_code = match reply.outcome() {
        Outcome::Success => return paid(reply, expected),
        Outcome::Fail(err_code) => err_code,
        Outcome::Unknown => return Ok(line(Row::A17, PayFact::Unclear).alarm(Alarm::UnknownWord)),
    };
    // G4: a refusal is definite only if no other copy of the request can be on its way.
    let once = |row, fact| {
        if expected.delivered_once { line(row, fact) } else { line(Row::A10, PayFact::Unclear) }
    };
    let taken = |ours_possible| PayFact::NumberTaken { refusal: reply.refusal(), ours_possible };
    Ok(match err_code {
        "USERPAYING" => line(Row::A7, PayFact::InProgress),
        "SYSTEMERROR" | "BANKERROR" => line(Row::A8, PayFact::Unclear),
        "AUTHCODEEXPIRE" | "AUTH_CODE_ERROR" | "AUTH_CODE_INVALID" => {
            once(Row::A9, PayFact::Refused(reply.refusal()))
        }
        "NOTENOUGH" | "NOTSUPORTCARD" | "TRADE_ERROR" => once(Row::A11, PayFact::Refused(reply.refusal())),
        "ORDERPAID" => line(Row::A12, taken(true)).alarm(Alarm::NumberTaken),
        "OUT_TRADE_NO_USED" | "INVALID_REQUEST" => line(Row::A13, taken(true)),
        "BUYER_MISMATCH" => line(Row::A13, taken(false)),
        "ORDERCLOSED" | "ORDERREVERSED" => once(Row::A14, PayFact::RefusedOutright(reply.refusal())),
        code if is_configuration(code) => {
            once(Row::A15, PayFact::RefusedOutright(reply.refusal())).alarm(Alarm::Misconfigured)
        }
        "FREQUENCY_LIMITED" => line(Row::A16, PayFact::Unclear),
        _ => line(Row::A17, PayFact::Unclear).alarm(Alarm::UnknownWord),
    })
}

/// Row A6, or A5 if the amount is not ours.
fn paid(reply: &Reply<'_>, expected: &Expected<'_>) -> Result<Line<PayFact>, Misfit> {
    let paid = reply.paid()?;
    if expected.amount.is_some_and(|amount| amount != paid.amount) && !planted!(AmountNotCompared) {
        return Err(reply.misfit(Alarm::AmountDiffers));
    }
    Ok(line(Row::A6, PayFact::Paid(paid)))
}
