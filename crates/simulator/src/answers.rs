//! The words of the wallet: what its answers are made of. Source: wechatpay-v2 §3.1–§3.3, appendix A.

use std::borrow::Cow;

use compact_str::{CompactString, ToCompactString as _, format_compact};

use crate::beijing::Beijing;
use crate::customer::{
    NUMBER_USED, ORDER_PAID, PayAnswer, Queries, REVERSED, Refusal, ReversalFault, SYSTEM_ERROR,
};
use crate::ledger::State;
use crate::message::{Answer, Caller, Number, Reply, Seal};
use crate::rng::Rng;
use crate::wallet::Wallet;

/// What the machine in front of the wallet says when the wallet does not.
pub(crate) const BAD_GATEWAY: Reply = Reply::Http {
    status: 502,
    html: "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
           <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
};

/// A `trade_state` that no version of the channel has documented.
const UNHEARD_OF_STATE: &str = "DEBITING";

/// Room for the fields of most answers: within 1 KiB, which allocators have at hand.
const FIELDS: usize = 20;
/// Room for the fields of a payment.
const FIELDS_PAID: usize = 28;

const USER_PAYING: Refusal = Refusal { code: "USERPAYING", text: "需要用户输入支付密码" };
const NO_ORDER: Refusal = Refusal { code: "ORDERNOTEXIST", text: "订单不存在" };

impl Wallet {
    /// The fields that every signed answer begins with.
    pub(crate) fn head(&mut self, caller: &Caller, result_code: &str) -> Answer {
        self.head_of(caller, result_code, FIELDS)
    }

    /// The same, with room for so many fields.
    fn head_of(&mut self, caller: &Caller, result_code: &str, fields: usize) -> Answer {
        let mut answer =
            Answer { fields: Vec::with_capacity(fields), seal: Seal::Signed, of_another_order: false };
        answer.push("return_code", "SUCCESS");
        answer.push("return_msg", "OK");
        answer.push("appid", caller.appid.clone());
        answer.push("mch_id", caller.mch_id.clone());
        for (name, value) in [("sub_appid", &caller.sub_appid), ("sub_mch_id", &caller.sub_mch_id)] {
            if !value.is_empty() {
                answer.push(name, value.clone());
            }
        }
        answer.push("nonce_str", self.rng.alphanumeric(16));
        answer.push("result_code", result_code);
        answer
    }

    /// A signed refusal.
    pub(crate) fn fail(&mut self, caller: &Caller, refusal: Refusal) -> Answer {
        let mut answer = self.head(caller, "FAIL");
        answer.push("err_code", refusal.code);
        answer.push("err_code_des", refusal.text);
        answer
    }

    /// The truth about a pay request.
    pub(crate) fn honest(&mut self, index: usize, caller: &Caller) -> Answer {
        match self.order(index).entry.state {
            State::Paid | State::Refund => {
                let mut answer = self.head_of(caller, "SUCCESS", FIELDS_PAID);
                self.push_device(&mut answer, index);
                self.push_paid(&mut answer, index, caller);
                answer
            }
            State::Closed | State::Revoked => self.fail(caller, REVERSED),
            State::InFlight
            | State::Lost
            | State::Refused
            | State::Paying
            | State::Accepted
            | State::NotPay
            | State::PayError => self.fail(caller, USER_PAYING),
        }
    }

    /// The truth, with a signature that does not fit.
    pub(crate) fn forged(&mut self, index: usize, caller: &Caller) -> Answer {
        Answer { seal: Seal::Forged, ..self.honest(index, caller) }
    }

    /// A valid SUCCESS of an order that nobody here asked about, of the same amount.
    pub(crate) fn of_another_order(&mut self, index: usize, caller: &Caller) -> Answer {
        let mut answer = self.head_of(caller, "SUCCESS", FIELDS_PAID);
        self.push_paid(&mut answer, index, caller);
        let stranger = Rng::keyed(0, &self.order(index).entry.transaction_id).next_u64();
        for (name, value) in &mut answer.fields {
            match name.as_ref() {
                "out_trade_no" => *value = format_compact!("X{stranger:020}"),
                "transaction_id" => *value = format_compact!("4299{stranger:024}"),
                "openid" => *value = openid(&caller.appid, u32::MAX),
                "time_end" => *value = Beijing::at(self.now_ms).compact(),
                _ => {}
            }
        }
        answer.of_another_order = true;
        answer
    }

    /// Answers a pay request that has come before, with the same content.
    pub(crate) fn repeated_answer(&mut self, index: usize, caller: &Caller) -> Answer {
        let order = self.order(index);
        let refusal = match order.entry.state {
            State::Paid | State::Refund => ORDER_PAID,
            State::Closed => Refusal { code: "ORDERCLOSED", text: "订单已关闭" },
            State::Revoked => REVERSED,
            State::PayError => Refusal { code: "TRADE_ERROR", text: "用户取消支付" },
            State::NotPay | State::Refused | State::Lost => match (order.refused, order.behaviour.answer) {
                (Some(refusal), _) | (None, PayAnswer::Fails(refusal)) => refusal,
                (None, _) => NUMBER_USED,
            },
            State::InFlight | State::Paying | State::Accepted => USER_PAYING,
        };
        self.fail(caller, refusal)
    }

    /// Answers an order query. Source: wechatpay-v2 §3.2, §4.4.
    pub(crate) fn query(&mut self, caller: &Caller, number: &Number) -> Reply {
        self.stats.queries += 1;
        let Some(index) = self.find(caller, number) else {
            return Reply::Answer(self.fail(caller, NO_ORDER));
        };
        self.order_mut(index).entry.queries += 1;
        if !self.is_visible(index) {
            return Reply::Answer(self.fail(caller, NO_ORDER));
        }
        let order = self.order_mut(index);
        let spoilt = order.queries_spoilt;
        if let Queries::FirstFail { count } = order.behaviour.queries
            && spoilt < count
        {
            order.queries_spoilt += 1;
            return match spoilt % 3 {
                0 => Reply::Answer(self.fail(caller, SYSTEM_ERROR)),
                1 => Reply::Drop,
                _ => BAD_GATEWAY,
            };
        }
        if order.entry.state == State::Accepted {
            order.queries_spoilt += 1;
            match spoilt {
                0 => return Reply::Answer(self.state_answer(index, caller, "ACCEPT", "已接收，等待扣款")),
                1 => {
                    return Reply::Answer(self.state_answer(index, caller, UNHEARD_OF_STATE, "扣款处理中"));
                }
                _ => self.capture(index),
            }
        }
        let (state, text) = match self.order(index).entry.state {
            State::Paid => ("SUCCESS", "支付成功"),
            State::Refund => ("REFUND", "订单发生过退款，退款详情请查询退款单"),
            State::Paying | State::InFlight | State::Accepted => ("USERPAYING", "需要用户输入支付密码"),
            State::NotPay | State::Lost | State::Refused => ("NOTPAY", "订单未支付"),
            State::PayError => ("PAYERROR", "支付失败，请撤销订单"),
            State::Closed => ("CLOSED", "订单已关闭"),
            State::Revoked => ("REVOKED", "订单已撤销"),
        };
        Reply::Answer(self.state_answer(index, caller, state, text))
    }

    /// Whether queries find the order.
    fn is_visible(&self, index: usize) -> bool {
        let order = self.order(index);
        let hidden_ms = match order.behaviour.queries {
            Queries::HiddenFor { after_ms } => self.options.scaled_ms(after_ms),
            Queries::Honest | Queries::FirstFail { .. } => 0,
        };
        order.entry.state.stands() && self.now_ms >= order.entry.first_pay_at_ms.saturating_add(hidden_ms)
    }

    fn state_answer(&mut self, index: usize, caller: &Caller, state: &str, text: &str) -> Answer {
        let is_paid = matches!(state, "SUCCESS" | "REFUND");
        let mut answer = self.head_of(caller, "SUCCESS", if is_paid { FIELDS_PAID } else { FIELDS });
        self.push_device(&mut answer, index);
        if is_paid {
            self.push_paid(&mut answer, index, caller);
            answer.push("trade_state", state);
        } else {
            answer.push("trade_state", state);
            answer.push("out_trade_no", self.order(index).entry.key.out_trade_no.clone());
            answer.push("attach", &*self.order(index).attach);
        }
        answer.push("trade_state_desc", text);
        answer
    }

    fn push_device(&self, answer: &mut Answer, index: usize) {
        let device_info = &self.order(index).device_info;
        if !device_info.is_empty() {
            answer.push("device_info", &**device_info);
        }
    }

    /// The fields of a payment. Source: wechatpay-v2 §3.1, response when paid.
    fn push_paid(&self, answer: &mut Answer, index: usize, caller: &Caller) {
        let order = self.order(index);
        let entry = &order.entry;
        let fen = entry.amount_fen.saturating_add(order.behaviour.surplus_fen).to_compact_string();
        let mut push = |name: &'static str, value: CompactString| answer.push(Cow::Borrowed(name), value);
        push("openid", openid(&caller.appid, entry.payer));
        push("is_subscribe", CompactString::const_new("N"));
        if !caller.sub_appid.is_empty() {
            push("sub_openid", openid(&caller.sub_appid, entry.payer));
            push("sub_is_subscribe", CompactString::const_new("N"));
        }
        push("trade_type", CompactString::const_new("MICROPAY"));
        push("bank_type", CompactString::const_new("OTHERS"));
        push("fee_type", CompactString::const_new("CNY"));
        push("total_fee", fen.clone());
        push("cash_fee_type", CompactString::const_new("CNY"));
        push("cash_fee", fen);
        push("transaction_id", entry.transaction_id.as_str().into());
        push("out_trade_no", entry.key.out_trade_no.as_str().into());
        push("attach", (&*order.attach).into());
        push("time_end", Beijing::at(entry.paid_at_ms.unwrap_or(self.now_ms)).compact());
    }

    /// A reversal's SUCCESS.
    pub(crate) fn reversed(&mut self, caller: &Caller, recall: bool) -> Answer {
        let mut answer = self.head(caller, "SUCCESS");
        answer.push("recall", if recall { "Y" } else { "N" });
        answer
    }

    /// A reversal that does nothing.
    pub(crate) fn reversal_fault(&mut self, caller: &Caller, fault: ReversalFault) -> Answer {
        let (refusal, recall) = match fault {
            ReversalFault::CallAgain => return self.reversed(caller, true),
            ReversalFault::SaysDone => return self.reversed(caller, false),
            ReversalFault::SystemError => (SYSTEM_ERROR, "Y"),
            ReversalFault::Expired => (Refusal { code: "REVERSE_EXPIRE", text: "订单无法撤销" }, "N"),
            ReversalFault::InvalidRequest => (Refusal { code: "INVALID_REQUEST", text: "无效请求" }, "N"),
            ReversalFault::UserPaying => {
                (Refusal { code: "USERPAYING", text: "正在支付中不能发起撤销" }, "Y")
            }
        };
        let mut answer = self.fail(caller, refusal);
        answer.push("recall", recall);
        answer
    }

    /// A reversal of an order that was refunded.
    pub(crate) fn refunded_already(&mut self, caller: &Caller) -> Answer {
        let mut answer = self.fail(caller, Refusal { code: "TRADE_ERROR", text: "订单已发起退款，不能撤销" });
        answer.push("recall", "N");
        answer
    }
}

/// The payer under an `appid`: the same for ever.
fn openid(appid: &str, payer: u32) -> CompactString {
    let mut rng = Rng::keyed_by(0, appid.bytes().chain([b'/']).chain(payer.to_compact_string().bytes()));
    let mut text = CompactString::with_capacity(28);
    text.push('o');
    text.push_str(&rng.alphanumeric(27));
    text
}
