//! Who runs where: a small model of a scheduler, driven from one event to the next, with no time of its own.
//! A thread that wakes gets an idle CPU, one whose core is idle if there is one, else it queues; a CPU whose
//! queue is not empty changes threads every [`SLICE`]; a CPU that has nothing to do takes a thread from
//! another's queue.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::machine::Machine;
use crate::mix::Mix;
use crate::random::Random;
use crate::schedule::{Schedule, Thread};

/// How long a thread runs while another waits, ns.
const SLICE: u64 = 4_000_000;

/// What is to happen to a thread at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Begin,
    Wake,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unborn,
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
    /// CPU time left of this phase, ns.
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
    due: BinaryHeap<Reverse<(u64, usize, Due)>>,
    random: Random,
}

impl Scheduler {
    /// With nothing running yet. Threads are numbered in the order of the schedule's processes and theirs.
    pub(crate) fn new(machine: &Machine, schedule: &Schedule, seed: u64) -> Self {
        let all: Vec<usize> = (0..machine.all_cpus()).collect();
        let task = |script: &Thread| Task {
            script: Thread {
                cpus: if script.cpus.is_empty() { all.clone() } else { script.cpus.clone() },
                ..script.clone()
            },
            state: State::Unborn,
            phase: 0,
            rounds: 0,
            left: 0,
            last: usize::MAX,
        };
        let tasks: Vec<Task> =
            schedule.processes.iter().flat_map(|process| &process.threads).map(task).collect();
        let mut due = BinaryHeap::new();
        for (at, task) in tasks.iter().enumerate() {
            due.push(Reverse((nanos(task.script.start), at, Due::Begin)));
            if !task.script.stop.is_zero() {
                due.push(Reverse((nanos(task.script.stop), at, Due::Stop)));
            }
        }
        Self {
            tasks,
            cpus: all.iter().map(|_| Cpu::default()).collect(),
            siblings: all.iter().map(|&cpu| machine.sibling_of(cpu)).collect(),
            due,
            random: Random::new(seed),
        }
    }

    /// What `cpu` runs: the thread, and what it executes.
    pub(crate) fn running(&self, cpu: usize) -> Option<(usize, Mix)> {
        let task = self.cpus[cpu].running?;
        Some((task, self.tasks[task].script.phases[self.tasks[task].phase].mix))
    }

    /// When the thread began and when it ended, as far as it has.
    pub(crate) fn life(&self, task: usize) -> (Option<u64>, Option<u64>) {
        let start = Some(nanos(self.tasks[task].script.start));
        match self.tasks[task].state {
            State::Unborn => (None, None),
            State::Ended(at) => (start, Some(at)),
            _ => (start, None),
        }
    }

    /// When something happens next, if nothing else does; not before `now`.
    pub(crate) fn next(&self, now: u64) -> u64 {
        let mut next = self.due.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
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

    /// Lets the threads that run have `ns` more, no more than [`Scheduler::next`] allows.
    pub(crate) fn run(&mut self, ns: u64) {
        for cpu in &self.cpus {
            if let Some(task) = cpu.running {
                self.tasks[task].left -= ns;
            }
        }
    }

    /// Does what is to happen at `now`. Returns whether what runs has changed.
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
        while let Some(&Reverse((at, task, what))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            changed = true;
            match what {
                Due::Begin | Due::Wake if matches!(self.tasks[task].state, State::Ended(_)) => {}
                Due::Begin => self.begin_phase(task, now),
                Due::Wake => self.next_phase(task, now),
                Due::Stop => self.end(task, now),
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

    /// The thread has used the time of its phase.
    fn phase_over(&mut self, task: usize, now: u64) {
        let phase = self.tasks[task].script.phases[self.tasks[task].phase];
        let sleep = self.vary(nanos(phase.sleep), phase.jitter);
        if sleep == 0 {
            return self.next_phase(task, now);
        }
        self.leave(task, State::Asleep, now);
        self.due.push(Reverse((now + sleep, task, Due::Wake)));
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
            // A phase of sleep alone.
            _ if run == 0 && !phase.sleep.is_zero() => self.phase_over(task, now),
            _ if run == 0 => self.next_phase(task, now),
            // It goes on where it is.
            State::Running(_) => {}
            _ => self.place(task, now),
        }
    }

    fn end(&mut self, task: usize, now: u64) {
        if !matches!(self.tasks[task].state, State::Ended(_)) {
            self.leave(task, State::Ended(now), now);
        }
    }

    /// Takes a thread from where it is, and gives its CPU to another.
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

    /// A thread for the idle `cpu`: the first of its queue, or of the longest queue that has one for it.
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

    /// Gives a thread that is to run a CPU, or a place in a queue.
    fn place(&mut self, task: usize, now: u64) {
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
mod tests {
    use super::*;
    use crate::schedule::{Phase, Process};

    /// CPU time of each thread on each CPU after `ms`, ns.
    fn run(machine: &Machine, processes: Vec<Process>, ms: u64) -> Vec<Vec<u64>> {
        let schedule = Schedule { processes };
        schedule.check(machine).unwrap();
        let mut scheduler = Scheduler::new(machine, &schedule, 1);
        let mut ran = vec![vec![0; machine.all_cpus()]; scheduler.tasks.len()];
        let (mut now, end) = (0, ms * 1_000_000);
        scheduler.settle(0);
        while now < end {
            let next = scheduler.next(now).min(end);
            for (task, ran) in ran.iter_mut().enumerate() {
                if let State::Running(cpu) = scheduler.tasks[task].state {
                    assert_eq!(scheduler.running(cpu).map(|running| running.0), Some(task));
                    ran[cpu] += next - now;
                }
            }
            scheduler.run(next - now);
            now = next;
            scheduler.settle(now);
        }
        ran
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn busy(name: &str) -> Process {
        Process::new(name, vec![Phase::steady(Mix::Integer)])
    }

    fn short(name: &str, length: u64) -> Process {
        Process::new(name, vec![Phase::new(Mix::Integer, ms(length), Duration::ZERO)]).rounds(1)
    }

    #[test]
    fn three_threads_on_a_cpu_take_turns_and_get_a_third_each() {
        let machine = Machine::default();
        let on_one = ["a", "b", "c"].map(|name| busy(name).on(&[1]));
        let ran = run(&machine, on_one.to_vec(), 120);
        assert_eq!(ran.iter().map(|cpus| cpus[1]).collect::<Vec<_>>(), [40_000_000; 3]);
        assert_eq!(ran.iter().flatten().sum::<u64>(), 120_000_000, "nothing ran elsewhere");
    }

    #[test]
    fn a_cpu_that_has_nothing_to_do_takes_a_waiting_thread() {
        let machine = Machine { cores: 2, ..Machine::default() };
        let processes = vec![short("first", 5).on(&[0]), busy("a").on(&[1]), short("b", 20), busy("c")];
        let ran = run(&machine, processes, 100);
        assert_eq!(ran.iter().flatten().sum::<u64>(), 200_000_000, "no CPU was idle");
        assert_eq!(ran[1][0], 0, "what is pinned stays");
        assert!(ran[3][0] > 70_000_000 && ran[3][1] > 0, "c moved: {:?}", ran[3]);
    }

    #[test]
    fn siblings_are_shared_last() {
        let machine = Machine { cores: 2, threads: 2, ..Machine::default() };
        // CPUs 0 and 2 share a core, 1 and 3 another.
        let ran = run(&machine, vec![busy("a").on(&[0]), busy("b").on(&[2, 3]), busy("c").on(&[2, 3])], 10);
        let on = |task: usize| ran[task].iter().position(|&ns| ns > 0);
        assert_eq!([on(0), on(1), on(2)], [Some(0), Some(3), Some(2)]);
    }

    #[test]
    fn duty_starts_and_stops_are_kept() {
        let machine = Machine::default();
        let duty = Process::new("duty", vec![Phase::duty(Mix::Integer, 0.3)]).from_to(ms(20), ms(70));
        let rounds = Process::new("rounds", vec![Phase::new(Mix::Integer, ms(2), ms(1))]).rounds(3);
        let ran = run(&machine, vec![duty, rounds], 200);
        assert_eq!(ran[0].iter().sum::<u64>(), 15_000_000);
        assert_eq!(ran[1].iter().sum::<u64>(), 6_000_000);
    }
}
