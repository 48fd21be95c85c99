//! What tills do with answers: payments that are not decided yet are asked about until they are.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use protocol::wechat_v2::field;
use protocol::xml::Reader;
use signer::Scratch;
use till::client::{Answer, NoAnswer};
use till::notebook::{Call, Word};

use super::{Flight, What};
use crate::measure::{Heard, Measured, Traffic, record};
use crate::pacer::Pacer;
use crate::plan::{Plan, ns};
use crate::requests::Writing;

/// A payment without a definite word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Open {
    pub(super) n: u64,
    /// When its pay request was due.
    pub(super) due_ns: u64,
}

/// All tills together.
pub(super) struct Tills {
    poll_ns: Option<u64>,
    amount_fen: u64,
    window: Range<u64>,
    start: u64,
    /// The next query of each, the soonest first.
    asking: BinaryHeap<Reverse<(u64, Open)>>,
    /// Payments that are being asked about, those with a query under way among them.
    open: u64,
    words: Vec<Heard>,
    /// Whether any answer said anything, and how many queries were answered with nothing that can be used.
    understood: bool,
    useless: u64,
    warmup: usize,
    writing: Writing,
    bytes: Vec<u8>,
    reader: Reader,
    scratch: Scratch,
}

impl Tills {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            poll_ns: plan.poll.map(ns),
            amount_fen: plan.amount_fen,
            window: 0..0,
            start: 0,
            asking: BinaryHeap::new(),
            open: 0,
            words: Vec::new(),
            understood: false,
            useless: 0,
            warmup: 0,
            writing: Writing::new(plan),
            bytes: Vec::new(),
            reader: Reader::new(),
            scratch: Scratch::new(),
        }
    }

    /// Payments due in `window` are measured.
    pub(super) fn begin(&mut self, start: u64, window: Range<u64>) {
        (self.start, self.window) = (start, window);
    }

    pub(super) fn is_measured(&self, due_ns: u64) -> bool {
        self.window.contains(&due_ns)
    }

    /// The `n`-th pay request leaves.
    pub(super) fn sent(&mut self, n: u64, due_ns: u64) {
        let n = usize::try_from(n).unwrap_or(usize::MAX - 1);
        self.words.resize(n + 1, Heard::Unsent);
        self.words[n] = Heard::Nothing;
        if due_ns < self.window.start {
            self.warmup = n + 1;
        }
    }

    /// Hands over the queries that are due.
    pub(super) fn due(&mut self, now: u64, queries: &mut Pacer<Open>) {
        while let Some(Reverse((at, open))) =
            self.asking.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.asking.pop();
            queries.push(at, open);
        }
    }

    /// When the next query is due.
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.asking.peek().map(|Reverse((at, _))| *at)
    }

    /// Payments that are being asked about.
    pub(super) const fn waiting(&self) -> u64 {
        self.open
    }

    /// Nobody asks any more.
    pub(super) fn stop(&mut self) {
        self.asking.clear();
        (self.poll_ns, self.open) = (None, 0);
    }

    /// A query, signed.
    pub(super) fn query(&mut self, plan: &Plan, open: &Open) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let number = plan.number(open.n);
        let path = [plan.target.prefix.as_str(), "/pay/orderquery"];
        self.writing.add(&mut bytes, path, plan.account(open.n), &[(field::OUT_TRADE_NO, &number)]);
        bytes
    }

    /// Takes the buffer of [`Tills::query`] back.
    pub(super) fn reuse(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// An answer has come.
    pub(super) fn answered(
        &mut self,
        plan: &Plan,
        flight: &Flight,
        status: u16,
        body: &[u8],
        now: u64,
        measured: &mut Measured,
    ) {
        let call = flight.call();
        let key = &plan.account(flight.n()).key;
        let answer = match status {
            200 => Ok(Answer::read(key, plan.sign, body, &mut self.reader, &mut self.scratch)),
            other => Err(other),
        };
        let word = match &answer {
            Ok(Ok(answer)) => Word::of(call, self.amount_fen, answer),
            Ok(Err(_)) | Err(_) => Word::Nothing,
        };
        if self.is_measured(flight.payment_due_ns()) {
            let (latency_ns, service_ns) =
                (now.saturating_sub(flight.due_ns), now.saturating_sub(flight.sent_ns));
            flight.traffic(measured).answer(&result(call, &answer), latency_ns, service_ns);
        }
        if call == Call::Pay && self.window.contains(&now) {
            measured.answered_in_time += 1;
            measured.taken_in_time += u64::from(!matches!(word, Word::Nothing | Word::NotTaken));
        }
        self.understood |= word != Word::Nothing;
        self.useless += u64::from(word == Word::Nothing && call == Call::Query);
        self.heard(flight, word, now, measured);
    }

    /// Whether asking on is of no use: the server answers, queries too, and never so that it can be believed. A wrong
    /// key looks like this.
    pub(super) const fn hopeless(&self) -> bool {
        !self.understood && self.useless > 0
    }

    /// No answer will come.
    pub(super) fn lost(&mut self, flight: &Flight, timed_out: bool, now: u64, measured: &mut Measured) {
        if self.is_measured(flight.payment_due_ns()) {
            let traffic = flight.traffic(measured);
            if timed_out {
                traffic.timed_out += 1;
                // Left out, the slowest would make the rest look fast.
                record(&mut traffic.latency, now.saturating_sub(flight.due_ns));
                record(&mut traffic.service, now.saturating_sub(flight.sent_ns));
            } else {
                traffic.lost += 1;
            }
        }
        self.heard(flight, Word::Nothing, now, measured);
    }

    /// The run is over before its answer came.
    pub(super) fn abandoned(&self, flight: &Flight, measured: &mut Measured) {
        if self.is_measured(flight.payment_due_ns()) {
            flight.traffic(measured).unanswered += 1;
        }
    }

    /// What was heard, for the report.
    pub(super) fn finish(&mut self, measured: &mut Measured) {
        measured.words = std::mem::take(&mut self.words);
        measured.warmup_payments = self.warmup;
    }

    fn heard(&mut self, flight: &Flight, word: Word, now: u64, measured: &mut Measured) {
        let n = usize::try_from(flight.n()).unwrap_or(usize::MAX);
        if let Some(heard) = self.words.get_mut(n)
            && (word != Word::Nothing || *heard == Heard::Unsent)
        {
            *heard = Heard::of(word, self.amount_fen);
        }
        let ends = word.is_definite() || word == Word::NotTaken;
        match &flight.what {
            What::Pay(n) => {
                if let (false, Some(poll_ns)) = (ends, self.poll_ns) {
                    self.open += 1;
                    measured.open_max = measured.open_max.max(self.open);
                    let open = Open { n: *n, due_ns: flight.due_ns };
                    self.asking.push(Reverse((now.saturating_add(poll_ns), open)));
                }
            }
            What::Query(open) => match self.poll_ns {
                Some(poll_ns) if !ends => self.asking.push(Reverse((now.saturating_add(poll_ns), *open))),
                Some(_) | None => {
                    self.open = self.open.saturating_sub(1);
                    if ends && self.is_measured(open.due_ns) {
                        record(&mut measured.definite, now.saturating_sub(open.due_ns));
                    }
                }
            },
        }
    }
}

impl Flight {
    const fn n(&self) -> u64 {
        match &self.what {
            What::Pay(n) => *n,
            What::Query(open) => open.n,
        }
    }

    const fn call(&self) -> Call {
        match self.what {
            What::Pay(_) => Call::Pay,
            What::Query(_) => Call::Query,
        }
    }

    /// When the payment was due, whatever is asked about it.
    const fn payment_due_ns(&self) -> u64 {
        match &self.what {
            What::Pay(_) => self.due_ns,
            What::Query(open) => open.due_ns,
        }
    }

    const fn traffic<'m>(&self, measured: &'m mut Measured) -> &'m mut Traffic {
        match self.what {
            What::Pay(_) => &mut measured.payments,
            What::Query(_) => &mut measured.polls,
        }
    }
}

/// How an answer is counted: by the word that decides what a till does.
fn result(call: Call, answer: &Result<Result<Answer, NoAnswer>, u16>) -> Cow<'_, str> {
    match answer {
        Ok(Ok(answer)) => Cow::Borrowed(match (answer.success, call) {
            (true, Call::Query) => answer.trade_state.as_str(),
            (true, Call::Pay | Call::Reverse) => "SUCCESS",
            (false, _) => answer.err_code.as_str(),
        }),
        Ok(Err(NoAnswer::Unsigned(text))) => Cow::Owned(format!("unsigned: {text}")),
        Ok(Err(NoAnswer::Unverified | NoAnswer::Lost)) => Cow::Borrowed("signature wrong"),
        Err(status) => Cow::Owned(format!("HTTP {status}")),
    }
}
