//! The pipeline element: reads every counter of the node on each tick, each with a window of its own.
//! `counters.rs` finds and reads them; `wattrace-meter` follows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Clock, Domain, Error, Registry, Source, Tick};
use wattrace_meter::others::is_of_package;
use wattrace_meter::{Channel, OtherMeters, sysfs};
use wattrace_topology::Cpus;

use crate::config::CrayConfig;
use crate::counters::{Part, directory, find, generation, read};

/// The mean age of what a counter shows: half of the 100 ms after which it is refreshed.
pub(crate) const AGE: Duration = Duration::from_millis(50);

/// All counters of a node.
pub(crate) struct CraySource {
    directory: PathBuf,
    clock: Clock,
    others: OtherMeters,
    generation: [Option<String>; 2],
    counters: Vec<OpenCounter>,
    /// The points of the first readings, for the first batch.
    first: Batch,
}

struct OpenCounter {
    path: PathBuf,
    part: Part,
    channel: Channel,
    /// When the counter was last refreshed, on the controller's clock.
    refreshed: Option<u64>,
}

impl CraySource {
    /// Opens the counters that can be read, and takes the first readings, from which energy is counted.
    pub(crate) fn open(config: &CrayConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let root = Path::new(&config.sysfs_root);
        let directory = directory(root);
        let found = find(&directory, Cpus::below(root).packages().len());
        let mut source = Self {
            generation: generation(&directory),
            others: OtherMeters::new(registry.clone()),
            counters: Vec::new(),
            first: Batch::default(),
            clock,
            directory,
        };
        let mut problem = "this is no node of HPE Cray EX".to_owned();
        for found in found {
            if source.is_second(found.part) {
                continue;
            }
            let path = source.directory.join(&found.file);
            match read(&path) {
                Ok((microjoules, refreshed)) => {
                    let now = source.clock.now() - AGE;
                    let (subject, part) = (found.subject(sysfs::origin(&path)), found.part);
                    let mut channel = Channel::of_energy(subject, now, &registry)?;
                    channel.take(now, microjoules, &mut source.first);
                    source.counters.push(OpenCounter { path, part, channel, refreshed });
                }
                // What cannot be read is no meter.
                Err(fault) => {
                    tracing::warn!("left out: {}", fault.what);
                    problem = fault.what;
                }
            }
        }
        if source.counters.is_empty() {
            let looked_in = source.directory.display();
            return Err(Error::gone(format!("no counter in {looked_in}: {problem}")));
        }
        tracing::info!(counters = source.counters.len(), "counters of a Cray node opened");
        Ok(source)
    }

    /// Whether another plugin meters this part already: RAPL, which tells packages apart.
    fn is_second(&self, part: Part) -> bool {
        let is_dram = |domain: &Domain| domain.name.starts_with("dram-");
        match part {
            Part::Cpus(_) => self.others.exist_beside(self.own(is_of_package), is_of_package),
            Part::Memory => self.others.exist_beside(self.own(is_dram), is_dram),
            Part::Node | Part::Accelerator(_) => false,
        }
    }

    fn own(&self, is_wanted: impl Fn(&Domain) -> bool) -> usize {
        self.counters.iter().filter(|counter| is_wanted(&counter.channel.subject().domain)).count()
    }

    /// Ends the counters of packages and memory that another plugin meters from now on.
    fn yield_to_others(&mut self, out: &mut Batch) {
        if !self.others.package_appeared() {
            return;
        }
        for part in [Part::Cpus(None), Part::Memory] {
            if self.is_second(part) {
                self.counters.retain_mut(|counter| {
                    let same = std::mem::discriminant(&counter.part) == std::mem::discriminant(&part);
                    if same {
                        let domain = &counter.channel.subject().domain.name;
                        tracing::info!(domain, "another plugin meters the same: counter closed");
                        counter.channel.end(out);
                    }
                    !same
                });
            }
        }
    }
}

impl Source for CraySource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        out.append(&std::mem::take(&mut self.first));
        self.yield_to_others(out);
        let generation = generation(&self.directory);
        let restarted = generation != self.generation;
        self.generation = generation;
        let clock = &self.clock;
        self.counters.retain_mut(|OpenCounter { path, channel, refreshed, .. }| {
            if restarted {
                channel.restarted();
            }
            let read = read(path);
            // After the reading, so that no window covers time that the reading does not.
            let now = clock.now() - AGE;
            match read {
                // Not refreshed since: the next window covers this time too.
                Ok((_, at)) if at.is_some() && at == *refreshed => {}
                Ok((microjoules, at)) => {
                    *refreshed = at;
                    channel.take(now, microjoules, out);
                }
                Err(fault) if fault.gone => {
                    channel.end(out);
                    return false;
                }
                Err(fault) => channel.miss(now, &fault.what, out),
            }
            true
        });
        if self.counters.is_empty() {
            let directory = self.directory.display();
            return Err(Error::gone(format!("all counters in {directory} are gone, or metered elsewhere")));
        }
        Ok(())
    }
}
