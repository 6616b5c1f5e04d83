//! The pipeline element: reads all counters on each tick, and publishes the energy of each package's cores
//! and of each group. `groups.rs` finds and reads the counters, `tally.rs` adds them up, `tasks.rs` lists the
//! processes whose energy it is; `wattrace-meter` makes series of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Origin, Registry, Resource, ResourceKind, Source, Tick, Timestamp,
    metric,
};
use wattrace_meter::names::{slug, unique};
use wattrace_meter::{Anomaly, Channel, Subject, sysfs};
use wattrace_procfs::Procfs;

use crate::config::ResctrlConfig;
use crate::groups::{self, Group};
use crate::tally::{GroupId, Reading, Tally};
use crate::tasks::Tasks;

/// All counters of a machine.
pub(crate) struct ResctrlSource {
    root: PathBuf,
    origin: Origin,
    /// Whether groups have domains of their own.
    with_groups: bool,
    clock: Clock,
    registry: Arc<Registry>,
    tally: Tally,
    read_at: Timestamp,
    packages: Vec<(u32, Channel)>,
    groups: Vec<GroupChannel>,
    tasks: Tasks,
    /// The points of the first readings, for the first batch.
    first: Batch,
}

struct GroupChannel {
    id: GroupId,
    package: u32,
    channel: Channel,
}

/// The remedy if there are no counters.
const REMEDY: &str = "it takes Linux 7.0, an Intel processor with Application Energy Telemetry, \
    `sudo mount -t resctrl resctrl /sys/fs/resctrl`, and on some the boot option rdt=energy";

impl ResctrlSource {
    /// Opens the counters and takes the first readings, from which energy is counted.
    pub(crate) fn open(config: &ResctrlConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let root = PathBuf::from(&config.root);
        let found = groups::find(&root);
        let Some(default) = found.first() else {
            return Err(Error::gone(format!("no energy of cores in {}; {REMEDY}", root.display())));
        };
        // What opens and cannot be read is no meter.
        let readable: Vec<_> =
            default.packages.iter().map(|(_, path)| groups::read(path)).filter_map(Result::err).collect();
        if let Some(fault) = readable.into_iter().next() {
            return Err(Error::gone(format!("no energy of cores: {}", fault.what)));
        }
        let origin = default.packages.first().map_or(Origin::Simulated, |(_, path)| sysfs::origin(path));
        let mut source = Self {
            with_groups: config.groups,
            tally: Tally::default(),
            read_at: clock.now(),
            packages: Vec::new(),
            groups: Vec::new(),
            tasks: Tasks::new(Procfs::default()),
            first: Batch::default(),
            root,
            origin,
            clock,
            registry,
        };
        let mut first = Batch::default();
        source.read(&found, &mut first)?;
        source.first = first;
        Ok(source)
    }

    fn read(&mut self, found: &[Group], out: &mut Batch) -> Result<(), Error> {
        let (mut readings, mut problem) = (Vec::new(), None);
        for group in found {
            for (package, counter) in &group.packages {
                let read = groups::read(counter);
                let parent = group.parent.map(|at| found[at].id());
                let microjoules = read.map_err(|fault| problem = Some(fault.what)).ok();
                readings.push(Reading { group: group.id(), parent, package: *package, microjoules });
            }
        }
        let now = self.clock.now();
        let irregular = self.tally.take(&readings, now.since(self.read_at));
        self.read_at = now;
        if self.with_groups {
            self.tasks.update(found, &self.clock);
        }
        self.open_channels(found, now)?;
        for (package, channel) in &mut self.packages {
            let resets = irregular.resets.iter().filter(|of| *of == package).count();
            (0..resets).for_each(|_| channel.note(now, Anomaly::Reset, out));
            if irregular.unread.contains(package) {
                // The window stays open for what the next reading has.
                let why = problem.as_deref().unwrap_or("a group's counter cannot be read");
                channel.miss(now, &why, out);
            } else {
                channel.take(now, i128::from(self.tally.of_package(*package)), out);
            }
        }
        let tally = &self.tally;
        self.groups.retain_mut(|GroupChannel { id, package, channel }| {
            let is_here = readings.iter().any(|reading| reading.group == *id && reading.package == *package);
            if !is_here {
                channel.end(out);
            } else if !irregular.unread.contains(package) {
                channel.take(now, i128::from(tally.of_group(id, *package)), out);
            }
            is_here
        });
        Ok(())
    }

    /// Opens the channels of packages and groups that have none.
    fn open_channels(&mut self, found: &[Group], now: Timestamp) -> Result<(), Error> {
        for group in found {
            for &(package, _) in &group.packages {
                self.open_package(package, now)?;
                let id = group.id();
                let is_open = |open: &GroupChannel| open.id == id && open.package == package;
                // What is left of the package is the default group's.
                if !self.with_groups || group.name.is_empty() || self.groups.iter().any(is_open) {
                    continue;
                }
                let parent = group.parent.map(|at| found[at].id());
                let container = parent.filter(|(name, _)| !name.is_empty()).and_then(|parent| {
                    let same = |open: &&GroupChannel| open.id == parent && open.package == package;
                    self.groups.iter().find(same).map(|open| &open.channel)
                });
                let container = container.or(self.of_package(package));
                let within = container.map(|channel| channel.subject().domain.name.clone());
                let resource = Resource {
                    kind: ResourceKind::Other("resctrl-group".into()),
                    id: format!("{}/{package}", group.name).into(),
                };
                let name = format!("{}-core-{package}", slug(&group.name));
                let follows = Follows::Members(package, self.tasks.members(group));
                let mut subject = self.subject(name, resource, follows, within);
                // Only what its tasks use is counted.
                subject.domain.idle_microwatts = Some(0);
                let channel = Channel::of_energy(subject, now, &self.registry)?;
                self.groups.push(GroupChannel { id, package, channel });
            }
        }
        Ok(())
    }

    fn open_package(&mut self, package: u32, now: Timestamp) -> Result<(), Error> {
        if self.of_package(package).is_some() {
            return Ok(());
        }
        let resource = Resource { kind: ResourceKind::Core, id: package.to_string().into() };
        let within = Some(format!("package-{package}"));
        let subject = self.subject(format!("core-{package}"), resource, Follows::Package(package), within);
        self.packages.push((package, Channel::of_energy(subject, now, &self.registry)?));
        Ok(())
    }

    fn of_package(&self, package: u32) -> Option<&Channel> {
        self.packages.iter().find(|(of, _)| *of == package).map(|(_, channel)| channel)
    }

    /// A subject with a name that no other domain has: RAPL may meter cores as well.
    fn subject(&self, name: String, resource: Resource, follows: Follows, within: Option<String>) -> Subject {
        let domains = self.registry.domains();
        let is_taken = |name: &str| domains.iter().any(|domain| domain.name == name);
        let name = if is_taken(&name) { unique(format!("{name}-resctrl"), is_taken) } else { name };
        let domain = Domain { name, origin: self.origin, follows, within, idle_microwatts: None };
        Subject { metric: metric::HW_ENERGY, resource, domain }
    }
}

impl Source for ResctrlSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        out.append(&std::mem::take(&mut self.first));
        let found = groups::find(Path::new(&self.root));
        if found.is_empty() {
            self.packages.iter_mut().for_each(|(_, channel)| channel.end(out));
            self.groups.iter_mut().for_each(|open| open.channel.end(out));
            let root = self.root.display();
            return Err(Error::gone(format!("the energy of cores in {root} is gone; {REMEDY}")));
        }
        self.read(&found, out)
    }
}
