//! Classifies channels: from a driver's name and a channel's label to the domain, resource and metric of its
//! energy, and the domain that contains it. Pure; `known.rs` has the table, `discover.rs` reads the
//! directories.

use wattrace_api::{Domain, Follows, Origin, Resource, ResourceKind, metric};
use wattrace_meter::Subject;
use wattrace_meter::names::slug;

use crate::known::{Part, Rail, look_up};

/// The domain that contains the energy of an unknown channel: the whole machine. So no total includes it,
/// whether or not the whole machine is metered.
pub(crate) const WHOLE_MACHINE: &str = "host";

/// What a channel meters, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelClass {
    pub(crate) part: Part,
    /// The package's number in the label, or that of the chip among those of its driver.
    pub(crate) number: u32,
    /// Whether RAPL meters the same.
    pub(crate) second: bool,
}

/// Classifies the channel `label` of the chip number `nth` of `driver`.
pub(crate) fn classify(driver: &str, label: &str, nth: u32) -> ChannelClass {
    let (part, number, second) = look_up(driver, label);
    ChannelClass { part, number: number.unwrap_or(nth), second }
}

impl ChannelClass {
    /// Some part of the machine.
    pub(crate) fn unknown() -> Self {
        Self { part: Part::Unknown, number: 0, second: false }
    }

    /// The domain's name, before equal names are numbered.
    pub(crate) fn name(&self, driver: &str, label: &str, channel: &str) -> String {
        let n = self.number;
        let name = match self.part {
            Part::Package => format!("package-{n}"),
            Part::Cores => format!("core-{n}"),
            Part::Uncore => format!("uncore-{n}"),
            Part::Memory => format!("dram-{n}"),
            Part::Module => format!("module-{n}"),
            Part::Host if driver == "power_meter" => "power-meter".to_owned(),
            // Named like other meters of packages, so that other plugins see that packages are metered.
            Part::Rail(Rail::Package, _) => format!("package-{n}-{}", slug(label)),
            Part::Rail(..) => slug(label),
            Part::Host | Part::Unknown | Part::LeftOut => {
                slug(&format!("{driver} {}", if label.is_empty() { channel } else { label }))
            }
        };
        // The driver's name and the label may have no letter.
        if name.is_empty() { slug(channel) } else { name }
    }

    /// What its values are about. `packages` are the kernel's numbers of packages, ascending.
    pub(crate) fn subject(&self, name: &str, packages: &[u32], origin: Origin) -> Subject {
        let package = of_kernel(self.number, packages);
        let of = |kind: ResourceKind, id: String| Resource { kind, id: id.into() };
        let part = |kind: ResourceKind| {
            let within = Some(format!("package-{}", self.number));
            (of(kind, package.to_string()), Follows::Package(package), within)
        };
        let (resource, follows, within) = match &self.part {
            Part::Host => (Resource::HOST, Follows::Cpus, None),
            Part::Package => (Resource::package(package), Follows::Package(package), None),
            Part::Cores => part(ResourceKind::Core),
            Part::Uncore => part(ResourceKind::Uncore),
            Part::Memory => part(ResourceKind::Dram),
            // It contains a GPU that has a meter of its own, and a total would count that energy twice.
            Part::Module => {
                let resource = of(ResourceKind::Other("module".into()), self.number.to_string());
                (resource, Follows::Package(package), Some(WHOLE_MACHINE.to_owned()))
            }
            Part::Rail(rail, within) => {
                let of_kind = |id: &str| of(rail.kind(), id.to_owned());
                let (resource, follows) = match rail {
                    Rail::Package => (Resource::package(package), Follows::Package(package)),
                    // These boards have one GPU.
                    Rail::Gpu => (of_kind("tegra"), Follows::Device(of_kind("tegra"))),
                    Rail::Dram => (of_kind("0"), Follows::Cpus),
                    Rail::Other => (of_kind(name), Follows::Cpus),
                };
                (resource, follows, within.map(str::to_owned))
            }
            Part::Unknown | Part::LeftOut => {
                let resource = of(ResourceKind::Other("hwmon".into()), name.to_owned());
                (resource.clone(), Follows::Device(resource), Some(WHOLE_MACHINE.to_owned()))
            }
        };
        let metric = if self.part == Part::Host { metric::HW_HOST_ENERGY } else { metric::HW_ENERGY };
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
        let class = classify(driver, label, 0);
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
            ("DRAM Input Power Socket 1", "dram-1", ResourceKind::Dram),
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
            ("power_meter", "Chassis"),
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
            ("power_meter", "Grace Power Socket x", "power-meter-grace-power-socket-x"),
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
