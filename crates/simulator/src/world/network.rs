//! Between the switch and the wallet: delay, loss, copies, and what comes back.

use protocol::fact::Row;
use protocol::wechat_v2::verdict::{Exchange, Signature};
use protocol::xml::{Message, Reader};
use state_machine::OrderKey;
use state_machine::shard::Call as Ask;

use super::bytes::Client;
use super::calls::{CallRef, What};
use super::kind::Kind;
use super::tills::{Till, key_of, merchant_of};
use super::{Event, World};
use crate::face::BytesReply;
use crate::ledger::{Key, State};
use crate::message::{Answer, Call, Caller, Micropay, Number, Refund, RefundNumber, Reply, Request, Seal};

/// A pay request that is late arrives this long after it left at most. With the 5 s of a customer 20 from the
/// population it stays below the 60 s after which absence is proof. Source: wechatpay-v2 §4.5 C9.
const LATE_MAX_MS: u64 = 50_000;
/// The same for a customer 20, who has a delay of his own.
const LATE_OF_LATE_MS: u64 = 3_000;
/// One in twelve comes later than anybody should think, but before the first look at an order that ended by
/// absence: the money must be found and given back. Source: wechatpay-v2 §4.5 G5.
const TOO_LATE_MAX_MS: u64 = 240_000;

/// What came of a call.
#[derive(Debug)]
pub(super) enum Received {
    /// Not one byte left.
    Unsent,
    /// It may have been sent, and no answer came.
    Lost,
    /// The client certificate was not taken.
    NoCertificate,
    /// What left the wallet.
    Typed(Reply),
    /// The same in bytes.
    Bytes(BytesReply),
    /// The beginning of an answer.
    Cut(Vec<u8>),
}

impl Received {
    /// As the transport sees it. A typed answer has a stand-in for its signature, whose worth is known.
    pub(super) fn exchange<'a>(&'a self, typed: &'a mut Reader) -> Exchange<'a> {
        match self {
            Self::Unsent => Exchange::Unsent,
            Self::Lost
            | Self::Typed(Reply::Drop | Reply::Hang)
            | Self::Bytes(BytesReply::Drop | BytesReply::Hang) => Exchange::Lost,
            Self::NoCertificate => Exchange::NoCertificate,
            Self::Typed(Reply::Answer(answer)) => {
                let mark = (answer.seal != Seal::Unsigned).then_some(("sign", "S"));
                Exchange::Message(typed.collect(pairs(answer).chain(mark)))
            }
            Self::Typed(Reply::Http { status, html }) | Self::Bytes(BytesReply::Http { status, html }) => {
                Exchange::Answer { status: *status, body: html.as_bytes() }
            }
            Self::Bytes(BytesReply::Xml(body)) | Self::Cut(body) => Exchange::Answer { status: 200, body },
        }
    }

    /// What the check of the signature finds.
    pub(super) fn signature(
        &self,
        client: Option<&mut Client>,
        provider: usize,
        message: &Message<'_>,
    ) -> Signature {
        match (self, client) {
            (Self::Typed(Reply::Answer(answer)), _) => match answer.seal {
                Seal::Signed => Signature::Valid,
                Seal::Unsigned => Signature::Missing,
                Seal::Forged => Signature::Wrong,
            },
            (_, Some(client)) => client.check(provider, message),
            (_, None) => Signature::Wrong,
        }
    }
}

fn pairs(answer: &Answer) -> impl Iterator<Item = (&str, &str)> {
    answer.fields.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
}

/// Writes an answer with a stand-in for its signature.
pub(super) fn write(answer: &Answer, document: &mut Vec<u8>) {
    document.clear();
    document.extend_from_slice(b"<xml>");
    let mark = (answer.seal != Seal::Unsigned).then_some(("sign", "S"));
    for (name, value) in pairs(answer).chain(mark) {
        document.push(b'<');
        document.extend_from_slice(name.as_bytes());
        document.extend_from_slice(b"><![CDATA[");
        document.extend_from_slice(value.as_bytes());
        document.extend_from_slice(b"]]></");
        document.extend_from_slice(name.as_bytes());
        document.push(b'>');
    }
    document.extend_from_slice(b"</xml>");
}

/// The wallet's name of a payment.
pub(super) fn ledger_key(callers: &[Caller], n: u32) -> Key {
    let key = key_of(n);
    let caller = callers.get(usize::try_from(key.merchant.0).unwrap_or(usize::MAX));
    let (mch_id, sub) = caller.map_or(("", ""), |c| (c.mch_id.as_str(), c.sub_mch_id.as_str()));
    Key::new(mch_id, sub, key.number.as_str())
}

impl World {
    /// The wallet's clock, which is right.
    pub(super) fn true_ms(&self) -> i64 {
        self.drawn.start_ms + i64::try_from(self.now).unwrap_or(0)
    }

    fn transit_ms(&mut self) -> u64 {
        if !self.setup.faults {
            return 1;
        }
        match self.rng.network.below(50) {
            0 => self.rng.network.below(1_500),
            _ => 2 + self.rng.network.below(60),
        }
    }

    fn is_lost(&mut self, one_way: Kind) -> bool {
        let per_mille = if self.weather.is(one_way) {
            900
        } else if self.weather.is(Kind::Storm) {
            500
        } else {
            3 * self.weather.drizzle
        };
        Self::happens(&mut self.rng.network, per_mille)
    }

    /// A call has left: what the network does with it.
    pub(super) fn dispatch(&mut self, call: CallRef, n: u32, what: What) {
        let mut delay_ms = self.transit_ms();
        if what == What::Pay && self.weather.is(Kind::UnsignedRefusals) {
            let refusal = Reply::Answer(Answer::unsigned("签名错误"));
            return self.receive(call, Received::Typed(refusal), 2 * delay_ms, true);
        }
        if self.weather.is(Kind::Pages) && self.rng.network.below(2) == 0 {
            let status = if self.rng.network.below(2) == 0 { 200 } else { 503 };
            let page = Reply::Http { status, html: "<html><h1>503 Service Unavailable</h1></html>" };
            return self.receive(call, Received::Typed(page), 2 * delay_ms, true);
        }
        if self.is_lost(Kind::RequestsLost) {
            self.note(n, || "network: the request is lost".to_owned());
            return self.receive(call, Received::Lost, u64::MAX, true);
        }
        if what == What::Pay {
            if self.weather.is(Kind::LatePay) && self.rng.network.below(3) == 0 {
                let index = usize::try_from(n).unwrap_or(usize::MAX);
                let is_late = self.tills.get(index).is_some_and(|till| till.code.bb() == 20);
                let longest_ms = match self.rng.network.below(12) {
                    0 => TOO_LATE_MAX_MS,
                    _ if is_late => LATE_OF_LATE_MS,
                    _ => LATE_MAX_MS,
                };
                delay_ms = self.rng.network.below(longest_ms);
            }
            let mut transit_ms = delay_ms;
            let is_copied = self.weather.is(Kind::PayTwice) && !self.delivered_once(n);
            if is_copied && self.rng.network.below(2) == 0 {
                let after_ms = self.rng.network.below(12_000);
                self.later(after_ms, Event::Copy { n, what });
                self.judge.probes.other("pay_delivered_twice");
                transit_ms = transit_ms.max(after_ms);
            }
            if let Some(transit) = self.transit.get_mut(usize::try_from(n).unwrap_or(usize::MAX)) {
                transit.longest_ms = u32::try_from(transit_ms).unwrap_or(u32::MAX);
                transit.may_be_copied |= is_copied;
            }
            if delay_ms >= 10_000 {
                // It is given up before it arrives.
                self.note(n, || format!("network: the pay request takes {delay_ms} ms"));
                self.receive(call, Received::Lost, u64::MAX, false);
            }
        }
        if let What::Other(kind) = what {
            let copies = if self.weather.is(Kind::Duplicates) { 400 } else { self.weather.drizzle };
            if kind != Ask::Refund && Self::happens(&mut self.rng.network, copies) {
                let after_ms = self.rng.network.below(20_000);
                self.later(after_ms, Event::Copy { n, what });
            }
        }
        self.later(delay_ms, Event::Arrives(call));
    }

    /// A call reaches the wallet.
    pub(super) fn on_arrives(&mut self, call: CallRef) {
        let Some(calling) = self.calls.get(call) else { return };
        let (n, what, offset) = (calling.n, calling.what, calling.offset());
        let amount = calling.record.amount.map_or(0, protocol::Fen::get);
        let refund_no = matches!(what, What::Other(Ask::Refund)).then(|| calling.record.repair_refund_no());
        let key = calling.record.key;
        let request = self.request(n, &key, what, amount, refund_no.as_deref().unwrap_or_default(), offset);
        let now_ms = self.true_ms();
        if matches!(what, What::Other(Ask::Query | Ask::LastQuery)) {
            self.refund_on_platform(n, now_ms);
        }
        let (at_ms, received) = self.ask_wallet(n, what, &request, now_ms);
        self.note(n, || format!("wallet: {} -> {}", what.wire().as_str(), words(&received)));
        if what == What::Pay {
            self.judge_arrival(n);
        } else if self.drawn.debits_after_error && n % 8 == 5 && matches!(what, What::Other(Ask::Query)) {
            // Seen in the field: PAYERROR, and debited all the same. Source: wechatpay-v2 §4.4, PAYERROR.
            let after_ms = self.rng.network.below(30_000);
            self.later(after_ms, Event::Debit { n });
        }
        self.mix(6, u64::from(n), u64::from(what.wire() as u8));
        let mut after_ms = u64::try_from(at_ms - now_ms).unwrap_or(0) + self.transit_ms();
        if self.weather.is(Kind::WalletSlow) {
            after_ms += self.rng.network.below(12_000);
        }
        let hangs = matches!(received, Received::Typed(Reply::Hang) | Received::Bytes(BytesReply::Hang));
        if hangs || self.is_lost(Kind::AnswersLost) {
            self.note(n, || "network: no answer comes".to_owned());
            return self.receive(call, Received::Lost, u64::MAX, true);
        }
        self.receive(call, received, after_ms, true);
    }

    /// A copy reaches the wallet; nobody hears its answer.
    pub(super) fn on_copy(&mut self, n: u32, what: What) {
        let amount = self.judge.durable(n).and_then(|record| record.amount).map_or(0, protocol::Fen::get);
        let request = self.request(n, &key_of(n), what, amount, "", 0);
        let now_ms = self.true_ms();
        self.events += 1;
        let outcome = self.wallet.handle(&request, now_ms);
        self.note(n, || {
            format!(
                "wallet: a copy of {} -> {}",
                what.wire().as_str(),
                words(&Received::Typed(outcome.reply))
            )
        });
    }

    /// Whether nothing on the way to the wallet of this payment repeats requests (G4).
    pub(super) fn delivered_once(&self, n: u32) -> bool {
        !(self.drawn.has_replaying_proxy && super::tills::provider_of(merchant_of(n)).0 == 1)
    }

    /// An order that ended by absence must not see its pay request arrive as early as this (INV-11).
    fn judge_arrival(&mut self, n: u32) {
        let transit = self.transit.get(usize::try_from(n).unwrap_or(usize::MAX)).copied();
        let late = transit.map_or(0, |transit| transit.longest_ms);
        let absent = self.judge.durable(n).is_some_and(|record| record.proof == Some(Row::C9));
        if absent && u64::from(late) <= LATE_MAX_MS {
            self.judge.break_rule(
                "INV-11",
                Some(n),
                format!("ended by absence, and arrives after {late} ms"),
            );
        }
    }

    /// A third of some payments goes back before the switch has heard of them (B9, C1).
    fn refund_on_platform(&mut self, n: u32, now_ms: i64) {
        let decided =
            self.judge.durable(n).is_none_or(|record| record.state == state_machine::record::State::Paid);
        if !self.drawn.refunds_on_platform || n % 16 != 9 || decided {
            return;
        }
        self.wallet.advance(now_ms);
        let paid =
            self.wallet.entry(&ledger_key(&self.callers, n)).filter(|entry| entry.state == State::Paid);
        let Some((total_fee, refund_fee)) = paid.map(|entry| (entry.captured_fen, entry.captured_fen / 3))
        else {
            return;
        };
        let mut request = self.request(n, &key_of(n), What::Other(Ask::Refund), total_fee, "PLATFORM", 0);
        if let Call::Refund(refund) = &mut request.call {
            refund.refund_fee = refund_fee;
            refund.out_refund_no = compact_str::format_compact!("PLATFORM{n}");
        }
        if refund_fee > 0 {
            self.wallet.handle(&request, now_ms);
            self.judge.probes.other("partly_refunded_on_platform");
            self.note(n, || format!("wallet: {refund_fee} fen go back on its platform"));
        }
    }

    /// A customer is debited although the payment had failed, unless it has been reversed meanwhile.
    pub(super) fn on_debit(&mut self, n: u32) {
        let now_ms = self.true_ms();
        self.wallet.advance(now_ms);
        let key = key_of(n);
        let merchant = usize::try_from(key.merchant.0).unwrap_or(usize::MAX);
        let Some(caller) = self.callers.get(merchant) else { return };
        let number = Number::OutTradeNo(key.number.as_str().into());
        let Some(index) = self.wallet.find(caller, &number) else { return };
        let entry = &self.wallet.order(index).entry;
        // After a verified refusal (21), or where the wallet says that nothing can be reversed any more (37), that
        // would contradict what it has said: rows A11 and C6 rely on it.
        if entry.state == State::PayError && !matches!(entry.acted / 100, 21 | 37) {
            self.wallet.capture(index);
            self.judge.probes.other("debited_after_payerror");
            self.note(n, || "wallet: debited although it said PAYERROR".to_owned());
        }
    }

    /// Some orders the wallet never reverses once they are paid, so that only a repair refund returns the money
    /// (C7).
    pub(super) fn is_refused_for_good(&mut self, n: u32, now_ms: i64) -> bool {
        if !self.drawn.refuses_reversals || n % 16 != 3 {
            return false;
        }
        self.wallet.advance(now_ms);
        let entry = self.wallet.entry(&ledger_key(&self.callers, n));
        entry.is_some_and(|entry| matches!(entry.state, State::Paid | State::Refund))
    }

    pub(super) fn refused_reversal(&mut self, n: u32) -> Reply {
        let merchant = usize::try_from(merchant_of(n).0).unwrap_or(usize::MAX);
        let caller = self.callers.get(merchant).cloned().unwrap_or_default();
        let mut answer = Answer { fields: Vec::new(), seal: Seal::Signed, of_another_order: false };
        for (name, value) in [
            ("return_code", "SUCCESS"),
            ("appid", &caller.appid),
            ("mch_id", &caller.mch_id),
            ("sub_mch_id", &caller.sub_mch_id),
            ("result_code", "FAIL"),
            ("err_code", "INVALID_REQUEST"),
            ("recall", "N"),
        ] {
            answer.push(name, value);
        }
        Reply::Answer(answer)
    }

    fn request(
        &self,
        n: u32,
        key: &OrderKey,
        what: What,
        amount: u64,
        refund_no: &str,
        offset: usize,
    ) -> Request {
        let number = key.number.as_str();
        let merchant = usize::try_from(key.merchant.0).unwrap_or(usize::MAX);
        let caller = self.callers.get(merchant).cloned().unwrap_or_default();
        let order = || Number::OutTradeNo(number.into());
        let call = match what {
            What::Pay => {
                let till = self.tills.get(usize::try_from(n).unwrap_or(usize::MAX));
                let mut pay = Micropay::new(number, till.map_or("", |till| till.code.as_str()), amount);
                pay.attach = Till::attach(n).into();
                pay.others.push(("body".to_owned(), "可乐".to_owned()));
                Call::Micropay(pay)
            }
            What::Other(Ask::Query | Ask::LastQuery) => Call::OrderQuery(order()),
            What::Other(Ask::Reverse) => Call::Reverse(order()),
            What::Other(Ask::Refund) => Call::Refund(Refund {
                number: order(),
                out_refund_no: refund_no.into(),
                total_fee: amount,
                refund_fee: amount,
            }),
            What::Other(Ask::RefundQuery) => Call::RefundQuery {
                number: RefundNumber::Order(order()),
                offset: (offset > 0).then(|| u32::try_from(offset).unwrap_or(u32::MAX)),
            },
        };
        Request { caller, call }
    }
}

/// One word for what left the wallet.
fn words(received: &Received) -> String {
    match received {
        Received::Typed(Reply::Answer(answer)) => {
            let get = |name| answer.get(name).unwrap_or("");
            let text = ["err_code", "trade_state", "result_code", "return_msg"]
                .into_iter()
                .map(get)
                .find(|word| !word.is_empty())
                .unwrap_or_default();
            format!("{text} {}", get("recall"))
        }
        Received::Bytes(BytesReply::Xml(xml)) | Received::Cut(xml) => {
            String::from_utf8_lossy(xml).into_owned()
        }
        Received::Typed(Reply::Drop | Reply::Hang | Reply::Http { .. })
        | Received::Bytes(BytesReply::Drop | BytesReply::Hang | BytesReply::Http { .. })
        | Received::Unsent
        | Received::Lost
        | Received::NoCertificate => format!("{received:?}"),
    }
}
