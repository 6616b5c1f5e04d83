//! Follows the points of traced processes. `trees` decides who is traced, `process` adds up what each used,
//! `books` says when nothing more can come; then the process is a span.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::trace::{CommandEnded, CommandStarted};
use wattrace_api::{
    Batch, Clock, Consumer, ConsumerKind, Increments, Registry, Role, Series, SeriesId, SeriesMap, Timestamp,
    Usage, Value, Window,
};

use crate::books::{BookRef, Books};
use crate::limits::{Limit, Limits};
use crate::losses::Losses;
use crate::process::{Finished, Process};
use crate::queue::{QueuedSpan, SpanQueue};
use crate::span;
use crate::trees::{Admission, Trees};

/// Longest wait for the energy of a process that has ended: for a meter that no longer answers, and where
/// nothing attributes energy.
const MOST_WAIT: Duration = Duration::from_secs(60);

/// What the points of a series are used for.
enum Target {
    /// Nothing.
    Ignored,
    /// To know until when the books of a domain are closed.
    Book(BookRef),
    /// The CPU time of a traced process.
    CpuTime { process: usize, increments: Increments },
    /// Its energy of the domain in a place of its amounts.
    Energy { process: usize, place: usize, increments: Increments },
    /// Nothing yet: its process was not selected, by the attributes of that revision.
    Unselected { consumer: Arc<Consumer>, revision: u64 },
}

/// The state of all that is traced.
pub(crate) struct Table {
    registry: Arc<Registry>,
    clock: Clock,
    /// When it began to observe.
    since: Timestamp,
    period: Duration,
    trees: Trees,
    limits: Limits,
    books: Books,
    targets: SeriesMap<Target>,
    /// Series about which it is to be decided, with the start of their consumer.
    undecided: Vec<(u64, SeriesId)>,
    /// Processes whose present span is to end.
    due: Vec<usize>,
    /// Processes without open series, and when the last one ended.
    ending: VecDeque<(usize, Timestamp)>,
}

impl Table {
    /// A table that observes from now on.
    pub(crate) fn new(
        registry: Arc<Registry>,
        clock: Clock,
        period: Option<Duration>,
        limits: Limits,
        trees: Trees,
    ) -> Self {
        Self {
            since: clock.now(),
            registry,
            clock,
            period: period.unwrap_or_default(),
            trees,
            limits,
            books: Books::default(),
            targets: SeriesMap::default(),
            undecided: Vec::new(),
            due: Vec::new(),
            ending: VecDeque::new(),
        }
    }

    /// A command has been started. Should its first points be here already, it is decided about them again.
    pub(crate) fn command_started(&mut self, command: CommandStarted) {
        self.trees.add_command(command);
        let unselected =
            self.targets.iter().filter(|(_, target)| matches!(target, Target::Unselected { .. }));
        let unselected: Vec<_> = unselected.map(|(id, _)| id).collect();
        unselected.into_iter().for_each(|id| drop(self.targets.remove(id)));
    }

    /// A command has ended: its starter's span is over.
    pub(crate) fn command_ended(&mut self, command: &CommandEnded, queue: &mut SpanQueue) {
        queue.push(QueuedSpan::new(span::of_command(command), 0));
    }

    /// Takes a batch. Spans that are over go to `queue`.
    pub(crate) fn write(&mut self, batch: &Batch, queue: &mut SpanQueue, losses: &mut Losses) {
        self.decide(batch, losses);
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                self.take(segment.window, id, value);
            }
        }
        for &id in batch.ended() {
            self.end(id);
        }
        self.cut(queue);
        self.complete(queue, losses);
    }

    /// Decides about the series in `batch` that are new, those of parents before those of their children.
    fn decide(&mut self, batch: &Batch, losses: &mut Losses) {
        let may_change = self.trees.may_change();
        for &id in batch.series() {
            let consumer = match self.targets.get(id) {
                None => self.registry.get(id).and_then(|series| series.consumer.clone()),
                Some(Target::Unselected { consumer, revision })
                    if may_change && consumer.revision() != *revision =>
                {
                    Some(consumer.clone())
                }
                Some(_) => continue,
            };
            self.undecided.push((consumer.map_or(0, |c| c.identity().start_unix_nano), id));
        }
        let mut undecided = std::mem::take(&mut self.undecided);
        undecided.sort_unstable();
        undecided.dedup();
        for (_, id) in undecided.drain(..) {
            let target = match self.registry.get(id) {
                Some(series) => self.target(&series, losses),
                None => {
                    losses.add("unknown_series", 1);
                    Target::Ignored
                }
            };
            self.targets.insert(id, target);
        }
        self.undecided = undecided;
    }

    fn target(&mut self, series: &Series, losses: &mut Losses) -> Target {
        let kind = series.consumer.as_ref().map(|consumer| consumer.kind());
        let closes = matches!(kind, Some(ConsumerKind::Idle | ConsumerKind::Unattributed));
        match (series.role, &series.domain) {
            (Role::Meter, Some(domain)) => Target::Book(self.books.acquire(domain, true)),
            (Role::Residual, Some(domain)) => Target::Book(self.books.acquire(domain, false)),
            (Role::Energy, Some(domain)) if closes => Target::Book(self.books.acquire(domain, false)),
            (Role::Energy | Role::Usage(Usage::CpuTime), _) if kind == Some(ConsumerKind::Process) => {
                self.target_of_process(series, losses)
            }
            _ => Target::Ignored,
        }
    }

    fn target_of_process(&mut self, series: &Series, losses: &mut Losses) -> Target {
        let number = match self.trees.admit(series) {
            Admission::Traced(number) => number,
            Admission::Unselected => {
                let Some(consumer) = &series.consumer else { return Target::Ignored };
                return Target::Unselected { consumer: consumer.clone(), revision: consumer.revision() };
            }
            Admission::Late => {
                losses.add("late", 1);
                return Target::Ignored;
            }
            Admission::Full => {
                losses.add("too_many_processes", 1);
                return Target::Ignored;
            }
        };
        let Some(process) = self.trees.get_mut(number) else { return Target::Ignored };
        process.open += 1;
        let increments = Increments::new(series, self.since);
        match process.amounts.place(series) {
            Some(place) => Target::Energy { process: number, place, increments },
            None => Target::CpuTime { process: number, increments },
        }
    }

    fn take(&mut self, window: Window, id: SeriesId, value: Value) {
        let number = match self.targets.get_mut(id) {
            Some(Target::Book(book)) => return self.books.close(*book, window.end),
            Some(Target::CpuTime { process: number, increments }) => {
                let Some(process) = self.trees.get_mut(*number) else { return };
                process.amounts.cpu_nanos += increments.next(window, value);
                process.ran_to = process.ran_to.max(window.end);
                *number
            }
            Some(Target::Energy { process: number, place, increments }) => {
                let Some(process) = self.trees.get_mut(*number) else { return };
                process.amounts.energy[*place].1 += increments.next(window, value);
                *number
            }
            Some(Target::Ignored | Target::Unselected { .. }) | None => return,
        };
        let Some(process) = self.trees.get(number) else { return };
        if window.end >= process.due && self.due.last() != Some(&number) {
            self.due.push(number);
        }
        if process.consumer.revision() != process.revision {
            self.trees.refresh(number);
        }
    }

    fn end(&mut self, id: SeriesId) {
        let number = match self.targets.remove(id) {
            Some(Target::Book(book)) => return self.books.release(book),
            Some(Target::CpuTime { process, .. } | Target::Energy { process, .. }) => process,
            Some(Target::Ignored | Target::Unselected { .. }) | None => return,
        };
        let Some(process) = self.trees.get_mut(number) else { return };
        process.open -= 1;
        if process.open == 0 {
            self.ending.push_back((number, self.clock.now()));
        }
    }

    /// Ends the spans of processes that have run for a whole period, and begins their next ones.
    fn cut(&mut self, queue: &mut SpanQueue) {
        let mut due = std::mem::take(&mut self.due);
        for number in due.drain(..) {
            let Some(process) = self.trees.get(number) else { continue };
            let over = process.open == 0 || process.consumer.end_unix_nano().is_some();
            if over || process.ran_to < process.due {
                continue;
            }
            let end = self.clock.unix_nanos(process.ran_to);
            let next = self.trees.span_id(process, end);
            let Some(process) = self.trees.get_mut(number) else { continue };
            push(queue, &process.cut(end, next, self.period));
        }
        self.due = due;
    }

    /// Makes spans of the processes whose energy is known to their end.
    fn complete(&mut self, queue: &mut SpanQueue, losses: &mut Losses) {
        if self.ending.is_empty() {
            return;
        }
        let (closed_to, now) = (self.books.closed_to(), self.clock.now());
        let mut complete: Vec<(u64, usize)> = Vec::new();
        let (trees, clock) = (&self.trees, &self.clock);
        self.ending.retain(|&(number, since)| {
            let Some(process) = trees.get(number).filter(|process| process.open == 0) else { return false };
            let is_known = closed_to >= process.ran_to || now.since(since) >= MOST_WAIT;
            if is_known {
                complete.push((process.end(clock), number));
            }
            !is_known
        });
        self.make_spans(complete, queue, losses);
    }

    /// Nothing more comes: what is known of each process is its span.
    pub(crate) fn finish(&mut self, queue: &mut SpanQueue, losses: &mut Losses) {
        self.ending.clear();
        let all = self.trees.iter().map(|(number, process)| (process.end(&self.clock), number)).collect();
        self.make_spans(all, queue, losses);
    }

    /// Makes spans of processes, which end at the times given.
    fn make_spans(&mut self, mut complete: Vec<(u64, usize)>, queue: &mut SpanQueue, losses: &mut Losses) {
        // Children end before the parents that wait for them, in whose spans they may be counted.
        complete.sort_unstable();
        complete.dedup();
        for (end, number) in complete {
            if let Some(process) = self.trees.remove(number) {
                self.make_span(process, end, queue, losses);
            }
        }
    }

    fn make_span(&mut self, process: Process, end: u64, queue: &mut SpanQueue, losses: &mut Losses) {
        let parent = self.trees.parent_of(&process.consumer);
        match (self.limits.check(process.key.1, end), parent) {
            // A parent that is not there would leave its children without one.
            (Some(Limit::Duration), Some(parent)) if !process.has_children => {
                return parent.amounts.fold(&process.amounts);
            }
            (Some(Limit::Rate), Some(parent)) => return parent.amounts.fold(&process.amounts),
            // One that stands for others is sent nevertheless.
            (Some(Limit::Rate), None) if process.amounts.folded == 0 => return losses.add("rate", 1),
            (Some(_) | None, _) => {}
        }
        self.limits.count(end);
        push(queue, &process.finish(&self.clock));
    }
}

fn push(queue: &mut SpanQueue, finished: &Finished) {
    queue.push(QueuedSpan::new(span::of_process(finished), finished.amounts.total()));
}

#[cfg(test)]
mod tests;
