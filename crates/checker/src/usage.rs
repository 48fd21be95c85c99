//! What processes use of the machine, by the system's own books.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;

/// Processor time of a process from its start, all threads together, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Outside the kernel.
    pub(crate) user_us: u64,
    /// Inside it.
    pub(crate) system_us: u64,
}

impl Cpu {
    /// Of the processes `pids` together.
    pub(crate) fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let path = format!("/proc/{pid}/stat");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            let one = parse(&text).with_context(|| format!("{path}: {text}"))?;
            sum.user_us += one.user_us;
            sum.system_us += one.system_us;
        }
        Ok(sum)
    }

    /// Both together.
    pub(crate) const fn us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// What came after `before`.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(before.user_us),
            system_us: self.system_us.saturating_sub(before.system_us),
        }
    }
}

/// The threads of a process by their names: nanoseconds on a processor, and how often they went to sleep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(pub(crate) BTreeMap<String, (u64, u64)>);

impl Threads {
    /// Of the process `pid`, as it is.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let mut all = BTreeMap::<String, (u64, u64)>::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = thread?.path();
            // One that has just ended is not missed.
            let (Ok(name), Ok(times), Ok(status)) = (
                fs::read_to_string(path.join("comm")),
                fs::read_to_string(path.join("schedstat")),
                fs::read_to_string(path.join("status")),
            ) else {
                continue;
            };
            let ns = times.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
            let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let sleeps = sleeps.and_then(|count| count.trim().parse::<u64>().ok());
            let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
            let sum = all.entry(name).or_default();
            sum.0 += ns.unwrap_or(0);
            sum.1 += sleeps.unwrap_or(0);
        }
        Ok(Self(all))
    }

    /// What came after `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let then = |name: &String| before.0.get(name).copied().unwrap_or_default();
        let grown = self.0.iter().map(|(name, now)| {
            let then = then(name);
            (name.clone(), (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1)))
        });
        Self(grown.collect())
    }
}

/// Resident bytes of the process `pid`.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024)
}

/// The times in a line of `/proc/PID/stat`, in ticks there: the system scales them by what it has counted in nanoseconds,
/// so that their sum is exact to one tick. Source: proc(5), utime and stime, fields 14 and 15.
fn parse(text: &str) -> Option<Cpu> {
    // The name may hold blanks and parentheses; after its last one come the state and numbers.
    let (_, tail) = text.rsplit_once(')')?;
    let mut times = tail.split_whitespace().skip(11);
    let us_each = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let mut us = || Some(times.next()?.parse::<u64>().ok()? * us_each);
    Some(Cpu { user_us: us()?, system_us: us()? })
}

#[cfg(test)]
mod tests {
    use super::{Cpu, parse, resident};

    #[test]
    fn a_name_may_hold_anything() {
        let line = "71 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 25 75 0 0 20";
        let us_each = 1_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!(parse(line), Some(Cpu { user_us: 25 * us_each, system_us: 75 * us_each }));
        assert_eq!(parse("71 (x) S 1"), None);
    }

    #[test]
    fn a_process_is_seen_from_outside() {
        let me = std::process::id();
        assert!(resident(me).unwrap() > 100_000);
        let used = || Cpu::of(&[me]).unwrap().us();
        let before = used();
        let mut sum = 0_u64;
        while used() < before + 20_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
