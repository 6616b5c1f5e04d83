//! Thermal design powers by the CPU's name in `/proc/cpuinfo`. Sources:
//!
//! - [`MODELS`]: techpowerup.com/cpu-specs and the providers' own pages, as collected in Boavizta's
//!   `cpu_specs.csv` (github.com/Boavizta/boaviztapi, MIT).
//! - [`PER_CPU`], x86: Cloud Carbon Footprint's coefficients: watts per logical CPU when idle and at full
//!   load, from SPECpower results (github.com/cloud-carbon-footprint).
//! - [`PER_CPU`], Neoverse-N1, Ampere-1: Ampere Altra Q80-30: 210 W, 80 cores (Ampere's product list of
//!   2020); idle as for models.
//! - [`PER_CPU`], Neoverse-V2: NVIDIA Grace CPU Superchip: 500 W with its memory, 144 cores (NVIDIA, 2022);
//!   idle as for models.
//! - [`PER_CPU`], Cortex-A72: Raspberry Pi 4, the whole board at its supply: 2.3 W idle, 5.2 W busy, 4 cores
//!   (chipwired.com, 36 measurements).
//! - Client CPUs: the usual power for each suffix of Intel's and AMD's names in recent generations; some
//!   models differ.

/// The design power of a CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tdp {
    /// Of a package.
    Package {
        /// Watts.
        watts: u16,
        /// Logical CPUs of the package, if known.
        cpus: Option<u16>,
    },
    /// Per logical CPU, where the name gives the family but not a known model.
    PerCpu {
        /// The family.
        family: &'static str,
        /// Watts of one CPU.
        watts: PerCpu,
    },
}

/// Watts of one logical CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PerCpu {
    /// When idle.
    pub(crate) idle: f64,
    /// When busy.
    pub(crate) full: f64,
}

/// For unknown names: the mean of [`PER_CPU`]'s x86 server families since 2017, rounded.
const UNKNOWN: PerCpu = PerCpu { idle: 0.6, full: 2.8 };

/// For unknown ARM cores, which are assumed to be a server's: [`PER_CPU`]'s Neoverse-N1.
const UNKNOWN_ARM: PerCpu = PerCpu { idle: 0.31, full: 2.6 };

/// For unknown ARM cores of small machines: [`PER_CPU`]'s Cortex-A72.
const UNKNOWN_CORTEX: PerCpu = PerCpu { idle: 0.57, full: 1.3 };

/// The value where [`look_up`] finds none.
pub(crate) fn unknown(is_arm: bool, model: &str) -> PerCpu {
    if is_arm { of_core(model) } else { UNKNOWN }
}

/// Watts of one CPU with an ARM core of this name; empty: unknown.
pub(crate) fn of_core(name: &str) -> PerCpu {
    match look_up(name) {
        Some(Tdp::PerCpu { watts, .. }) => watts,
        _ if SMALL.iter().any(|small| name.starts_with(small)) => UNKNOWN_CORTEX,
        _ => UNKNOWN_ARM,
    }
}

/// What the names of cores of small machines begin with: boards, phones, tablets.
const SMALL: [&str; 6] = ["Cortex-", "ARM1176", "Denver", "Carmel", "Krait", "Kryo"];

/// The design power of a Xeon on bare metal that is not in [`MODELS`], by its logical CPUs and base
/// frequency: a straight line through those of [`MODELS`], with 60 W for what is not cores. Most models are
/// within a quarter of it. The watts per CPU of [`PER_CPU`] are those of many slow cores, and give a third
/// for few fast ones.
pub(crate) fn xeon(cpus: f64, mhz: f64) -> f64 {
    60.0 + 1.15 * cpus * mhz / 1e3
}

/// Looks up `model`: by model, then by the suffix of a client CPU, then by family.
pub(crate) fn look_up(model: &str) -> Option<Tdp> {
    let clean = model.replace("(R)", " ").replace("(TM)", " ").replace("(r)", " ");
    let words: Vec<&str> = clean.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    let named = |name: &str| {
        let name: Vec<&str> = name.split(' ').collect();
        words.windows(name.len()).any(|part| part == name)
    };
    let exact = MODELS.iter().find(|(name, ..)| named(name));
    exact
        .map(|&(_, watts, cpus)| Tdp::Package { watts, cpus: Some(cpus) })
        .or_else(|| client(&words))
        .or_else(|| {
            let family = PER_CPU.iter().find(|(name, ..)| named(name));
            family.map(|&(family, idle, full)| Tdp::PerCpu { family, watts: PerCpu { idle, full } })
        })
}

/// The design power of a client CPU, by the suffix of its number.
fn client(words: &[&str]) -> Option<Tdp> {
    let after = |brand: &str| words.iter().position(|word| *word == brand).and_then(|at| words.get(at + 1..));
    let (table, number): (&[(&str, u16)], &str) = if let Some([model, ..]) = after("Core") {
        // `Core i7-8550U`
        (&INTEL_CLIENTS, model.strip_prefix('i')?.split_once('-')?.1)
    } else {
        // `Ryzen 7 5800X`, `Ryzen 7 PRO 5850U`, but not `Ryzen Threadripper 3990X`.
        match after("Ryzen")? {
            ["3" | "5" | "7" | "9", "PRO", number, ..] | ["3" | "5" | "7" | "9", number, ..] => {
                (&AMD_CLIENTS, number)
            }
            _ => return None,
        }
    };
    let suffix = number.trim_start_matches(|c: char| c.is_ascii_digit());
    if number.len() - suffix.len() < 3 {
        return None;
    }
    let watts = table.iter().find(|(known, _)| *known == suffix)?.1;
    Some(Tdp::Package { watts, cpus: None })
}

/// Suffixes of Intel's Core i3 to i9.
#[rustfmt::skip]
const INTEL_CLIENTS: [(&str, u16); 17] = [
    ("", 65), ("F", 65), ("K", 125), ("KF", 125), ("KS", 150), ("X", 165), ("XE", 165), ("T", 35), ("S", 65),
    ("U", 15), ("Y", 7), ("P", 28), ("H", 45), ("HQ", 45), ("HK", 45), ("HX", 55), ("M", 35),
];

/// Suffixes of AMD's Ryzen 3 to 9.
#[rustfmt::skip]
const AMD_CLIENTS: [(&str, u16); 10] = [
    ("", 65), ("X", 105), ("XT", 105), ("X3D", 120), ("G", 65), ("GE", 35), ("U", 15), ("HS", 35),
    ("H", 45), ("HX", 55),
];

/// Families whose guests do not see the model, and ARM cores: watts per logical CPU when idle and at full
/// load. The first match counts.
#[rustfmt::skip]
const PER_CPU: [(&str, f64, f64); 16] = [
    ("Skylake", 0.64, 4.05), ("Cascadelake", 0.64, 3.80), ("Broadwell", 0.71, 3.54), ("Haswell", 1.90, 5.99),
    ("Xeon", 0.64, 3.80),
    ("EPYC-Rome", 0.47, 1.64), ("EPYC-Milan", 0.45, 1.87), ("EPYC-Genoa", 0.45, 1.87),
    ("EPYC 7601", 0.82, 2.55), ("EPYC 7B12", 0.47, 1.64),
    // The name in all other guests, of any generation.
    ("EPYC", 0.45, 1.87),
    ("Neoverse-N1", 0.31, 2.6), ("Neoverse-V2", 0.42, 3.5),
    ("Ampere-1", 0.31, 2.6), ("Ampere-1a", 0.31, 2.6),
    ("Cortex-A72", 0.57, 1.3),
];

/// Name, watts of a package, logical CPUs of a package. Names are found as whole words.
#[rustfmt::skip]
const MODELS: &[(&str, u16, u16)] = &[
    // AMD EPYC 7001 "Naples"
    ("EPYC 7281", 170, 32), ("EPYC 7401P", 170, 48), ("EPYC 7551", 180, 64), ("EPYC 7551P", 180, 64),
    ("EPYC 7571", 200, 64),
    // AMD EPYC 7002 "Rome"
    ("EPYC 7232P", 120, 16), ("EPYC 7252", 120, 16), ("EPYC 7262", 155, 16), ("EPYC 7272", 120, 24),
    ("EPYC 7282", 120, 32), ("EPYC 7302", 155, 32), ("EPYC 7302P", 155, 32), ("EPYC 7352", 155, 48),
    ("EPYC 7402", 180, 48), ("EPYC 7402P", 180, 48), ("EPYC 7452", 155, 64), ("EPYC 7502", 180, 64),
    ("EPYC 7502P", 180, 64), ("EPYC 7542", 225, 64), ("EPYC 7552", 200, 96), ("EPYC 7642", 225, 96),
    ("EPYC 7702", 200, 128), ("EPYC 7702P", 200, 128), ("EPYC 7742", 225, 128), ("EPYC 7F32", 180, 16),
    ("EPYC 7F72", 240, 48), ("EPYC 7H12", 280, 128), ("EPYC 7R32", 280, 96), ("EPYC 7V12", 240, 128),
    // AMD EPYC 7003 "Milan"
    ("EPYC 72F3", 180, 16), ("EPYC 7313", 155, 32), ("EPYC 7313P", 155, 32), ("EPYC 7343", 190, 32),
    ("EPYC 7373X", 240, 32), ("EPYC 73F3", 240, 32), ("EPYC 7413", 180, 48), ("EPYC 7443", 200, 48),
    ("EPYC 7443P", 200, 48), ("EPYC 7453", 225, 56), ("EPYC 7473X", 240, 48), ("EPYC 74F3", 240, 48),
    ("EPYC 7513", 200, 64), ("EPYC 7543", 225, 64), ("EPYC 7543P", 225, 64), ("EPYC 7573X", 280, 64),
    ("EPYC 75F3", 280, 64), ("EPYC 7643", 225, 96), ("EPYC 7663", 240, 112), ("EPYC 7713", 225, 128),
    ("EPYC 7713P", 225, 128), ("EPYC 7763", 280, 128), ("EPYC 7773X", 280, 128), ("EPYC 7R13", 225, 96),
    // AMD EPYC 9004 "Genoa"
    ("EPYC 9124", 200, 32), ("EPYC 9174F", 320, 32), ("EPYC 9224", 200, 48), ("EPYC 9254", 200, 48),
    ("EPYC 9274F", 320, 48), ("EPYC 9334", 210, 64), ("EPYC 9354", 280, 64), ("EPYC 9354P", 280, 64),
    ("EPYC 9374F", 320, 64), ("EPYC 9454", 290, 96), ("EPYC 9454P", 290, 96), ("EPYC 9474F", 360, 96),
    ("EPYC 9534", 280, 128), ("EPYC 9554", 360, 128), ("EPYC 9554P", 360, 128), ("EPYC 9634", 290, 168),
    ("EPYC 9654", 360, 192), ("EPYC 9654P", 360, 192), ("EPYC 9R14", 280, 96),
    // Intel Xeon E5 and E7
    ("E5-2651 v2", 95, 24), ("E5-2666 v3", 135, 20), ("E5-2670 v2", 115, 20), ("E5-2670 0", 115, 16),
    ("E5-2676 v3", 120, 24), ("E5-2680 v2", 115, 20), ("E7-8880 v3", 150, 36),
    // Intel Xeon Scalable, 1st and 2nd generation (ark.intel.com)
    ("Bronze 3104", 85, 6), ("Bronze 3106", 85, 8), ("Silver 4108", 85, 16), ("Silver 4110", 85, 16),
    ("Silver 4114", 85, 20), ("Silver 4208", 85, 16), ("Silver 4210", 85, 20), ("Silver 4214", 85, 24),
    ("Silver 4216", 100, 32), ("Gold 5115", 85, 20), ("Gold 5118", 105, 24), ("Gold 5120", 105, 28),
    ("Gold 5122", 105, 8), ("Gold 5215", 85, 20), ("Gold 5217", 115, 16), ("Gold 5218", 125, 32),
    ("Gold 5220", 125, 36), ("Gold 5222", 105, 8), ("Gold 6126", 125, 24), ("Gold 6130", 125, 32),
    ("Gold 6132", 140, 28), ("Gold 6134", 130, 16), ("Gold 6136", 150, 24), ("Gold 6138", 125, 40),
    ("Gold 6140", 140, 36), ("Gold 6142", 150, 32), ("Gold 6144", 150, 16), ("Gold 6146", 165, 24),
    ("Gold 6148", 150, 40), ("Gold 6150", 165, 36), ("Gold 6152", 140, 44), ("Gold 6154", 200, 36),
    ("Gold 6226", 125, 24), ("Gold 6230", 125, 40), ("Gold 6240", 150, 36), ("Gold 6242", 150, 32),
    ("Gold 6244", 150, 16), ("Gold 6248", 150, 40), ("Gold 6252", 150, 48), ("Gold 6254", 200, 36),
    ("Platinum 8153", 125, 32), ("Platinum 8160", 150, 48), ("Platinum 8164", 150, 52),
    ("Platinum 8168", 205, 48), ("Platinum 8170", 165, 52), ("Platinum 8176", 165, 56),
    ("Platinum 8180", 205, 56), ("Platinum 8253", 125, 32), ("Platinum 8256", 105, 8),
    ("Platinum 8260", 165, 48), ("Platinum 8268", 205, 48), ("Platinum 8270", 205, 52),
    ("Platinum 8124M", 240, 36), ("Platinum 8151", 240, 24), ("Platinum 8175M", 240, 48),
    ("Platinum 8176M", 165, 56),
    ("Platinum 8252C", 240, 24), ("Platinum 8259CL", 210, 48), ("Platinum 8275CL", 240, 48),
    ("Platinum 8276", 165, 56),
    ("Platinum 8280", 205, 56), ("Platinum 8280L", 205, 56), ("Platinum 8280M", 205, 56),
    ("Gold 6246R", 205, 32),
    ("Silver 4116", 85, 24), ("Platinum 9242", 350, 96), ("Platinum 9282", 400, 112),
    // Intel Xeon Scalable, 3rd generation
    ("Silver 4309Y", 105, 16), ("Gold 6312U", 185, 48), ("Gold 6314U", 205, 64), ("Gold 6326", 185, 32),
    ("Gold 6330", 205, 56), ("Gold 6334", 165, 16), ("Gold 6336Y", 185, 48), ("Gold 6338N", 185, 64),
    ("Gold 6342", 230, 48), ("Gold 6346", 205, 32), ("Gold 6348", 235, 56), ("Gold 6354", 205, 36),
    ("Platinum 8352M", 185, 64), ("Platinum 8352S", 205, 64), ("Platinum 8352V", 195, 72),
    ("Platinum 8358", 250, 64),
    ("Platinum 8358P", 240, 64), ("Platinum 8360Y", 250, 72), ("Platinum 8362", 265, 64),
    ("Platinum 8368", 270, 76),
    ("Platinum 8368Q", 270, 76), ("Platinum 8370C", 270, 64), ("Platinum 8375C", 300, 64),
    ("Platinum 8380", 270, 80),
    // Intel Xeon Scalable, 4th generation, and Max
    ("Gold 6414U", 250, 64), ("Gold 6426Y", 185, 32), ("Gold 6430", 270, 64), ("Gold 6434", 195, 16),
    ("Gold 6438M", 205, 64), ("Gold 6438N", 205, 64), ("Gold 6438Y+", 205, 64), ("Gold 6442Y", 225, 48),
    ("Gold 6448Y", 225, 64), ("Gold 6454S", 270, 64), ("Platinum 8452Y", 300, 72),
    ("Platinum 8458P", 350, 88),
    ("Platinum 8460Y+", 300, 80), ("Platinum 8462Y+", 300, 64), ("Platinum 8468", 350, 96),
    ("Platinum 8470", 350, 104),
    ("Platinum 8480+", 350, 112), ("Platinum 8490H", 350, 120), ("Max 9460", 350, 80), ("Max 9480", 350, 112),
    // Intel Xeon W
    ("W-2133", 140, 12), ("W-2135", 140, 12), ("W-2145", 140, 16), ("W-2155", 140, 20), ("W-2195", 140, 36),
    ("W-3175X", 255, 56), ("W-3335", 250, 32), ("W-3365", 270, 64), ("W-3375", 270, 76),
    ("w9-3495X", 350, 112),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn package(watts: u16, cpus: u16) -> Option<Tdp> {
        Some(Tdp::Package { watts, cpus: Some(cpus) })
    }

    fn client_of(watts: u16) -> Option<Tdp> {
        Some(Tdp::Package { watts, cpus: None })
    }

    #[test]
    fn servers_are_found_by_model() {
        assert_eq!(look_up("AMD EPYC 7763 64-Core Processor"), package(280, 128));
        assert_eq!(look_up("AMD EPYC 9R14"), package(280, 96));
        assert_eq!(look_up("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"), package(300, 64));
        assert_eq!(look_up("Intel(R) Xeon(R) CPU E5-2670 v2 @ 2.50GHz"), package(115, 20));
        assert_eq!(look_up("Intel(R) Xeon(R) CPU E5-2670 0 @ 2.60GHz"), package(115, 16));
        assert_eq!(look_up("Intel(R) Xeon(R) Platinum 8480+"), package(350, 112));
    }

    #[test]
    fn guests_without_a_model_are_found_by_family() {
        let per_cpu = |model: &str| match look_up(model) {
            Some(Tdp::PerCpu { family, watts: PerCpu { idle, full } }) => (family, idle, full),
            other => panic!("{model}: {other:?}"),
        };
        assert_eq!(per_cpu("AMD EPYC"), ("EPYC", 0.45, 1.87));
        assert_eq!(per_cpu("AMD EPYC-Rome Processor"), ("EPYC-Rome", 0.47, 1.64));
        assert_eq!(per_cpu("Intel Xeon Processor (Skylake, IBRS)"), ("Skylake", 0.64, 4.05));
        assert_eq!(per_cpu("Intel(R) Xeon(R) CPU @ 2.20GHz"), ("Xeon", 0.64, 3.80));
        assert_eq!((of_core("Neoverse-N1"), of_core("Cortex-A72")), (UNKNOWN_ARM, UNKNOWN_CORTEX));
    }

    #[test]
    fn the_line_for_xeons_is_near_the_known_models() {
        for (model, mhz) in [
            ("Gold 5222", 3_800.0),
            ("Gold 5218", 2_300.0),
            ("Gold 6248", 2_500.0),
            ("Platinum 8280", 2_700.0),
            ("Platinum 8380", 2_300.0),
            ("Gold 6342", 2_800.0),
            ("Silver 4309Y", 2_800.0),
            ("E5-2670 0", 2_600.0),
        ] {
            let Some(&(_, watts, cpus)) = MODELS.iter().find(|(name, ..)| *name == model) else { panic!() };
            let (guess, watts) = (xeon(cpus.into(), mhz), f64::from(watts));
            assert!((0.75..=1.35).contains(&(guess / watts)), "{model}: {guess} instead of {watts}");
        }
    }

    #[test]
    fn clients_are_found_by_suffix() {
        assert_eq!(look_up("13th Gen Intel(R) Core(TM) i9-13900K"), client_of(125));
        assert_eq!(look_up("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz"), client_of(15));
        assert_eq!(look_up("Intel(R) Core(TM) i5-10400 CPU @ 2.90GHz"), client_of(65));
        assert_eq!(look_up("AMD Ryzen 9 5950X 16-Core Processor"), client_of(105));
        assert_eq!(look_up("AMD Ryzen 7 PRO 5850U with Radeon Graphics"), client_of(15));
        assert_eq!(look_up("AMD Ryzen 5 3600 6-Core Processor"), client_of(65));
    }

    #[test]
    fn unknown_names_are_not_found() {
        for name in [
            "",
            "QEMU Virtual CPU version 2.5+",
            "Intel(R) Core(TM) Ultra 7 155H",
            "Neoverse-N3",
            "AMD Ryzen",
        ] {
            assert_eq!(look_up(name), None, "{name}");
        }
    }

    #[test]
    fn every_model_is_found_by_its_name() {
        for &(name, watts, cpus) in MODELS {
            assert_eq!(look_up(&format!("Brand {name} @ 2.0GHz")), package(watts, cpus), "{name}");
        }
    }

    #[test]
    fn the_default_is_near_the_mean_of_known_families() {
        let families = ["Skylake", "Cascadelake", "EPYC-Rome", "EPYC-Milan", "EPYC 7601"];
        let known = families.map(|f| PER_CPU.iter().find(|(name, ..)| *name == f).unwrap());
        let mean = |of: fn(&(&str, f64, f64)) -> f64| known.into_iter().map(of).sum::<f64>() / 5.0;
        let PerCpu { idle, full } = UNKNOWN;
        assert!((mean(|f| f.1) - idle).abs() < 0.05 && (mean(|f| f.2) - full).abs() < 0.05);
    }

    #[test]
    fn idle_power_is_below_full_power_in_every_family() {
        assert!(PER_CPU.iter().all(|(_, idle, full)| 0.0 < *idle && idle < full));
    }
}
