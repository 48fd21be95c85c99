//! Calls to the wallets: each action becomes one task, and each task ends in exactly one reply to its shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::fact::{PayFact, QueryFact, RefundFact, RefundsFact, ReverseFact, Row};
use protocol::wechat_v2::verdict::Verdict;
use state_machine::record::Record;
use state_machine::shard::{Call, Input, OrderRef};
use state_machine::{Channel, ProviderId, Tick};
use tokio::runtime::Handle;

use super::inbox::Inbox;
use super::tickets::Outgoing;
use crate::acquirer::wechat_v2::{Acquirer, SubMerchant};
use crate::merchants::{Binding, Merchants};
use crate::metrics::{self, CallOutcome, Operation};

/// A pay request that is not answered within this time is reported to have left, so that its queries start on
/// time.
const PAY_ANSWER_EXPECTED: Duration = Duration::from_secs(1);

/// Who makes the calls.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) runtime: Handle,
    pub(super) acquirers: HashMap<ProviderId, Arc<Acquirer>>,
    pub(super) merchants: Merchants,
}

impl Callers {
    /// The client and the sub-merchant that an order's calls are made with.
    fn route(&self, record: &Record) -> Option<(Arc<Acquirer>, Binding)> {
        let acquirer = self.acquirers.get(&record.provider)?;
        let binding = *self.merchants.load().binding(record.key.merchant)?;
        Some((Arc::clone(acquirer), binding))
    }

    /// Sends a pay request. Whatever happens to the task, the shard hears: a task that dies counts as a
    /// request that may have left.
    pub(super) fn pay(
        &self,
        order: OrderRef,
        record: Arc<Record>,
        outgoing: Option<Outgoing>,
        leave_by: Tick,
        inbox: Inbox,
    ) {
        let unsent = PayReplied { left_at: None, row: Row::A1, fact: PayFact::Unsent };
        let (Some((acquirer, binding)), Some(outgoing), Some(amount)) =
            (self.route(&record), outgoing, record.amount)
        else {
            return inbox.reply(unsent.into_input(order));
        };
        self.runtime.spawn(async move {
            let lost = PayReplied { left_at: Some(leave_by), row: Row::A2, fact: PayFact::Unclear };
            let mut reply = Reply::new(inbox.clone(), lost.into_input(order));
            let code = outgoing.auth_code.expose();
            let started = now();
            let answered = acquirer
                .pay(
                    sub_merchant(&binding),
                    &record.key.number,
                    amount,
                    outgoing.fields.iter().chain([("auth_code", code)]),
                    (leave_by, PAY_ANSWER_EXPECTED),
                    |at| inbox.reply(Input::PayLeft { order, at }),
                )
                .await;
            observe(record.channel, Operation::Pay, &answered.verdict, started);
            let Verdict { row, fact, .. } = answered.verdict;
            reply.set(PayReplied { left_at: answered.left_at, row, fact }.into_input(order));
        });
    }

    /// Makes any other call.
    pub(super) fn call(
        &self,
        order: OrderRef,
        call: u32,
        kind: Call,
        record: Arc<Record>,
        other_host: bool,
        inbox: Inbox,
    ) {
        let unclear = unclear(order, call, kind);
        let Some((acquirer, binding)) = self.route(&record) else {
            tracing::error!(
                merchant = record.key.merchant.0,
                out_trade_no = %record.key.number,
                "no route to the wallet for an open payment: its provider or merchant is not configured. Money \
                 may have moved. Put the provider back into the configuration and restart."
            );
            // Not at once: an order without a route would be asked about without end.
            self.runtime.spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                inbox.reply(unclear);
            });
            return;
        };
        self.runtime.spawn(async move {
            let mut reply = Reply::new(inbox, unclear);
            let merchant = sub_merchant(&binding);
            let number = &record.key.number;
            let started = now();
            let input = match kind {
                Call::Query | Call::LastQuery => {
                    let verdict = acquirer.query(merchant, number, None, other_host, None).await;
                    observe(record.channel, Operation::Query, &verdict, started);
                    let Verdict { row, fact, throttled, .. } = verdict;
                    Input::QueryReply { order, call, row, fact, throttled }
                }
                Call::Reverse => {
                    metrics::reversal(record.channel);
                    let verdict = acquirer.reverse(merchant, number, other_host).await;
                    observe(record.channel, Operation::Reverse, &verdict, started);
                    let Verdict { row, fact, throttled, .. } = verdict;
                    Input::ReverseReply { order, call, row, fact, throttled }
                }
                Call::RefundQuery => {
                    let ours = record.repair.then(|| record.repair_refund_no());
                    let fact = acquirer
                        .refundquery(merchant, number, record.amount, ours.as_deref(), other_host)
                        .await;
                    let outcome = match fact {
                        RefundsFact::Unclear => CallOutcome::Lost,
                        RefundsFact::None | RefundsFact::Listed { .. } => CallOutcome::Verified,
                    };
                    metrics::upstream(record.channel, Operation::RefundQuery, outcome, started.elapsed());
                    Input::RefundsReply { order, call, fact }
                }
                Call::Refund => {
                    let Some(amount) = record.amount else { return };
                    let refund_no = record.repair_refund_no();
                    let verdict =
                        acquirer.refund(merchant, number, &refund_no, amount, amount, other_host).await;
                    observe(record.channel, Operation::Refund, &verdict, started);
                    let Verdict { row, fact, .. } = verdict;
                    Input::RefundReply { order, call, row, fact }
                }
            };
            reply.set(input);
        });
    }
}

/// What a pay request came to.
struct PayReplied {
    left_at: Option<Tick>,
    row: Row,
    fact: PayFact,
}

impl PayReplied {
    fn into_input(self, order: OrderRef) -> Input {
        Input::PayReply { order, left_at: self.left_at, row: self.row, fact: self.fact }
    }
}

/// The reply of a call that came to nothing.
const fn unclear(order: OrderRef, call: u32, kind: Call) -> Input {
    match kind {
        Call::Query | Call::LastQuery => {
            Input::QueryReply { order, call, row: Row::B1, fact: QueryFact::Unclear, throttled: false }
        }
        Call::Reverse => {
            Input::ReverseReply { order, call, row: Row::C3, fact: ReverseFact::Unclear, throttled: false }
        }
        Call::RefundQuery => Input::RefundsReply { order, call, fact: RefundsFact::Unclear },
        Call::Refund => Input::RefundReply { order, call, row: Row::D2, fact: RefundFact::Unclear },
    }
}

fn sub_merchant(binding: &Binding) -> SubMerchant<'_> {
    SubMerchant { sub_mch_id: &binding.sub_mch_id, sub_appid: binding.sub_appid.as_ref() }
}

fn observe<F>(channel: Channel, operation: Operation, verdict: &Verdict<F>, started: Instant) {
    let row = verdict.row;
    let outcome = if row == Row::A1 {
        CallOutcome::Unsent
    } else if matches!(row, Row::A3 | Row::A4 | Row::A5) {
        CallOutcome::Unverified
    } else if row == Row::A2 || !verdict.keep_connection {
        CallOutcome::Lost
    } else {
        CallOutcome::Verified
    };
    metrics::upstream(channel, operation, outcome, started.elapsed());
    if verdict.throttled {
        metrics::throttled(channel, operation);
    }
    if let Some(alarm) = verdict.alarm {
        tracing::warn!(
            operation = operation.as_str(),
            row = verdict.row.as_str(),
            ?alarm,
            err_code = verdict.err_code.as_ref().map(tracing::field::display),
            "the wallet's answer needs a look; the order goes on and is asked about again"
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a call took is measured, nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

/// Delivers exactly one reply, also when its task is dropped or panics.
struct Reply {
    inbox: Inbox,
    input: Option<Input>,
}

impl Reply {
    const fn new(inbox: Inbox, otherwise: Input) -> Self {
        Self { inbox, input: Some(otherwise) }
    }

    fn set(&mut self, input: Input) {
        self.input = Some(input);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.inbox.reply(input);
        }
    }
}
