//! The ids of spans and traces. They follow from what identifies a process, so that a child's span names its
//! parent's, whether or not that is known, and no state has to be kept.

/// From processes to ids: a machine's, until it boots again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    boot: u128,
}

/// Bits of a pid: the kernel's `PID_MAX_LIMIT` is 2^22.
const PID_BITS: u32 = 22;

impl Ids {
    /// The ids of the boot named `boot`, a UUID. Any other text is as good, if it is another one after each
    /// boot.
    pub(crate) fn of_boot(boot: &str) -> Self {
        // FNV-1a: the same in every version of the agent.
        let hash = |hash: u128, byte: u8| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        };
        Self { boot: boot.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, hash) }
    }

    /// The ids of this boot.
    pub(crate) fn of_this_boot() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        // Without it (no /proc), ids of one run differ from those of the next.
        Self::of_boot(boot.unwrap_or_else(|_| format!("{:?}", std::time::SystemTime::now())).trim())
    }

    /// The span of the process `pid` that began at `start_unix_nano`: of a process's first span, that is its
    /// start.
    ///
    /// Two spans of a boot never have the same id. A pid has [`PID_BITS`], and the milliseconds since 1970
    /// fit into the other 42 until 2109; no two processes of a pid begin within a millisecond, since the pids
    /// between have to be used first. What follows is a bijection.
    pub(crate) fn span(self, pid: u32, start_unix_nano: u64) -> u64 {
        let key = (start_unix_nano / 1_000_000) << PID_BITS | u64::from(pid);
        // The bits of the pid stay as they are, so the key of a process is never 0, and neither is its id.
        let salt = (self.boot >> 64) as u64 >> PID_BITS << PID_BITS;
        mix(key ^ salt)
    }

    /// The trace of the tree whose first process has `span`. Its lower half is as good as random, as samplers
    /// expect.
    pub(crate) fn trace(self, span: u64) -> u128 {
        let upper = mix(self.boot as u64);
        u128::from(upper) << 64 | u128::from(span)
    }
}

/// SplitMix64's finalizer: a bijection that maps only 0 to 0, and in which every bit of the input changes
/// half of the output.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// Whether the trace is among the part `ratio` of all, by the lower 56 bits of its id, which are random: the
/// decision that OpenTelemetry's `TraceIdRatioBased` makes, the same on every machine.
pub(crate) fn is_sampled(trace_id: u128, ratio: f64) -> bool {
    const ALL: u64 = 1 << 56;
    let threshold = (ratio * ALL as f64) as u128;
    trace_id % u128::from(ALL) < threshold
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const BOOT: &str = "3a1c9a52-5b1f-4d9a-9f43-7a4b9c1d2e3f";

    #[test]
    fn ids_are_the_same_until_the_next_boot() {
        let ids = Ids::of_boot(BOOT);
        assert_eq!(ids.span(4711, 1_764_000_000_123_456_789), ids.span(4711, 1_764_000_000_123_000_000));
        assert_eq!(ids.span(4711, 1_764_000_000_123_456_789), 0xb9f2_6026_75bd_9714);
        let other = Ids::of_boot("another");
        assert_ne!(ids.span(4711, 1_764_000_000_123_456_789), other.span(4711, 1_764_000_000_123_456_789));
        assert_ne!(ids.trace(5) >> 64, other.trace(5) >> 64);
        assert_eq!(ids.trace(5) as u64, 5);
    }

    #[test]
    fn no_two_processes_and_no_two_spans_of_one_have_the_same_id() {
        let ids = Ids::of_boot(BOOT);
        let starts = (0..1000).map(|n| 1_764_000_000_000_000_000 + n * 1_000_000);
        let all: HashSet<_> = starts.flat_map(|at| (1..=1000).map(move |pid| ids.span(pid, at))).collect();
        assert_eq!(all.len(), 1_000_000);
        assert!(!all.contains(&0));
        let last = (1 << PID_BITS) - 1;
        assert_ne!(ids.span(last, 1_000_000), ids.span(0, 2_000_000), "the fields do not overlap");
    }

    #[test]
    fn a_part_of_all_traces_is_sampled() {
        let ids = Ids::of_boot(BOOT);
        let traces: Vec<_> =
            (1..=10_000).map(|pid| ids.trace(ids.span(pid, 1_764_000_000_000_000_000))).collect();
        for (ratio, expected) in [(0.0, 0), (0.25, 2500), (1.0, 10_000)] {
            let sampled = traces.iter().filter(|&&trace| is_sampled(trace, ratio)).count();
            assert!(sampled.abs_diff(expected) < 200, "{sampled} of 10,000 at {ratio}");
        }
        assert!(!is_sampled(0, 0.0) && is_sampled(u128::MAX, 1.0));
    }
}
