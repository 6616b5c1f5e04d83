//! The processes that are summed, with the groups that each is in now. They are determined when a process is
//! first seen, and again when its attributes have changed (its cgroup, its user): its consumer's revision
//! says so.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{
    Attribute, AttributeValue, Clock, Consumer, ConsumerKind, Directory, Identity, Timestamp,
};
use wattrace_procfs::{Procfs, Stat, TICK_NANOS};

use crate::facts::{Facts, USER};
use crate::level::{Level, MOST_LEVELS};
use crate::names::Names;
use crate::names::lookup::{Answer, Subject};
use crate::path::PathInfo;
use crate::table::{GroupTable, Index, NewGroup};
use crate::tree;

/// A process.
struct Process {
    consumer: Arc<Consumer>,
    /// The revision of `consumer` for which the groups were determined.
    revision: u64,
    /// By level.
    groups: [Index; MOST_LEVELS],
    pid: u32,
    /// Its open series.
    series: u32,
    facts: Facts,
    /// The cgroup path that the facts come from.
    path: Option<Arc<str>>,
    /// The attributes that it got from here, by their keys, to take back those that no longer hold.
    attributes: Box<[Cow<'static, str>]>,
}

/// For how many more processes the table grows.
const GROWTH: usize = 1024;

/// What paths say that are known. When there are so many, all are forgotten.
const MOST_PATHS: usize = 1024;

/// All of them.
pub(crate) struct Processes {
    pub(crate) table: GroupTable,
    pub(crate) names: Names,
    /// The levels' numbers, pods first: a container needs to know its pod.
    order: Vec<usize>,
    procfs: Procfs,
    /// Whether there are cgroup v1 hierarchies, which may know more than the unified one.
    has_cgroup_v1: bool,
    clock: Clock,
    directory: Directory,
    /// What each cgroup's path says.
    paths: FxHashMap<Arc<str>, Arc<PathInfo>>,
    all: Slab<Process>,
    /// By the consumer's address. The process keeps the consumer alive, so the address is not reused.
    by_address: FxHashMap<usize, Index>,
    by_identity: FxHashMap<(u32, u64), Index>,
}

impl Processes {
    /// No processes yet.
    pub(crate) fn new(
        table: GroupTable,
        names: Names,
        procfs: Procfs,
        clock: Clock,
        directory: Directory,
    ) -> Self {
        let levels = table.levels();
        let mut order: Vec<usize> = (0..levels.len()).collect();
        order.sort_by_key(|&level| levels[level] != Level::Pod);
        let own_cgroups = std::fs::read_to_string(procfs.root().join("self/cgroup")).unwrap_or_default();
        Self {
            table,
            names,
            order,
            has_cgroup_v1: crate::path::has_v1(&own_cgroups),
            procfs,
            clock,
            directory,
            paths: FxHashMap::default(),
            all: Slab::new(),
            by_address: FxHashMap::default(),
            by_identity: FxHashMap::default(),
        }
    }

    /// A series of `consumer` was opened. Returns the process, which is new or known.
    pub(crate) fn add_series(&mut self, consumer: &Arc<Consumer>, at: Timestamp) -> Index {
        let address = Arc::as_ptr(consumer) as usize;
        let process = match self.by_address.get(&address) {
            Some(&process) => process,
            None => self.insert(consumer.clone(), at),
        };
        self.all[process as usize].series += 1;
        process
    }

    /// A series of a process has ended. With the last one the process leaves its groups.
    pub(crate) fn remove_series(&mut self, process: Index, at: Timestamp) {
        let ended = &mut self.all[process as usize];
        ended.series -= 1;
        if ended.series > 0 {
            return;
        }
        let ended = self.all.remove(process as usize);
        let levels = self.table.levels().len();
        ended.groups[..levels].iter().for_each(|&group| self.table.leave(group, at));
        self.by_address.remove(&(Arc::as_ptr(&ended.consumer) as usize));
        let id = (ended.pid, ended.consumer.identity().start_unix_nano);
        if self.by_identity.get(&id) == Some(&process) {
            self.by_identity.remove(&id);
        }
    }

    fn insert(&mut self, consumer: Arc<Consumer>, at: Timestamp) -> Index {
        let (address, identity) = (Arc::as_ptr(&consumer) as usize, consumer.identity());
        let pid = identity.id.parse().unwrap_or(0);
        let id = (pid, identity.start_unix_nano);
        let groups: [Index; MOST_LEVELS] = std::array::from_fn(GroupTable::rest);
        let levels = self.table.levels().len();
        groups[..levels].iter().for_each(|&group| self.table.join(group));
        let (facts, path, attributes) = (Facts::default(), None, Box::default());
        let process = Process { consumer, revision: 0, groups, pid, series: 0, facts, path, attributes };
        if self.all.len() == self.all.capacity() {
            // Not twice as many: there are many of them at once in a fork storm only.
            self.all.reserve_exact(GROWTH);
        }
        let process = self.all.insert(process) as Index;
        self.by_address.insert(address, process);
        self.by_identity.insert(id, process);
        self.assign(process, true, at);
        process
    }

    /// The groups that a process is in, and the revision of its consumer for which that holds.
    pub(crate) fn groups(&self, process: Index) -> (u64, [Index; MOST_LEVELS]) {
        let process = self.get(process);
        (process.revision, process.groups)
    }

    /// Determines the groups of a process again if it has changed.
    pub(crate) fn refresh(&mut self, process: Index, at: Timestamp) {
        let known = self.get(process);
        if known.revision != known.consumer.revision() {
            self.assign(process, false, at);
        }
    }

    fn get(&self, process: Index) -> &Process {
        &self.all[process as usize]
    }

    /// Determines the groups of a process.
    fn assign(&mut self, index: Index, is_new: bool, at: Timestamp) {
        let process = &self.all[index as usize];
        // Before the attributes are read, so that a change in between is noticed the next time.
        let mut revision = process.consumer.revision();
        let path = match process.consumer.attribute("process.linux.cgroup") {
            Some(AttributeValue::Str(path)) => Some(path),
            _ => None,
        };
        let facts = self.facts(index, path.as_ref(), is_new);
        let Self { table, names, order, all, .. } = self;
        let process = &mut all[index as usize];
        (process.facts, process.path) = (facts, path);
        for &level in &*order {
            let group = match process.facts.key(table.levels()[level]) {
                Some(key) => match table.find(level, &key) {
                    Some(group) => group,
                    None => open_group(table, names, level, key, process, at),
                },
                None => GroupTable::rest(level),
            };
            let old = std::mem::replace(&mut process.groups[level], group);
            if old != group {
                table.join(group);
                table.leave(old, at);
            }
        }
        revision += u64::from(process.update_attributes(table));
        process.revision = revision;
    }

    /// What is known of a process now. Its cgroup is at `path`.
    fn facts(&mut self, index: Index, path: Option<&Arc<str>>, is_new: bool) -> Facts {
        let info = path.map(|path| known_path(&mut self.paths, path, || PathInfo::of(path)));
        let hierarchies = self.v1_hierarchies(&self.all[index as usize]).map(|text| {
            let unified = path.map(|path| &**path);
            let key = format!("{}\n{text}", unified.unwrap_or_default()).into();
            known_path(&mut self.paths, &key, || PathInfo::of_all(unified, &text))
        });
        let process = &self.all[index as usize];
        let consumer = &process.consumer;
        let mut facts = process.facts.clone();
        let parent = is_new.then(|| consumer.parent().and_then(|parent| self.by_identity(parent))).flatten();
        // If it ended before its v1 hierarchies could be read, its parent's are the best guess.
        let like = parent.map_or(&process.facts.path, |parent| &parent.facts.path);
        match (hierarchies, info) {
            (Some(known), _) => facts.path = known,
            _ if !is_new && path == process.path.as_ref() => {}
            (None, None) => facts.path = like.clone(),
            (None, Some(info)) => {
                facts.path = info;
                if self.has_cgroup_v1 {
                    Arc::make_mut(&mut facts.path).complete(like);
                }
            }
        }
        facts.user = match consumer.attribute(USER) {
            Some(AttributeValue::Int(user)) => u32::try_from(user).ok(),
            _ => facts.user.or_else(|| parent.and_then(|parent| parent.facts.user)),
        };
        let is_process = consumer.kind() == ConsumerKind::Process;
        if is_new && is_process && self.table.levels().contains(&Level::Tree) {
            let pid_of_parent = match consumer.attribute("process.parent_pid") {
                Some(AttributeValue::Int(pid)) => u32::try_from(pid).unwrap_or(0),
                _ => 0,
            };
            let known = |pid: u32| {
                let by_pid = || self.directory.process(pid).and_then(|known| self.by_address(&known));
                let is_parent = |parent: &&Process| parent.pid == pid;
                parent.filter(is_parent).or_else(by_pid).and_then(|known| known.facts.root.clone())
            };
            facts.root = Some(tree::root(process.pid, pid_of_parent, &self.procfs, known));
        }
        facts
    }

    /// The paths of a process in its v1 hierarchies, which a zombie has left.
    fn v1_hierarchies(&self, process: &Process) -> Option<String> {
        let is_alive = || self.stat(process).is_some_and(|stat| !stat.is_zombie());
        (self.has_cgroup_v1 && is_alive()).then(|| self.procfs.cgroups(process.pid)).flatten()
    }

    fn by_identity(&self, identity: &Identity) -> Option<&Process> {
        let id = (identity.id.parse().ok()?, identity.start_unix_nano);
        self.by_identity.get(&id).map(|&process| self.get(process))
    }

    fn by_address(&self, consumer: &Arc<Consumer>) -> Option<&Process> {
        self.by_address.get(&(Arc::as_ptr(consumer) as usize)).map(|&process| self.get(process))
    }

    /// The process's `stat`, if its pid has not been reused.
    fn stat(&self, process: &Process) -> Option<Stat> {
        let identity = process.consumer.identity();
        self.procfs.stat(process.pid).filter(|stat| {
            let start = self.clock.unix_nanos_of_boottime(stat.start_nanos());
            // /proc rounds the start down to a tick.
            identity.start_unix_nano.abs_diff(start) < 2 * TICK_NANOS
        })
    }

    /// Takes the names of a group: the group, its processes and, if it is a pod, its containers get them as
    /// attributes.
    pub(crate) fn set_names(&mut self, answer: &Answer) {
        let number_of = |wanted| self.table.levels().iter().position(|level| *level == wanted);
        let Some(level) = number_of(answer.level) else { return };
        let containers = number_of(Level::Container).filter(|_| answer.level == Level::Pod);
        let Some(index) = self.table.find(level, &answer.key) else { return };
        let group = self.table.group_mut(index);
        group.names = answer.of_processes.clone();
        let consumer = group.consumer.clone();
        consumer.update([&*answer.of_processes, &*answer.of_group].concat());
        if let Some(containers) = containers {
            let pod = Some(consumer.identity());
            let inside = self.table.of_level(containers).filter(|group| group.consumer.parent() == pod);
            inside.for_each(|container| container.consumer.update(answer.of_processes.clone()));
        }
        for (_, process) in self.all.iter_mut().filter(|(_, process)| process.groups[level] == index) {
            process.update_attributes(&self.table);
        }
    }

    /// Whether there is no process.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_address.is_empty() && self.by_identity.is_empty()
    }
}

impl Process {
    /// Writes what is known of the process into its consumer's attributes. Returns whether they changed.
    fn update_attributes(&mut self, table: &GroupTable) -> bool {
        let mut attributes = self.facts.of_process();
        for &group in &self.groups[..table.levels().len()] {
            attributes.extend(table.group(group).names.iter().cloned());
        }
        let present = self.consumer.attributes();
        let is_new = |attribute: &&Attribute| !present.contains(attribute);
        let mut changes: Vec<_> = attributes.iter().filter(is_new).cloned().collect();
        let is_outdated = |old: &&Cow<'_, str>| attributes.iter().all(|attribute| attribute.key != **old);
        let outdated = self.attributes.iter().filter(is_outdated);
        changes.extend(outdated.map(|old| Attribute::new(old.clone(), "")));
        self.attributes = attributes.into_iter().map(|attribute| attribute.key).collect();
        let has_changed = !changes.is_empty();
        if has_changed {
            self.consumer.update(changes);
        }
        has_changed
    }
}

/// What is known by `key`, a path or several, which are parsed once for all processes there.
fn known_path(
    known: &mut FxHashMap<Arc<str>, Arc<PathInfo>>,
    key: &Arc<str>,
    parse: impl FnOnce() -> PathInfo,
) -> Arc<PathInfo> {
    if let Some(info) = known.get(key) {
        return info.clone();
    }
    if known.len() >= MOST_PATHS {
        known.clear();
    }
    let info = Arc::new(parse());
    known.insert(key.clone(), info.clone());
    info
}

/// Opens the group of `level` whose first process is `process`, and asks for its name.
fn open_group(
    table: &mut GroupTable,
    names: &Names,
    level: usize,
    key: Arc<str>,
    process: &Process,
    start: Timestamp,
) -> Index {
    let (facts, kind) = (&process.facts, table.levels()[level]);
    let mut attributes = facts.of_group(kind);
    let is_pod = |level: &Level| kind == Level::Container && *level == Level::Pod;
    let pods = table.levels().iter().position(is_pod);
    let pod = pods.map(|pods| process.groups[pods]).filter(|&pod| Some(pod) != pods.map(GroupTable::rest));
    let parent = pod.map(|pod| {
        attributes.extend(table.group(pod).names.iter().cloned());
        table.group(pod).consumer.identity().clone()
    });
    let subject = match kind {
        Level::Container => Some(Subject::Container { id: key.clone(), is_in_pod: facts.path.pod.is_some() }),
        Level::Pod => Some(Subject::Pod { uid: key.clone() }),
        Level::User => facts.user.map(Subject::User),
        _ => None,
    };
    let id = facts.id(kind, &key);
    let group = table.open(NewGroup { level, key, id, start, parent, attributes });
    if let Some(subject) = subject {
        names.look_up(subject, &table.group(group).consumer);
    }
    group
}
