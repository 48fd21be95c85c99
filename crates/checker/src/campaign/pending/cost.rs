//! What the switch's process takes of the machine, as the system counts it.

use anyhow::Context as _;

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

/// Resident bytes of a process.
///
/// # Errors
///
/// When there is no such process.
pub(super) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024)
}

/// Processor time of a process so far, user and system, in microseconds: to a hundredth of a second.
///
/// # Errors
///
/// When there is no such process.
pub(super) fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything. Source: proc(5): utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").context("a name")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks * (1_000_000 / rustix::param::clock_ticks_per_second().max(1)))
}

#[cfg(test)]
mod tests {
    use super::{Cost, cpu_us, resident};

    #[test]
    fn a_process_is_seen_from_outside() {
        let me = std::process::id();
        assert!(resident(me).unwrap() > 100_000);
        let before = cpu_us(me).unwrap();
        let mut sum = 0_u64;
        while cpu_us(me).unwrap() < before + 20_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let cost = Cost { pending: 100, cold: 500, idle: 1_000, full: 101_000, cpu_us: 0 };
        assert_eq!(cost.bytes_each(), 1_000);
        assert_eq!(Cost::default().bytes_each(), 0, "none pending");
    }
}
