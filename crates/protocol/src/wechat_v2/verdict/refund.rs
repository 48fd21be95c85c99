//! Table D, first half: after `/secapi/pay/refund`.

use super::reply::{Cause, Misfit, Outcome, Reply};
use super::{Alarm, Exchange, Expected, Line, Signature, Verdict, is_configuration, line};
use crate::fact::{RefundFact, Row};
use crate::wechat_v2::field;
use crate::xml::{Message, Reader};

/// What an answer to the refund `out_refund_no` says: at best that it is accepted, which moves no money yet.
/// `verify` is called at most once, with a message that has a `sign`.
///
/// Source: wechatpay-v2 §4.5 D1 to D5.
pub fn refund(
    exchange: &Exchange<'_>,
    expected: &Expected<'_>,
    out_refund_no: &str,
    reader: &mut Reader,
    verify: impl FnOnce(&Message<'_>) -> Signature,
) -> Verdict<RefundFact> {
    let reply = match Reply::read(exchange, expected, reader, verify).and_then(Reply::of_merchant) {
        Ok(reply) => reply,
        Err(misfit) => return unfit(&misfit),
    };
    match answer(&reply, expected, out_refund_no) {
        Ok(line) => line.fits(&reply),
        Err(misfit) => unfit(&misfit),
    }
}

/// Row D2, for an answer that does not fit.
fn unfit(misfit: &Misfit) -> Verdict<RefundFact> {
    let line = line(Row::D2, RefundFact::Unclear);
    match misfit.cause {
        Cause::NoCertificate => line.alarm(Alarm::NoCertificate).unfit(misfit),
        Cause::Unsent
        | Cause::Lost
        | Cause::NotXml
        | Cause::RefusedOurs
        | Cause::Refused
        | Cause::NotVerified => line.unfit(misfit),
    }
}

/// Rows D1 to D5, for a verified answer.
fn answer(
    reply: &Reply<'_>,
    expected: &Expected<'_>,
    out_refund_no: &str,
) -> Result<Line<RefundFact>, Misfit> {
    let err_code = match reply.outcome() {
        Outcome::Success => return accepted(reply, expected, out_refund_no),
        Outcome::Fail(err_code) => err_code,
        Outcome::Unknown => return Ok(line(Row::D2, RefundFact::Unclear).alarm(Alarm::UnknownWord)),
    };
    Ok(match err_code {
        "SYSTEMERROR" | "BIZERR_NEED_RETRY" => line(Row::D2, RefundFact::Unclear),
        "NOTENOUGH" => line(Row::D3, RefundFact::NotEnough).alarm(Alarm::RefundRefused),
        "FREQUENCY_LIMITED" | "INVALID_REQ_TOO_MUCH" => line(Row::D4, RefundFact::Throttled),
        "ORDERNOTEXIST"
        | "TRADE_OVERDUE"
        | "USER_ACCOUNT_ABNORMAL"
        | "ERROR"
        | "INVALID_REQUEST"
        | "INVALID_TRANSACTIONID" => {
            line(Row::D5, RefundFact::Refused(reply.refusal())).alarm(Alarm::RefundRefused)
        }
        code if is_configuration(code) => {
            line(Row::D5, RefundFact::Refused(reply.refusal())).alarm(Alarm::RefundRefused)
        }
        _ => line(Row::D2, RefundFact::Unclear).alarm(Alarm::UnknownWord),
    })
}

/// Row D1, or D2 if the answer is not about this refund of this payment.
fn accepted(
    reply: &Reply<'_>,
    expected: &Expected<'_>,
    out_refund_no: &str,
) -> Result<Line<RefundFact>, Misfit> {
    let amount = reply.amount()?;
    if expected.amount.is_some_and(|expected| expected != amount) {
        return Err(reply.misfit(Alarm::AmountDiffers));
    }
    match reply.message().get(field::OUT_REFUND_NO) {
        Some(number) if number == out_refund_no => Ok(line(Row::D1, RefundFact::Accepted)),
        Some(_) => Err(reply.misfit(Alarm::WrongOrder)),
        None => Err(reply.misfit(Alarm::NotVerified)),
    }
}
