//! What the commands that trace say at their start about what is missing: permissions first, and then alone;
//! what the user has configured, each with its remedy; and for information, in two lines, what else this
//! machine does not have. `wattrace doctor` has the details.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wattrace_api::{Device, ElementKind, Origin, Registry, ResourceKind, Role};

use super::failure::Failure;
use super::system::System;
use crate::config::Config;
use crate::pipeline::health::{Health, State};
use crate::plugins::Registered;

/// The plugin that estimates the energy of CPU packages.
const ESTIMATE: &str = "estimate";

/// What is missing from the beginning.
pub(super) struct Missing {
    /// A line with the command for each element that lacks a permission and nothing else.
    denied: Vec<String>,
    /// A line with the remedy for each element of a plugin that the user asked for.
    asked_for: Vec<String>,
    /// Devices that no plugin has found and that nobody asked for, each once.
    devices: Vec<Device>,
    /// Whether elements estimate what no meter of packages measures.
    is_estimated: bool,
}

impl Missing {
    /// What the elements in `health` lack.
    pub(super) fn find(health: &[Arc<Health>], config: &Config, plugins: &[Registered]) -> Self {
        let device = |h: &Health| plugins.iter().find(|p| p.name == plugin(h)).and_then(|p| (p.device)());
        let mut missing = Self {
            denied: Vec::new(),
            asked_for: Vec::new(),
            devices: Vec::new(),
            is_estimated: health.iter().any(|h| h.kind == ElementKind::Transform && plugin(h) == ESTIMATE),
        };
        let mut found = Vec::new();
        for h in health {
            let State::Gone(why) = h.state() else {
                found.extend(device(h));
                continue;
            };
            let is_asked_for = config.plugins.iter().any(|p| p.is_asked_for && p.name == plugin(h));
            if h.is_denied.load(Relaxed) {
                missing.denied.push(format!("{}: {why}", h.name));
            } else if is_asked_for {
                missing.asked_for.push(format!("{} is not available: {why}", h.name));
            } else if let Some(device) = device(h).filter(|device| !missing.devices.contains(device)) {
                missing.devices.push(device);
            }
        }
        missing.devices.retain(|device| !found.contains(device));
        missing
    }

    /// Reports it on stderr; `registry` knows which meters there are.
    pub(super) fn report(&self, registry: &Registry) {
        let lines = self.lines(is_metered(registry), || System::read(Path::new("/")));
        lines.iter().for_each(|line| eprintln!("wattrace: {line}"));
    }

    /// The lines of the report. `is_metered`: the energy of packages is.
    fn lines(&self, is_metered: bool, system: impl FnOnce() -> System) -> Vec<String> {
        let mut lines = self.denied();
        lines.extend_from_slice(&self.asked_for);
        if !self.denied.is_empty() {
            return lines;
        }
        let (of_packages, others): (Vec<_>, Vec<_>) =
            self.devices.iter().partition(|device| device.meters == ResourceKind::Package);
        if let Some(device) = of_packages.first().filter(|_| !is_metered) {
            let energy = if self.is_estimated { "estimated" } else { "unknown" };
            let place = match system().virtualisation.machine {
                Some(_) => "in this virtual machine",
                None => "(wattrace doctor says why)",
            };
            lines.push(format!("CPU energy is {energy}: no {} {place}.", device.name));
        }
        if !others.is_empty() {
            let names: Vec<_> = others.iter().map(|device| device.name).collect();
            lines.push(format!("Absent: {} (wattrace doctor has details).", names.join(", ")));
        }
        lines
    }

    /// The first one with its command, which in most cases gives what the others lack as well.
    fn denied(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.denied.iter().take(1).cloned().collect();
        let others: Vec<&str> =
            self.denied.iter().skip(1).filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        if !others.is_empty() {
            lines.push(format!("also without permission: {}", others.join(", ")));
        }
        lines
    }
}

/// Why nothing can be measured: the permission that is missing or, if none is, what each source lacks that
/// matters here; if all of them work, which plugin is `needed`.
pub(super) fn nothing_to_measure(
    health: &[Arc<Health>],
    config: &Config,
    plugins: &[Registered],
    needed: &str,
) -> Failure {
    let sources: Vec<_> = health.iter().filter(|h| h.kind == ElementKind::Source).cloned().collect();
    if sources.iter().all(|h| h.state() == State::Running) {
        return Failure::new(format!(
            "nothing can be measured: enable {needed}, see `wattrace plugins list`"
        ));
    }
    let missing = Missing::find(&sources, config, plugins);
    if let Some((_, why)) = missing.denied.first().and_then(|denied| denied.split_once(": ")) {
        return Failure::new(format!("nothing can be measured: {why}"));
    }
    let failing = sources.iter().filter(|h| !matches!(h.state(), State::Running | State::Gone(_)));
    let failing = failing.map(|h| format!("{} is {}", h.name, h.state()));
    let absent: Vec<_> = missing.devices.iter().map(|device| device.name).collect();
    let absent =
        (!absent.is_empty()).then(|| format!("absent: {} (wattrace doctor has details)", absent.join(", ")));
    let reasons: Vec<_> = failing.chain(missing.asked_for).chain(absent).collect();
    Failure::new(format!("nothing can be measured here.\n  {}", reasons.join("\n  ")))
}

/// The plugin of an element, whose name is KIND/PLUGIN/ELEMENT.
fn plugin(h: &Health) -> &str {
    h.name.split('/').nth(1).unwrap_or_default()
}

/// Whether the energy of CPU packages is metered, by whatever plugin.
fn is_metered(registry: &Registry) -> bool {
    registry.series().iter().any(|(_, series)| {
        let is_estimated = series.domain.as_ref().is_some_and(|domain| domain.origin == Origin::Estimated);
        series.role == Role::Meter && series.resource.kind == ResourceKind::Package && !is_estimated
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::system::files;

    fn device(name: &'static str, meters: ResourceKind) -> Device {
        Device { name, meters, without: "" }
    }

    fn missing() -> Missing {
        let devices = vec![
            device("RAPL meter", ResourceKind::Package),
            device("GPU", ResourceKind::Gpu),
            device("BMC", ResourceKind::Host),
        ];
        Missing { denied: Vec::new(), asked_for: Vec::new(), devices, is_estimated: true }
    }

    fn system(flags: &str) -> System {
        let cpuinfo = format!("processor\t: 0\nflags\t: {flags}\n");
        System::read(files(&[("proc/cpuinfo", &cpuinfo)]).path())
    }

    #[test]
    fn absent_devices_take_two_lines_of_80_columns() {
        let virtual_machine = missing().lines(false, || system("fpu hypervisor"));
        let absent = "Absent: GPU, BMC (wattrace doctor has details).";
        assert_eq!(
            virtual_machine,
            ["CPU energy is estimated: no RAPL meter in this virtual machine.", absent]
        );
        let hardware = missing().lines(false, || system("fpu"));
        assert_eq!(hardware[0], "CPU energy is estimated: no RAPL meter (wattrace doctor says why).");
        assert_eq!(missing().lines(true, || system("fpu")), [absent], "another plugin meters packages");
        let unknown = Missing { is_estimated: false, ..missing() }.lines(false, || system("fpu hypervisor"));
        assert_eq!(unknown[0], "CPU energy is unknown: no RAPL meter in this virtual machine.");
        let lines = virtual_machine.iter().chain(&hardware).chain(&unknown);
        assert!(lines.map(|line| "wattrace: ".len() + line.len()).all(|width| width <= 80));
    }

    #[test]
    fn a_missing_permission_is_all_that_is_said_beside_what_was_asked_for() {
        let denied = ["source/sched/cpu: use sudo", "source/bmc/dcmi: a: b", "source/x/y: c"];
        let denied = denied.map(str::to_owned).into();
        let asked_for = vec!["source/cray/energy is not available: no counter".to_owned()];
        let lines = Missing { denied, asked_for, ..missing() }.lines(false, || system("fpu"));
        assert_eq!(
            lines,
            [
                "source/sched/cpu: use sudo",
                "also without permission: source/bmc/dcmi, source/x/y",
                "source/cray/energy is not available: no counter",
            ]
        );
    }
}
