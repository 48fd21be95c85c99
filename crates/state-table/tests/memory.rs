//! A table reserves its memory and takes it only as slots are used. Alone in its binary: it watches the whole process.
#![cfg(all(target_os = "linux", not(loom)))]

/// Bytes of this process that lie in memory. Source: Linux, proc_pid_status(5), `VmRSS`.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has this line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it holds a number of KiB");
    kib * 1_024
}

#[test]
fn slots_that_were_never_used_take_no_memory() {
    const MIB: u64 = 1 << 20;
    let before = resident_bytes();
    // 400 MB of address space: 96 bytes a slot, and 4 for the writer.
    let (mut writer, reader) = state_table::table::<8>(4_000_000);
    let reserved = resident_bytes() - before;
    assert!(reserved < MIB, "{reserved} bytes at the start");
    for key in 0..1_000_u64 {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let handle = writer.insert(hash, &[key; 8]).unwrap();
        assert_eq!(reader.get(handle), Some([key; 8]));
        assert_eq!(reader.find(!hash, |words| words[0] == u64::MAX), None);
        if key >= 100 {
            assert!(writer.remove(handle));
        }
    }
    assert_eq!(reader.len(), 100);
    // Hashes are spread over the index: each insertion and each search touches a page of it.
    let used = resident_bytes() - before - reserved;
    assert!(used < 2_000 * 4_096 + MIB, "{used} bytes for 101 slots");
}
