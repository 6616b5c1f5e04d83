//! Entry points for fuzzers: everything that parses input of the kernel. Each function must return soon and
//! without a panic, whatever its input.

use std::hint::black_box;

use wattrace_meter::{Counter, Period, Scale, powercap_period, sysfs};

use crate::cpu_model::CpuModel;
use crate::domain::Part;
use crate::{msr, perf, powercap};

/// The content of an `energy_uj`.
pub fn energy_uj(content: &[u8]) {
    _ = black_box(sysfs::parse_number(content));
}

/// Zones of powercap, one a line: the directory's name, a space, the content of its `name`.
pub fn zones(lines: &str) {
    let found = lines.lines().filter_map(|line| line.split_once(' ')).map(|(directory, name)| {
        powercap::zones::ZoneDirectory {
            directory: directory.to_owned(),
            path: directory.into(),
            name: name.to_owned(),
        }
    });
    let core_of_zone = |package| (package % 2 == 0).then_some(package);
    _ = black_box(powercap::zones::identify(found.collect(), core_of_zone));
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
    _ = black_box(wattrace_topology::parse_list(list));
}

/// The processor's `modalias`.
pub fn modalias(content: &str) {
    let cpu = CpuModel::parse(content);
    for part in [Part::Package, Part::Dram, Part::Psys] {
        let unit = content.len() as u64 * 256;
        _ = black_box(cpu.and_then(|cpu| msr::registers::scale(cpu, &part, unit)));
    }
}

/// Readings of a counter, eight bytes each. The first three numbers are its kind, range and scale.
pub fn readings(bytes: &[u8]) {
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut next = || words.next().unwrap_or_default();
    let (kind, range, exponent) = (next(), next(), next());
    let scale = Scale::joules_times_two_to((exponent % 65) as i32 - 32).unwrap_or(Scale::MICROJOULE);
    let mut counter = match kind % 3 {
        0 => Counter::new(Scale::MICROJOULE, Period::Known(powercap_period(range)), 10_000),
        1 => Counter::new(scale, Period::Unknown, 10_000),
        _ => Counter::new(scale, Period::Known(1 << 32), 10_000),
    };
    let mut before = 0;
    for reading in words {
        counter.take(reading, std::time::Duration::from_nanos(range));
        assert!(counter.microjoules() >= before, "the total never decreases");
        before = counter.microjoules();
    }
    _ = black_box((counter.time_to_wrap(1), counter.resolution()));
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
