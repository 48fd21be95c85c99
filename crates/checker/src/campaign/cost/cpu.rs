//! What processes have used of the processors, by the system's own books.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;

/// Ticks of `/proc/PID/stat` in a second. The system scales them by what it has counted in nanoseconds, so that their
/// sum is exact to one tick.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of a process from its start, all threads together, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpu {
    /// Outside the kernel.
    pub(super) user_us: u64,
    /// Inside it.
    pub(super) system_us: u64,
}

impl Cpu {
    /// Of the processes `pids` together.
    pub(super) fn of(pids: &[u32]) -> anyhow::Result<Self> {
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
    pub(super) const fn us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// What came after `before`.
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(before.user_us),
            system_us: self.system_us.saturating_sub(before.system_us),
        }
    }
}

/// The threads of a process by their names: nanoseconds on a processor, and how often they went to sleep.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads(pub(super) BTreeMap<String, (u64, u64)>);

impl Threads {
    /// Of the process `pid`, as it is.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
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
    pub(super) fn since(&self, before: &Self) -> Self {
        let then = |name: &String| before.0.get(name).copied().unwrap_or_default();
        let grown = self.0.iter().map(|(name, now)| {
            let then = then(name);
            (name.clone(), (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1)))
        });
        Self(grown.collect())
    }
}

/// The times in a line of `/proc/PID/stat`.
fn parse(text: &str) -> Option<Cpu> {
    // The name may hold blanks and parentheses; after its last one come the state and numbers.
    let (_, tail) = text.rsplit_once(')')?;
    let mut times = tail.split_whitespace().skip(11);
    let mut us = || Some(times.next()?.parse::<u64>().ok()? * 1_000_000 / TICKS_PER_SECOND);
    Some(Cpu { user_us: us()?, system_us: us()? })
}

#[cfg(test)]
mod tests {
    use super::{Cpu, parse};

    #[test]
    fn a_name_may_hold_anything() {
        let line = "71 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 25 75 0 0 20";
        let read = parse(line);
        assert_eq!(read, Some(Cpu { user_us: 250_000, system_us: 750_000 }));
        assert_eq!(parse("71 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let mine = Cpu::of(&[std::process::id()]);
        assert!(mine.is_ok(), "{mine:?}");
    }
}
