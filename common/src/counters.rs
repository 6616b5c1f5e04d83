//! What hardware counters said while a thread ran. The kernel programs read each counter at every context
//! switch; what it advanced by is added beside the ledger's entry.

/// Counters that there can be.
pub const COUNTERS: usize = 3;

/// Bit and position of the cycle counter.
pub const CYCLES: u32 = 0;
/// Bit and position of the counter of retired instructions.
pub const INSTRUCTIONS: u32 = 1;
/// Bit and position of the counter of last-level cache misses.
pub const CACHE_MISSES: u32 = 2;

/// Element of the map `COUNTS`, at the place of the entry in `ENTRIES`: what was counted, corrected for the
/// time in which the counter shared its hardware with others.
pub type Counts = [u64; COUNTERS];

/// A counter as the kernel tells it (`struct bpf_perf_event_value`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Events counted.
    pub counter: u64,
    /// Time it was to count, ns.
    pub enabled: u64,
    /// Time it did count, ns: less if it shared its hardware.
    pub running: u64,
}

impl Reading {
    /// Events since `earlier`, extrapolated from the time in which it counted to all of it.
    #[inline(always)]
    pub fn since(self, earlier: Reading) -> u64 {
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

/// The counters of a CPU when the running slice began.
pub type Starts = [Reading; COUNTERS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_shared_its_hardware_is_extrapolated() {
        let reading = |counter, enabled, running| Reading { counter, enabled, running };
        assert_eq!(reading(5_000, 900, 900).since(reading(1_000, 100, 100)), 4_000);
        assert_eq!(reading(512_000, 4_000, 1_000).since(reading(0, 0, 0)), 2_048_000);
        // A minute at 5 GHz, on for a twentieth of it.
        let minute = reading(15_000_000_000, 60_000_000_000, 3_000_000_000).since(reading(0, 0, 0));
        assert!((299_999_000_000..=300_000_000_000).contains(&minute), "{minute}");
        // It never ran: nothing is known, and nothing is made up.
        assert_eq!(reading(0, 1_000, 0).since(reading(0, 0, 0)), 0);
    }
}
