//! What the kernel programs cost: the kernel's own statistics, which cost something themselves and so are on
//! only while a [`Burst`] is kept.

use std::os::fd::OwnedFd;

use aya::programs::Program;
use aya::sys::{Stats, enable_stats};

use super::{Kernel, KernelError, refused};

/// Statistics are being kept.
#[derive(Debug)]
pub struct Burst {
    _on: OwnedFd,
    before: Vec<Run>,
}

/// How often a program ran and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The program.
    pub program: &'static str,
    /// Runs.
    pub count: u64,
    /// Their time, ns.
    pub ns: u64,
}

impl Kernel {
    /// Turns statistics on.
    ///
    /// # Errors
    /// We lack the permission (CAP_SYS_ADMIN).
    pub fn begin_burst(&self) -> Result<Burst, KernelError> {
        let on = enable_stats(Stats::RunTime).map_err(refused("turn on the statistics of eBPF programs"))?;
        Ok(Burst { _on: on, before: self.runs() })
    }

    /// Turns them off; returns what each attached program did in between.
    pub fn end_burst(&self, burst: Burst) -> Vec<Run> {
        let since = |(after, before): (Run, &Run)| Run {
            count: after.count.wrapping_sub(before.count),
            ns: after.ns.wrapping_sub(before.ns),
            ..after
        };
        self.runs().into_iter().zip(&burst.before).map(since).collect()
    }

    fn runs(&self) -> Vec<Run> {
        let run = |&program: &&'static str| {
            let loaded = self.ebpf.program(program)?;
            let info = match loaded {
                Program::BtfTracePoint(p) => p.info(),
                Program::RawTracePoint(p) => p.info(),
                _ => return None,
            };
            let info = info.ok()?;
            Some(Run { program, count: info.run_count(), ns: info.run_time().as_nanos() as u64 })
        };
        self.attached.iter().filter_map(run).collect()
    }
}
