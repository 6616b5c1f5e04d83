//! What the kernel programs cost, by the kernel's own statistics. These cost something themselves, so they
//! are on only while a [`Burst`] is kept.

use std::os::fd::OwnedFd;

use aya::programs::Program;
use aya::sys::{Stats, enable_stats};

use super::Kernel;
use super::error::{KernelError, failed};

/// While this is kept, the kernel counts the runs of programs and their time.
#[derive(Debug)]
pub struct Burst {
    _statistics: OwnedFd,
    before: Vec<ProgramRuns>,
}

/// How often a program ran, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramRuns {
    /// The program.
    pub program: &'static str,
    /// Number of runs.
    pub count: u64,
    /// Their time, ns.
    pub ns: u64,
}

impl Kernel {
    /// Turns the statistics on.
    ///
    /// # Errors
    /// No permission (CAP_SYS_ADMIN).
    pub fn begin_burst(&self) -> Result<Burst, KernelError> {
        let statistics =
            enable_stats(Stats::RunTime).map_err(failed("turn on the statistics of eBPF programs"))?;
        Ok(Burst { _statistics: statistics, before: self.runs() })
    }

    /// Turns the statistics off, and returns the runs of each attached program in between.
    pub fn end_burst(&self, burst: Burst) -> Vec<ProgramRuns> {
        let since = |(after, before): (ProgramRuns, &ProgramRuns)| ProgramRuns {
            count: after.count.wrapping_sub(before.count),
            ns: after.ns.wrapping_sub(before.ns),
            ..after
        };
        self.runs().into_iter().zip(&burst.before).map(since).collect()
    }

    fn runs(&self) -> Vec<ProgramRuns> {
        let runs = |program: &'static str| {
            let info = match self.ebpf.program(program)? {
                Program::BtfTracePoint(p) => p.info(),
                Program::RawTracePoint(p) => p.info(),
                _ => return None,
            };
            let info = info.ok()?;
            Some(ProgramRuns { program, count: info.run_count(), ns: info.run_time().as_nanos() as u64 })
        };
        self.attached_programs().filter_map(runs).collect()
    }
}
