//! The scheduler on its own: which thread ran where for how long.

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
fn three_threads_on_one_cpu_get_a_third_of_it_each() {
    let machine = Machine::default();
    let on_one = ["a", "b", "c"].map(|name| busy(name).on(&[1]));
    let ran = run(&machine, on_one.to_vec(), 120);
    assert_eq!(ran.iter().map(|cpus| cpus[1]).collect::<Vec<_>>(), [40_000_000; 3]);
    assert_eq!(ran.iter().flatten().sum::<u64>(), 120_000_000, "nothing ran elsewhere");
}

#[test]
fn a_cpu_without_work_takes_a_waiting_thread() {
    let machine = Machine { cores: 2, ..Machine::default() };
    let processes = vec![short("first", 5).on(&[0]), busy("a").on(&[1]), short("b", 20), busy("c")];
    let ran = run(&machine, processes, 100);
    assert_eq!(ran.iter().flatten().sum::<u64>(), 200_000_000, "no CPU was idle");
    assert_eq!(ran[1][0], 0, "a pinned thread stays");
    assert!(ran[3][0] > 70_000_000 && ran[3][1] > 0, "c moved: {:?}", ran[3]);
}

#[test]
fn a_core_is_shared_only_if_no_other_core_is_idle() {
    let machine = Machine { cores: 2, threads: 2, ..Machine::default() };
    // CPUs 0 and 2 share a core, 1 and 3 another.
    let ran = run(&machine, vec![busy("a").on(&[0]), busy("b").on(&[2, 3]), busy("c").on(&[2, 3])], 10);
    let on = |task: usize| ran[task].iter().position(|&ns| ns > 0);
    assert_eq!([on(0), on(1), on(2)], [Some(0), Some(3), Some(2)]);
}

#[test]
fn threads_keep_their_duty_start_stop_and_rounds() {
    let machine = Machine::default();
    let duty = Process::new("duty", vec![Phase::duty(Mix::Integer, 0.3)]).from_to(ms(20), ms(70));
    let rounds = Process::new("rounds", vec![Phase::new(Mix::Integer, ms(2), ms(1))]).rounds(3);
    let ran = run(&machine, vec![duty, rounds], 200);
    assert_eq!(ran[0].iter().sum::<u64>(), 15_000_000);
    assert_eq!(ran[1].iter().sum::<u64>(), 6_000_000);
}
