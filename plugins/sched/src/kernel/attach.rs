//! Loading programs and attaching them to their tracepoints.

use std::time::{Duration, Instant};

use aya::programs::{BtfTracePoint, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf, EbpfLoader};

use super::{Counter, Kernel, KernelError, OBJECT, Options, counters, irq, lift_memlock_limit, refused};
use crate::requirements::BTF_PATH;

impl Kernel {
    pub(super) fn attach_typed(&mut self, name: &'static str, btf: &Btf) -> Result<(), KernelError> {
        let program: &mut BtfTracePoint = self.program_mut(name)?;
        patiently(|| program.load(name, btf)).map_err(refused(format!("load program {name}")))?;
        program.attach().map_err(refused(format!("attach program {name}")))?;
        self.attached.push(name);
        Ok(())
    }

    /// Loads a program that is run on request.
    pub(super) fn load_raw(&mut self, name: &str) -> Result<(), KernelError> {
        let program: &mut RawTracePoint = self.program_mut(name)?;
        patiently(|| program.load()).map_err(refused(format!("load program {name}")))
    }

    pub(super) fn attach_raw(&mut self, name: &'static str) -> Result<(), KernelError> {
        self.load_raw(name)?;
        let tracepoint = name.trim_start_matches("raw_");
        let program: &mut RawTracePoint = self.program_mut(name)?;
        program.attach(tracepoint).map_err(refused(format!("attach program {name}")))?;
        self.attached.push(name);
        Ok(())
    }

    /// Ends come first: the end of an interrupt whose beginning was not seen is known for what it is, the
    /// converse not.
    pub(super) fn attach_irq(&mut self, realtime: bool) -> Result<(), KernelError> {
        for (name, end) in [("irq_exit", "exit"), ("irq_enter", "entry")] {
            self.load_raw(name)?;
            for (tracepoint, needed) in irq::pairs(realtime) {
                let tracepoint = format!("{tracepoint}_{end}");
                let program: &mut RawTracePoint = self.program_mut(name)?;
                match program.attach(&tracepoint) {
                    Err(e) if needed => {
                        return Err(refused(format!("attach program {name} to {tracepoint}"))(e));
                    }
                    // Of another architecture, or left out of this kernel.
                    Err(_) | Ok(_) => {}
                }
            }
            self.attached.push(name);
        }
        Ok(())
    }

    pub(super) fn program_mut<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, KernelError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name);
        let program =
            program.ok_or_else(|| refused(format!("find program {name}"))("it is not in the eBPF object"))?;
        program.try_into().map_err(refused(format!("use program {name}")))
    }
}

/// A program on the context switch that accounts for nothing, attached while this is kept: what the benchmark
/// compares with.
pub struct Baseline {
    _ebpf: Ebpf,
    _counters: counters::Installed,
}

impl Baseline {
    /// Attaches a program that does nothing.
    ///
    /// # Errors
    /// As for [`Kernel::load`].
    pub fn empty() -> Result<Self, KernelError> {
        Self::attach("empty", &[], false, 0)
    }

    /// Attaches a program that reads `options`' counters, and does nothing with them.
    ///
    /// # Errors
    /// As for [`Kernel::load`].
    pub fn readings(options: &Options) -> Result<Self, KernelError> {
        let Options { counters, simulated_counters, siblings, .. } = options;
        Self::attach("bare_readings", counters, *simulated_counters, siblings.len())
    }

    fn attach(name: &str, wanted: &[Counter], simulated: bool, cpus: usize) -> Result<Self, KernelError> {
        lift_memlock_limit();
        let btf = Btf::from_sys_fs().map_err(refused(format!("read {BTF_PATH}")))?;
        let mut loader = EbpfLoader::new();
        let bits: u32 = wanted.iter().map(|counter| 1 << counter.position()).sum();
        loader.btf(Some(&btf)).override_global("COUNTERS", &bits, true);
        let mut ebpf = loader.load(OBJECT).map_err(refused("load the eBPF object"))?;
        let counters = counters::install(&mut ebpf, wanted, simulated, cpus)?;
        let program = ebpf.program_mut(name);
        let program =
            program.ok_or_else(|| refused(format!("find program {name}"))("it is not in the eBPF object"))?;
        let program: &mut BtfTracePoint =
            program.try_into().map_err(refused(format!("use program {name}")))?;
        program.load("sched_switch", &btf).map_err(refused(format!("load program {name}")))?;
        program.attach().map_err(refused(format!("attach program {name}")))?;
        Ok(Self { _ebpf: ebpf, _counters: counters })
    }
}

/// Tries again what was interrupted: the kernel gives up checking a program (EAGAIN) when a signal is pending
/// for the thread, and where processes come and go in storms, one may be for a while.
pub(super) fn patiently(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    loop {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) && begun.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}
