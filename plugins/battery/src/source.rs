//! The pipeline element: counts what the batteries give while they alone feed the machine, and is silent
//! while they don't. What they say is read in `supply.rs`; how joules are counted, `wattrace-meter` knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Registry, Resource, Source, Tick, Timestamp, metric,
};
use wattrace_meter::{Channel, Subject, sysfs};

use crate::config::{BatteryConfig, Method};
use crate::supply::{Battery, Level, State, all_tell_power, class, look};

/// A level that falls faster than by so many watts has not been watched: the machine slept meanwhile.
const MOST_WATTS: u128 = 1_000;

/// The batteries of a machine.
pub(crate) struct BatterySource {
    root: PathBuf,
    clock: Clock,
    channel: Channel,
    method: Way,
    /// What feeds the machine instead of the batteries, as it was last logged.
    external: Option<String>,
    /// What the first reading gave, which was taken before there was a batch.
    first: Batch,
}

/// The way in which joules are counted, with its memory.
enum Way {
    Power,
    Level {
        /// The levels of the batteries that discharge, and when they were last seen to fall.
        last: Option<(Vec<(String, Level)>, Timestamp)>,
        /// Microjoules given so far.
        given: u64,
    },
}

/// What gives a battery where none is.
pub(crate) const REMEDY: &str = "a machine without a battery has none; of one that has, the kernel's driver is missing: \
    `sudo modprobe battery` (ACPI)";

impl BatterySource {
    /// Opens the meter, whether the battery feeds the machine now or not.
    pub(crate) fn open(config: &BatteryConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let root = PathBuf::from(&config.sysfs_root);
        if look(&root) == State::NoBattery {
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
            Method::Auto => all_tell_power(&root),
            Method::Power => true,
            Method::Level => false,
        };
        let (channel, method) = if by_power {
            (Channel::of_power(subject, config.longest_gap(), now, &registry)?, Way::Power)
        } else {
            (Channel::of_energy(subject, now, &registry)?, Way::Level { last: None, given: 0 })
        };
        let (external, mut first) = (None, Batch::default());
        let mut source = Self { root, clock, channel, method, external, first: Batch::default() };
        source.read(&mut first)?;
        source.first = first;
        Ok(source)
    }

    fn read(&mut self, out: &mut Batch) -> Result<(), Error> {
        match look(&self.root) {
            State::NoBattery => {
                self.channel.end(out);
                return Err(gone(&self.root));
            }
            State::External(by) => self.pause(by),
            State::Discharging(batteries) => {
                if self.external.take().is_some() {
                    tracing::info!("the battery feeds the machine: its energy is metered");
                }
                let now = self.clock.now();
                match self.method {
                    Way::Power => self.by_power(&batteries, now, out),
                    Way::Level { .. } => self.by_level(&batteries, now, out),
                }
            }
        }
        Ok(())
    }

    /// That something else feeds the machine is a state: nothing is metered, and nothing is wrong.
    fn pause(&mut self, by: String) {
        self.channel.interrupt();
        if let Way::Level { last, .. } = &mut self.method {
            *last = None;
        }
        if self.external.as_ref() != Some(&by) {
            tracing::info!("{by}: the machine's energy is not metered until its battery alone feeds it");
            self.external = Some(by);
        }
    }

    fn by_power(&mut self, batteries: &[Battery], now: Timestamp, out: &mut Batch) {
        let mut sum = 0_i128;
        for battery in batteries {
            let Some(microwatts) = battery.microwatts else {
                let why = format!(
                    "{}: {} tells no power; plugins.battery.method = \"level\" does without",
                    class(&self.root).display(),
                    battery.name
                );
                return self.channel.miss(now, &why, out);
            };
            sum += i128::from(microwatts);
        }
        self.channel.take(now, sum, out);
    }

    fn by_level(&mut self, batteries: &[Battery], now: Timestamp, out: &mut Batch) {
        let Way::Level { last, given } = &mut self.method else { return };
        let mut levels = Vec::with_capacity(batteries.len());
        for battery in batteries {
            let Some(level) = battery.level else {
                let why = format!("{}: {} tells no level", class(&self.root).display(), battery.name);
                return self.channel.miss(now, &why, out);
            };
            levels.push((battery.name.clone(), level));
        }
        let step = last.as_ref().and_then(|(before, at)| drained(before, &levels, now.since(*at)));
        match step {
            // Levels move in steps: until the next one there is nothing to tell, and its window covers this
            // time too.
            Some(0) => return,
            Some(microjoules) => *given = given.saturating_add(microjoules),
            // Another battery, a level that rose, or time that nobody watched: counted anew from here.
            None => self.channel.interrupt(),
        }
        *last = Some((levels, now));
        let given = i128::from(*given);
        self.channel.take(now, given, out);
    }
}

/// Microjoules that went from the levels `before` to `now`; `None` if that can't be told.
fn drained(before: &[(String, Level)], now: &[(String, Level)], elapsed: Duration) -> Option<u64> {
    if before.len() != now.len() {
        return None;
    }
    let mut sum = 0_u64;
    for ((name, before), (now_name, now)) in before.iter().zip(now) {
        sum = sum.checked_add(now.drained_since(*before).filter(|_| name == now_name)?)?;
    }
    (u128::from(sum) <= MOST_WATTS * elapsed.as_micros()).then_some(sum)
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
