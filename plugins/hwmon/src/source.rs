//! The pipeline element: reads every channel on each tick, each with a window of its own, and opens and
//! closes channels as chips are added and removed. `discover.rs` and `select.rs` decide which channels there
//! are; `wattrace-meter` counts their energy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick};
use wattrace_meter::others::is_of_package;
use wattrace_meter::sysfs::{Fault, NumberFile};
use wattrace_meter::{Channel, OtherMeters, Subject};
use wattrace_topology::Cpus;

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
    others: OtherMeters,
    /// The chips that existed when channels were last looked for.
    seen: Vec<String>,
    channels: Vec<OpenChannel>,
    /// Channels that have not been read yet: they are no meters until then.
    unread: Vec<UnreadChannel>,
    /// The points of the first readings, for the first batch.
    first: Batch,
}

/// A channel that is metered.
struct OpenChannel {
    reader: ChannelReader,
    channel: Channel,
    /// Whether it yields to RAPL.
    second: bool,
}

/// A channel that exists.
struct UnreadChannel {
    reader: ChannelReader,
    subject: Subject,
    second: bool,
    /// Whether it was reported that it cannot be read.
    warned: bool,
}

/// Reads a channel's value in microwatts or microjoules.
#[derive(Debug)]
enum ChannelReader {
    /// Microjoules.
    Energy(NumberFile),
    /// A file of power, and the factor to microwatts.
    Power(NumberFile, i128),
    Product(NumberFile, NumberFile),
}

impl ChannelReader {
    fn new(files: ChannelFiles) -> Self {
        match files {
            ChannelFiles::Energy(path) => ChannelReader::Energy(NumberFile::new(path)),
            ChannelFiles::Microwatts(path) => ChannelReader::Power(NumberFile::new(path), 1),
            ChannelFiles::Milliwatts(path) => ChannelReader::Power(NumberFile::new(path), 1_000),
            ChannelFiles::Product(volts, amperes) => {
                ChannelReader::Product(NumberFile::new(volts), NumberFile::new(amperes))
            }
        }
    }

    fn read(&mut self) -> Result<i128, Fault> {
        match self {
            ChannelReader::Energy(file) => file.read(),
            ChannelReader::Power(file, factor) => Ok(file.read()?.saturating_mul(*factor)),
            // A millivolt times a milliampere is a microwatt.
            ChannelReader::Product(volts, amperes) => Ok(volts.read()?.saturating_mul(amperes.read()?)),
        }
    }

    /// The first reading, which shows that there is a meter.
    fn read_first(&mut self) -> Result<i128, Fault> {
        let value = self.read()?;
        let file = match self {
            ChannelReader::Energy(file) if value < 0 => file,
            ChannelReader::Power(file, _) | ChannelReader::Product(file, _)
                if !Channel::is_plausible_power(value) =>
            {
                file
            }
            _ => return Ok(value),
        };
        Err(Fault::bad(format!("{}: {value} is not a reading of a meter", file.path().display())))
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
        let mut source = Self {
            root: PathBuf::from(&config.sysfs_root),
            rules: rules.clone(),
            max_gap: config.max_gap(),
            clock,
            others: OtherMeters::new(registry.clone()),
            registry,
            seen: Vec::new(),
            channels: Vec::new(),
            unread: Vec::new(),
            first: Batch::default(),
        };
        source.find_new_channels();
        let mut first = Batch::default();
        let unreadable = source.read_unread(&mut first)?;
        if source.channels.is_empty() {
            let class = source.root.join("class/hwmon");
            return Err(Error::gone(match unreadable {
                Some(Fault { what, .. }) => format!("no channel in {} can be read: {what}", class.display()),
                None => format!("no channel of power or energy in {}; {REMEDY}", class.display()),
            }));
        }
        source.first = first;
        Ok(source)
    }

    /// Notes the channels that are not known yet.
    fn find_new_channels(&mut self) {
        self.seen = listing(&self.root);
        let metered = self.is_metered_elsewhere();
        for SelectedChannel { subject, files, second } in channels(&self.root, &self.rules, metered) {
            let name = &subject.domain.name;
            let is_open = self.channels.iter().any(|open| open.channel.subject().domain.name == *name);
            if is_open || self.unread.iter().any(|unread| unread.subject.domain.name == *name) {
                continue;
            }
            tracing::info!(domain = name, file = %files.first().display(), "hwmon channel found");
            let reader = ChannelReader::new(files);
            self.unread.push(UnreadChannel { reader, subject, second, warned: false });
        }
    }

    /// Whether another plugin meters the packages.
    fn is_metered_elsewhere(&self) -> bool {
        let ours = self.channels.iter().filter(|open| is_of_package(&open.channel.subject().domain)).count();
        self.others.exist_beside(ours, is_of_package)
    }

    /// Ends the channels of packages that another plugin meters from now on.
    fn yield_to_others(&mut self, out: &mut Batch) {
        if self.others.package_appeared() && self.is_metered_elsewhere() {
            self.unread.retain(|unread| !unread.second);
            self.channels.retain_mut(|OpenChannel { channel, second, .. }| {
                if *second {
                    let domain = &channel.subject().domain.name;
                    tracing::info!(domain, "the packages are metered by RAPL: hwmon channel closed");
                    channel.end(out);
                }
                !*second
            });
        }
    }

    /// Opens the channels that can be read now. Returns why the first of the others cannot.
    fn read_unread(&mut self, out: &mut Batch) -> Result<Option<Fault>, Error> {
        let mut first = None;
        for mut unread in std::mem::take(&mut self.unread) {
            match unread.reader.read_first() {
                Ok(value) => {
                    let UnreadChannel { reader, subject, second, .. } = unread;
                    let now = self.clock.now();
                    let mut channel = match reader {
                        ChannelReader::Energy(_) => Channel::of_energy(subject, now, &self.registry)?,
                        _ => Channel::of_power(subject, self.max_gap, now, &self.registry)?,
                    };
                    channel.take(now, value, out);
                    self.channels.push(OpenChannel { reader, channel, second });
                }
                Err(fault) => {
                    if !std::mem::replace(&mut unread.warned, true) {
                        let domain = &unread.subject.domain.name;
                        tracing::warn!(domain, "not metered until it can be read: {}", fault.what);
                    }
                    // A file that is gone may come back with another number.
                    if fault.gone {
                        self.seen.clear();
                    } else {
                        self.unread.push(unread);
                    }
                    first = first.or(Some(fault));
                }
            }
        }
        Ok(first)
    }

    /// Reads every channel. A channel whose files are gone ends.
    fn read(&mut self, out: &mut Batch) {
        let Self { channels, clock, seen, .. } = self;
        channels.retain_mut(|OpenChannel { reader, channel, .. }| {
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
        self.yield_to_others(out);
        if listing(&self.root) != self.seen {
            self.find_new_channels();
        }
        self.read(out);
        self.read_unread(out)?;
        if self.channels.is_empty() {
            let root = self.root.display();
            return Err(Error::gone(format!("all hwmon channels under {root} are gone; {REMEDY}")));
        }
        Ok(())
    }
}
