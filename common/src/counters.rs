//! Hardware counters. The kernel programs read each one at every context switch and add its increase to the
//! [`Counts`] of the ledger entry that is charged.

use crate::Pod;

/// Number of counters that there can be.
pub const COUNTERS: usize = 3;

/// Bit and position of the cycle counter.
pub const CYCLES: u32 = 0;
/// Bit and position of the counter of retired instructions.
pub const INSTRUCTIONS: u32 = 1;
/// Bit and position of the counter of last-level cache misses.
pub const CACHE_MISSES: u32 = 2;

/// Element of the map `COUNTS`, at the index of its entry in `ENTRIES`: what was counted, scaled up for the
/// time in which the kernel gave the counter's hardware to another counter.
pub type Counts = [u64; COUNTERS];

// SAFETY: an array of integers.
unsafe impl Pod for Counts {}

/// A counter's value as the kernel returns it (`struct bpf_perf_event_value`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValue {
    /// Events counted.
    pub counter: u64,
    /// For how long the counter was enabled, ns.
    pub enabled: u64,
    /// For how long it counted, ns. Less than `enabled` if it shared its hardware.
    pub running: u64,
}

impl CounterValue {
    /// Events since `earlier`, extrapolated from the time in which it counted to the time in which it was
    /// enabled.
    #[inline(always)]
    pub fn since(self, earlier: CounterValue) -> u64 {
        let counted = self.counter.wrapping_sub(earlier.counter);
        let enabled = self.enabled.wrapping_sub(earlier.enabled);
        let running = self.running.wrapping_sub(earlier.running);
        if running == enabled || running == 0 {
            return counted;
        }
        // Fixed point, so that a minute's counts do not overflow. Exact to 1 in 2^8 counts and 2^16 of the
        // ratio.
        let ratio = (enabled << 16) / running;
        ((counted >> 8) * ratio) >> 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_shared_its_hardware_is_extrapolated() {
        let value = |counter, enabled, running| CounterValue { counter, enabled, running };
        assert_eq!(value(5_000, 900, 900).since(value(1_000, 100, 100)), 4_000);
        assert_eq!(value(512_000, 4_000, 1_000).since(value(0, 0, 0)), 2_048_000);
        // A minute at 5 GHz, counted for a twentieth of it.
        let minute = value(15_000_000_000, 60_000_000_000, 3_000_000_000).since(value(0, 0, 0));
        assert!((299_999_000_000..=300_000_000_000).contains(&minute), "{minute}");
        // It never counted: nothing can be extrapolated.
        assert_eq!(value(0, 1_000, 0).since(value(0, 0, 0)), 0);
    }
}
