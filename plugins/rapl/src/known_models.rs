//! Processors whose RAPL is known to be less than a measurement, each with the source that says so: what has
//! none does not belong here. `wattrace doctor` names them; what can be put right in a reading is
//! (`source/mirrors.rs`, `powercap.rs`).

use std::ops::RangeInclusive;

use wattrace_api::{Finding, Verdict};

use crate::cpu_model::{CpuModel, Vendor};

/// Models of one microarchitecture.
struct Known {
    vendor: Vendor,
    family: u32,
    /// As the kernel names them: `arch/x86/include/asm/intel-family.h`, and the Zen generations of
    /// `bsp_init_amd` in `arch/x86/kernel/cpu/amd.c`.
    models: &'static [RangeInclusive<u32>],
    name: &'static str,
    /// What is wrong.
    what: &'static str,
}

/// RAPL "moves from modeling to actual measurement" with Haswell: Hackenberg et al., "An Energy Efficiency
/// Feature Survey of the Intel Haswell Processor", IPDPSW 2015, <https://doi.org/10.1109/IPDPSW.2015.70>.
const BEFORE_HASWELL: &str = "RAPL is a model that the processor computes, not a measurement: how far it is \
    off depends on what runs";

/// There is no domain of memory: <https://github.com/RRZE-HPC/likwid/issues/181>. Each die of a
/// Threadripper 1950X shows the 68 W of its socket: <https://github.com/mlco2/codecarbon/issues/1274>, which
/// names Zen 1 and Zen 2.
const ZEN_1: &str = "RAPL leaves memory out. Where there are several dies, each shows the one counter of \
    their socket; copies are left out";

/// The same; and Schöne et al., "Energy Efficiency Aspects of the AMD Zen 2 Architecture", CLUSTER 2021,
/// <https://arxiv.org/abs/2108.00808>, on "the built-in power monitoring capabilities and its limitations".
const ZEN_2: &str = "RAPL leaves memory out, and is less accurate than a meter (arXiv:2108.00808). Where \
    there are several dies, each shows the one counter of their socket; copies are left out";

const KNOWN: [Known; 4] = [
    Known {
        vendor: Vendor::Intel,
        family: 6,
        models: &[0x2a..=0x2a, 0x2d..=0x2d],
        name: "Sandy Bridge",
        what: BEFORE_HASWELL,
    },
    Known {
        vendor: Vendor::Intel,
        family: 6,
        models: &[0x3a..=0x3a, 0x3e..=0x3e],
        name: "Ivy Bridge",
        what: BEFORE_HASWELL,
    },
    Known {
        vendor: Vendor::Amd,
        family: 0x17,
        models: &[0x00..=0x2f, 0x50..=0x5f],
        name: "Zen or Zen+",
        what: ZEN_1,
    },
    Known {
        vendor: Vendor::Amd,
        family: 0x17,
        models: &[0x30..=0x4f, 0x60..=0x7f, 0x90..=0x91, 0xa0..=0xaf],
        name: "Zen 2",
        what: ZEN_2,
    },
];

/// A row about `cpu`, if its RAPL is known to be less than a measurement.
pub(crate) fn finding(cpu: Option<CpuModel>) -> Option<Finding> {
    let cpu = cpu?;
    let is_it = |known: &&Known| {
        (known.vendor, known.family) == (cpu.vendor, cpu.family)
            && known.models.iter().any(|models| models.contains(&cpu.model))
    };
    KNOWN.iter().find(is_it).map(|known| Finding {
        what: "RAPL of this processor".to_owned(),
        verdict: Verdict::Optional,
        found: format!("{}: {}", known.name, known.what),
        remedy: "for absolute joules, compare with a meter of the whole machine: plugins.bmc, hw.host.energy"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_whose_rapl_is_no_measurement_are_named() {
        let of = |vendor, family, model| finding(Some(CpuModel { vendor, family, model })).map(|f| f.found);
        assert!(of(Vendor::Intel, 6, 0x2d).is_some_and(|found| found.starts_with("Sandy Bridge: ")));
        assert!(of(Vendor::Amd, 0x17, 0x31).is_some_and(|found| found.starts_with("Zen 2: ")));
        assert!(of(Vendor::Amd, 0x17, 0x08).is_some_and(|found| found.starts_with("Zen or Zen+: ")));
        // Haswell, Zen 3, and a model of another family with the number of one that is named.
        for (vendor, family, model) in
            [(Vendor::Intel, 6, 0x3f), (Vendor::Amd, 0x19, 0x01), (Vendor::Intel, 0x17, 0x31)]
        {
            assert_eq!(of(vendor, family, model), None, "{vendor:?} {family:#x} {model:#x}");
        }
        assert_eq!(finding(None), None);
    }
}
