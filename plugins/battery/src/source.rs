//! The pipeline element: counts the energy that the batteries deliver while the machine runs on them alone.
//! `supply.rs` reads their state; `wattrace-meter` counts energy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Registry, Resource, Source, Tick, Timestamp, metric,
};
use wattrace_meter::{Channel, Subject, sysfs};

use crate::config::{BatteryConfig, Method};
use crate::supply::{Battery, Level, PowerState, all_report_power, class, read_state};

/// If a level falls faster, the machine was suspended between the readings.
const MAX_WATTS: u128 = 1_000;

/// The batteries of a machine.
pub(crate) struct BatterySource {
    root: PathBuf,
    ignored: Vec<String>,
    clock: Clock,
    channel: Channel,
    method: MethodState,
    /// What powers the machine instead of the batteries, as it was last logged.
    external: Option<String>,
    /// The points of the first reading, for the first batch.
    first: Batch,
}

/// The method that is used, with its state.
enum MethodState {
    Power,
    Level {
        /// The levels of the batteries that discharge, and when a level last fell.
        last: Option<(Vec<(String, Level)>, Timestamp)>,
        /// Microjoules delivered so far.
        delivered: u64,
    },
}

/// The remedy if there is no battery.
pub(crate) const REMEDY: &str =
    "if the machine has a battery, load its driver: `sudo modprobe battery` (ACPI)";

impl BatterySource {
    /// Opens the meter, whether or not the machine runs on battery now.
    pub(crate) fn open(config: &BatteryConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let root = PathBuf::from(&config.sysfs_root);
        let ignored = config.ignore.clone();
        if read_state(&root, &ignored) == PowerState::NoBattery {
            return Err(gone(&root));
        }
        let now = clock.now();
        let domain = Domain {
            name: "battery".to_owned(),
            origin: sysfs::origin(&class(&root)),
            follows: Follows::Cpus,
            within: None,
            idle_microwatts: None,
        };
        let subject = Subject { metric: metric::HW_HOST_ENERGY, resource: Resource::HOST, domain };
        let by_power = match config.method {
            Method::Auto => all_report_power(&root),
            Method::Power => true,
            Method::Level => false,
        };
        let (channel, method) = if by_power {
            (Channel::of_power(subject, config.max_gap(), now, &registry)?, MethodState::Power)
        } else {
            (Channel::of_energy(subject, now, &registry)?, MethodState::Level { last: None, delivered: 0 })
        };
        let (external, mut first) = (None, Batch::default());
        let empty = Batch::default();
        let mut source = Self { root, ignored, clock, channel, method, external, first: empty };
        source.read(&mut first)?;
        source.first = first;
        Ok(source)
    }

    fn read(&mut self, out: &mut Batch) -> Result<(), Error> {
        let state = read_state(&self.root, &self.ignored);
        if let Some((why, remedy)) = state.doubt() {
            self.pause(why, Some(remedy));
            return Ok(());
        }
        match state {
            PowerState::NoBattery => {
                self.channel.end(out);
                return Err(gone(&self.root));
            }
            PowerState::External(by) => self.pause(by, None),
            PowerState::Unclear { .. } => {}
            PowerState::Discharging(batteries) => {
                if self.external.take().is_some() {
                    tracing::info!("the machine runs on battery: its energy is metered");
                }
                let now = self.clock.now();
                match self.method {
                    MethodState::Power => self.read_power(&batteries, now, out),
                    MethodState::Level { .. } => self.read_level(&batteries, now, out),
                }
            }
        }
        Ok(())
    }

    /// Something else powers the machine, or may do so: a state, in which nothing is metered. With a remedy
    /// it is one that the user should know about.
    fn pause(&mut self, by: String, remedy: Option<String>) {
        self.channel.interrupt();
        if let MethodState::Level { last, .. } = &mut self.method {
            *last = None;
        }
        if self.external.as_ref() != Some(&by) {
            let what = "the machine's energy is not metered until it runs on battery alone";
            match remedy {
                Some(remedy) => tracing::warn!("{by}: {what}; {remedy}"),
                None => tracing::info!("{by}: {what}"),
            }
            self.external = Some(by);
        }
    }

    fn read_power(&mut self, batteries: &[Battery], now: Timestamp, out: &mut Batch) {
        let mut sum = 0_i128;
        for battery in batteries {
            let Some(microwatts) = battery.microwatts else {
                let why = format!(
                    "{}: {} reports no power; plugins.battery.method = \"level\" needs none",
                    class(&self.root).display(),
                    battery.name
                );
                return self.channel.miss(now, &why, out);
            };
            sum += i128::from(microwatts);
        }
        self.channel.take(now, sum, out);
    }

    fn read_level(&mut self, batteries: &[Battery], now: Timestamp, out: &mut Batch) {
        let MethodState::Level { last, delivered } = &mut self.method else { return };
        let mut levels = Vec::with_capacity(batteries.len());
        for battery in batteries {
            let Some(level) = battery.level else {
                let why = format!("{}: {} reports no level", class(&self.root).display(), battery.name);
                return self.channel.miss(now, &why, out);
            };
            levels.push((battery.name.clone(), level));
        }
        let fallen = last.as_ref().and_then(|(before, at)| drained(before, &levels, now.since(*at)));
        match fallen {
            // A level falls in steps. The window of the next step covers this time too.
            Some(0) => return,
            Some(microjoules) => *delivered = delivered.saturating_add(microjoules),
            // Another battery, a level that rose, or a suspended machine: counting starts again from here.
            None => self.channel.interrupt(),
        }
        *last = Some((levels, now));
        self.channel.take(now, i128::from(*delivered), out);
    }
}

/// Microjoules delivered between the levels `before` and `now`; `None` if that is unknown.
fn drained(before: &[(String, Level)], now: &[(String, Level)], elapsed: Duration) -> Option<u64> {
    if before.len() != now.len() {
        return None;
    }
    let mut sum = 0_u64;
    for ((name, before), (now_name, now)) in before.iter().zip(now) {
        sum = sum.checked_add(now.drained_since(*before).filter(|_| name == now_name)?)?;
    }
    (u128::from(sum) <= MAX_WATTS * elapsed.as_micros()).then_some(sum)
}

impl Source for BatterySource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        out.append(&std::mem::take(&mut self.first));
        self.read(out)
    }
}

fn gone(root: &Path) -> Error {
    Error::gone(format!("no battery under {}; {REMEDY}", class(root).display()))
}
