//! What the process uses, under the names that every exporter has for it.

use std::fmt::Write;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};
use state_machine::UnixMs;

/// When this process installed its metrics.
pub(super) static STARTED: OnceLock<UnixMs> = OnceLock::new();

/// Appends the lines of the process.
pub(super) fn append(text: &mut String) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let mut family = |name: &str, kind: &str, help: &str, value: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    family(
        "process_cpu_seconds_total",
        "counter",
        "Processor time of this process",
        format_args!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec),
    );
    // Without /proc the memory is unknown, and an unknown value is not exposed.
    if let Some(bytes) = std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
        family("process_resident_memory_bytes", "gauge", "Resident memory", format_args!("{bytes}"));
    }
    if let Some(UnixMs(ms)) = STARTED.get() {
        let (s, ms) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
        family(
            "process_start_time_seconds",
            "gauge",
            "When this process started, in seconds since 1970",
            format_args!("{s}.{ms:03}"),
        );
    }
}

/// Bytes, from the line `VmRSS:     5432 kB`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::resident;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(resident("VmPeak:\t  9000 kB\nVmRSS:\t    5432 kB\nThreads:\t3\n"), Some(5_562_368));
        assert_eq!(resident("VmRSS:\t lots\n"), None);
        assert_eq!(resident(""), None);
    }
}
