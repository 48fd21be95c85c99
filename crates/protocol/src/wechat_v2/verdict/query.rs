//! Table B: after `/pay/orderquery`.

use super::reply::{Misfit, Outcome, Reply};
use super::{Alarm, Exchange, Expected, Line, Signature, Verdict, is_configuration, line};
use crate::fact::{QueryFact, Row};
use crate::xml::{Message, Reader};

/// What an answer to a query by `out_trade_no` says. `verify` is called at most once, with a message that has
/// a `sign`. A not-found is B2 here: whether it is B3 is a matter of time, which the automaton keeps.
///
/// Source: wechatpay-v2 §4.5 B.
pub fn orderquery(
    exchange: &Exchange<'_>,
    expected: &Expected<'_>,
    reader: &mut Reader,
    verify: impl FnOnce(&Message<'_>) -> Signature,
) -> Verdict<QueryFact> {
    let reply = match Reply::read(exchange, expected, reader, verify) {
        Ok(reply) => reply,
        Err(misfit) => return unfit(&misfit),
    };
    match answer(&reply, expected) {
        Ok(line) => line.fits(&reply),
        Err(misfit) => unfit(&misfit),
    }
}

/// Row B1, for an answer that does not fit.
fn unfit(misfit: &Misfit) -> Verdict<QueryFact> {
    line(Row::B1, QueryFact::Unclear).unfit(misfit)
}

/// Rows B1 to B9, for a signed answer.
fn answer(reply: &Reply<'_>, expected: &Expected<'_>) -> Result<Line<QueryFact>, Misfit> {
    // Money under our number at another merchant must be held, not overlooked (B5, UB-10); all else that
    // names another merchant is nobody's answer.
    let money =
        matches!(reply.outcome(), Outcome::Success) && matches!(reply.trade_state, "SUCCESS" | "REFUND");
    if !reply.merchant_matches && !money {
        return Err(reply.misfit(Alarm::WrongMerchant));
    }
    match reply.outcome() {
        Outcome::Success => reply.names_order()?,
        Outcome::Fail("ORDERNOTEXIST") => return Ok(line(Row::B2, QueryFact::NotFound)),
        Outcome::Fail(code) if is_configuration(code) => {
            return Ok(line(Row::B1, QueryFact::Unclear).alarm(Alarm::Misconfigured));
        }
        Outcome::Fail("SYSTEMERROR" | "FREQUENCY_LIMITED") => return Ok(line(Row::B1, QueryFact::Unclear)),
        Outcome::Fail(_) | Outcome::Unknown => {
            return Ok(line(Row::B1, QueryFact::Unclear).alarm(Alarm::UnknownWord));
        }
    }
    Ok(match reply.trade_state {
        "SUCCESS" => paid(reply, expected)?,
        "USERPAYING" | "ACCEPT" => line(Row::B6, QueryFact::InProgress),
        "NOTPAY" => line(Row::B6, QueryFact::Unpaid),
        "PAYERROR" => line(Row::B7, QueryFact::PayError),
        "CLOSED" => line(Row::B8, QueryFact::Closed),
        "REVOKED" => line(Row::B8, QueryFact::Revoked),
        "REFUND" => {
            let paid = reply.paid()?;
            let alarm = (!paid.merchant_matches).then_some(Alarm::WrongMerchant);
            Line { alarm, ..line(Row::B9, QueryFact::Returned(paid)) }
        }
        _ => line(Row::B6, QueryFact::UnknownState).alarm(Alarm::UnknownWord),
    })
}

/// Row B4, or B5 if amount or merchant are not ours: then the fact says so, and the automaton holds the order.
fn paid(reply: &Reply<'_>, expected: &Expected<'_>) -> Result<Line<QueryFact>, Misfit> {
    let paid = reply.paid()?;
    let differs = expected.amount.is_some_and(|amount| amount != paid.amount);
    Ok(if !paid.merchant_matches {
        line(Row::B5, QueryFact::Paid(paid)).alarm(Alarm::WrongMerchant)
    } else if differs {
        line(Row::B5, QueryFact::Paid(paid)).alarm(Alarm::AmountDiffers)
    } else {
        line(Row::B4, QueryFact::Paid(paid))
    })
}
