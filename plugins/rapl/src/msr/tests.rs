//! Opens and reads simulated registers.

use std::fs;

use wattrace_api::{Follows, Origin};
use wattrace_rapl_simulator::{Registers as SimulatedRegisters, cpus};

use super::*;
use crate::unprivileged::as_unprivileged_user;

const CLIENT: &str = "cpu:type:x86,ven0000fam0006mod009E:feature:";
const SERVER: &str = "cpu:type:x86,ven0000fam0006mod0055:feature:";
const ZEN: &str = "cpu:type:x86,ven0002fam0019mod0001:feature:";

struct Machine {
    root: tempfile::TempDir,
    cpus: Vec<SimulatedRegisters>,
}

impl Machine {
    fn new(modalias: &str, list: &[(u32, u32, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        cpus(root.path(), modalias, list).unwrap();
        let dev_root = root.path().join("dev");
        let cpus = list.iter().map(|(n, ..)| SimulatedRegisters::create(&dev_root, *n).unwrap()).collect();
        Self { root, cpus }
    }

    /// Sets registers of the CPU at an index of the list.
    fn set(&self, cpu: usize, registers: &[(u32, u64)]) {
        registers.iter().for_each(|&(register, value)| self.cpus[cpu].set(register, value).unwrap());
    }

    fn open(&self, cores: bool) -> Result<OpenInterface, Unavailable> {
        open(self.root.path(), &self.root.path().join("dev"), cores)
    }

    fn domains(&self, cores: bool) -> Vec<String> {
        self.open(cores).unwrap().subjects().map(|subject| subject.domain.name.clone()).collect()
    }
}

#[test]
fn an_intel_server_has_its_nonzero_registers_in_each_package_and_psys_once() {
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
    let CounterGroup { mut meter, mut counters } = machine.open(true).unwrap().groups.remove(0);
    let mut joules = |readings: &mut [u64]| {
        meter.read(readings).unwrap();
        let second = std::time::Duration::from_secs(1);
        counters.iter_mut().zip(readings).for_each(|((_, counter), value)| _ = counter.take(*value, second));
        counters.iter().map(|(_, counter)| counter.microjoules()).collect::<Vec<_>>()
    };
    let mut readings = [0; 2];
    assert_eq!(joules(&mut readings), [0, 0]);
    // A million counts more of each. The bits above 32 are ignored.
    machine.set(0, &[(0x611, 1_000_100 | 7 << 32), (0x619, 1_000_100)]);
    assert_eq!(joules(&mut readings), [61_035_156, 15_258_789]);
}

#[test]
fn amd_has_packages_and_single_cores() {
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
fn when_a_cpu_goes_offline_its_registers_are_read_on_another_cpu_of_its_package() {
    let machine = Machine::new(CLIENT, &[(0, 3, "0"), (1, 0, "1"), (2, 3, "2")]);
    for cpu in 0..3 {
        machine.set(cpu, &[(0x606, 0x000a_0e03), (0x611, 10)]);
    }
    let CounterGroup { mut meter, .. } = machine.open(true).unwrap().groups.remove(0);
    let mut readings = [0];
    assert_eq!((meter.read(&mut readings).unwrap(), readings[0]), (Continuity::Continued, 10));
    machine.set(2, &[(0x611, 25)]);
    // As for a CPU that is offline: there is nothing to read, and sysfs does not describe it.
    fs::write(device::path(&machine.root.path().join("dev"), 0), "").unwrap();
    fs::remove_file(device::path(&machine.root.path().join("dev"), 0)).unwrap();
    fs::remove_dir_all(machine.root.path().join("devices/system/cpu/cpu0")).unwrap();
    fs::write(machine.root.path().join("devices/system/cpu/online"), "1-2\n").unwrap();
    assert!(meter.read(&mut readings).unwrap_err().what.contains("register 0x611"));
    assert_eq!((meter.read(&mut readings).unwrap(), readings[0]), (Continuity::Continued, 25));
}

#[test]
fn errors_name_what_is_missing_and_its_remedy() {
    let machine = Machine::new(CLIENT, &[(0, 0, "0")]);
    let error = machine.open(true).err().unwrap().to_string();
    assert!(error.contains("no energy register counts"), "{error}");
    machine.set(0, &[(0x606, 0x000a_0e03), (0x611, 10)]);
    let path = device::path(&machine.root.path().join("dev"), 0);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(machine.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    as_unprivileged_user(|| {
        let error = machine.open(true).err().unwrap().to_string();
        assert!(error.contains("cpu/0/msr: Permission denied") && error.contains("cap_sys_rawio"), "{error}");
    });
    fs::remove_file(path).unwrap();
    let error = machine.open(true).err().unwrap().to_string();
    assert!(error.contains("cpu/0/msr: No such file") && error.contains("modprobe msr"), "{error}");
}
