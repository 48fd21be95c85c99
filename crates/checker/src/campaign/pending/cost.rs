//! What pending payments cost the switch's process.

use crate::report::Report;

/// What the payments cost the switch.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Payments that were pending at once.
    pub(super) pending: u64,
    /// Resident bytes of the process that has just started.
    pub(super) cold: u64,
    /// The same once it has served some payments, and none is pending.
    pub(super) idle: u64,
    /// The same while all were pending, at most.
    pub(super) full: u64,
    /// Processor time from the first payment to the last outcome, in microseconds.
    pub(super) cpu_us: u64,
}

impl Cost {
    /// Resident bytes for each pending payment.
    pub(super) fn bytes_each(&self) -> u64 {
        self.full.saturating_sub(self.idle).checked_div(self.pending).unwrap_or(0)
    }

    /// Shows it.
    pub(super) fn figures(&self, report: &mut Report, count: u64, queries: u64, asked: u64) {
        let count = count.max(1);
        report.figure("pending at once", self.pending);
        report.figure("resident at the start, KiB", self.cold / 1_024);
        report.figure("resident after 1,000 payments that ended, KiB", self.idle / 1_024);
        report.figure("resident while all are pending, KiB", self.full / 1_024);
        report.figure("bytes for each pending payment", self.bytes_each());
        report.figure("CPU time of the switch for each payment, µs", self.cpu_us / count);
        report.figure("queries to the wallet for 100 payments", queries * 100 / count);
        report.figure("queries of tills for 100 payments", asked * 100 / count);
    }
}

#[cfg(test)]
mod tests {
    use super::Cost;

    #[test]
    fn only_what_is_pending_is_weighed() {
        let cost = Cost { pending: 100, cold: 500, idle: 1_000, full: 101_000, cpu_us: 0 };
        assert_eq!(cost.bytes_each(), 1_000);
        assert_eq!(Cost::default().bytes_each(), 0, "none pending");
    }
}
