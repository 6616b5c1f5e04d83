//! Registers that stand in for a processor's, with a truth that is known.

use std::fs;

use proptest::prelude::*;
use wattrace_api::{Follows, Origin};

use super::*;
use crate::counter::Step;
use crate::nobody::as_nobody;
use crate::simulate::{Registers as Stand, cpus};

const CLIENT: &str = "cpu:type:x86,ven0000fam0006mod009E:feature:";
const SERVER: &str = "cpu:type:x86,ven0000fam0006mod0055:feature:";
const ZEN: &str = "cpu:type:x86,ven0002fam0019mod0001:feature:";

struct Machine {
    root: tempfile::TempDir,
    cpus: Vec<Stand>,
}

impl Machine {
    fn new(modalias: &str, list: &[(u32, u32, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        cpus(root.path(), modalias, list).unwrap();
        let cpus = list.iter().map(|(n, ..)| Stand::create(&root.path().join("dev"), *n).unwrap()).collect();
        Self { root, cpus }
    }

    /// Sets registers of one CPU, by its place in the list.
    fn set(&self, cpu: usize, registers: &[(u32, u64)]) {
        registers.iter().for_each(|&(register, value)| self.cpus[cpu].set(register, value).unwrap());
    }

    fn open(&self, cores: bool) -> Result<Opened, Unavailable> {
        open(self.root.path(), &self.root.path().join("dev"), cores)
    }

    fn domains(&self, cores: bool) -> Vec<String> {
        self.open(cores).unwrap().subjects().map(|subject| subject.domain.name.clone()).collect()
    }
}

#[test]
fn an_intel_server_has_what_reads_something_once_per_package_and_psys_once() {
    let machine = Machine::new(SERVER, &[(0, 0, "0"), (1, 0, "1"), (2, 1, "2"), (3, 1, "3")]);
    for cpu in 0..4 {
        // ESU 14; no 0x641, and a psys in both packages.
        machine.set(cpu, &[(0x606, 0x000a_0e03), (0x611, 1), (0x639, 1), (0x619, 1), (0x64d, 1)]);
    }
    let expected = ["package-0", "core-0", "dram-0", "psys", "package-1", "core-1", "dram-1"];
    assert_eq!(machine.domains(true), expected);
    let opened = machine.open(true).unwrap();
    assert!(opened.subjects().all(|subject| subject.domain.origin == Origin::Simulated));
    assert_eq!(opened.groups.len(), 2, "one read after the other on one CPU of each package");
}

#[test]
fn each_register_counts_in_its_own_unit() {
    let machine = Machine::new(SERVER, &[(0, 0, "0")]);
    machine.set(0, &[(0x606, 0x000a_0e03), (0x611, 100), (0x619, 100)]);
    let Group { mut reader, mut counters } = machine.open(true).unwrap().groups.remove(0);
    let mut joules = |raw: &mut [u64]| {
        reader.read(raw).unwrap();
        let second = std::time::Duration::from_secs(1);
        counters.iter_mut().zip(raw).for_each(|((_, counter), raw)| _ = counter.take(*raw, second));
        counters.iter().map(|(_, counter)| counter.microjoules()).collect::<Vec<_>>()
    };
    let mut raw = [0; 2];
    assert_eq!(joules(&mut raw), [0, 0]);
    // A million counts more of each; what stands above 32 bits is no part of it.
    machine.set(0, &[(0x611, 1_000_100 | 7 << 32), (0x619, 1_000_100)]);
    assert_eq!(joules(&mut raw), [61_035_156, 15_258_789]);
}

#[test]
fn amd_has_packages_and_cores_one_by_one() {
    let list = [(0, 0, "0,2"), (1, 0, "1,3"), (2, 0, "0,2"), (3, 0, "1,3"), (4, 1, "4")];
    let machine = Machine::new(ZEN, &list);
    for cpu in 0..5 {
        machine.set(cpu, &[(0xc001_0299, 0x000a_1003), (0xc001_029a, 1), (0xc001_029b, 1)]);
    }
    assert_eq!(machine.domains(false), ["package-0", "package-1"]);
    let expected = ["package-0", "package-1", "core-cpu-0", "core-cpu-1", "core-cpu-4"];
    assert_eq!(machine.domains(true), expected);
    let opened = machine.open(true).unwrap();
    let core = &opened.subjects().last().unwrap().domain;
    assert_eq!((core.within.as_deref(), &core.follows), (Some("package-1"), &Follows::Core(4)));
}

#[test]
fn a_cpu_that_goes_offline_is_replaced_by_another_of_its_package_and_no_count_is_lost() {
    let machine = Machine::new(CLIENT, &[(0, 3, "0"), (1, 0, "1"), (2, 3, "2")]);
    for cpu in 0..3 {
        machine.set(cpu, &[(0x606, 0x000a_0e03), (0x611, 10)]);
    }
    let Group { mut reader, .. } = machine.open(true).unwrap().groups.remove(0);
    let mut raw = [0];
    assert_eq!((reader.read(&mut raw).unwrap(), raw[0]), (Reading::Continued, 10));
    machine.set(2, &[(0x611, 25)]);
    // As with a CPU that is offline: there is nothing to read, and nothing is told of its place.
    fs::write(device::path(&machine.root.path().join("dev"), 0), "").unwrap();
    fs::remove_file(device::path(&machine.root.path().join("dev"), 0)).unwrap();
    fs::remove_dir_all(machine.root.path().join("devices/system/cpu/cpu0")).unwrap();
    fs::write(machine.root.path().join("devices/system/cpu/online"), "1-2\n").unwrap();
    assert!(reader.read(&mut raw).unwrap_err().what.contains("register 0x611"));
    assert_eq!((reader.read(&mut raw).unwrap(), raw[0]), (Reading::Continued, 25));
}

#[test]
fn what_is_missing_is_named_with_what_gives_it() {
    let machine = Machine::new(CLIENT, &[(0, 0, "0")]);
    let error = machine.open(true).err().unwrap().to_string();
    assert!(error.contains("no register of energy counts"), "{error}");
    machine.set(0, &[(0x606, 0x000a_0e03), (0x611, 10)]);
    let path = device::path(&machine.root.path().join("dev"), 0);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(machine.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    as_nobody(|| {
        let error = machine.open(true).err().unwrap().to_string();
        assert!(error.contains("cpu/0/msr: Permission denied") && error.contains("cap_sys_rawio"), "{error}");
    });
    fs::remove_file(path).unwrap();
    let error = machine.open(true).err().unwrap().to_string();
    assert!(error.contains("cpu/0/msr: No such file") && error.contains("modprobe msr"), "{error}");
}

proptest! {
    /// Whatever the unit, wherever the register stands and however it advances within a lap and within
    /// reason: what is counted is what was used, to the last microjoule, through every wrap.
    #[test]
    fn registers_of_32_bits_lose_nothing_at_their_wraps(
        esu in 3_i32..=20,
        start in any::<u32>(),
        deltas in prop::collection::vec(0_u64..1 << 32, 1..60),
    ) {
        let scale = crate::counter::scale::Scale::joules_times_two_to(-esu).unwrap();
        let mut counter = Counter::of_register(scale);
        let mut truth = u64::from(start);
        prop_assert_eq!(counter.take(truth & COUNT, Duration::ZERO), Step::Based);
        for delta in deltas {
            // Half of what would be implausible: 5 kW.
            let elapsed = Duration::from_micros(scale.microjoules(delta) / 5_000 + 1);
            let wraps = (truth + delta) >> 32 > truth >> 32;
            truth += delta;
            let expected = match (wraps, delta) {
                (_, 0) => Step::Still,
                (true, _) => Step::Wrapped,
                (false, _) => Step::Advanced,
            };
            prop_assert_eq!(counter.take(truth & COUNT, elapsed), expected);
            prop_assert_eq!(counter.microjoules(), scale.microjoules(truth - u64::from(start)));
        }
    }
}
