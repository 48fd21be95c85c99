//! What is measured while a run goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;
use till::notebook::Word;

use crate::clock::SECOND_NS;

/// The longest time told apart, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;
/// Kinds of answers told apart; more count as "others".
const RESULTS_MAX: usize = 32;

/// Times in microseconds, to three digits.
pub(crate) type Times = Histogram<u64>;

/// An empty histogram.
pub(crate) fn times() -> Times {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("these bounds are allowed")
}

/// Records nanoseconds.
pub(crate) fn record(times: &mut Times, ns: u64) {
    times.saturating_record(ns / 1_000);
}

/// Requests of one kind.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// From the moment at which they were due to the answer, or to the time-out.
    pub(crate) latency: Times,
    /// From the moment at which they were sent to the answer, or to the time-out.
    pub(crate) service: Times,
    /// How long all connections were busy after they were due.
    pub(crate) wait: Times,
    /// How long they could have left and did not.
    pub(crate) lag: Times,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    pub(crate) timed_out: u64,
    /// Sent, and not answered when the run was over.
    pub(crate) unanswered: u64,
    /// By what they were answered, with the latency of each.
    pub(crate) results: BTreeMap<String, Times>,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            latency: times(),
            service: times(),
            wait: times(),
            lag: times(),
            sent: 0,
            answered: 0,
            lost: 0,
            timed_out: 0,
            unanswered: 0,
            results: BTreeMap::new(),
        }
    }

    /// Counts an answer.
    pub(crate) fn answer(&mut self, result: &str, latency_ns: u64, service_ns: u64) {
        self.answered += 1;
        record(&mut self.latency, latency_ns);
        record(&mut self.service, service_ns);
        let result = if self.results.contains_key(result) || self.results.len() < RESULTS_MAX {
            result
        } else {
            "others"
        };
        match self.results.get_mut(result) {
            Some(times) => record(times, latency_ns),
            None => {
                let mut new = times();
                record(&mut new, latency_ns);
                self.results.insert(result.to_owned(), new);
            }
        }
    }
}

/// Payments by the last thing that was heard of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) paid: u64,
    pub(crate) not_paid: u64,
    pub(crate) reversed: u64,
    pub(crate) not_taken: u64,
    pub(crate) open: u64,
    pub(crate) unknown: u64,
    pub(crate) wrong_amount: u64,
}

/// Everything that a run has measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Payments that were due in the measured time.
    pub(crate) due: u64,
    pub(crate) payments: Traffic,
    pub(crate) polls: Traffic,
    /// From the moment at which a payment was due to its definite word, where its first answer was not one.
    pub(crate) definite: Times,
    /// Payments answered in the measured time, whenever they were due, and those of them that were taken.
    pub(crate) answered_in_time: u64,
    pub(crate) taken_in_time: u64,
    /// Measured payments that were due and had not left when the last one was due.
    pub(crate) left_behind: u64,
    /// Departures that waited because no request was made yet.
    pub(crate) unprepared: u64,
    pub(crate) connections_lost: u64,
    pub(crate) connects_failed: u64,
    pub(crate) poll_connections: usize,
    pub(crate) open_max: u64,
    /// The processor time of the sending thread in the measured time, and how long it was kept from a processor.
    pub(crate) cpu_ns: u64,
    pub(crate) cpu_span_ns: u64,
    pub(crate) runqueue_ns: Option<u64>,
    pub(crate) maker_cpu_ns: u64,
    pub(crate) interrupted: bool,
    pub(crate) elapsed_ns: u64,
    /// The last word of each payment, warm-up included.
    pub(crate) words: Vec<Heard>,
    /// How many of them are not measured.
    pub(crate) warmup_payments: usize,
}

impl Measured {
    pub(crate) fn new() -> Self {
        Self {
            due: 0,
            payments: Traffic::new(),
            polls: Traffic::new(),
            definite: times(),
            answered_in_time: 0,
            taken_in_time: 0,
            left_behind: 0,
            unprepared: 0,
            connections_lost: 0,
            connects_failed: 0,
            poll_connections: 0,
            open_max: 0,
            cpu_ns: 0,
            cpu_span_ns: 0,
            runqueue_ns: None,
            maker_cpu_ns: 0,
            interrupted: false,
            elapsed_ns: 0,
            words: Vec::new(),
            warmup_payments: 0,
        }
    }
}

/// What was heard of a payment, small: there are millions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Heard {
    /// It was never sent.
    #[default]
    Unsent,
    /// Sent, and nothing that says anything.
    Nothing,
    Open,
    Paid,
    /// Paid, but another amount.
    PaidOther,
    NotPaid,
    Reversed,
    NotTaken,
    Absent,
}

impl Heard {
    pub(crate) fn of(word: Word, amount_fen: u64) -> Self {
        match word {
            Word::Open => Self::Open,
            Word::Paid(fen) if fen == amount_fen => Self::Paid,
            Word::Paid(_) => Self::PaidOther,
            Word::NotPaid => Self::NotPaid,
            Word::Reversed => Self::Reversed,
            Word::NotTaken => Self::NotTaken,
            Word::Absent => Self::Absent,
            Word::Nothing => Self::Nothing,
        }
    }

    /// Counts `words`.
    pub(crate) fn outcomes(words: &[Self]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for word in words {
            let counter = match word {
                Self::Unsent => continue,
                Self::Nothing | Self::Absent => &mut outcomes.unknown,
                Self::Open => &mut outcomes.open,
                Self::Paid => &mut outcomes.paid,
                Self::PaidOther => &mut outcomes.wrong_amount,
                Self::NotPaid => &mut outcomes.not_paid,
                Self::Reversed => &mut outcomes.reversed,
                Self::NotTaken => &mut outcomes.not_taken,
            };
            *counter += 1;
        }
        outcomes
    }
}

/// How a run goes, for whoever watches; and the way to end it.
#[derive(Debug, Default)]
pub struct Live {
    /// Set it to end the run: no payment is sent any more, and what is under way is waited for for a few seconds.
    pub stop: AtomicBool,
    pub(crate) elapsed_ns: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) behind: AtomicU64,
    pub(crate) under_way: AtomicU64,
    pub(crate) open: AtomicU64,
    /// Of the last second.
    pub(crate) per_second: AtomicU64,
    pub(crate) p50_us: AtomicU64,
    pub(crate) p99_us: AtomicU64,
}

impl Live {
    /// Whole seconds since the first payment.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.elapsed_ns.load(Ordering::Relaxed) / SECOND_NS
    }

    /// Pay requests and queries that were answered so far, warm-up included.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{:>6}/s  p50 {}  p99 {}  under way {:>4}  late {:>4}  awaited {:>5}  failed {}",
            read(&self.per_second),
            text_us(read(&self.p50_us)),
            text_us(read(&self.p99_us)),
            read(&self.under_way),
            read(&self.behind),
            read(&self.open),
            read(&self.failed),
        )
    }
}

/// Microseconds as people read them: `842 µs`, `1.34 ms`, `61.2 s`.
#[must_use]
pub fn text_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        100_000..10_000_000 => format!("{} ms", us / 1_000),
        10_000_000.. => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}
