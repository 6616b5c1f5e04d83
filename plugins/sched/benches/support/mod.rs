//! What the benchmarks share: programs that accounting is compared with, and the number of CPUs.
#![allow(dead_code, reason = "not every benchmark uses all of it")]

pub(crate) mod estimate;
pub(crate) mod workload;

use aya::programs::BtfTracePoint;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::{Btf, Ebpf, EbpfLoader};
use wattrace_bpf::lift_memlock_limit;
use wattrace_sched::kernel::{Counter, Flush, Installed, Kernel, PerfEvent, install_counters};
use wattrace_topology::Topology;

/// Where `cargo xtask build-ebpf` puts the programs that only benchmarks use.
const OBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/ebpf/wattrace-ebpf-bench.o");

/// Whatever a benchmark fails with.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// The number of possible CPUs.
pub(crate) fn cpus() -> Result<usize, Failure> {
    Ok(Topology::read("/sys".as_ref())?.package_of.len())
}

/// A program at the context switch that can be attached and detached.
pub(crate) trait Probe {
    /// Attaches it.
    fn attach(&mut self) -> Result<(), Failure>;
    /// Detaches it.
    fn detach(&mut self);
}

impl Probe for Kernel {
    fn attach(&mut self) -> Result<(), Failure> {
        Ok(Kernel::attach(self)?)
    }

    fn detach(&mut self) {
        Kernel::detach(self);
    }
}

/// Begins accounting on all CPUs.
pub(crate) fn begin_accounting(kernel: &Kernel, cpus: usize) {
    let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
    assert!(accounted > 0, "no CPU is accounted for");
}

/// A program that does not account. It is detached when this is dropped.
pub(crate) struct Baseline {
    program: &'static str,
    link: Option<BtfTracePointLink>,
    _counters: Installed,
    ebpf: Ebpf,
}

impl Baseline {
    /// A program that does nothing, loaded but not attached.
    pub(crate) fn empty() -> Result<Self, Failure> {
        Self::load("empty", &[], 0)
    }

    /// A program that reads `counters`, the first two, and does nothing with them; loaded but not attached.
    pub(crate) fn counter_reads(counters: &[(Counter, PerfEvent)], cpus: usize) -> Result<Self, Failure> {
        Self::load("bare_readings", counters, cpus)
    }

    fn load(program: &'static str, counters: &[(Counter, PerfEvent)], cpus: usize) -> Result<Self, Failure> {
        lift_memlock_limit();
        let btf = Btf::from_sys_fs()?;
        let loaded = EbpfLoader::new().btf(Some(&btf)).load_file(OBJECT);
        let mut ebpf = loaded.map_err(|e| format!("{OBJECT}: {e}: run `cargo xtask build-ebpf`"))?;
        let _counters = install_counters(&mut ebpf, counters, cpus)?;
        let mut baseline = Self { program, link: None, _counters, ebpf };
        baseline.tracepoint()?.load("sched_switch", &btf)?;
        Ok(baseline)
    }

    fn tracepoint(&mut self) -> Result<&mut BtfTracePoint, Failure> {
        let program = self.ebpf.program_mut(self.program).ok_or("the object lacks a program")?;
        Ok(program.try_into()?)
    }
}

impl Probe for Baseline {
    fn attach(&mut self) -> Result<(), Failure> {
        let program = self.tracepoint()?;
        let id = program.attach()?;
        self.link = Some(program.take_link(id)?);
        Ok(())
    }

    fn detach(&mut self) {
        self.link = None;
    }
}
