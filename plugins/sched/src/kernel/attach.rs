//! Loads programs and attaches them to tracepoints.

use std::time::{Duration, Instant};

use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::programs::{BtfTracePoint, Program, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf};
use tracing::debug;

use super::error::{KernelError, failed, not_found};
use super::{Kernel, irq};

/// A program and the tracepoint that it is attached to.
#[derive(Debug)]
pub(super) struct Hook {
    program: &'static str,
    tracepoint: String,
    /// Whether a kernel may lack the tracepoint.
    is_optional: bool,
}

/// An attached program. Dropping this detaches it.
#[expect(dead_code, reason = "held for their drop")]
pub(super) enum Link {
    Typed(BtfTracePointLink),
    Raw(RawTracePointLink),
}

impl Hook {
    fn new(program: &'static str, tracepoint: impl Into<String>) -> Self {
        Self { program, tracepoint: tracepoint.into(), is_optional: false }
    }

    /// The programs that account for CPU time, on a kernel with type information (`typed`) or without, and
    /// log what happens to processes and, if `cgroups`, to cgroups. In the order of attaching.
    pub(super) fn accounting(typed: bool, cgroups: bool) -> Vec<Self> {
        let mut hooks = Vec::new();
        if typed {
            hooks.extend(
                ["sched_process_fork", "sched_process_exec", "sched_process_exit"]
                    .map(|name| Self::new(name, name)),
            );
            hooks.extend(cgroups.then(|| Self::new("cgroup_mkdir", "cgroup_mkdir")));
            hooks.push(Self::new("sched_switch", "sched_switch"));
        } else {
            hooks.push(Self::new("raw_sched_process_fork", "sched_process_fork"));
            hooks.push(Self::new("raw_sched_process_exec", "sched_process_exec"));
            hooks.push(Self::new("raw_sched_process_exit", "sched_process_exit"));
            hooks.push(Self::new("raw_sched_switch", "sched_switch"));
        }
        hooks
    }

    /// The programs that account for interrupts separately.
    pub(super) fn interrupts(is_realtime: bool) -> impl Iterator<Item = Self> {
        // Ends first: an end without a beginning is recognised, a beginning without an end is not.
        [("irq_exit", "exit"), ("irq_enter", "entry")].into_iter().flat_map(move |(program, ending)| {
            irq::tracepoints(is_realtime).map(move |(name, is_required)| Self {
                program,
                tracepoint: format!("{name}_{ending}"),
                is_optional: !is_required,
            })
        })
    }
}

impl Kernel {
    /// Attaches the programs to their tracepoints. [`Kernel::load`] has done so already; this is for after a
    /// [`Kernel::detach`]. The time in between is charged to the threads that run when it ends.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        self.detach();
        for hook in &self.hooks {
            match attach(&mut self.ebpf, hook) {
                Ok(link) => self.links.push(link),
                // Of another architecture, or not built into this kernel.
                Err(_) if hook.is_optional => debug!(hook.tracepoint, "this kernel has no such tracepoint"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Detaches the programs: accounting pauses.
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// The names of the programs that are attached to tracepoints.
    pub(super) fn attached_programs(&self) -> impl Iterator<Item = &'static str> {
        distinct_programs(&self.hooks)
    }
}

/// Loads the programs of `hooks`, each once.
pub(super) fn load(ebpf: &mut Ebpf, hooks: &[Hook], btf: Option<&Btf>) -> Result<(), KernelError> {
    for name in distinct_programs(hooks) {
        let step = || format!("load program {name}");
        match (program_mut(ebpf, name)?, btf) {
            (Program::BtfTracePoint(program), Some(btf)) => {
                retry_interrupted(|| program.load(name, btf)).map_err(failed(step()))?;
            }
            _ => load_raw(ebpf, name)?,
        }
    }
    Ok(())
}

/// Loads a raw tracepoint program.
pub(super) fn load_raw(ebpf: &mut Ebpf, name: &str) -> Result<(), KernelError> {
    let program: &mut RawTracePoint =
        program_mut(ebpf, name)?.try_into().map_err(failed(format!("use program {name}")))?;
    retry_interrupted(|| program.load()).map_err(failed(format!("load program {name}")))
}

pub(super) fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, KernelError> {
    let missing = || not_found(format!("use program {name}"), "it is not in the eBPF object");
    ebpf.program_mut(name).ok_or_else(missing)
}

fn attach(ebpf: &mut Ebpf, hook: &Hook) -> Result<Link, KernelError> {
    let attach_typed = |program: &mut BtfTracePoint| {
        let id = program.attach()?;
        program.take_link(id).map(Link::Typed)
    };
    let attach_raw = |program: &mut RawTracePoint| {
        let id = program.attach(&hook.tracepoint)?;
        program.take_link(id).map(Link::Raw)
    };
    let link = match program_mut(ebpf, hook.program)? {
        Program::BtfTracePoint(program) => attach_typed(program),
        program => program.try_into().and_then(attach_raw),
    };
    link.map_err(failed(format!("attach program {} to {}", hook.program, hook.tracepoint)))
}

fn distinct_programs(hooks: &[Hook]) -> impl Iterator<Item = &'static str> {
    hooks.chunk_by(|a, b| a.program == b.program).filter_map(|same| Some(same.first()?.program))
}

/// Tries again if the kernel was interrupted: it stops verifying a program (EAGAIN) when a signal is pending
/// for the thread, which can be so for a while if child processes exit at a high rate.
pub(super) fn retry_interrupted(
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
    let start = Instant::now();
    loop {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) && start.elapsed() < GIVE_UP_AFTER =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}
