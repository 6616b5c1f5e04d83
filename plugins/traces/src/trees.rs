//! The traced processes: who is traced, and as whose child. A process is traced if its parent is, if it is
//! the command of `wattrace exec`, or if it is selected. It is decided when its first point comes, and again
//! when its attributes change.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::trace::{CommandStarted, TraceContext};
use wattrace_api::{Clock, Consumer, ConsumerKind, Identity, ProcessKey, Series, Timestamp};

use crate::carrier::Carriers;
use crate::config::Policy;
use crate::ids::Ids;
use crate::process::{Lineage, Parent, Process, executable};

/// Processes that are traced at once. More are not, and counted.
const MOST_TRACED: usize = 32_768;

/// Processes whose spans are over and that are remembered, for children that are seen late, and so that
/// nothing of them begins a second span.
const MOST_REMEMBERED: usize = 4096;

/// The difference that the kernel's clock and that of the start of a command may have, ns. A pid is not
/// reused within milliseconds.
const TOLERANCE: u64 = 10_000_000;

/// What was decided about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is traced, as the process of this number.
    Traced(usize),
    /// It is not traced.
    Unselected,
    /// Its span is over: this comes too late.
    Late,
    /// It is not traced, since too many are.
    Full,
}

/// The traced processes.
pub(crate) struct Trees {
    clock: Clock,
    ids: Ids,
    policy: Policy,
    carriers: Carriers,
    commands: FxHashMap<u32, CommandStarted>,
    processes: Slab<Process>,
    by_key: FxHashMap<ProcessKey, usize>,
    over: FxHashMap<ProcessKey, Lineage>,
    /// The keys of `over`, the oldest first.
    over_order: VecDeque<ProcessKey>,
}

impl Trees {
    /// No processes yet.
    pub(crate) fn new(policy: Policy, carriers: Carriers, ids: Ids, clock: Clock) -> Self {
        Self {
            clock,
            ids,
            policy,
            carriers,
            commands: FxHashMap::default(),
            processes: Slab::new(),
            by_key: FxHashMap::default(),
            over: FxHashMap::default(),
            over_order: VecDeque::new(),
        }
    }

    /// A command has been started.
    pub(crate) fn add_command(&mut self, command: CommandStarted) {
        self.commands.insert(command.pid, command);
    }

    /// Whether a change of its attributes may begin the trace of a process.
    pub(crate) fn may_change(&self) -> bool {
        !self.policy.selection.is_empty()
    }

    /// All processes, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.processes.iter()
    }

    /// The process of this number.
    pub(crate) fn get(&self, process: usize) -> Option<&Process> {
        self.processes.get(process)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, process: usize) -> Option<&mut Process> {
        self.processes.get_mut(process)
    }

    /// The parent of a process, if it is traced.
    pub(crate) fn parent_of(&mut self, consumer: &Consumer) -> Option<&mut Process> {
        let parent = self.by_key.get(&key(consumer.parent()?)?)?;
        self.processes.get_mut(*parent)
    }

    /// Decides about the process of `series`.
    pub(crate) fn admit(&mut self, series: &Series) -> Admission {
        let Some(consumer) = &series.consumer else { return Admission::Unselected };
        let Some(key) = key(consumer.identity()) else { return Admission::Unselected };
        if let Some(&process) = self.by_key.get(&key) {
            return Admission::Traced(process);
        }
        if self.over.contains_key(&key) {
            return Admission::Late;
        }
        let Some((lineage, parent)) = self.place(series, consumer, key) else { return Admission::Unselected };
        if self.processes.len() >= MOST_TRACED {
            return Admission::Full;
        }
        let began = self.clock.at_unix_nanos(key.1);
        let due = self.policy.period.map_or(Timestamp(u64::MAX), |period| began + period);
        let mut process = Process::new(consumer, key, lineage, parent, due);
        join(&mut process, &self.carriers);
        if let Some(parent) = self.parent_of(consumer) {
            parent.has_children = true;
        }
        let number = self.processes.insert(process);
        self.by_key.insert(key, number);
        Admission::Traced(number)
    }

    /// Its place in a trace. `None`: it is in none.
    fn place(&self, series: &Series, consumer: &Consumer, key: ProcessKey) -> Option<(Lineage, Parent)> {
        let span_id = self.ids.span(key.0, key.1);
        if let Some(parent) = self.lineage_of_parent(consumer, key.1) {
            let own = Lineage { span_id, ..parent };
            return Some((own, Parent { span_id: parent.span_id, is_remote: false }));
        }
        if let Some(command) = self.command(key) {
            let TraceContext { trace_id, span_id: parent, .. } = command.context;
            let own = Lineage { trace_id, span_id, carrier: Some(command.context) };
            return Some((own, Parent { span_id: parent, is_remote: false }));
        }
        let trace_id = self.ids.trace(span_id);
        let own = Lineage { trace_id, span_id, carrier: None };
        let begins = self.policy.selection.begins_tree(series, trace_id);
        begins.then_some((own, Parent { span_id: 0, is_remote: false }))
    }

    fn lineage_of_parent(&self, consumer: &Consumer, start: u64) -> Option<Lineage> {
        let parent = key(consumer.parent()?)?;
        let living = self.by_key.get(&parent).and_then(|&parent| self.processes.get(parent));
        living.map(|parent| parent.lineage_at(start)).or_else(|| self.over.get(&parent).copied())
    }

    fn command(&self, (pid, start): ProcessKey) -> Option<&CommandStarted> {
        self.commands.get(&pid).filter(|command| start + TOLERANCE >= command.since_unix_nano)
    }

    /// The attributes of a traced process have changed: it may have executed another program, in another
    /// environment.
    pub(crate) fn refresh(&mut self, number: usize) {
        let Some(process) = self.processes.get_mut(number) else { return };
        process.revision = process.consumer.revision();
        let executable = executable(&process.consumer);
        if process.executable != executable {
            process.executable = executable;
            join(process, &self.carriers);
        }
    }

    /// The id of the span of a process that begins at `start`.
    pub(crate) fn span_id(&self, process: &Process, start: u64) -> u64 {
        self.ids.span(process.key.0, start)
    }

    /// Forgets a process whose last span is over.
    pub(crate) fn remove(&mut self, number: usize) -> Option<Process> {
        let process = self.processes.try_remove(number)?;
        self.by_key.remove(&process.key);
        if self.command(process.key).is_some() {
            self.commands.remove(&process.key.0);
        }
        if self.over.insert(process.key, process.lineage).is_none() {
            self.over_order.push_back(process.key);
        }
        if self.over_order.len() > MOST_REMEMBERED
            && let Some(oldest) = self.over_order.pop_front()
        {
            self.over.remove(&oldest);
        }
        Some(process)
    }
}

/// Lets a process join the trace in its environment. A context that it has from its parent is that of the
/// parent's own trace; one that is not sampled is recorded by nobody, and so no trace to join.
fn join(process: &mut Process, carriers: &Carriers) {
    if process.consumer.end_unix_nano().is_some() {
        return;
    }
    let Some(found) = carriers.of(process.key.0) else { return };
    if process.lineage.carrier.replace(found) != Some(found) && found.is_sampled {
        process.lineage.trace_id = found.trace_id;
        process.parent = Parent { span_id: found.span_id, is_remote: true };
    }
}

/// What identifies a process; `None`: it is something else.
fn key(identity: &Identity) -> Option<ProcessKey> {
    (identity.kind == ConsumerKind::Process).then_some(())?;
    Some((identity.id.parse().ok()?, identity.start_unix_nano))
}
