//! Table D, second half: after `/pay/refundquery`, page by page.

use super::reply::{Misfit, Outcome, Reply};
use super::{Alarm, Exchange, Expected, Line, Signature, Verdict, is_configuration, line};
use crate::amount::Fen;
use crate::fact::{RefundStatus, RefundsFact, Row};
use crate::wechat_v2::field;
use crate::xml::{Message, Reader};

/// The most refunds that one payment can have. Source: wechatpay-v2 §1.6.
const REFUNDS_MAX: usize = 50;

/// One refund, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundRecord {
    /// Its number.
    pub out_refund_no: Box<str>,
    /// Its amount.
    pub amount: Fen,
    /// Its state.
    pub status: RefundStatus,
}

/// What one answer to a refund query says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundsPage {
    /// Nothing can be told from it.
    Unclear,
    /// No such refund, or none at all (D10).
    None,
    /// Some refunds, or all.
    Listed {
        /// The amount of the payment.
        total: Fen,
        /// Those on this page.
        records: Vec<RefundRecord>,
        /// How many there are on all pages, if told; else these are all.
        count: Option<usize>,
    },
}

/// The pages of one payment, as they come: ask with `offset` = [`Pages::offset`] until [`Pages::add`] says.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// The amount of the payment and the number of its refunds, as the first page told them.
    told: Option<(Fen, Option<usize>)>,
    records: Vec<RefundRecord>,
}

/// What an answer to a refund query says. Ask by `out_trade_no`: only then all refunds are listed; a query by
/// refund number is answered with that refund alone. `ours` is the number whose state makes the row.
/// `verify` is called at most once, with a message that has a `sign`.
///
/// Source: wechatpay-v2 §3.5, §4.5 B9, D6 to D10.
pub fn refundquery(
    exchange: &Exchange<'_>,
    expected: &Expected<'_>,
    ours: Option<&str>,
    reader: &mut Reader,
    verify: impl FnOnce(&Message<'_>) -> Signature,
) -> Verdict<RefundsPage> {
    let reply = match Reply::read(exchange, expected, reader, verify).and_then(Reply::of_merchant) {
        Ok(reply) => reply,
        Err(misfit) => return unfit(&misfit),
    };
    match answer(&reply, expected, ours) {
        Ok(line) => line.fits(&reply),
        Err(misfit) => unfit(&misfit),
    }
}

fn unfit(misfit: &Misfit) -> Verdict<RefundsPage> {
    line(Row::B9, RefundsPage::Unclear).unfit(misfit)
}

fn answer(
    reply: &Reply<'_>,
    expected: &Expected<'_>,
    ours: Option<&str>,
) -> Result<Line<RefundsPage>, Misfit> {
    let unclear = line(Row::B9, RefundsPage::Unclear);
    match reply.outcome() {
        Outcome::Success => {}
        Outcome::Fail("REFUNDNOTEXIST") => return Ok(line(Row::D10, RefundsPage::None)),
        Outcome::Fail("SYSTEMERROR" | "FREQUENCY_LIMITED") => return Ok(unclear),
        Outcome::Fail(code) if is_configuration(code) => return Ok(unclear.alarm(Alarm::Misconfigured)),
        Outcome::Fail(_) | Outcome::Unknown => return Ok(unclear.alarm(Alarm::UnknownWord)),
    }
    let total = reply.amount()?;
    if expected.amount.is_some_and(|expected| expected != total) {
        return Err(reply.misfit(Alarm::AmountDiffers));
    }
    let records = match records(reply.message()) {
        Ok(records) => records,
        Err(alarm) => return Ok(unclear.alarm(alarm)),
    };
    let count = match reply.message().get(field::TOTAL_REFUND_COUNT).map(count) {
        Some(None) => return Ok(unclear.alarm(Alarm::NotVerified)),
        count => count.flatten(),
    };
    let row =
        records.iter().find(|record| ours == Some(&*record.out_refund_no)).map_or(Row::B9, |ours| match ours
            .status
        {
            RefundStatus::Processing => Row::D6,
            RefundStatus::Success => Row::D7,
            RefundStatus::Closed => Row::D8,
            RefundStatus::Change => Row::D9,
        });
    Ok(line(row, RefundsPage::Listed { total, records, count }))
}

/// A record while its fields come in, in whatever order.
#[derive(Clone, Copy, Default)]
struct Draft<'m> {
    out_refund_no: &'m str,
    amount: &'m str,
    status: &'m str,
}

/// Collects the records by their index. Each must be whole and none may be missing before another: a refund
/// that is overlooked is money counted wrong.
fn records(message: &Message<'_>) -> Result<Vec<RefundRecord>, Alarm> {
    let mut drafts: Vec<Draft<'_>> = Vec::new();
    for (name, value) in message.iter() {
        // `refund_fee_0_1` and `coupon_refund_fee_0` are other things.
        let Some((stem, index)) = name.rsplit_once('_') else { continue };
        if !matches!(stem, "out_refund_no" | "refund_fee" | "refund_status") {
            continue;
        }
        let Some(index) = count(index) else { continue };
        if index >= REFUNDS_MAX {
            return Err(Alarm::NotVerified);
        }
        if drafts.len() <= index {
            drafts.resize(index.saturating_add(1), Draft::default());
        }
        let Some(draft) = drafts.get_mut(index) else { return Err(Alarm::NotVerified) };
        match stem {
            "out_refund_no" => draft.out_refund_no = value,
            "refund_fee" => draft.amount = value,
            _ => draft.status = value,
        }
    }
    // The count may be absent or 0 although records exist (§6 no. 14), but never more than there are.
    match message.get("refund_count").map(count) {
        Some(None) => return Err(Alarm::NotVerified),
        Some(Some(count)) if count > drafts.len() => return Err(Alarm::NotVerified),
        Some(Some(_)) | None => {}
    }
    drafts.iter().map(Draft::finish).collect()
}

impl Draft<'_> {
    fn finish(&self) -> Result<RefundRecord, Alarm> {
        if self.out_refund_no.is_empty() {
            return Err(Alarm::NotVerified);
        }
        Ok(RefundRecord {
            out_refund_no: self.out_refund_no.into(),
            amount: Fen::from_total_fee(self.amount).map_err(|_| Alarm::NotVerified)?,
            status: match self.status {
                "SUCCESS" => RefundStatus::Success,
                "PROCESSING" => RefundStatus::Processing,
                "REFUNDCLOSE" => RefundStatus::Closed,
                "CHANGE" => RefundStatus::Change,
                _ => return Err(Alarm::UnknownWord),
            },
        })
    }
}

/// A small number: plain digits, no leading zero.
fn count(text: &str) -> Option<usize> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

impl Pages {
    /// No page yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The `offset` of the next page: how many refunds are known.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.records.len()
    }

    /// Adds a page; the fact once all are there, `None` if another must be asked for.
    ///
    /// Pages that contradict each other (a refund listed twice, another amount or count, more refunds than there
    /// can be, refunds over the amount paid) are unclear: ask again from the start.
    pub fn add(&mut self, page: RefundsPage, ours: Option<&str>) -> Option<RefundsFact> {
        let (total, records, count) = match page {
            RefundsPage::Unclear => return Some(RefundsFact::Unclear),
            RefundsPage::None if self.records.is_empty() => return Some(RefundsFact::None),
            RefundsPage::None => return Some(RefundsFact::Unclear),
            RefundsPage::Listed { total, records, count } => (total, records, count),
        };
        let grows = !records.is_empty();
        self.records.extend(records);
        let twice = |(at, record): (usize, &RefundRecord)| {
            self.records.iter().take(at).any(|known| known.out_refund_no == record.out_refund_no)
        };
        let told = *self.told.get_or_insert((total, count));
        if told != (total, count) || self.records.iter().enumerate().any(twice) {
            return Some(RefundsFact::Unclear);
        }
        match count {
            Some(count) if self.records.len() < count && count <= REFUNDS_MAX && grows => None,
            Some(count) if self.records.len() != count => Some(RefundsFact::Unclear),
            Some(_) | None => Some(self.sum(total, ours)),
        }
    }

    fn sum(&self, total: Fen, ours: Option<&str>) -> RefundsFact {
        // That there is none, the wallet says by REFUNDNOTEXIST; an empty list says nothing.
        if self.records.is_empty() {
            return RefundsFact::Unclear;
        }
        let sum_of = |status| {
            let mut matching = self.records.iter().filter(|record| record.status == status);
            matching.try_fold(0_u64, |sum, record| sum.checked_add(record.amount.get()))
        };
        // What cannot even be added up is more than was paid.
        let (Some(returned_fen), Some(pending_fen)) =
            (sum_of(RefundStatus::Success), sum_of(RefundStatus::Processing))
        else {
            return RefundsFact::Unclear;
        };
        if returned_fen.checked_add(pending_fen).is_none_or(|sum| sum > total.get()) {
            return RefundsFact::Unclear;
        }
        let ours = self.records.iter().find(|record| ours == Some(&*record.out_refund_no));
        RefundsFact::Listed { returned_fen, pending_fen, ours: ours.map(|record| record.status) }
    }
}
