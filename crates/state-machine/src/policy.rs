//! Clocks of the decision table, as configuration: defaults are the documented figures.

/// How long things take, in milliseconds. Per channel; every duration is by the tick clock.
///
/// Source: wechatpay-v2 §4.3 and §4.5; DESIGN §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A pay request leaves within this time of its durable record, or not at all (G3).
    pub leave_ms: u64,
    /// From the pay request to the first query.
    pub first_query_ms: u64,
    /// The shortest pause between two queries of one order.
    pub query_gap_ms: u64,
    /// From the pay request to giving up.
    pub give_up_ms: u64,
    /// No reversal earlier than this after the pay request (INV-08).
    pub reversal_guard_ms: u64,
    /// How long a refusal waits for its confirming query.
    pub confirm_ms: u64,
    /// The first pause between two reversals; doubles up to `reversal_pause_max_ms`.
    pub reversal_pause_ms: u64,
    /// The longest pause between two reversals.
    pub reversal_pause_max_ms: u64,
    /// While the customer is in the dialog: pause between queries (C5); reversals take twice as long.
    pub dialog_query_ms: u64,
    /// Two not-founds prove nothing unless they are this far apart (C9).
    pub absent_apart_ms: u64,
    /// Nor unless the last comes this long after the pay connection was closed (C9).
    pub absent_grace_ms: u64,
    /// When an order that ended by absence is looked at again: first, then second (C9).
    pub looks_ms: [u64; 2],
    /// Three refused reversals over at least this time allow a repair refund (C7).
    pub refused_ms: u64,
    /// From here the channel reverses no more (C6, C10).
    pub reversal_window_ms: u64,
    /// A reversal not proven after this raises an alarm (C10).
    pub slow_ms: u64,
    /// A reversal not proven after this goes on the operator's list (C10).
    pub stuck_ms: u64,
    /// From an accepted repair refund to asking for it (D1).
    pub refund_query_ms: u64,
    /// The shortest pause between two calls of one refund (D2, D4, D5, D10).
    pub refund_pause_ms: u64,
    /// The first pause of a held order's queries; doubles up to `held_pause_max_ms`.
    pub held_pause_ms: u64,
    /// The longest pause of a held order's queries.
    pub held_pause_max_ms: u64,
    /// A success whose `time_end` is earlier than our acceptance by more than this is not ours, if the number
    /// may be another's (A12, A13).
    pub ours_skew_ms: i64,
    /// How long a settled order stays in memory.
    pub retain_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        const MINUTE: u64 = 60_000;
        const HOUR: u64 = 60 * MINUTE;
        Self {
            leave_ms: 5_000,
            first_query_ms: 5_000,
            query_gap_ms: 1_000,
            give_up_ms: 45_000,
            reversal_guard_ms: 15_000,
            confirm_ms: 2_000,
            reversal_pause_ms: 5_000,
            reversal_pause_max_ms: HOUR,
            dialog_query_ms: 5_000,
            absent_apart_ms: 30_000,
            absent_grace_ms: MINUTE,
            looks_ms: [5 * MINUTE, HOUR],
            refused_ms: 10 * MINUTE,
            reversal_window_ms: 7 * 24 * HOUR,
            slow_ms: 10 * MINUTE,
            stuck_ms: 24 * HOUR,
            refund_query_ms: 10_000,
            refund_pause_ms: MINUTE,
            held_pause_ms: MINUTE,
            held_pause_max_ms: HOUR,
            ours_skew_ms: 120_000,
            retain_ms: 60_000,
        }
    }
}

impl Policy {
    /// Divides the clocks that a faster simulation divides: first query, gaps, give-up, guard, pauses, grace.
    /// What a network takes (leaving, the confirming query) and what wall clocks are compared by stays.
    /// `speed` 0 counts as 1. Source: DESIGN §5, `--speed`.
    #[must_use]
    pub fn scaled(self, speed: u64) -> Self {
        // 0 divides nothing; and a pause that comes out as 0 would be a loop.
        let by = |ms: u64| ms.checked_div(speed).unwrap_or(ms).max(1);
        Self {
            first_query_ms: by(self.first_query_ms),
            query_gap_ms: by(self.query_gap_ms),
            give_up_ms: by(self.give_up_ms),
            reversal_guard_ms: by(self.reversal_guard_ms),
            reversal_pause_ms: by(self.reversal_pause_ms),
            reversal_pause_max_ms: by(self.reversal_pause_max_ms),
            dialog_query_ms: by(self.dialog_query_ms),
            absent_apart_ms: by(self.absent_apart_ms),
            absent_grace_ms: by(self.absent_grace_ms),
            looks_ms: self.looks_ms.map(by),
            refused_ms: by(self.refused_ms),
            refund_query_ms: by(self.refund_query_ms),
            refund_pause_ms: by(self.refund_pause_ms),
            held_pause_ms: by(self.held_pause_ms),
            held_pause_max_ms: by(self.held_pause_max_ms),
            ..self
        }
    }

    /// From acceptance, after this a payment that is undecided and not held is overdue: the latest that it may leave,
    /// until giving up, and ten seconds for the last query.
    #[must_use]
    pub const fn overdue_ms(&self) -> u64 {
        self.leave_ms.saturating_add(self.give_up_ms).saturating_add(10_000)
    }

    /// What contradicts itself, in words; empty if nothing does (CF-02).
    #[must_use]
    pub fn contradictions(&self) -> Vec<&'static str> {
        [
            (self.query_gap_ms == 0, "query_gap is 0: an order would be asked about without pause"),
            (
                self.first_query_ms >= self.give_up_ms,
                "first_query is not before give_up: nothing would be asked",
            ),
            (self.reversal_guard_ms > self.give_up_ms, "reversal_guard is after give_up"),
            (self.reversal_pause_ms == 0, "reversal_pause is 0"),
            (
                self.reversal_pause_ms > self.reversal_pause_max_ms,
                "reversal_pause is over reversal_pause_max",
            ),
            (self.leave_ms == 0, "leave is 0: no pay request could leave"),
            (self.held_pause_ms == 0, "held_pause is 0"),
            (self.refund_pause_ms == 0, "refund_pause is 0"),
            (self.dialog_query_ms == 0, "dialog_query is 0"),
            (self.reversal_guard_ms == 0, "reversal_guard is 0: a reversal could overtake its payment"),
            (self.looks_ms[0] > self.looks_ms[1], "the second look is before the first"),
            (self.slow_ms > self.stuck_ms, "slow is after stuck"),
        ]
        .into_iter()
        .filter_map(|(wrong, why)| wrong.then_some(why))
        .collect()
    }
}

/// `first · 2^times`, at most `max`.
#[must_use]
pub(crate) fn doubled(first: u64, times: u32, max: u64) -> u64 {
    1_u64.checked_shl(times).and_then(|factor| first.checked_mul(factor)).unwrap_or(max).min(max)
}

#[cfg(test)]
mod tests {
    use super::{Policy, doubled};

    #[test]
    fn defaults_and_their_scalings_do_not_contradict_themselves() {
        for speed in [0, 1, 10, 100] {
            assert_eq!(Policy::default().scaled(speed).contradictions(), Vec::<&str>::new());
        }
        assert_eq!(Policy { query_gap_ms: 0, ..Policy::default() }.contradictions().len(), 1);
    }

    #[test]
    fn pauses_double_up_to_their_longest() {
        assert_eq!([0, 1, 2, 9, 63, 64, 200].map(|n| doubled(5, n, 600)), [5, 10, 20, 600, 600, 600, 600]);
    }
}
