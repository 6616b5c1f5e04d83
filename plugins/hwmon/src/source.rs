//! The pipeline element: reads every channel on each tick, each with a window of its own, and follows chips
//! as they come and go. What is there and what it means say `find.rs` and `arrange.rs`; how joules are
//! counted, `wattrace-meter`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick};
use wattrace_meter::Channel;
use wattrace_meter::sysfs::{self, Fault, NumberFile};

use crate::arrange::{Meter, arrange};
use crate::config::{HwmonConfig, Wishes};
use crate::find::{Files, find, listing};
use crate::meaning::AMD_ENERGY;

/// All channels of a machine.
pub(crate) struct HwmonSource {
    root: PathBuf,
    wishes: Wishes,
    longest: Duration,
    clock: Clock,
    registry: Arc<Registry>,
    /// The chips that were there when channels were last looked for.
    seen: Vec<String>,
    channels: Vec<(Reader, Channel)>,
    /// What the first readings gave, which were taken before there was a batch.
    first: Batch,
}

/// The way to a channel's number: microwatts or microjoules.
#[derive(Debug)]
enum Reader {
    Plain(NumberFile, i128),
    Product(NumberFile, NumberFile),
}

impl Reader {
    fn of(files: Files) -> Self {
        match files {
            Files::Energy(path) | Files::Microwatts(path) => Reader::Plain(NumberFile::new(path), 1),
            Files::Milliwatts(path) => Reader::Plain(NumberFile::new(path), 1_000),
            Files::Product(volts, amperes) => {
                Reader::Product(NumberFile::new(volts), NumberFile::new(amperes))
            }
        }
    }

    fn read(&mut self) -> Result<i128, Fault> {
        match self {
            Reader::Plain(file, factor) => Ok(file.read()?.saturating_mul(*factor)),
            // A millivolt times a milliampere is a microwatt.
            Reader::Product(volts, amperes) => Ok(volts.read()?.saturating_mul(amperes.read()?)),
        }
    }
}

/// What there is under the configured tree, for the source and for `doctor`.
pub(crate) fn meters(root: &Path, wishes: &Wishes, packages_are_metered: bool) -> Vec<Meter> {
    arrange(find(root), wishes, &packages(root), packages_are_metered)
}

/// The kernel's numbers of CPU packages, in rising order.
fn packages(root: &Path) -> Vec<u32> {
    let cpus = root.join("devices/system/cpu");
    let of_cpu = |name: &String| {
        name.strip_prefix("cpu")?.parse::<u32>().ok()?;
        sysfs::read_word(&cpus.join(name).join("topology/physical_package_id"))?.parse().ok()
    };
    let mut packages: Vec<u32> = sysfs::names(&cpus).unwrap_or_default().iter().filter_map(of_cpu).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// What gives channels where there are none.
pub(crate) const REMEDY: &str = "if the board has such sensors, load their driver: \
    `sudo modprobe acpi_power_meter` (servers, NVIDIA Grace), `ina3221` (Jetson), `scmi-hwmon` (Arm)";

impl HwmonSource {
    /// Opens what is there, and takes the first readings, from which energy is counted.
    pub(crate) fn open(
        config: &HwmonConfig,
        wishes: &Wishes,
        registry: Arc<Registry>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let (root, longest) = (PathBuf::from(&config.sysfs_root), config.longest_gap());
        let (seen, channels, first) = (Vec::new(), Vec::new(), Batch::default());
        let mut source =
            Self { root, wishes: wishes.clone(), longest, clock, registry, seen, channels, first };
        source.look()?;
        if source.channels.is_empty() {
            return Err(Error::gone(format!(
                "no channel of power or energy under {}/class/hwmon; {REMEDY}",
                source.root.display()
            )));
        }
        let mut first = Batch::default();
        source.read(&mut first);
        source.first = first;
        Ok(source)
    }

    /// Opens channels that are there and not open yet.
    fn look(&mut self) -> Result<(), Error> {
        self.seen = listing(&self.root);
        let better = |name: &str| name.starts_with("package-") && !name.ends_with(AMD_ENERGY);
        let metered = self.registry.domains().iter().any(|domain| better(&domain.name));
        for Meter { subject, files } in meters(&self.root, &self.wishes, metered) {
            let name = &subject.domain.name;
            if self.channels.iter().any(|(_, open)| open.subject().domain.name == *name) {
                continue;
            }
            tracing::info!(domain = name, file = %files.first().display(), "hwmon channel opened");
            let now = self.clock.now();
            let channel = match files {
                Files::Energy(_) => Channel::of_energy(subject, now, &self.registry)?,
                _ => Channel::of_power(subject, self.longest, now, &self.registry)?,
            };
            self.channels.push((Reader::of(files), channel));
        }
        Ok(())
    }

    /// Reads every channel; those whose files are gone end.
    fn read(&mut self, out: &mut Batch) {
        let Self { channels, clock, seen, .. } = self;
        channels.retain_mut(|(reader, channel)| {
            let read = reader.read();
            // After the reading, so that no window claims time that the meter has not seen.
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
                    // It may be back under another number.
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
            self.look()?;
        }
        self.read(out);
        if self.channels.is_empty() {
            let root = self.root.display();
            return Err(Error::gone(format!("every hwmon channel under {root} has vanished; {REMEDY}")));
        }
        Ok(())
    }
}
