//! The rows of what concerns all plugins: the kernel and the rights that tracing needs (the plugin `sched`
//! knows them), virtualisation, settings of the kernel, control groups, drivers of meters.

use std::fs;
use std::path::Path;

use wattrace_procfs::status_field;

use super::modules::Module;
use super::row::Row;
use crate::cli::system::{Cgroups, Package, System, text};

/// The capabilities that the agent uses, by their numbers.
const CAPABILITIES: [(u32, &str); 4] =
    [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (19, "CAP_SYS_PTRACE"), (2, "CAP_DAC_READ_SEARCH")];
const SYS_ADMIN: u32 = 21;

/// All rows about the machine below `root`.
pub(super) fn rows(root: &Path, system: &System) -> Vec<Row> {
    let mut rows = tracing(root, system);
    let capabilities = capabilities(root);
    rows.push(capability_row(root, system, capabilities));
    rows.extend(perf_event_paranoid(system, capabilities));
    rows.extend(unprivileged_bpf(system));
    rows.push(virtualisation(system));
    rows.push(cgroups(system));
    rows.extend(rapl_drivers(root, system));
    rows.extend(nvidia_driver(root, system));
    rows.extend(bmc_driver(root, system));
    rows
}

/// What tracing needs, as the plugin that does it knows.
#[cfg(feature = "sched")]
fn tracing(root: &Path, system: &System) -> Vec<Row> {
    use wattrace_sched::requirements::{Facts, check};
    let facts = if root == Path::new("/") { Facts::gather() } else { Facts::below(root) };
    let kernel_command = system.distribution.install(Package::Kernel, &system.kernel);
    check(&Facts { kernel_command, ..facts }).into_iter().map(Row::from).collect()
}

#[cfg(not(feature = "sched"))]
fn tracing(_root: &Path, _system: &System) -> Vec<Row> {
    Vec::new()
}

/// The capabilities of this process that are effective, or become so when they are needed.
fn capabilities(root: &Path) -> u64 {
    let status = text(root, "proc/self/status");
    let set = if wattrace_api::privilege::is_limited() { "CapPrm" } else { "CapEff" };
    status_field(&status, set).and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or(0)
}

fn has(capabilities: u64, number: u32) -> bool {
    (capabilities >> number | capabilities >> SYS_ADMIN) & 1 == 1
}

fn capability_row(root: &Path, system: &System, capabilities: u64) -> Row {
    let what = "capabilities of this process";
    let names = |wanted: bool| -> Vec<&str> {
        let of = CAPABILITIES.iter().filter(|(number, _)| (capabilities >> number & 1 == 1) == wanted);
        of.map(|(_, name)| *name).collect()
    };
    let missing = names(false);
    if missing.is_empty() {
        return Row::ok(what, names(true).join(", "));
    }
    let found = match &names(true)[..] {
        [] => "none that Wattrace uses".to_owned(),
        some => format!("{}; not {}", some.join(", "), missing.join(", ")),
    };
    let all: Vec<_> = CAPABILITIES.iter().map(|(_, name)| name.to_lowercase()).collect();
    let setcap = format!("sudo setcap {}+ep $(command -v wattrace)", all.join(","));
    let has_setcap =
        ["usr/sbin", "sbin", "usr/bin", "bin"].iter().any(|d| root.join(d).join("setcap").exists());
    let install = system.distribution.install(Package::Setcap, &system.kernel).filter(|_| !has_setcap);
    let setcap = install.map(|install| format!("{install} && {setcap}")).unwrap_or(setcap);
    let cost = "eBPF programs, meters of other users' files or paths of their processes stay out of reach";
    Row::without(what, found, cost, format!("run with sudo, or once: `{setcap}`"))
}

fn perf_event_paranoid(system: &System, capabilities: u64) -> Option<Row> {
    let (what, level) = ("kernel.perf_event_paranoid", system.perf_event_paranoid?);
    if level <= 0 || has(capabilities, 38) {
        return Some(Row::ok(
            what,
            format!("{level}; {}", if level <= 0 { "open to all" } else { "CAP_PERFMON goes past it" }),
        ));
    }
    Some(Row::without(
        what,
        format!("{level}, without CAP_PERFMON"),
        "RAPL through perf and hardware counters cannot be opened",
        "give CAP_PERFMON as above; `sudo sysctl kernel.perf_event_paranoid=0` opens them to all users",
    ))
}

fn unprivileged_bpf(system: &System) -> Option<Row> {
    let found = match system.unprivileged_bpf_disabled? {
        0 => "0: every user may load simple programs; Wattrace needs CAP_BPF anyway",
        1 => "1: only with CAP_BPF, until the next boot",
        _ => "2: only with CAP_BPF",
    };
    Some(Row::ok("kernel.unprivileged_bpf_disabled", found))
}

fn virtualisation(system: &System) -> Row {
    let what = "virtualisation";
    let container = system.virtualisation.container.as_ref();
    let container = container.map(|name| format!("a container ({name})"));
    match (system.virtualisation.machine, container) {
        (None, None) => Row::ok(what, "none found: this is the hardware itself"),
        (None, Some(container)) => Row::ok(what, container),
        (Some(machine), container) => {
            let inside = container.map(|container| format!("{container} in ")).unwrap_or_default();
            Row::without(
                what,
                format!("{inside}a virtual machine ({machine})"),
                "the meters of the hardware are out of sight: CPU energy is estimated from the load",
                "run Wattrace on the host with plugins.guest-share and here with plugins.host-share: then \
                 the host's meters count",
            )
        }
    }
}

fn cgroups(system: &System) -> Row {
    let what = "control groups";
    match system.cgroups {
        Cgroups::V2 => Row::ok(what, "version 2"),
        Cgroups::Hybrid => Row::without(
            what,
            "version 1, and version 2 without controllers",
            "no limits (exec --budget, plugin budget), and groups of very short processes stay unknown",
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
        ),
        Cgroups::V1 => Row::without(
            what,
            "version 1",
            "no limits (exec --budget, plugin budget), and groups of very short processes stay unknown",
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
        ),
        Cgroups::None => Row::without(
            what,
            "not mounted",
            "containers, units, pods and jobs stay unknown",
            "`sudo mount -t cgroup2 none /sys/fs/cgroup`",
        ),
    }
}

/// The drivers of RAPL, where there should be a meter: on hardware that has one.
fn rapl_drivers(root: &Path, system: &System) -> Vec<Row> {
    if !system.processor.may_have_rapl || system.virtualisation.machine.is_some() {
        return Vec::new();
    }
    let has_pmu = root.join("sys/bus/event_source/devices/power").exists();
    let zones = fs::read_dir(root.join("sys/class/powercap")).into_iter().flatten().flatten();
    let has_zones = zones.into_iter().any(|zone| zone.file_name().to_string_lossy().contains(':'));
    let cost = |other: bool| match other {
        true => "no second interface to compare the first one with",
        false => "CPU energy is estimated from the load: good for comparisons, not for absolute joules",
    };
    let row = |interface: &str, name: &str, is_there: bool, other: bool| {
        let what = format!("driver of RAPL's {interface} interface");
        if is_there {
            return Row::ok(&what, name);
        }
        let module = Module::find(root, system, name);
        match module {
            Module::Loaded => Row::without(
                &what,
                format!("{name} runs, and finds no meter in this processor"),
                cost(other),
                format!("a newer kernel may know it: `{name}` writes why to `sudo dmesg`"),
            ),
            _ => {
                Row::without(&what, format!("{name} is not loaded"), cost(other), module.remedy(system, name))
                    .fixed_by(module.fix(name))
            }
        }
    };
    vec![row("perf", "rapl", has_pmu, has_zones), row("powercap", "intel_rapl_msr", has_zones, has_pmu)]
}

/// NVIDIA's driver, where there is a GPU of theirs.
fn nvidia_driver(root: &Path, system: &System) -> Option<Row> {
    let devices = fs::read_dir(root.join("sys/bus/pci/devices")).ok()?;
    let is_gpu = |path: &Path| {
        let read = |file: &str| text(path, file);
        read("vendor") == "0x10de" && read("class").starts_with("0x03")
    };
    let count = devices.flatten().filter(|device| is_gpu(&device.path())).count();
    if count == 0 {
        return None;
    }
    let what = "driver of NVIDIA's GPUs";
    if root.join("sys/module/nvidia").exists() {
        return Some(Row::ok(what, format!("nvidia, for {count} GPUs")));
    }
    let install = system.distribution.install(Package::NvidiaDriver, &system.kernel);
    let install =
        install.map_or_else(|| "install NVIDIA's driver".to_owned(), |install| format!("`{install}`"));
    Some(Row::without(
        what,
        format!("not loaded, for {count} GPUs"),
        "no energy of these GPUs, and none of it is attributed to processes",
        format!("{install}, then reboot"),
    ))
}

/// The driver of the BMC, where the firmware lists one.
fn bmc_driver(root: &Path, system: &System) -> Option<Row> {
    // ACPI's id of an IPMI device, and DMI's type 38.
    let is_listed = ["sys/bus/acpi/devices/IPI0001:00", "sys/firmware/dmi/entries/38-0"];
    if !is_listed.iter().any(|path| root.join(path).exists()) {
        return None;
    }
    let what = "driver of the BMC";
    if root.join("dev/ipmi0").exists() {
        return Some(Row::ok(what, "/dev/ipmi0"));
    }
    let missing = ["ipmi_si", "ipmi_devintf"].map(|name| (name, Module::find(root, system, name)));
    let (name, module) = missing.into_iter().find(|(_, module)| *module != Module::Loaded)?;
    Some(
        Row::without(
            what,
            format!("{name} is not loaded, and the firmware lists a BMC"),
            "no energy of the whole server: fans, disks and losses of power supplies are not seen",
            module.remedy(system, name),
        )
        .fixed_by(module.fix(name)),
    )
}

#[cfg(test)]
mod tests;
