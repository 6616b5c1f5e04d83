//! What channels mean: from a driver's name and a channel's label to the domain, resource and metric that its
//! joules are filed under, and what contains them. Pure; the directories are read by `find.rs`.

use wattrace_api::{Domain, Follows, Origin, Resource, ResourceKind, metric};
use wattrace_meter::Subject;

/// Which domain holds the energy of a channel that nobody knows: the machine's, of which it is some part. So
/// no total counts it, whether or not the machine as a whole is metered.
pub(crate) const SOMEWHERE: &str = "host";

/// The end of names of packages that the driver `amd_energy` meters.
pub(crate) const AMD_ENERGY: &str = "-amd-energy";

/// What a channel's numbers are about, in so far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The whole machine.
    Host,
    /// CPU package number `n` as the vendor counts, its memory included where the vendor does so.
    Package(u32),
    /// The cores of that package.
    Cores(u32),
    /// What else is on that package.
    Uncore(u32),
    /// A board that holds package `n` and a GPU with a meter of its own.
    Module(u32),
    /// A rail of a board whose rails are known: all of its kind, and disjoint from the others but for what
    /// `within` says.
    Rail(ResourceKind, Option<&'static str>),
    /// Some part of the machine.
    Unknown,
}

/// What the channel `label` of `driver` means.
pub(crate) fn meaning(driver: &str, label: &str) -> Meaning {
    let other = || ResourceKind::Other("rail".into());
    match (driver, label) {
        // NVIDIA Grace: the module holds all, the socket its CPU, SoC and memory.
        ("power_meter", _) if socket(label, "Module Power").is_some() => {
            of_socket(label, "Module Power", Meaning::Module)
        }
        ("power_meter", _) if socket(label, "Grace Power").is_some() => {
            of_socket(label, "Grace Power", Meaning::Package)
        }
        ("power_meter", _) if socket(label, "CPU Power").is_some() => {
            of_socket(label, "CPU Power", Meaning::Cores)
        }
        ("power_meter", _) if socket(label, "SysIO Power").is_some() => {
            of_socket(label, "SysIO Power", Meaning::Uncore)
        }
        // ACPI's meter of other machines is their power supply's.
        ("power_meter", _) => Meaning::Host,
        // Jetson boards.
        ("ina3221" | "ina3221x", "VDD_IN" | "POM_5V_IN" | "VIN") => Meaning::Host,
        (
            "ina3221" | "ina3221x",
            "VDD_CPU" | "VDD_SYS_CPU" | "POM_5V_CPU" | "CPU" | "VDD_CPU_CV" | "VDD_CPU_GPU_CV"
            | "VDD_CPU_SOC_MSS",
        ) => Meaning::Rail(ResourceKind::Package, None),
        ("ina3221" | "ina3221x", "VDD_GPU" | "VDD_SYS_GPU" | "POM_5V_GPU" | "GPU" | "VDD_GPU_SOC") => {
            Meaning::Rail(ResourceKind::Gpu, None)
        }
        ("ina3221" | "ina3221x", "VDD_SYS_DDR" | "VDDRQ") => Meaning::Rail(ResourceKind::Dram, None),
        ("ina3221" | "ina3221x", "VDD_SOC" | "VDD_SYS_SOC" | "SOC" | "CV" | "SYS5V" | "VIN_SYS_5V0") => {
            Meaning::Rail(other(), None)
        }
        ("ina3221" | "ina3221x", "VDDQ_VDD2_1V8AO") => Meaning::Rail(ResourceKind::Dram, Some("vin-sys-5v0")),
        // Servers and desktops.
        ("ibmpowernv", "System") | ("corsairpsu", "power total") | ("macsmc_hwmon", "Total System Power") => {
            Meaning::Host
        }
        ("ibmpowernv", _) if label.starts_with("Chip ") => {
            label["Chip ".len()..].parse().map_or(Meaning::Unknown, Meaning::Package)
        }
        ("apm_xgene", "CPU power") => Meaning::Package(0),
        ("apm_xgene", "IO power") => Meaning::Rail(other(), None),
        // Its cores are numbered as the driver likes; its sockets are the packages.
        ("amd_energy", _) => label
            .strip_prefix("Esocket")
            .and_then(|n| n.parse().ok())
            .map_or(Meaning::Unknown, Meaning::Package),
        _ => Meaning::Unknown,
    }
}

/// `0` of `Grace Power Socket 0`.
fn socket(label: &str, what: &str) -> Option<u32> {
    label.strip_prefix(what)?.strip_prefix(" Socket ")?.parse().ok()
}

fn of_socket(label: &str, what: &str, meaning: fn(u32) -> Meaning) -> Meaning {
    socket(label, what).map_or(Meaning::Unknown, meaning)
}

impl Meaning {
    /// The domain's name, before equal ones are told apart.
    pub(crate) fn name(&self, driver: &str, label: &str, channel: &str) -> String {
        let name = match self {
            Meaning::Package(n) if driver == "amd_energy" => format!("package-{n}{AMD_ENERGY}"),
            Meaning::Package(n) => format!("package-{n}"),
            Meaning::Cores(n) => format!("core-{n}"),
            Meaning::Uncore(n) => format!("uncore-{n}"),
            Meaning::Module(n) => format!("module-{n}"),
            Meaning::Host if driver == "power_meter" => "power-meter".to_owned(),
            // Named like all that meters packages, so that others see that they are metered.
            Meaning::Rail(ResourceKind::Package, _) => format!("package-0-{}", slug(label)),
            Meaning::Rail(..) => slug(label),
            Meaning::Host | Meaning::Unknown => {
                slug(&format!("{driver} {}", if label.is_empty() { channel } else { label }))
            }
        };
        // Neither the driver's name nor the label need have a letter.
        if name.is_empty() { slug(channel) } else { name }
    }

    /// What its values are about. `packages` are the numbers by which the kernel knows the packages, in
    /// rising order.
    pub(crate) fn subject(&self, name: &str, packages: &[u32], origin: Origin) -> Subject {
        let package = |n: &u32| of_kernel(*n, packages);
        let of = |kind: ResourceKind, id: String| Resource { kind, id: id.into() };
        let (resource, follows, within) = match self {
            Meaning::Host => (Resource::HOST, Follows::Cpus, None),
            Meaning::Package(n) => (Resource::package(package(n)), Follows::Package(package(n)), None),
            Meaning::Cores(n) | Meaning::Uncore(n) => {
                let kind =
                    if matches!(self, Meaning::Cores(_)) { ResourceKind::Core } else { ResourceKind::Uncore };
                let within = Some(format!("package-{n}"));
                (of(kind, package(n).to_string()), Follows::Package(package(n)), within)
            }
            // It holds a GPU that has a meter of its own: in a total it would be there twice.
            Meaning::Module(n) => {
                let resource = of(ResourceKind::Other("module".into()), n.to_string());
                (resource, Follows::Package(package(n)), Some(SOMEWHERE.to_owned()))
            }
            Meaning::Rail(kind, within) => {
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
            Meaning::Unknown => {
                let resource = of(ResourceKind::Other("hwmon".into()), name.to_owned());
                (resource.clone(), Follows::Device(resource), Some(SOMEWHERE.to_owned()))
            }
        };
        let metric = if *self == Meaning::Host { metric::HW_HOST_ENERGY } else { metric::HW_ENERGY };
        let domain = Domain { name: name.to_owned(), origin, follows, within, idle_microwatts: None };
        Subject { metric, resource, domain }
    }
}

/// The kernel's number of the package that the vendor numbers `n`: the same, or else the one at that place.
fn of_kernel(n: u32, packages: &[u32]) -> u32 {
    if packages.contains(&n) { n } else { packages.get(n as usize).copied().unwrap_or(n) }
}

/// Lower case, with a hyphen for all that is neither letter nor digit.
pub(crate) fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(driver: &str, label: &str) -> Subject {
        let meaning = meaning(driver, label);
        meaning.subject(&meaning.name(driver, label, "power1"), &[0, 36], Origin::Measured)
    }

    #[test]
    fn grace_s_sockets_are_packages_and_their_parts_lie_in_them() {
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
    fn what_calls_itself_by_no_letter_has_a_name_all_the_same() {
        assert_eq!(subject("\u{1}", "\u{b4}").domain.name, "power1");
    }

    #[test]
    fn meters_of_the_whole_machine_are_the_host_s() {
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
    fn what_nobody_knows_is_in_no_total_and_nobody_s() {
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
    fn rails_of_known_boards_are_parts_that_do_not_overlap() {
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
