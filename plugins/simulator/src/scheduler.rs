//! Which thread runs on which CPU: a small model of a scheduler. `simulation.rs` lets time pass between its
//! events. A thread that wakes gets an idle CPU, preferably on an idle core, or else queues. A CPU whose
//! queue is not empty switches threads every [`SLICE`]. A CPU without work takes a thread from another's
//! queue.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::machine::Machine;
use crate::mix::Mix;
use crate::random::Random;
use crate::schedule::{Schedule, Thread};

/// How long a thread runs while another one waits, ns.
const SLICE: u64 = 4_000_000;

/// What happens to a thread at a time that is known in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begin,
    Wake,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotStarted,
    Asleep,
    Queued(usize),
    Running(usize),
    Ended(u64),
}

#[derive(Debug)]
struct Task {
    script: Thread,
    state: State,
    phase: usize,
    rounds: u64,
    /// CPU time that remains of this phase, ns.
    left: u64,
    /// CPU that it ran on last.
    last: usize,
}

#[derive(Debug, Default)]
struct Cpu {
    running: Option<usize>,
    queue: VecDeque<usize>,
    slice_end: u64,
}

/// The threads, and the CPUs they run on. Times are ns since the start.
#[derive(Debug)]
pub(crate) struct Scheduler {
    tasks: Vec<Task>,
    cpus: Vec<Cpu>,
    siblings: Vec<Option<usize>>,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    random: Random,
}

impl Scheduler {
    /// A scheduler that runs nothing yet. Threads are numbered in the order of the schedule's processes.
    pub(crate) fn new(machine: &Machine, schedule: &Schedule, seed: u64) -> Self {
        let all: Vec<usize> = (0..machine.all_cpus()).collect();
        let task = |script: &Thread| Task {
            script: Thread {
                cpus: if script.cpus.is_empty() { all.clone() } else { script.cpus.clone() },
                ..script.clone()
            },
            state: State::NotStarted,
            phase: 0,
            rounds: 0,
            left: 0,
            last: usize::MAX,
        };
        let tasks: Vec<Task> =
            schedule.processes.iter().flat_map(|process| &process.threads).map(task).collect();
        let mut events = BinaryHeap::new();
        for (at, task) in tasks.iter().enumerate() {
            events.push(Reverse((nanos(task.script.start), at, Event::Begin)));
            if !task.script.stop.is_zero() {
                events.push(Reverse((nanos(task.script.stop), at, Event::Stop)));
            }
        }
        Self {
            tasks,
            cpus: all.iter().map(|_| Cpu::default()).collect(),
            siblings: all.iter().map(|&cpu| machine.sibling_of(cpu)).collect(),
            events,
            random: Random::new(seed),
        }
    }

    /// The thread that `cpu` runs, and what it executes.
    pub(crate) fn running(&self, cpu: usize) -> Option<(usize, Mix)> {
        let task = self.cpus[cpu].running?;
        Some((task, self.tasks[task].script.phases[self.tasks[task].phase].mix))
    }

    /// When the thread started and ended, if it has.
    pub(crate) fn life(&self, task: usize) -> (Option<u64>, Option<u64>) {
        let start = Some(nanos(self.tasks[task].script.start));
        match self.tasks[task].state {
            State::NotStarted => (None, None),
            State::Ended(at) => (start, Some(at)),
            _ => (start, None),
        }
    }

    /// When the next event happens, not before `now`.
    pub(crate) fn next(&self, now: u64) -> u64 {
        let mut next = self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        for cpu in &self.cpus {
            if let Some(task) = cpu.running {
                next = next.min(now + self.tasks[task].left);
                if !cpu.queue.is_empty() {
                    next = next.min(cpu.slice_end.max(now));
                }
            }
        }
        next
    }

    /// Lets the running threads run for `ns`, which does not go beyond [`Scheduler::next`].
    pub(crate) fn run(&mut self, ns: u64) {
        for cpu in &self.cpus {
            if let Some(task) = cpu.running {
                self.tasks[task].left -= ns;
            }
        }
    }

    /// Handles the events up to `now`. Returns whether other threads run afterwards.
    pub(crate) fn settle(&mut self, now: u64) -> bool {
        let mut changed = false;
        for cpu in 0..self.cpus.len() {
            if let Some(task) = self.cpus[cpu].running
                && self.tasks[task].left == 0
            {
                changed = true;
                self.phase_over(task, now);
            }
        }
        while let Some(&Reverse((at, task, what))) = self.events.peek()
            && at <= now
        {
            self.events.pop();
            changed = true;
            match what {
                Event::Begin | Event::Wake if matches!(self.tasks[task].state, State::Ended(_)) => {}
                Event::Begin => self.begin_phase(task, now),
                Event::Wake => self.next_phase(task, now),
                Event::Stop => self.end(task, now),
            }
        }
        for cpu in 0..self.cpus.len() {
            let at = &mut self.cpus[cpu];
            if at.slice_end <= now
                && let (Some(task), Some(next)) = (at.running, at.queue.front().copied())
            {
                changed = true;
                at.queue.pop_front();
                at.queue.push_back(task);
                self.tasks[task].state = State::Queued(cpu);
                self.start(next, cpu, now);
            }
        }
        changed
    }

    /// The thread has used the CPU time of its phase.
    fn phase_over(&mut self, task: usize, now: u64) {
        let phase = self.tasks[task].script.phases[self.tasks[task].phase];
        let sleep = self.vary(nanos(phase.sleep), phase.jitter);
        if sleep == 0 {
            return self.next_phase(task, now);
        }
        self.leave(task, State::Asleep, now);
        self.events.push(Reverse((now + sleep, task, Event::Wake)));
    }

    fn next_phase(&mut self, task: usize, now: u64) {
        let at = &mut self.tasks[task];
        at.phase += 1;
        if at.phase == at.script.phases.len() {
            at.phase = 0;
            at.rounds += 1;
            if at.rounds == at.script.rounds {
                return self.end(task, now);
            }
        }
        self.begin_phase(task, now);
    }

    fn begin_phase(&mut self, task: usize, now: u64) {
        let phase = self.tasks[task].script.phases[self.tasks[task].phase];
        let run = self.vary(nanos(phase.run), phase.jitter);
        self.tasks[task].left = run;
        match self.tasks[task].state {
            // The phase is sleep only.
            _ if run == 0 && !phase.sleep.is_zero() => self.phase_over(task, now),
            _ if run == 0 => self.next_phase(task, now),
            // It continues on its CPU.
            State::Running(_) => {}
            _ => self.assign_cpu(task, now),
        }
    }

    fn end(&mut self, task: usize, now: u64) {
        if !matches!(self.tasks[task].state, State::Ended(_)) {
            self.leave(task, State::Ended(now), now);
        }
    }

    /// Removes a thread from its CPU or queue, and gives the CPU to another thread.
    fn leave(&mut self, task: usize, state: State, now: u64) {
        match std::mem::replace(&mut self.tasks[task].state, state) {
            State::Running(cpu) => {
                self.cpus[cpu].running = None;
                if let Some(next) = self.take_waiting(cpu) {
                    self.start(next, cpu, now);
                }
            }
            State::Queued(cpu) => self.cpus[cpu].queue.retain(|&queued| queued != task),
            _ => {}
        }
    }

    /// A thread for the idle `cpu`: the first of its queue, or of the longest queue with a thread that may
    /// run on it.
    fn take_waiting(&mut self, cpu: usize) -> Option<usize> {
        if let Some(task) = self.cpus[cpu].queue.pop_front() {
            return Some(task);
        }
        let tasks = &self.tasks;
        let fits = |&task: &usize| tasks[task].script.cpus.contains(&cpu);
        let queues = self.cpus.iter().enumerate().filter(|(_, other)| other.queue.iter().any(fits));
        let (longest, _) = queues.max_by_key(|(number, other)| (other.queue.len(), Reverse(*number)))?;
        let at = self.cpus[longest].queue.iter().position(fits)?;
        self.cpus[longest].queue.remove(at)
    }

    /// Starts a thread on the best CPU, or adds it to the shortest queue.
    fn assign_cpu(&mut self, task: usize, now: u64) {
        let last = self.tasks[task].last;
        let is_idle = |cpu: usize| self.cpus[cpu].running.is_none();
        let rank = |&cpu: &usize| {
            let alone = self.siblings[cpu].is_none_or(is_idle);
            let load = match (is_idle(cpu), alone) {
                (true, true) => 0,
                (true, false) => 1,
                _ => 2 + self.cpus[cpu].queue.len(),
            };
            (load, cpu != last, cpu)
        };
        let Some(cpu) = self.tasks[task].script.cpus.iter().copied().min_by_key(|cpu| rank(cpu)) else {
            return;
        };
        if is_idle(cpu) {
            self.start(task, cpu, now);
        } else {
            self.tasks[task].state = State::Queued(cpu);
            self.cpus[cpu].queue.push_back(task);
        }
    }

    fn start(&mut self, task: usize, cpu: usize, now: u64) {
        self.tasks[task].state = State::Running(cpu);
        self.tasks[task].last = cpu;
        self.cpus[cpu].running = Some(task);
        self.cpus[cpu].slice_end = now + SLICE;
    }

    fn vary(&mut self, ns: u64, jitter: f64) -> u64 {
        if jitter == 0.0 || ns == 0 {
            return ns;
        }
        (ns as f64 * self.random.between(1.0 - jitter, 1.0 + jitter)) as u64
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
