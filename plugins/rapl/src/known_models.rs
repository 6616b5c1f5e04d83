//! Processors whose RAPL is known to be less than a measurement. `wattrace doctor` names them; what can be
//! put right in a reading is (`source/mirrors.rs`, `powercap.rs`).

use wattrace_api::{Finding, Verdict};

use crate::cpu_model::{CpuModel, Vendor};

/// A range of models.
struct Known {
    vendor: Vendor,
    family: u32,
    models: &'static [u32],
    name: &'static str,
    /// What is wrong.
    what: &'static str,
}

/// Hackenberg et al., "Power Measurement Techniques on Standard Compute Nodes" (ISPASS 2013), and "An Energy
/// Efficiency Feature Survey of the Intel Haswell Processor" (IPDPSW 2015): RAPL measures from Haswell on.
const BEFORE_HASWELL: &str = "RAPL is computed from activity, not measured: joules depend on what runs, by \
    tens of percent in bad cases";

/// Schöne et al., "Energy Efficiency Aspects of the AMD Zen 2 Architecture" (CLUSTER 2021).
const ZEN_2: &str = "RAPL is computed, not measured: memory is left out, and the data that instructions work \
    on is not seen. Dies show one and the same counter of their socket; copies are left out";

const ZEN_1: &str = "RAPL is computed, not measured. Dies show one and the same counter of their socket; \
    copies are left out";

const KNOWN: [Known; 4] = [
    Known {
        vendor: Vendor::Intel,
        family: 6,
        models: &[0x2a, 0x2d],
        name: "Sandy Bridge",
        what: BEFORE_HASWELL,
    },
    Known {
        vendor: Vendor::Intel,
        family: 6,
        models: &[0x3a, 0x3e],
        name: "Ivy Bridge",
        what: BEFORE_HASWELL,
    },
    Known {
        vendor: Vendor::Amd,
        family: 0x17,
        models: &[0x01, 0x08, 0x11, 0x18, 0x20],
        name: "Zen or Zen+",
        what: ZEN_1,
    },
    Known {
        vendor: Vendor::Amd,
        family: 0x17,
        models: &[0x31, 0x47, 0x60, 0x68, 0x71, 0x90, 0x98, 0xa0],
        name: "Zen 2",
        what: ZEN_2,
    },
];

/// A row about `cpu`, if its RAPL is known to be less than a measurement.
pub(crate) fn finding(cpu: Option<CpuModel>) -> Option<Finding> {
    let cpu = cpu?;
    let is_it = |known: &&Known| {
        (known.vendor, known.family) == (cpu.vendor, cpu.family) && known.models.contains(&cpu.model)
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
        // Haswell, Zen 3, and a model of another family with the number of one that is named.
        for (vendor, family, model) in
            [(Vendor::Intel, 6, 0x3f), (Vendor::Amd, 0x19, 0x01), (Vendor::Intel, 0x17, 0x31)]
        {
            assert_eq!(of(vendor, family, model), None, "{vendor:?} {family:#x} {model:#x}");
        }
        assert_eq!(finding(None), None);
    }
}
