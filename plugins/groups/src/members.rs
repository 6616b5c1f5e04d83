//! The processes that are summed: for each, the groups it is in now. They are found out when the process is
//! first met, and again whenever something about it has changed (its cgroup, its user), which its consumer's
//! revision tells.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{Attribute, AttributeValue, Clock, Consumer, Directory, Identity, Timestamp};

use crate::books::{Books, Index};
use crate::config::{Level, MOST_LEVELS};
use crate::facts::{Facts, USER};
use crate::names::{Answer, Names, Subject};
use crate::path::Place;
use crate::proc::{Living, Proc};
use crate::tree;

/// A process.
struct Member {
    consumer: Arc<Consumer>,
    /// The revision of `consumer` that the groups are of.
    revision: u64,
    /// By level.
    groups: [Index; MOST_LEVELS],
    pid: u32,
    /// Open series of it.
    series: u32,
    facts: Facts,
    /// The cgroup's path that the facts are of.
    path: Option<Arc<str>>,
    /// What it was told, to take back what is no longer so.
    told: Vec<Attribute>,
}

/// All of them.
pub(crate) struct Members {
    pub(crate) books: Books,
    pub(crate) names: Names,
    levels: Vec<Level>,
    /// The levels' numbers, pods first: a container wants to know its pod.
    order: Vec<usize>,
    proc: Proc,
    clock: Clock,
    directory: Directory,
    all: Slab<Member>,
    /// By the consumer's address, which the member keeps from being reused.
    by_address: FxHashMap<usize, Index>,
    by_identity: FxHashMap<(u32, u64), Index>,
}

impl Members {
    /// Nobody yet.
    pub(crate) fn new(
        levels: &[Level],
        books: Books,
        names: Names,
        proc: Proc,
        clock: Clock,
        directory: Directory,
    ) -> Self {
        let mut order: Vec<usize> = (0..levels.len()).collect();
        order.sort_by_key(|&level| levels[level] != Level::Pod);
        Self {
            books,
            names,
            levels: levels.to_vec(),
            order,
            proc,
            clock,
            directory,
            all: Slab::new(),
            by_address: FxHashMap::default(),
            by_identity: FxHashMap::default(),
        }
    }

    /// One more series of `consumer`: the process is new, or known.
    pub(crate) fn enter(&mut self, consumer: &Arc<Consumer>, at: Timestamp) -> Index {
        let address = Arc::as_ptr(consumer) as usize;
        let member = match self.by_address.get(&address) {
            Some(&member) => member,
            None => self.insert(consumer.clone(), at),
        };
        self.all[member as usize].series += 1;
        member
    }

    fn insert(&mut self, consumer: Arc<Consumer>, at: Timestamp) -> Index {
        let (address, identity) = (Arc::as_ptr(&consumer) as usize, consumer.identity());
        let pid = identity.id.parse().unwrap_or(0);
        let id = (pid, identity.start_unix_nano);
        let groups: [Index; MOST_LEVELS] = std::array::from_fn(Books::rest);
        groups[..self.levels.len()].iter().for_each(|&group| self.books.join(group));
        let (facts, path, told) = (Facts::default(), None, Vec::new());
        let member = Member { consumer, revision: 0, groups, pid, series: 0, facts, path, told };
        let member = self.all.insert(member) as Index;
        self.by_address.insert(address, member);
        self.by_identity.insert(id, member);
        self.find_out(member, true, at);
        member
    }

    /// The groups that a process is in, and the revision of its consumer that this is true of.
    pub(crate) fn where_is(&self, member: Index) -> (u64, [Index; MOST_LEVELS]) {
        let member = self.get(member);
        (member.revision, member.groups)
    }

    /// Whether there is no process.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_address.is_empty() && self.by_identity.is_empty()
    }

    fn get(&self, member: Index) -> &Member {
        &self.all[member as usize]
    }

    /// One series less; with the last one the process leaves its groups.
    pub(crate) fn leave(&mut self, member: Index, at: Timestamp) {
        let left = &mut self.all[member as usize];
        left.series -= 1;
        if left.series > 0 {
            return;
        }
        let left = self.all.remove(member as usize);
        left.groups[..self.levels.len()].iter().for_each(|&group| self.books.leave(group, at));
        self.by_address.remove(&(Arc::as_ptr(&left.consumer) as usize));
        let id = (left.pid, left.consumer.identity().start_unix_nano);
        if self.by_identity.get(&id) == Some(&member) {
            self.by_identity.remove(&id);
        }
    }

    /// Finds out where a process belongs now, unless that has been done since it last changed.
    pub(crate) fn refresh(&mut self, member: Index, at: Timestamp) {
        let known = &self.all[member as usize];
        if known.revision != known.consumer.revision() {
            self.find_out(member, false, at);
        }
    }

    fn find_out(&mut self, index: Index, is_new: bool, at: Timestamp) {
        let member = &self.all[index as usize];
        // Taken first: a change after this is seen as one.
        let mut revision = member.consumer.revision();
        let (facts, path) = self.facts(member, is_new);
        let Self { books, names, levels, order, all, .. } = self;
        let member = &mut all[index as usize];
        (member.facts, member.path) = (facts, path);
        for &level in &*order {
            let group = match member.facts.key(levels[level]) {
                Some(key) => match books.find(level, &key) {
                    Some(group) => group,
                    None => begin(levels, level, key, member, at, books, names),
                },
                None => Books::rest(level),
            };
            let old = std::mem::replace(&mut member.groups[level], group);
            if old != group {
                books.join(group);
                books.leave(old, at);
            }
        }
        revision += u64::from(member.tell(levels.len(), books));
        member.revision = revision;
    }

    /// What is known of a process now, and the path that it is known from.
    fn facts(&self, member: &Member, is_new: bool) -> (Facts, Option<Arc<str>>) {
        let consumer = &member.consumer;
        let path = match consumer.attribute("process.linux.cgroup") {
            Some(AttributeValue::Str(path)) => Some(path),
            _ => None,
        };
        let mut facts = member.facts.clone();
        let parent = is_new.then(|| consumer.parent().and_then(|parent| self.by_identity(parent))).flatten();
        let mut living = None;
        let mut look = || *living.get_or_insert_with(|| self.living(member));
        let legacy = (self.proc.has_legacy && look().is_some_and(|living| !living.is_zombie))
            .then(|| self.proc.cgroups(member.pid))
            .flatten();
        match legacy {
            Some(text) => facts.place = Place::of_all(path.as_deref(), &text),
            None if is_new || path != member.path => {
                facts.place = path.as_deref().map(Place::of).unwrap_or_default();
                // Gone before anyone could read where it was: for v1 its parent's place is the best guess.
                if self.proc.has_legacy || path.is_none() {
                    let like = parent.map_or(&member.facts.place, |parent| &parent.facts.place);
                    facts.place.complete(like);
                }
            }
            None => {}
        }
        facts.user = match consumer.attribute(USER) {
            Some(AttributeValue::Int(user)) => u32::try_from(user).ok(),
            _ => facts.user.or_else(|| parent.and_then(|parent| parent.facts.user)),
        };
        if is_new && self.levels.contains(&Level::Tree) {
            let pid_of_parent = match consumer.attribute("process.parent_pid") {
                Some(AttributeValue::Int(pid)) => u32::try_from(pid).unwrap_or(0),
                _ => 0,
            };
            let known = |pid: u32| {
                let by_pid = || self.directory.process(pid).and_then(|known| self.by_address(&known));
                let is_parent = |parent: &&Member| parent.pid == pid;
                parent.filter(is_parent).or_else(by_pid).and_then(|known| known.facts.root.clone())
            };
            facts.root = Some(tree::root(member.pid, pid_of_parent, &self.proc, known));
        }
        (facts, path)
    }

    fn by_identity(&self, identity: &Identity) -> Option<&Member> {
        let id = (identity.id.parse().ok()?, identity.start_unix_nano);
        self.by_identity.get(&id).map(|&member| self.get(member))
    }

    fn by_address(&self, consumer: &Arc<Consumer>) -> Option<&Member> {
        self.by_address.get(&(Arc::as_ptr(consumer) as usize)).map(|&member| self.get(member))
    }

    /// The process in /proc, if it is still that one.
    fn living(&self, member: &Member) -> Option<Living> {
        let identity = member.consumer.identity();
        self.proc.living(member.pid).filter(|living| {
            let start = self.clock.unix_nanos_of_boottime(living.start_nanos());
            // /proc knows it to a hundredth of a second, cut off.
            identity.start_unix_nano.abs_diff(start) < 2 * Living::RESOLUTION
        })
    }

    /// Takes in what others call a group: tells the group, its processes and, if it is a pod, its containers.
    pub(crate) fn learn(&mut self, answer: &Answer) {
        let level_of = |kind| self.levels.iter().position(|level| *level == kind);
        let Some(level) = level_of(answer.level) else { return };
        let Some(index) = self.books.find(level, &answer.key) else { return };
        let group = self.books.group_mut(index);
        group.told = answer.of_processes.clone();
        let consumer = group.consumer.clone();
        consumer.update([&*answer.of_processes, &*answer.of_group].concat());
        if let Some(containers) = level_of(Level::Container).filter(|_| answer.level == Level::Pod) {
            let pod = Some(consumer.identity());
            let inside = self.books.of_level(containers).filter(|group| group.consumer.parent() == pod);
            inside.for_each(|container| container.consumer.update(answer.of_processes.clone()));
        }
        for (_, member) in self.all.iter_mut().filter(|(_, member)| member.groups[level] == index) {
            member.tell(self.levels.len(), &self.books);
        }
    }
}

impl Member {
    /// Tells the process who it is, as far as it has not been told. Returns whether there was something to
    /// tell.
    fn tell(&mut self, levels: usize, books: &Books) -> bool {
        let mut facts = self.facts.of_process();
        for &group in &self.groups[..levels] {
            facts.extend(books.group(group).told.iter().cloned());
        }
        let known = self.consumer.attributes();
        let mut changes: Vec<_> = facts.iter().filter(|fact| !known.contains(fact)).cloned().collect();
        let is_no_longer = |old: &&Attribute| facts.iter().all(|fact| fact.key != old.key);
        let over = self.told.iter().filter(is_no_longer);
        changes.extend(over.map(|old| Attribute::new(old.key.clone(), "")));
        self.told = facts;
        let has_changed = !changes.is_empty();
        if has_changed {
            self.consumer.update(changes);
        }
        has_changed
    }
}

/// Begins the group of `level` that `member` is the first of.
fn begin(
    levels: &[Level],
    level: usize,
    key: Arc<str>,
    member: &Member,
    at: Timestamp,
    books: &mut Books,
    names: &Names,
) -> Index {
    let facts = &member.facts;
    let kind = levels[level];
    let mut attributes = facts.of_group(kind);
    let pods = levels.iter().position(|level| *level == Level::Pod).filter(|_| kind == Level::Container);
    let pod = pods.map(|pods| member.groups[pods]).filter(|&pod| Some(pod) != pods.map(Books::rest));
    let parent = pod.map(|pod| {
        attributes.extend(books.group(pod).told.iter().cloned());
        books.group(pod).consumer.identity().clone()
    });
    let subject = match kind {
        Level::Container => {
            Some(Subject::Container { id: key.clone(), is_in_pod: facts.place.pod.is_some() })
        }
        Level::Pod => Some(Subject::Pod { uid: key.clone() }),
        Level::User => facts.user.map(Subject::User),
        _ => None,
    };
    let id = facts.id(kind, &key);
    let group = books.begin(level, key, &id, at, parent, attributes);
    if let Some(subject) = subject {
        names.ask(subject, &books.group(group).consumer);
    }
    group
}
