//! What reads text that somebody else wrote, for fuzzers to throw bytes at. Nothing here is for use; each
//! function must return, whatever it is given, soon and without a panic.

use std::hint::black_box;

use crate::counter::Counter;
use crate::counter::scale::Scale;
use crate::domain::Part;
use crate::{msr, perf, powercap, topology, x86};

/// The content of an `energy_uj`.
pub fn energy_uj(content: &[u8]) {
    _ = black_box(powercap::file::parse(content));
}

/// Zones of powercap, a line each: the directory's name, a space, what its `name` says.
pub fn zones(lines: &str) {
    let found = lines.lines().filter_map(|line| line.split_once(' ')).map(|(directory, name)| {
        powercap::zones::Found {
            directory: directory.to_owned(),
            path: directory.into(),
            name: name.to_owned(),
        }
    });
    let of_package = |package| (package % 2 == 0).then_some(package);
    _ = black_box(powercap::zones::arrange(found.collect(), of_package));
}

/// An event of a PMU, in four lines: its name, terms, scale and unit.
pub fn event(lines: &str) {
    let mut lines = lines.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (name, terms, scale, unit) = (next(), next(), next(), next());
    _ = black_box(perf::parse(name, terms, scale, unit));
}

/// A list of CPUs: `cpumask`, `online`, `core_cpus_list`.
pub fn cpu_list(list: &str) {
    _ = black_box(topology::parse_cpus(list));
}

/// The processor's `modalias`.
pub fn modalias(content: &str) {
    let cpu = x86::Cpu::parse(content);
    for part in [Part::Package, Part::Dram, Part::Psys] {
        let unit = content.len() as u64 * 256;
        _ = black_box(cpu.and_then(|cpu| msr::registers::scale(cpu, &part, unit)));
    }
}

/// Readings of a counter, eight bytes each, of which the first three numbers are its kind, range and scale.
pub fn readings(bytes: &[u8]) {
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut next = || words.next().unwrap_or_default();
    let (kind, range, exponent) = (next(), next(), next());
    let scale = Scale::joules_times_two_to((exponent % 65) as i32 - 32).unwrap_or(Scale::MICROJOULE);
    let mut counter = match kind % 3 {
        0 => Counter::of_microjoules(Some(range)),
        1 => Counter::of_counts(scale),
        _ => Counter::of_register(scale),
    };
    let mut before = 0;
    for reading in words {
        counter.take(reading, std::time::Duration::from_nanos(range));
        assert!(counter.microjoules() >= before, "it never runs backwards");
        before = counter.microjoules();
    }
    _ = black_box((counter.lap(1), counter.step()));
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_of_them_return() {
        for text in [
            "",
            "\n\n\n",
            "intel-rapl:0 package-0\nintel-rapl:0:0 core",
            "energy-pkg\nevent=0x2\n1e-9\nJoules",
        ] {
            super::energy_uj(text.as_bytes());
            super::zones(text);
            super::event(text);
            super::cpu_list(text);
            super::modalias(text);
            super::readings(text.as_bytes());
        }
    }
}
