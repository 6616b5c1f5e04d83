//! What is said of other machines, made of a few of their files.

use super::*;
use crate::cli::doctor::row::Fix;
use crate::cli::system::files;
use wattrace_api::Verdict;

const RELEASE: &str = "6.8.0-41-generic";

/// A server of Intel's with Ubuntu: its release, and nothing of a meter.
const SERVER: [(&str, &str); 5] = [
    ("etc/os-release", "ID=ubuntu\nPRETTY_NAME=\"Ubuntu 24.04 LTS\"\n"),
    ("proc/sys/kernel/osrelease", "6.8.0-41-generic\n"),
    ("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t: fpu\n"),
    ("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
    ("proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n"),
];

fn all(more: &[(&str, &str)]) -> Vec<Row> {
    // The last one counts.
    let root = files(&[&SERVER[..], more].concat());
    rows(root.path(), &System::read(root.path()))
}

fn row(what: &str, more: &[(&str, &str)]) -> Row {
    let found = all(more).into_iter().find(|row| row.finding.what == what);
    found.unwrap_or_else(|| panic!("no row `{what}`"))
}

const PERF: &str = "driver of RAPL's perf interface";
const POWERCAP: &str = "driver of RAPL's powercap interface";

#[test]
fn a_driver_that_could_be_loaded_can_be_fixed() {
    let list = format!("lib/modules/{RELEASE}/modules.dep");
    let modules =
        "kernel/arch/x86/events/rapl.ko.zst:\nkernel/drivers/powercap/intel_rapl_msr.ko.zst: x.ko\n";
    let rapl = row(PERF, &[(&list, modules)]);
    assert_eq!(rapl.finding.verdict, Verdict::Optional);
    assert!(rapl.finding.remedy.starts_with("`sudo modprobe rapl`"), "{rapl:?}");
    assert!(rapl.cost.contains("estimated from the load"), "{rapl:?}");
    let command = vec!["modprobe".to_owned(), "rapl".to_owned()];
    assert_eq!(rapl.fix, Some(Fix { what: "load the driver rapl".to_owned(), command }));
    // With one interface, the other one is of less use.
    let zone = ("sys/class/powercap/intel-rapl:0/name", "package-0\n");
    let rapl = row(PERF, &[(&list, modules), zone]);
    assert!(rapl.cost.starts_with("no second interface"), "{rapl:?}");
    assert_eq!(row(POWERCAP, &[zone]).finding.verdict, Verdict::Ok);
}

#[test]
fn a_driver_that_is_not_installed_has_the_command_of_the_distribution() {
    let rapl = row(PERF, &[]);
    let expected = format!("`sudo apt install linux-modules-extra-{RELEASE} && sudo modprobe rapl`");
    assert_eq!((rapl.finding.remedy, rapl.fix), (expected, None));
    let fedora = [("etc/os-release", "ID=fedora\n")];
    assert!(row(PERF, &fedora).finding.remedy.contains("sudo dnf install kernel-modules-6.8.0-41-generic"));
    let nix = [("etc/os-release", "ID=nixos\n")];
    assert!(row(PERF, &nix).finding.remedy.starts_with("install the modules of this kernel"));
}

#[test]
fn a_driver_without_a_meter_is_not_loaded_again() {
    let builtin = format!("lib/modules/{RELEASE}/modules.builtin");
    for loaded in [("sys/module/rapl/refcnt", "0\n"), (&*builtin, "kernel/arch/x86/events/rapl.ko\n")] {
        let rapl = row(PERF, &[loaded]);
        assert!(rapl.fix.is_none() && rapl.finding.found.contains("finds no meter"), "{rapl:?}");
    }
}

#[test]
fn a_virtual_machine_has_no_drivers_to_load_and_says_what_that_costs() {
    let flags = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t: fpu hypervisor\n";
    let vm = [("proc/cpuinfo", flags), ("sys/class/dmi/id/sys_vendor", "QEMU\n")];
    let virtualisation = row("virtualisation", &vm);
    assert_eq!(virtualisation.finding.found, "a virtual machine (QEMU)");
    assert!(virtualisation.cost.contains("estimated"), "{virtualisation:?}");
    assert!(all(&vm).iter().all(|row| !row.finding.what.starts_with("driver")));
    assert_eq!(row("virtualisation", &[]).finding.verdict, Verdict::Ok);
}

#[test]
fn missing_rights_are_named_with_the_command_for_this_distribution() {
    let user = ("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n");
    let paranoid = ("proc/sys/kernel/perf_event_paranoid", "4\n");
    let what = "capabilities of this process";
    let rights = row(what, &[user]).finding;
    assert!(rights.remedy.contains("`sudo apt install libcap2-bin && sudo setcap cap_bpf,"), "{rights:?}");
    let rights = row(what, &[user, ("usr/sbin/setcap", "")]).finding;
    assert!(rights.remedy.contains("`sudo setcap cap_bpf,"), "{rights:?}");
    let some = ("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t000000c000000000\n");
    let expected = "CAP_BPF, CAP_PERFMON; not CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH";
    assert_eq!(row(what, &[some]).finding.found, expected);
    let level = "kernel.perf_event_paranoid";
    assert_eq!(row(level, &[user, paranoid]).finding.verdict, Verdict::Optional);
    assert_eq!(row(level, &[some, paranoid]).finding.verdict, Verdict::Ok);
    assert!(all(&[]).iter().all(|row| row.finding.what != level), "the kernel does not say");
}

#[cfg(feature = "sched")]
#[test]
fn a_kernel_that_is_too_old_has_the_command_that_installs_a_newer_one() {
    let old = row("kernel 5.10 or later", &[("proc/sys/kernel/osrelease", "5.4.0-200-generic\n")]).finding;
    assert_eq!(old.verdict, Verdict::Missing);
    assert!(old.remedy.ends_with("`sudo apt install linux-generic`, then reboot"), "{old:?}");
}

#[test]
fn devices_that_the_firmware_lists_have_their_drivers() {
    let pci = "sys/bus/pci/devices/0000:01:00.0";
    let gpu: [(&str, &str); 2] =
        [(&format!("{pci}/vendor"), "0x10de\n"), (&format!("{pci}/class"), "0x030200\n")];
    let driver = row("driver of NVIDIA's GPUs", &gpu);
    assert!(driver.finding.remedy.contains("ubuntu-drivers install"), "{driver:?}");
    let audio: [(&str, &str); 2] =
        [(&format!("{pci}/vendor"), "0x10de\n"), (&format!("{pci}/class"), "0x040300\n")];
    assert!(all(&audio).iter().all(|row| !row.finding.what.contains("NVIDIA")));
    let list = format!("lib/modules/{RELEASE}/modules.dep");
    let ipmi = "kernel/drivers/char/ipmi/ipmi_si.ko:\nkernel/drivers/char/ipmi/ipmi_devintf.ko:\n";
    let listed = ("sys/firmware/dmi/entries/38-0/type", "38\n");
    let bmc = row("driver of the BMC", &[listed, (&list, ipmi)]);
    assert_eq!(bmc.fix.map(|fix| fix.command[1].clone()).as_deref(), Some("ipmi_si"));
    let loaded = ("sys/module/ipmi_si/refcnt", "1\n");
    let bmc = row("driver of the BMC", &[listed, (&list, ipmi), loaded]);
    assert_eq!(bmc.fix.map(|fix| fix.command[1].clone()).as_deref(), Some("ipmi_devintf"));
}

#[test]
fn control_groups_of_version_1_say_what_they_cost() {
    let v1 = ("proc/self/mounts", "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n");
    let groups = row("control groups", &[v1]);
    assert!(groups.cost.contains("--budget") && groups.finding.remedy.contains("unified_cgroup_hierarchy"));
    assert_eq!(row("control groups", &[]).finding.found, "version 2");
}
