//! Which registers of a processor count energy, and in what units. Pure; `device` reads them.
//!
//! Sources: Intel's "Software Developer's Manual", volume 3 ("Platform specific power management support")
//! and volume 4 (registers by model); AMD's "Processor Programming Reference" of families 17h to 1Ah; and for
//! models that differ from them, the kernel's tables in `arch/x86/events/rapl.c` and
//! `drivers/powercap/intel_rapl_common.c`.

use wattrace_meter::Scale;

use crate::cpu_model::{CpuModel, Vendor};
use crate::domain::Part;

/// The registers of a vendor's processors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    /// Contains the unit of energy.
    pub(super) unit: u32,
    /// One in each package, or in each die. A model may have only some of them: reading them shows which.
    pub(super) package: &'static [(Part, u32)],
    /// One in each core.
    pub(super) core: Option<u32>,
    /// Whether each die of a package has the registers of `package`.
    pub(super) per_die: bool,
}

const INTEL: Registers = Registers {
    unit: 0x606,
    package: &[
        (Part::Package, 0x611),
        (Part::Core, 0x639),
        (Part::Uncore, 0x641),
        (Part::Dram, 0x619),
        (Part::Psys, 0x64d),
    ],
    core: None,
    per_die: true,
};

const AMD: Registers = Registers {
    unit: 0xc001_0299,
    package: &[(Part::Package, 0xc001_029b)],
    core: Some(0xc001_029a),
    per_die: false,
};

/// Intel's small cores before Goldmont (Silvermont, Airmont): their unit is 2^ESU µJ instead of 2^-ESU J.
const COUNT_MICROJOULES: [u32; 5] = [0x37, 0x4a, 0x4c, 0x5a, 0x5d];
/// Haswell, Broadwell (-DE too), Skylake and Ice Lake (-D too) servers, and Knights Landing and Mill: memory
/// is counted in 15.3 µJ, which is 2^-16 J rounded ("Intel Xeon Processor E5-1600 and E5-2600 v3 Product
/// Families", datasheet, volume 2).
const DRAM_OF_2_TO_MINUS_16: [u32; 8] = [0x3f, 0x4f, 0x56, 0x55, 0x6a, 0x6c, 0x57, 0x85];
/// Sapphire and Emerald Rapids: the platform is counted in whole joules.
const PSYS_OF_JOULES: [u32; 2] = [0x8f, 0xcf];

impl Registers {
    pub(crate) fn of(cpu: CpuModel) -> &'static Registers {
        match cpu.vendor {
            Vendor::Intel => &INTEL,
            Vendor::Amd => &AMD,
        }
    }
}

/// Microjoules per count of the register of `part`. `unit` is the content of the register of the unit: bits 8
/// to 12 are the energy status unit (ESU).
pub(crate) fn scale(cpu: CpuModel, part: &Part, unit: u64) -> Option<Scale> {
    let esu = (unit >> 8) as u32 & 0x1f;
    let is = |models: &[u32]| cpu.vendor == Vendor::Intel && cpu.family == 6 && models.contains(&cpu.model);
    match part {
        Part::Dram if is(&DRAM_OF_2_TO_MINUS_16) => Scale::joules_times_two_to(-16),
        Part::Psys if is(&PSYS_OF_JOULES) => Scale::joules_times_two_to(0),
        _ if is(&COUNT_MICROJOULES) => Scale::microjoules_times_two_to(esu),
        _ => Scale::joules_times_two_to(-(esu as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intel(model: u32) -> CpuModel {
        CpuModel { vendor: Vendor::Intel, family: 6, model }
    }

    /// Microjoules in a million counts, with ESU 14 (61 µJ), as Intel's clients have it.
    fn million(cpu: CpuModel, part: &Part, esu: u64) -> u64 {
        scale(cpu, part, 0x000a_0003 | esu << 8).unwrap().microjoules(1_000_000)
    }

    #[test]
    fn each_model_has_its_units() {
        assert_eq!(million(intel(0x9e), &Part::Package, 14), 61_035_156);
        assert_eq!(million(intel(0x9e), &Part::Dram, 14), 61_035_156);
        assert_eq!(million(intel(0x55), &Part::Package, 14), 61_035_156);
        assert_eq!(million(intel(0x55), &Part::Dram, 14), 15_258_789);
        assert_eq!(million(intel(0x8f), &Part::Dram, 14), 61_035_156);
        assert_eq!(million(intel(0x8f), &Part::Psys, 14), 1_000_000_000_000);
        assert_eq!(million(intel(0x37), &Part::Package, 5), 32_000_000);
        let zen = CpuModel { vendor: Vendor::Amd, family: 0x19, model: 0x55 };
        assert_eq!(million(zen, &Part::Package, 16), 15_258_789);
        assert_eq!(million(zen, &Part::OneCore(0), 16), 15_258_789);
    }
}
