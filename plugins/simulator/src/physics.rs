//! What running costs: the power of every thread, from what it executes and where, and static power.
//!
//! ```text
//! a core that runs     C · V(f)² · f · (clock + Σ its threads: instruction · IPC · weight)
//! voltage              V(f) = V0 + k·f
//! two threads on it    clock · smt_clock, half each; their IPC falls as they share the core
//! IPC                  1 / (1/ipc + misses per instruction · stall · f)
//! uncore               nJ per miss;     memory: nJ per miss · row_weight
//! awake                while anything runs on a package, shared alike by what runs
//! static               package + cores' leakage + uncore + memory, rising slowly with the package's heat
//! ```
//!
//! It models hardware, not the power model that it judges. Power is not linear in what the kernel or hardware
//! counters show: voltage rises with frequency, so a cycle and an instruction cost more on a fast core; the
//! cost of an instruction depends on its kind, which is not counted; the threads of a core share its clock
//! tree; a package on which nothing runs sleeps; and leakage follows the temperature. Not modelled: the time
//! and the energy that going to sleep takes, contention for memory bandwidth, and power limits.

use crate::mix::{Mix, Profile};
use crate::random::Random;

/// The constants of the formulas above.
#[derive(Clone, Debug, PartialEq)]
pub struct Physics {
    /// Voltage at a frequency of zero, V.
    pub volts: f64,
    /// Voltage per frequency, V/GHz.
    pub volts_per_ghz: f64,
    /// Switched capacitance of a core, W/(V²·GHz).
    pub capacitance: f64,
    /// Activity of a running core that does not depend on what it executes.
    pub clock: f64,
    /// Activity of an instruction per cycle.
    pub instruction: f64,
    /// Clock activity while two threads run on the core, as a multiple of that with one.
    pub smt_clock: f64,
    /// Cycles per instruction while two threads run on the core, as a multiple of those with one.
    pub smt_cycles: f64,
    /// Stall time of a miss while two threads run on the core, as a multiple of that with one.
    pub smt_stall: f64,
    /// Energy of a miss in the uncore, nJ.
    pub uncore_nj: f64,
    /// Energy of a miss in the memory, nJ.
    pub dram_nj: f64,
    /// How much kinds of code differ in what no counter shows: 0 not at all, 1 as in their profiles.
    pub hidden: f64,
    /// How much processes that run the same kind of code differ in it, as the data that they work on differ:
    /// the standard deviation of the energy of an instruction, and of that of a miss in the memory, as a part
    /// of it.
    pub individual: f64,
    /// Of which kind each kind of code, in the order of [`Mix::ALL`], has what no counter shows.
    pub hidden_of: [Mix; Mix::ALL.len()],
    /// Power of a package while anything runs on it, beyond that of one that sleeps, W.
    pub awake_watts: f64,
    /// Static power of a package outside of cores and uncore, W.
    pub package_watts: f64,
    /// Leakage of a core at 1 V, W; it grows with the square of the voltage.
    pub core_watts: f64,
    /// Static power of the uncore of a package, W.
    pub uncore_watts: f64,
    /// Static power of the memory of a package (refresh), W.
    pub dram_watts: f64,
    /// Static power outside of packages and memory, W.
    pub platform_watts: f64,
    /// Relative increase of a package's static power per watt of recent dynamic power, 1/W. By default, that
    /// of 4 cores rises by 0.65 % of dynamic power, as in the trace of a real server (docs/evaluation.md).
    pub heating: f64,
    /// Time constant with which heat follows power, s. By default, one that fits the trace's idle power.
    pub heating_s: f64,
}

impl Default for Physics {
    fn default() -> Self {
        Self {
            volts: 0.70,
            volts_per_ghz: 0.10,
            capacitance: 1.8,
            clock: 0.4,
            instruction: 0.3,
            smt_clock: 1.25,
            smt_cycles: 1.56,
            smt_stall: 1.1,
            uncore_nj: 9.0,
            dram_nj: 22.0,
            hidden: 1.0,
            individual: 0.02,
            hidden_of: Mix::ALL,
            awake_watts: 0.0,
            package_watts: 6.0,
            core_watts: 0.4,
            uncore_watts: 4.0,
            dram_watts: 2.5,
            platform_watts: 20.0,
            heating: 0.00056,
            heating_s: 30.0,
        }
    }
}

/// What a thread does and causes while it runs on a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Cycles per ns.
    pub(crate) cycles: f64,
    /// Instructions per ns.
    pub(crate) instructions: f64,
    /// Misses per ns.
    pub(crate) misses: f64,
    /// Power in the core, W.
    pub(crate) core: f64,
    /// Power in the uncore, W.
    pub(crate) uncore: f64,
    /// Power in the memory, W.
    pub(crate) dram: f64,
    /// The core's other CPU is busy too.
    pub(crate) shared: bool,
}

/// By how much a process differs from others that run the same kind of code: the energy of its instructions,
/// and that of its misses in the memory, as parts of their energy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    instruction: f64,
    miss: f64,
}

impl Physics {
    /// Checks that all constants are in range.
    pub(crate) fn check(&self) -> Result<(), String> {
        let all = [
            ("volts", self.volts),
            ("volts_per_ghz", self.volts_per_ghz),
            ("capacitance", self.capacitance),
            ("clock", self.clock),
            ("instruction", self.instruction),
            ("smt_clock", self.smt_clock),
            ("smt_cycles", self.smt_cycles),
            ("smt_stall", self.smt_stall),
            ("uncore_nj", self.uncore_nj),
            ("dram_nj", self.dram_nj),
            ("hidden", self.hidden),
            ("individual", self.individual),
            ("awake_watts", self.awake_watts),
            ("package_watts", self.package_watts),
            ("core_watts", self.core_watts),
            ("uncore_watts", self.uncore_watts),
            ("dram_watts", self.dram_watts),
            ("platform_watts", self.platform_watts),
            ("heating", self.heating),
            ("heating_s", self.heating_s),
        ];
        match all.into_iter().find(|(_, value)| !(0.0..=1e4).contains(value)) {
            Some((name, value)) => Err(format!("physics.{name} is {value}: it must be from 0 to 10000")),
            None => Ok(()),
        }
    }

    /// What a thread of `mix` does and causes on a core at `ghz`, alone or sharing it, in a process that
    /// differs from others by `own`.
    pub(crate) fn load(&self, mix: Mix, ghz: f64, shared: bool, own: Own) -> Load {
        let Profile { ipc, mpki, stall_ns, .. } = mix.profile();
        let Profile { weight, row_weight, .. } = self.hidden_of[mix as usize].profile();
        let misses = mpki / 1e3;
        let (cycles, stall) = if shared { (self.smt_cycles, self.smt_stall) } else { (1.0, 1.0) };
        let ipc = 1.0 / (cycles / ipc + stall * misses * stall_ns * ghz);
        let clock = if shared { self.clock * self.smt_clock / 2.0 } else { self.clock };
        let activity = clock + self.instruction * ipc * self.difference(weight + own.instruction);
        let misses = misses * ipc * ghz;
        Load {
            cycles: ghz,
            instructions: ipc * ghz,
            misses,
            core: self.capacitance * self.volts_at(ghz).powi(2) * ghz * activity,
            // Misses per ns times nJ per miss: nJ/ns are watts.
            uncore: misses * self.uncore_nj,
            dram: misses * self.dram_nj * self.difference(row_weight + own.miss),
            shared,
        }
    }

    /// The leakage of a core at `ghz`, W.
    pub(crate) fn leakage(&self, ghz: f64) -> f64 {
        self.core_watts * self.volts_at(ghz).powi(2)
    }

    fn volts_at(&self, ghz: f64) -> f64 {
        self.volts + self.volts_per_ghz * ghz
    }

    fn difference(&self, weight: f64) -> f64 {
        1.0 + self.hidden * (weight - 1.0)
    }

    /// By how much another process differs from its kind of code.
    pub(crate) fn own(&self, random: &mut Random) -> Own {
        Own { instruction: self.individual * random.normal(), miss: self.individual * random.normal() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_on_a_core_draw_a_quarter_to_a_third_more_than_one() {
        let physics = Physics::default();
        for mix in Mix::ALL {
            let (alone, both) =
                (physics.load(mix, 3.0, false, Own::default()), physics.load(mix, 3.0, true, Own::default()));
            let ratio = 2.0 * both.core / alone.core;
            assert!((1.25..=1.36).contains(&ratio), "{mix:?}: {ratio}");
            let throughput = 2.0 * both.instructions / alone.instructions;
            assert!((1.25..=1.75).contains(&throughput), "{mix:?}: {throughput}");
        }
    }

    #[test]
    fn a_cycle_costs_more_on_a_fast_core_and_memory_stalls_it_more() {
        let physics = Physics::default();
        let (slow, fast) = (
            physics.load(Mix::Integer, 1.5, false, Own::default()),
            physics.load(Mix::Integer, 3.0, false, Own::default()),
        );
        assert!(fast.core / slow.core > 1.2 * fast.cycles / slow.cycles, "the voltage rises");
        let (slow, fast) = (
            physics.load(Mix::Chase, 1.5, false, Own::default()),
            physics.load(Mix::Chase, 3.0, false, Own::default()),
        );
        assert!(fast.instructions / slow.instructions < 1.5, "memory does not get faster");
    }

    #[test]
    fn power_is_in_the_range_of_a_server_core() {
        for mix in Mix::ALL {
            let load = Physics::default().load(mix, 3.0, false, Own::default());
            assert!((2.0..8.0).contains(&load.core), "{mix:?}: {load:?}");
            assert!(load.dram < 3.0 && load.uncore < load.dram, "{mix:?}: {load:?}");
        }
    }
}
