//! The processor's vendor, family and model, which decide what registers it has. Read from the kernel's
//! `devices/system/cpu/modalias`, because that file can be simulated together with the rest of sysfs.

use std::path::Path;

use wattrace_meter::sysfs::read_text;

/// The vendor. Processors that work the same have the same vendor here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vendor {
    Intel,
    /// AMD, and Hygon, whose cores are those of AMD.
    Amd,
}

/// A model of processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuModel {
    pub(crate) vendor: Vendor,
    pub(crate) family: u32,
    pub(crate) model: u32,
}

impl CpuModel {
    /// Reads it below `sysfs_root`; `None` if it is unknown, or of another vendor.
    pub(crate) fn of(sysfs_root: &Path) -> Option<Self> {
        Self::parse(&read_text(&sysfs_root.join("devices/system/cpu/modalias")).ok()?)
    }

    /// `cpu:type:x86,ven0000fam0006mod009E:feature:…`, with the kernel's numbers of vendors
    /// (`asm/processor.h`).
    pub(crate) fn parse(modalias: &str) -> Option<Self> {
        let rest = modalias.trim().strip_prefix("cpu:type:x86,ven")?;
        let (vendor, rest) = rest.split_once("fam")?;
        let (family, rest) = rest.split_once("mod")?;
        let (model, _) = rest.split_once(':').unwrap_or((rest, ""));
        let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let vendor = match number(vendor)? {
            0 => Vendor::Intel,
            2 | 9 => Vendor::Amd,
            _ => return None,
        };
        Some(Self { vendor, family: number(family)?, model: number(model)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modalias_contains_vendor_family_and_model() {
        let cpu = |vendor, family, model| Some(CpuModel { vendor, family, model });
        let of = |ids: &str| CpuModel::parse(&format!("cpu:type:x86,{ids}:feature:,0000,0001\n"));
        assert_eq!(of("ven0000fam0006mod009E"), cpu(Vendor::Intel, 6, 0x9e));
        assert_eq!(of("ven0002fam001Amod0002"), cpu(Vendor::Amd, 0x1a, 2));
        assert_eq!(of("ven0009fam0018mod0001"), cpu(Vendor::Amd, 0x18, 1));
        assert_eq!(of("ven0007fam0018mod0001"), None, "another vendor");
        for nonsense in
            ["", "cpu:type:arm", "cpu:type:x86,venXXXXfam0006mod009E", "cpu:type:x86,ven0000mod1fam2"]
        {
            assert_eq!(CpuModel::parse(nonsense), None, "{nonsense}");
        }
    }
}
