//! The ARM cores that are known by number, and what a CPU of each draws. `cpuinfo.rs` counts them, `power.rs`
//! adds them up. Source of numbers and names: the Main ID Register in ARM's reference manuals, as in Linux'
//! `arch/arm64/include/asm/cputype.h` and util-linux' `lscpu-arm.c`.

use crate::tdp::{PerCpu, of_core};

/// `CPU implementer`, `CPU part`, and the core's name.
#[rustfmt::skip]
const CORES: &[(&str, &str, &str)] = &[
    ("0x41", "0xb76", "ARM1176"), ("0x41", "0xc05", "Cortex-A5"), ("0x41", "0xc07", "Cortex-A7"),
    ("0x41", "0xc08", "Cortex-A8"), ("0x41", "0xc09", "Cortex-A9"), ("0x41", "0xc0d", "Cortex-A17"),
    ("0x41", "0xc0e", "Cortex-A17"), ("0x41", "0xc0f", "Cortex-A15"), ("0x41", "0xd01", "Cortex-A32"),
    ("0x41", "0xd02", "Cortex-A34"), ("0x41", "0xd03", "Cortex-A53"), ("0x41", "0xd04", "Cortex-A35"),
    ("0x41", "0xd05", "Cortex-A55"), ("0x41", "0xd06", "Cortex-A65"), ("0x41", "0xd07", "Cortex-A57"),
    ("0x41", "0xd08", "Cortex-A72"), ("0x41", "0xd09", "Cortex-A73"), ("0x41", "0xd0a", "Cortex-A75"),
    ("0x41", "0xd0b", "Cortex-A76"), ("0x41", "0xd0c", "Neoverse-N1"), ("0x41", "0xd0d", "Cortex-A77"),
    ("0x41", "0xd0e", "Cortex-A76AE"), ("0x41", "0xd40", "Neoverse-V1"), ("0x41", "0xd41", "Cortex-A78"),
    ("0x41", "0xd42", "Cortex-A78AE"), ("0x41", "0xd43", "Cortex-A65AE"), ("0x41", "0xd44", "Cortex-X1"),
    ("0x41", "0xd46", "Cortex-A510"), ("0x41", "0xd47", "Cortex-A710"), ("0x41", "0xd48", "Cortex-X2"),
    ("0x41", "0xd49", "Neoverse-N2"), ("0x41", "0xd4a", "Neoverse-E1"), ("0x41", "0xd4b", "Cortex-A78C"),
    ("0x41", "0xd4c", "Cortex-X1C"), ("0x41", "0xd4d", "Cortex-A715"), ("0x41", "0xd4e", "Cortex-X3"),
    ("0x41", "0xd4f", "Neoverse-V2"), ("0x41", "0xd80", "Cortex-A520"), ("0x41", "0xd81", "Cortex-A720"),
    ("0x41", "0xd82", "Cortex-X4"), ("0x41", "0xd83", "Neoverse-V3AE"), ("0x41", "0xd84", "Neoverse-V3"),
    ("0x41", "0xd85", "Cortex-X925"), ("0x41", "0xd87", "Cortex-A725"), ("0x41", "0xd88", "Cortex-A520AE"),
    ("0x41", "0xd89", "Cortex-A720AE"), ("0x41", "0xd8e", "Neoverse-N3"),
    ("0x48", "0xd01", "TaiShan-v110"), ("0x4e", "0x003", "Denver-2"), ("0x4e", "0x004", "Carmel"),
    ("0x51", "0x06f", "Krait"), ("0x51", "0x201", "Kryo"), ("0x51", "0x205", "Kryo"),
    ("0x51", "0x211", "Kryo"), ("0x51", "0x800", "Kryo"), ("0x51", "0x801", "Kryo"),
    ("0x51", "0x802", "Kryo"), ("0x51", "0x803", "Kryo"), ("0x51", "0x804", "Kryo"),
    ("0x51", "0x805", "Kryo"),
    ("0xc0", "0xac3", "Ampere-1"), ("0xc0", "0xac4", "Ampere-1a"),
];

/// CPUs of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreKind {
    /// `CPU implementer` and `CPU part`.
    pub(crate) ids: (String, String),
    /// The core's name; empty if the number is not known.
    pub(crate) name: &'static str,
    /// CPUs of this kind.
    pub(crate) cpus: u32,
}

impl CoreKind {
    /// One CPU of this kind.
    pub(crate) fn new(implementer: &str, part: &str) -> Self {
        let known = CORES.iter().find(|(i, p, _)| (*i, *p) == (implementer, part));
        let ids = (implementer.to_owned(), part.to_owned());
        Self { ids, name: known.map_or("", |(.., name)| name), cpus: 1 }
    }

    /// Watts of one CPU.
    pub(crate) fn watts(&self) -> PerCpu {
        of_core(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_known_by_number_and_have_the_watts_of_small_machines_or_servers() {
        for (ids, name, full) in [
            (("0x41", "0xd03"), "Cortex-A53", 1.3),
            (("0x41", "0xc07"), "Cortex-A7", 1.3),
            (("0x41", "0xd07"), "Cortex-A57", 1.3),
            (("0x41", "0xd05"), "Cortex-A55", 1.3),
            (("0x41", "0xd0b"), "Cortex-A76", 1.3),
            (("0x51", "0x803"), "Kryo", 1.3),
            (("0x41", "0xd0c"), "Neoverse-N1", 2.6),
            (("0x41", "0xd4f"), "Neoverse-V2", 3.5),
            (("0x61", "0x022"), "", 2.6),
        ] {
            let kind = CoreKind::new(ids.0, ids.1);
            assert_eq!((kind.name, kind.watts().full, kind.cpus), (name, full, 1), "{ids:?}");
        }
    }

    #[test]
    fn a_number_has_one_name() {
        for (nth, (implementer, part, _)) in CORES.iter().enumerate() {
            assert!(CORES[..nth].iter().all(|(i, p, _)| (i, p) != (implementer, part)), "{part}");
        }
    }
}
