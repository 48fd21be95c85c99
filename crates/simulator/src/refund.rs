//! Refunds and their queries. Source: wechatpay-v2 §1.6, §3.4, §3.5.

use crate::beijing::Beijing;
use crate::customer::Refusal;
use crate::ledger::{Key, State, Violation};
use crate::message::{Answer, Caller, Number, Refund, RefundNumber};
use crate::wallet::{Event, Wallet};
use compact_str::{CompactString, format_compact};

/// Refunds of one order. Source: wechatpay-v2 §3.4.
const REFUNDS_MAX: usize = 50;
/// Refunds in one answer. Source: wechatpay-v2 §3.5.
const PAGE: usize = 10;
const YEAR_MS: i64 = 365 * 86_400_000;

const NO_ORDER: Refusal = Refusal { code: "ORDERNOTEXIST", text: "订单不存在" };
const BAD_PARAMETER: Refusal = Refusal { code: "PARAM_ERROR", text: "参数格式错误" };
const NO_REFUND: Refusal = Refusal { code: "REFUNDNOTEXIST", text: "退款订单不存在" };

/// One refund.
#[derive(Debug)]
pub(crate) struct RefundRecord {
    out_refund_no: CompactString,
    refund_id: CompactString,
    fee_fen: u64,
    at_ms: i64,
    /// When the customer had the money; `None` while PROCESSING.
    done_at_ms: Option<i64>,
}

impl Wallet {
    /// Answers a refund request. Accepted is not done: the money moves when the refund has been processed.
    pub(crate) fn refund(&mut self, caller: &Caller, refund: &Refund) -> Answer {
        self.stats.refunds += 1;
        let index = match self.check_refund(caller, refund) {
            Ok(Accepted::Before(index, position)) => return self.accepted(caller, index, position),
            Ok(Accepted::Now(index)) => index,
            Err(refusal) => return self.fail(caller, refusal),
        };
        let position = self.record_refund(index, refund.out_refund_no.clone(), refund.refund_fee);
        let delay_ms = self.options.scaled_s(self.options.refund_processing_s);
        self.schedule(delay_ms, Event::RefundArrives(index, position));
        self.accepted(caller, index, position)
    }

    fn check_refund(&mut self, caller: &Caller, refund: &Refund) -> Result<Accepted, Refusal> {
        let index = self.find(caller, &refund.number).ok_or(NO_ORDER)?;
        let refund_key = Key::new(&caller.mch_id, &caller.sub_mch_id, &refund.out_refund_no);
        if let Some((of, position)) = self.refunds_by_no.get(&refund_key).copied() {
            let same = of == index
                && self.order(of).refunds.get(position).is_some_and(|r| r.fee_fen == refund.refund_fee);
            let clash = Refusal {
                code: "INVALID_REQUEST",
                text: "订单金额或退款金额与之前请求不一致，请核实后再试",
            };
            return if same { Ok(Accepted::Before(index, position)) } else { Err(clash) };
        }
        let now_ms = self.now_ms;
        let pause_ms = self.options.scaled_s(self.options.refund_pause_s);
        let order = self.order_mut(index);
        let entry = &mut order.entry;
        if entry.state == State::Revoked {
            return Err(Refusal { code: "ERROR", text: "订单已撤销" });
        }
        if !matches!(entry.state, State::Paid | State::Refund) {
            return Err(NO_ORDER);
        }
        if refund.refund_fee == 0 || refund.out_refund_no.is_empty() {
            return Err(BAD_PARAMETER);
        }
        if refund.total_fee != entry.captured_fen {
            return Err(Refusal { code: "INVALID_REQUEST", text: "订单金额不一致" });
        }
        let refunded_fen: u64 = order.refunds.iter().map(|r| r.fee_fen).sum();
        if refund.refund_fee > entry.captured_fen.saturating_sub(refunded_fen) {
            entry.violations.push(Violation::RefundOverCeiling);
            return Err(Refusal { code: "ERROR", text: "累计退款金额大于支付金额" });
        }
        if order.refunds.len() >= REFUNDS_MAX {
            return Err(Refusal { code: "ERROR", text: "退款次数超过限制" });
        }
        if entry.paid_at_ms.is_some_and(|paid_at_ms| now_ms - paid_at_ms > YEAR_MS) {
            return Err(Refusal { code: "TRADE_OVERDUE", text: "订单已经超过退款期限" });
        }
        if order.refunds.last().is_some_and(|last| now_ms - last.at_ms < pause_ms) {
            return Err(Refusal { code: "FREQUENCY_LIMITED", text: "你的操作过于频繁" });
        }
        Ok(Accepted::Now(index))
    }

    /// Writes a refund down, PROCESSING.
    fn record_refund(&mut self, index: usize, out_refund_no: CompactString, fee_fen: u64) -> usize {
        let at_ms = self.now_ms;
        let date = Beijing::at(at_ms).date();
        let order = self.order_mut(index);
        let position = order.refunds.len();
        let refund_id = format_compact!("5030{date}{index:010}{position:06}");
        let key = Key::new(&order.entry.key.mch_id, &order.entry.key.sub_mch_id, &out_refund_no);
        order.entry.refunds += 1;
        order.refunds.push(RefundRecord {
            out_refund_no,
            refund_id: refund_id.clone(),
            fee_fen,
            at_ms,
            done_at_ms: None,
        });
        self.set_state(index, State::Refund);
        self.refunds_by_no.insert(key, (index, position));
        self.refunds_by_id.insert(refund_id, (index, position));
        position
    }

    /// The customer has the money of a refund.
    pub(crate) fn finish_refund(&mut self, index: usize, position: usize) {
        let now_ms = self.now_ms;
        let order = self.order_mut(index);
        if let Some(refund) = order.refunds.get_mut(position)
            && refund.done_at_ms.is_none()
        {
            refund.done_at_ms = Some(now_ms);
            order.entry.returned_fen += refund.fee_fen;
        }
    }

    /// Somebody returns the whole payment on the wallet's platform.
    pub(crate) fn refund_on_platform(&mut self, index: usize) {
        let entry = &self.order(index).entry;
        let (number, fee_fen) = (format_compact!("PF{}", entry.transaction_id), entry.captured_fen);
        let position = self.record_refund(index, number, fee_fen);
        self.finish_refund(index, position);
    }

    fn accepted(&mut self, caller: &Caller, index: usize, position: usize) -> Answer {
        let mut answer = self.head(caller, "SUCCESS");
        let order = self.order(index);
        let total = order.entry.captured_fen.to_string();
        answer.push("transaction_id", &order.entry.transaction_id);
        answer.push("out_trade_no", order.entry.key.out_trade_no.clone());
        if let Some(refund) = order.refunds.get(position) {
            answer.push("out_refund_no", refund.out_refund_no.clone());
            answer.push("refund_id", refund.refund_id.clone());
            answer.push("refund_fee", refund.fee_fen.to_string());
            answer.push("coupon_refund_fee", "0");
            answer.push("total_fee", &total);
            answer.push("cash_fee", &total);
            answer.push("coupon_refund_count", "0");
            answer.push("cash_refund_fee", refund.fee_fen.to_string());
        }
        answer
    }

    /// Answers a refund query.
    pub(crate) fn refund_query(
        &mut self,
        caller: &Caller,
        number: &RefundNumber,
        offset: Option<u32>,
    ) -> Answer {
        self.stats.refund_queries += 1;
        let found = match number {
            RefundNumber::RefundId(id) => self.refunds_by_id.get(id).copied(),
            RefundNumber::OutRefundNo(no) => {
                self.refunds_by_no.get(&Key::new(&caller.mch_id, &caller.sub_mch_id, no)).copied()
            }
            RefundNumber::Order(number) => {
                let index = self.find(caller, number);
                return self.refunds_of(caller, index, offset);
            }
        };
        match found {
            Some((index, position)) if self.is_of(caller, index) => {
                self.list(caller, index, position..position + 1, false)
            }
            Some(_) | None => self.fail(caller, NO_REFUND),
        }
    }

    fn refunds_of(&mut self, caller: &Caller, index: Option<usize>, offset: Option<u32>) -> Answer {
        let total = index.map_or(0, |index| self.order(index).refunds.len());
        let Some(index) = index.filter(|_| total > 0) else {
            return self.fail(caller, NO_REFUND);
        };
        let first = usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX);
        if first >= total {
            return self.fail(caller, BAD_PARAMETER);
        }
        self.list(caller, index, first..total.min(first + PAGE), offset.is_some() || total > PAGE)
    }

    fn is_of(&self, caller: &Caller, index: usize) -> bool {
        let key = &self.order(index).entry.key;
        key.mch_id == caller.mch_id && key.sub_mch_id == caller.sub_mch_id
    }

    fn list(
        &mut self,
        caller: &Caller,
        index: usize,
        range: std::ops::Range<usize>,
        with_total: bool,
    ) -> Answer {
        let mut answer = self.head(caller, "SUCCESS");
        let order = self.order(index);
        let total_fee = order.entry.captured_fen.to_string();
        let returned: u64 = order.refunds.iter().map(|refund| refund.fee_fen).sum();
        answer.push("transaction_id", &order.entry.transaction_id);
        answer.push("out_trade_no", order.entry.key.out_trade_no.clone());
        answer.push("total_fee", &total_fee);
        answer.push("fee_type", "CNY");
        answer.push("cash_fee", &total_fee);
        answer.push("refund_fee", returned.to_string());
        answer.push("cash_refund_fee", returned.to_string());
        if with_total {
            answer.push("total_refund_count", order.refunds.len().to_string());
        }
        let page = order.refunds.get(range).unwrap_or_default();
        answer.push("refund_count", page.len().to_string());
        for (n, refund) in page.iter().enumerate() {
            answer.push(format!("out_refund_no_{n}"), refund.out_refund_no.clone());
            answer.push(format!("refund_id_{n}"), refund.refund_id.clone());
            answer.push(format!("refund_channel_{n}"), "ORIGINAL");
            answer.push(format!("refund_fee_{n}"), refund.fee_fen.to_string());
            answer.push(
                format!("refund_status_{n}"),
                if refund.done_at_ms.is_some() { "SUCCESS" } else { "PROCESSING" },
            );
            answer.push(format!("refund_account_{n}"), "REFUND_SOURCE_UNSETTLED_FUNDS");
            answer.push(format!("refund_recv_accout_{n}"), "支付用户零钱");
            if let Some(done_at_ms) = refund.done_at_ms {
                answer.push(format!("refund_success_time_{n}"), Beijing::at(done_at_ms).dashed());
            }
        }
        answer
    }
}

/// What a refund request is.
enum Accepted {
    /// A repeat: order, refund.
    Before(usize, usize),
    /// A new refund of this order.
    Now(usize),
}

impl Number {
    /// The number that a message names: `transaction_id` wins. `None` if it names none.
    #[must_use]
    pub fn chosen(transaction_id: &str, out_trade_no: &str) -> Option<Self> {
        if !transaction_id.is_empty() {
            Some(Self::TransactionId(transaction_id.into()))
        } else if !out_trade_no.is_empty() {
            Some(Self::OutTradeNo(out_trade_no.into()))
        } else {
            None
        }
    }
}
