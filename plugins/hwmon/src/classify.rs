//! Classifies channels: from a driver's name and a channel's label to the domain, resource and metric of its
//! energy, and the domain that contains it. Pure; `discover.rs` reads the directories.

use wattrace_api::{Domain, Follows, Origin, Resource, ResourceKind, metric};
use wattrace_meter::Subject;
use wattrace_meter::names::slug;

/// The domain that contains the energy of an unknown channel: the whole machine. So no total includes it,
/// whether or not the whole machine is metered.
pub(crate) const WHOLE_MACHINE: &str = "host";

/// The suffix of packages that the driver `amd_energy` meters.
pub(crate) const AMD_ENERGY: &str = "-amd-energy";

/// What a channel meters, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChannelClass {
    /// The whole machine.
    Host,
    /// The CPU package that the vendor numbers `n`, with its memory if the vendor's meter includes it.
    Package(u32),
    /// The cores of that package.
    Cores(u32),
    /// The rest of that package.
    Uncore(u32),
    /// A board with package `n` and a GPU that has a meter of its own.
    Module(u32),
    /// A rail of a board whose rails are known. Rails do not overlap, except that one may lie within the
    /// named one.
    Rail(ResourceKind, Option<&'static str>),
    /// Some part of the machine.
    Unknown,
}

/// Classifies the channel `label` of `driver`.
pub(crate) fn classify(driver: &str, label: &str) -> ChannelClass {
    let other = || ResourceKind::Other("rail".into());
    match (driver, label) {
        // NVIDIA Grace: the module contains all, the socket its CPU, SoC and memory.
        ("power_meter", _) if socket(label, "Module Power").is_some() => {
            of_socket(label, "Module Power", ChannelClass::Module)
        }
        ("power_meter", _) if socket(label, "Grace Power").is_some() => {
            of_socket(label, "Grace Power", ChannelClass::Package)
        }
        ("power_meter", _) if socket(label, "CPU Power").is_some() => {
            of_socket(label, "CPU Power", ChannelClass::Cores)
        }
        ("power_meter", _) if socket(label, "SysIO Power").is_some() => {
            of_socket(label, "SysIO Power", ChannelClass::Uncore)
        }
        // On other machines ACPI's meter is that of the power supply.
        ("power_meter", _) => ChannelClass::Host,
        // Jetson boards.
        ("ina3221" | "ina3221x", "VDD_IN" | "POM_5V_IN" | "VIN") => ChannelClass::Host,
        (
            "ina3221" | "ina3221x",
            "VDD_CPU" | "VDD_SYS_CPU" | "POM_5V_CPU" | "CPU" | "VDD_CPU_CV" | "VDD_CPU_GPU_CV"
            | "VDD_CPU_SOC_MSS",
        ) => ChannelClass::Rail(ResourceKind::Package, None),
        ("ina3221" | "ina3221x", "VDD_GPU" | "VDD_SYS_GPU" | "POM_5V_GPU" | "GPU" | "VDD_GPU_SOC") => {
            ChannelClass::Rail(ResourceKind::Gpu, None)
        }
        ("ina3221" | "ina3221x", "VDD_SYS_DDR" | "VDDRQ") => ChannelClass::Rail(ResourceKind::Dram, None),
        ("ina3221" | "ina3221x", "VDD_SOC" | "VDD_SYS_SOC" | "SOC" | "CV" | "SYS5V" | "VIN_SYS_5V0") => {
            ChannelClass::Rail(other(), None)
        }
        ("ina3221" | "ina3221x", "VDDQ_VDD2_1V8AO") => {
            ChannelClass::Rail(ResourceKind::Dram, Some("vin-sys-5v0"))
        }
        // Servers and desktops.
        ("ibmpowernv", "System") | ("corsairpsu", "power total") | ("macsmc_hwmon", "Total System Power") => {
            ChannelClass::Host
        }
        ("ibmpowernv", _) if label.starts_with("Chip ") => {
            label["Chip ".len()..].parse().map_or(ChannelClass::Unknown, ChannelClass::Package)
        }
        ("apm_xgene", "CPU power") => ChannelClass::Package(0),
        ("apm_xgene", "IO power") => ChannelClass::Rail(other(), None),
        // Its sockets are the packages. The numbers of its cores are the driver's own.
        ("amd_energy", _) => label
            .strip_prefix("Esocket")
            .and_then(|n| n.parse().ok())
            .map_or(ChannelClass::Unknown, ChannelClass::Package),
        _ => ChannelClass::Unknown,
    }
}

/// `0` of `Grace Power Socket 0`.
fn socket(label: &str, what: &str) -> Option<u32> {
    label.strip_prefix(what)?.strip_prefix(" Socket ")?.parse().ok()
}

fn of_socket(label: &str, what: &str, class: fn(u32) -> ChannelClass) -> ChannelClass {
    socket(label, what).map_or(ChannelClass::Unknown, class)
}

impl ChannelClass {
    /// The domain's name, before equal names are numbered.
    pub(crate) fn name(&self, driver: &str, label: &str, channel: &str) -> String {
        let name = match self {
            ChannelClass::Package(n) if driver == "amd_energy" => format!("package-{n}{AMD_ENERGY}"),
            ChannelClass::Package(n) => format!("package-{n}"),
            ChannelClass::Cores(n) => format!("core-{n}"),
            ChannelClass::Uncore(n) => format!("uncore-{n}"),
            ChannelClass::Module(n) => format!("module-{n}"),
            ChannelClass::Host if driver == "power_meter" => "power-meter".to_owned(),
            // Named like other meters of packages, so that other plugins see that packages are metered.
            ChannelClass::Rail(ResourceKind::Package, _) => format!("package-0-{}", slug(label)),
            ChannelClass::Rail(..) => slug(label),
            ChannelClass::Host | ChannelClass::Unknown => {
                slug(&format!("{driver} {}", if label.is_empty() { channel } else { label }))
            }
        };
        // The driver's name and the label may have no letter.
        if name.is_empty() { slug(channel) } else { name }
    }

    /// What its values are about. `packages` are the kernel's numbers of packages, ascending.
    pub(crate) fn subject(&self, name: &str, packages: &[u32], origin: Origin) -> Subject {
        let package = |n: &u32| of_kernel(*n, packages);
        let of = |kind: ResourceKind, id: String| Resource { kind, id: id.into() };
        let (resource, follows, within) = match self {
            ChannelClass::Host => (Resource::HOST, Follows::Cpus, None),
            ChannelClass::Package(n) => (Resource::package(package(n)), Follows::Package(package(n)), None),
            ChannelClass::Cores(n) | ChannelClass::Uncore(n) => {
                let kind = if matches!(self, ChannelClass::Cores(_)) {
                    ResourceKind::Core
                } else {
                    ResourceKind::Uncore
                };
                let within = Some(format!("package-{n}"));
                (of(kind, package(n).to_string()), Follows::Package(package(n)), within)
            }
            // It contains a GPU that has a meter of its own, and a total would count that energy twice.
            ChannelClass::Module(n) => {
                let resource = of(ResourceKind::Other("module".into()), n.to_string());
                (resource, Follows::Package(package(n)), Some(WHOLE_MACHINE.to_owned()))
            }
            ChannelClass::Rail(kind, within) => {
                let within = within.map(str::to_owned);
                let of_kind = |id: &str| of(kind.clone(), id.to_owned());
                match kind {
                    // These boards have one package and one GPU.
                    ResourceKind::Package => (of_kind("0"), Follows::Package(package(&0)), within),
                    ResourceKind::Gpu => (of_kind("tegra"), Follows::Device(of_kind("tegra")), within),
                    ResourceKind::Dram => (of_kind("0"), Follows::Cpus, within),
                    _ => (of_kind(name), Follows::Cpus, within),
                }
            }
            ChannelClass::Unknown => {
                let resource = of(ResourceKind::Other("hwmon".into()), name.to_owned());
                (resource.clone(), Follows::Device(resource), Some(WHOLE_MACHINE.to_owned()))
            }
        };
        let metric = if *self == ChannelClass::Host { metric::HW_HOST_ENERGY } else { metric::HW_ENERGY };
        let domain = Domain { name: name.to_owned(), origin, follows, within, idle_microwatts: None };
        Subject { metric, resource, domain }
    }
}

/// The kernel's number of the package that the vendor numbers `n`: the same, or else the one at that index.
fn of_kernel(n: u32, packages: &[u32]) -> u32 {
    if packages.contains(&n) { n } else { packages.get(n as usize).copied().unwrap_or(n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(driver: &str, label: &str) -> Subject {
        let class = classify(driver, label);
        class.subject(&class.name(driver, label, "power1"), &[0, 36], Origin::Measured)
    }

    #[test]
    fn sockets_of_grace_are_packages_that_contain_their_parts() {
        let socket = subject("power_meter", "Grace Power Socket 1");
        assert_eq!((&*socket.domain.name, socket.domain.within), ("package-1", None));
        // The kernel numbers the second package 36.
        assert_eq!((socket.resource, socket.domain.follows), (Resource::package(36), Follows::Package(36)));
        for (label, name, kind) in [
            ("CPU Power Socket 1", "core-1", ResourceKind::Core),
            ("SysIO Power Socket 1", "uncore-1", ResourceKind::Uncore),
        ] {
            let part = subject("power_meter", label);
            assert_eq!((&*part.domain.name, part.domain.within.as_deref()), (name, Some("package-1")));
            assert_eq!((part.resource.kind, &*part.resource.id), (kind, "36"));
        }
        let module = subject("power_meter", "Module Power Socket 0");
        assert_eq!((&*module.domain.name, module.domain.within.as_deref()), ("module-0", Some("host")));
        assert_eq!(module.metric.name, "hw.energy");
    }

    #[test]
    fn a_channel_without_letters_is_named_by_its_number() {
        assert_eq!(subject("\u{1}", "\u{b4}").domain.name, "power1");
    }

    #[test]
    fn meters_of_the_whole_machine_belong_to_the_host() {
        for (driver, label) in [
            ("power_meter", ""),
            ("power_meter", "Grace Power Socket x"),
            ("ina3221", "VDD_IN"),
            ("ina3221x", "POM_5V_IN"),
            ("ibmpowernv", "System"),
        ] {
            let host = subject(driver, label);
            assert_eq!(
                (&*host.metric.name, host.resource),
                ("hw.host.energy", Resource::HOST),
                "{driver} {label}"
            );
            assert_eq!((host.domain.follows, host.domain.within), (Follows::Cpus, None));
        }
    }

    #[test]
    fn unknown_channels_are_in_no_total_and_not_attributed() {
        for (driver, label, name) in [
            ("scmi_sensors", "BIG_PWR", "scmi-sensors-big-pwr"),
            ("ina3221", "VDD_3V3_SYS", "ina3221-vdd-3v3-sys"),
            ("max31785", "", "max31785-power1"),
            ("ibmpowernv", "Chip 0 Vdd", "ibmpowernv-chip-0-vdd"),
            ("amd_energy", "Ecore000", "amd-energy-ecore000"),
        ] {
            let unknown = subject(driver, label);
            assert_eq!((&*unknown.domain.name, unknown.domain.within.as_deref()), (name, Some("host")));
            assert_eq!(unknown.domain.follows, Follows::Device(unknown.resource));
        }
    }

    #[test]
    fn rails_of_known_boards_do_not_overlap() {
        let rail = subject("ina3221", "VDD_CPU_CV");
        assert_eq!((&*rail.domain.name, &rail.resource), ("package-0-vdd-cpu-cv", &Resource::package(0)));
        assert_eq!((rail.domain.follows, rail.domain.within), (Follows::Package(0), None));
        let gpu = subject("ina3221x", "VDD_GPU_SOC");
        assert_eq!(gpu.domain.follows, Follows::Device(Resource::gpu("tegra".to_owned())));
        let memory = subject("ina3221", "VDDQ_VDD2_1V8AO");
        assert_eq!(memory.domain.within.as_deref(), Some("vin-sys-5v0"));
        assert_eq!(subject("ina3221", "VIN_SYS_5V0").domain.name, "vin-sys-5v0");
    }
}
