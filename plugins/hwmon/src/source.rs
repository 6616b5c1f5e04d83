//! The pipeline element: reads every channel on each tick, each with a window of its own, and opens and
//! closes channels as chips are added and removed. `discover.rs` and `select.rs` decide which channels there
//! are; `wattrace-meter` counts their energy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick};
use wattrace_meter::Channel;
use wattrace_meter::sysfs::{Fault, NumberFile};
use wattrace_topology::Cpus;

use crate::classify::AMD_ENERGY;
use crate::config::{ChannelRules, HwmonConfig};
use crate::discover::{ChannelFiles, discover, listing};
use crate::select::{SelectedChannel, select};

/// All channels of a machine.
pub(crate) struct HwmonSource {
    root: PathBuf,
    rules: ChannelRules,
    max_gap: Duration,
    clock: Clock,
    registry: Arc<Registry>,
    /// The chips that existed when channels were last looked for.
    seen: Vec<String>,
    channels: Vec<(ChannelReader, Channel)>,
    /// The points of the first readings, for the first batch.
    first: Batch,
}

/// Reads a channel's value in microwatts or microjoules.
#[derive(Debug)]
enum ChannelReader {
    /// A file, and the factor to the unit.
    Single(NumberFile, i128),
    Product(NumberFile, NumberFile),
}

impl ChannelReader {
    fn new(files: ChannelFiles) -> Self {
        match files {
            ChannelFiles::Energy(path) | ChannelFiles::Microwatts(path) => {
                ChannelReader::Single(NumberFile::new(path), 1)
            }
            ChannelFiles::Milliwatts(path) => ChannelReader::Single(NumberFile::new(path), 1_000),
            ChannelFiles::Product(volts, amperes) => {
                ChannelReader::Product(NumberFile::new(volts), NumberFile::new(amperes))
            }
        }
    }

    fn read(&mut self) -> Result<i128, Fault> {
        match self {
            ChannelReader::Single(file, factor) => Ok(file.read()?.saturating_mul(*factor)),
            // A millivolt times a milliampere is a microwatt.
            ChannelReader::Product(volts, amperes) => Ok(volts.read()?.saturating_mul(amperes.read()?)),
        }
    }
}

/// The channels to meter below `root`, for the source and for `doctor`.
pub(crate) fn channels(
    root: &Path,
    rules: &ChannelRules,
    packages_are_metered: bool,
) -> Vec<SelectedChannel> {
    select(discover(root), rules, &Cpus::below(root).packages(), packages_are_metered)
}

/// The remedy if there are no channels.
pub(crate) const REMEDY: &str = "if the board has such sensors, load their driver: \
    `sudo modprobe acpi_power_meter` (servers, NVIDIA Grace), `ina3221` (Jetson), `scmi-hwmon` (Arm)";

impl HwmonSource {
    /// Opens the channels and takes the first readings, from which energy is counted.
    pub(crate) fn open(
        config: &HwmonConfig,
        rules: &ChannelRules,
        registry: Arc<Registry>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let (root, max_gap) = (PathBuf::from(&config.sysfs_root), config.max_gap());
        let (seen, channels, first) = (Vec::new(), Vec::new(), Batch::default());
        let mut source = Self { root, rules: rules.clone(), max_gap, clock, registry, seen, channels, first };
        source.open_new_channels()?;
        if source.channels.is_empty() {
            return Err(Error::gone(format!(
                "no channel of power or energy in {}/class/hwmon; {REMEDY}",
                source.root.display()
            )));
        }
        let mut first = Batch::default();
        source.read(&mut first);
        source.first = first;
        Ok(source)
    }

    /// Opens the channels that are not open yet.
    fn open_new_channels(&mut self) -> Result<(), Error> {
        self.seen = listing(&self.root);
        let is_better = |name: &str| name.starts_with("package-") && !name.ends_with(AMD_ENERGY);
        let metered = self.registry.domains().iter().any(|domain| is_better(&domain.name));
        for SelectedChannel { subject, files } in channels(&self.root, &self.rules, metered) {
            let name = &subject.domain.name;
            if self.channels.iter().any(|(_, open)| open.subject().domain.name == *name) {
                continue;
            }
            tracing::info!(domain = name, file = %files.first().display(), "hwmon channel opened");
            let now = self.clock.now();
            let channel = match files {
                ChannelFiles::Energy(_) => Channel::of_energy(subject, now, &self.registry)?,
                _ => Channel::of_power(subject, self.max_gap, now, &self.registry)?,
            };
            self.channels.push((ChannelReader::new(files), channel));
        }
        Ok(())
    }

    /// Reads every channel. A channel whose files are gone ends.
    fn read(&mut self, out: &mut Batch) {
        let Self { channels, clock, seen, .. } = self;
        channels.retain_mut(|(reader, channel)| {
            let read = reader.read();
            // After the reading, so that no window covers time that the reading does not.
            let now = clock.now();
            match read {
                Ok(value) => channel.take(now, value, out),
                Err(fault) if fault.gone => {
                    tracing::warn!(
                        domain = channel.subject().domain.name,
                        "hwmon channel is gone: {}",
                        fault.what
                    );
                    channel.end(out);
                    // It may come back with another number.
                    seen.clear();
                    return false;
                }
                Err(fault) => channel.miss(now, &fault.what, out),
            }
            true
        });
    }
}

impl Source for HwmonSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        out.append(&std::mem::take(&mut self.first));
        if listing(&self.root) != self.seen {
            self.open_new_channels()?;
        }
        self.read(out);
        if self.channels.is_empty() {
            let root = self.root.display();
            return Err(Error::gone(format!("all hwmon channels under {root} are gone; {REMEDY}")));
        }
        Ok(())
    }
}
