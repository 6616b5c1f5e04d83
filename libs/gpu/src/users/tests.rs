//! Tests of `users.rs`: who is told of, when, and that nothing is lost on the way.

use super::*;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{Clock, Identity};

struct Bench {
    rig: Rig,
    users: Users,
    who: Who,
    proc_root: tempfile::TempDir,
    now: u64,
}

fn process(pid: u32, start_unix_nano: u64) -> Arc<Consumer> {
    let identity = Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano };
    Arc::new(Consumer::new(identity, None, Vec::new()))
}

impl Bench {
    fn new(lateness: u64) -> Self {
        let (rig, proc_root) = (Rig::new(), tempfile::tempdir().unwrap());
        let lateness = Duration::from_secs(lateness);
        let users = Users::new(rig.registry.clone(), Resource::gpu("x".into()), lateness).unwrap();
        let clock = Clock::manual(Timestamp(0));
        let who = Who::new(rig.registry.directory().clone(), clock, proc_root.path());
        Self { rig, users, who, proc_root, now: 0 }
    }

    /// A second goes by in which `used` (pid, ns) and `held` (pid, bytes) were seen.
    fn second(&mut self, used: &[(u32, u64)], held: &[(u32, u64)]) -> (Vec<Point>, Vec<SeriesId>) {
        let window = Window::new(at(self.now), at(self.now + 1));
        self.now += 1;
        used.iter().for_each(|&(pid, nanos)| self.users.used(pid, nanos, window.end));
        held.iter().for_each(|&(pid, bytes)| self.users.holds(pid, bytes, window.end));
        let mut out = Batch::default();
        self.users.emit(Some(window), Some(window), window.end, &mut self.who, &mut out);
        (self.rig.points(&out), out.ended().to_vec())
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp(second * 1_000_000_000)
}

fn ids(points: &[Point]) -> Vec<(String, u64)> {
    let who = |p: &Point| p.series.consumer.as_ref().unwrap().identity().id.to_string();
    points.iter().filter(|p| p.metric.ends_with("time")).map(|p| (who(p), p.steps)).collect()
}

#[test]
fn a_window_in_which_somebody_is_not_known_yet_is_told_once_it_is_and_those_after_it_later() {
    let mut bench = Bench::new(0);
    let keeper = bench.rig.registry.directory().keep();
    keeper.announce(8, process(8, 1));
    assert_eq!(ids(&bench.second(&[(8, 5)], &[]).0), [("8".into(), 5)]);
    assert!(ids(&bench.second(&[(7, 100), (8, 5), (7, 11)], &[(7, 1 << 20)]).0).is_empty());
    assert!(ids(&bench.second(&[(8, 5)], &[(7, 1 << 20)]).0).is_empty());
    let consumer = process(7, 1);
    keeper.announce(7, consumer.clone());
    let (points, _) = bench.second(&[(7, 50)], &[(7, 1 << 21)]);
    let told: Vec<_> = points.iter().map(|p| (p.window.start.0 / 1_000_000_000, p.steps)).collect();
    let memory = f64::from(1 << 21).to_bits();
    assert_eq!(told, [(1, 111), (1, 10), (2, 111), (2, 15), (3, 161), (3, memory)]);
    assert_eq!(points[0].series.start, at(1));
    assert!(Arc::ptr_eq(points[0].series.consumer.as_ref().unwrap(), &consumer));
}

#[test]
fn who_ends_while_its_window_is_kept_back_ends_after_that_was_told() {
    let mut bench = Bench::new(0);
    let keeper = bench.rig.registry.directory().keep();
    let eight = process(8, 1);
    keeper.announce(8, eight.clone());
    bench.second(&[(8, 5)], &[]);
    bench.second(&[(7, 100), (8, 5)], &[]);
    keeper.withdraw(8, &eight);
    assert!(bench.second(&[], &[]).1.is_empty());
    keeper.announce(7, process(7, 1));
    let (points, ended) = bench.second(&[], &[]);
    assert_eq!(ids(&points), [("7".into(), 100), ("8".into(), 10)]);
    assert_eq!(ended, [points[1].id]);
}

#[test]
fn who_is_never_known_used_it_unattributed() {
    let mut bench = Bench::new(0);
    let _keeper = bench.rig.registry.directory().keep();
    bench.users.used_by_somebody(5);
    let told: Vec<_> = (0..4).flat_map(|n| bench.second(&[(7, 100)][n.min(1)..], &[]).0).collect();
    let steps: Vec<_> = told.iter().map(|p| (p.window.start, p.steps)).collect();
    assert_eq!(steps, [(at(0), 105)]);
    assert_eq!(told[0].series.consumer.as_ref().unwrap().kind(), ConsumerKind::Unattributed);
    assert!(bench.users.processes.is_empty() && bench.users.waiting.is_empty());
}

#[test]
fn at_the_end_nobody_is_waited_for() {
    for lost in [false, true] {
        let mut bench = Bench::new(0);
        let _keeper = bench.rig.registry.directory().keep();
        bench.second(&[(7, 100)], &[]);
        let mut out = Batch::default();
        if lost {
            bench.users.end(&mut out);
        } else {
            bench.users.hurry();
            bench.users.emit(None, None, at(1) + Duration::from_nanos(1), &mut bench.who, &mut out);
        }
        let points = bench.rig.points(&out);
        assert_eq!((points.len(), points[0].steps), (1, 100));
        assert_eq!(out.ended().len(), usize::from(lost));
    }
}

#[test]
fn who_sleeps_and_was_there_before_the_directory_is_told_of_all_the_same() {
    let mut bench = Bench::new(0);
    let _keeper = bench.rig.registry.directory().keep();
    let dir = bench.proc_root.path().join("7");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("stat"), format!("7 (burn) S 1 {}300 0\n", "0 ".repeat(17))).unwrap();
    // It only holds memory at first.
    let told: Vec<_> = (0..4).map(|_| bench.second(&[], &[(7, 1)]).0.len()).collect();
    assert_eq!(told, [0, 0, 0, 2]);
    assert_eq!(ids(&bench.second(&[(7, 100)], &[(7, 1)]).0), [("7".into(), 100)]);
}

#[test]
fn the_last_of_a_process_that_has_ended_is_told_before_its_end_and_late_use_is_its_own() {
    let mut bench = Bench::new(2);
    let keeper = bench.rig.registry.directory().keep();
    let consumer = process(7, 1);
    keeper.announce(7, consumer.clone());
    assert_eq!(ids(&bench.second(&[(7, 100)], &[(7, 9)]).0), [("7".into(), 100)]);
    keeper.withdraw(7, &consumer);
    let (points, ended) = bench.second(&[(7, 10)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 110)], 1), "the memory has ended");
    let (points, ended) = bench.second(&[(7, 1)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 111)], 0));
    assert_eq!(bench.second(&[], &[]).1.len(), 1);
}

#[test]
fn a_pid_s_next_owner_has_a_series_of_its_own() {
    let mut bench = Bench::new(60);
    let keeper = bench.rig.registry.directory().keep();
    keeper.announce(7, process(7, 1));
    bench.second(&[(7, 100)], &[]);
    let next = process(7, 1_000_000_000);
    keeper.announce(7, next.clone());
    // It cannot be told whose this was; the old one's is likelier.
    let (points, ended) = bench.second(&[(7, 10)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 110)], 1));
    let (points, _) = bench.second(&[(7, 3)], &[]);
    assert_eq!(ids(&points), [("7".into(), 3)]);
    assert!(Arc::ptr_eq(points[0].series.consumer.as_ref().unwrap(), &next));
}

#[test]
fn a_consumer_of_our_own_gives_way_to_the_directory_s_and_loses_nothing() {
    let mut bench = Bench::new(0);
    let dir = bench.proc_root.path().join("7");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("stat"), format!("7 (burn) R 1 {}300 0\n", "0 ".repeat(17))).unwrap();
    assert_eq!(ids(&bench.second(&[(7, 100)], &[]).0), [("7".into(), 100)]);
    let keeper = bench.rig.registry.directory().keep();
    keeper.announce(7, process(7, 3_004_000_000));
    let (points, ended) = bench.second(&[(7, 20)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 20)], 1));
    assert_eq!(points[0].series.start, at(1));
}

#[test]
fn a_holder_has_a_point_each_time_and_memory_ends_when_it_is_let_go() {
    let mut bench = Bench::new(0);
    let keeper = bench.rig.registry.directory().keep();
    keeper.announce(7, process(7, 1));
    keeper.announce(8, process(8, 1));
    bench.users.holds(7, 5, at(0));
    assert_eq!(bench.users.sole_holder(), Some(7));
    let (points, _) = bench.second(&[(8, 1)], &[(7, 5), (8, 1)]);
    assert_eq!(ids(&points), [("7".into(), 0), ("8".into(), 1)]);
    assert_eq!(points[2].value, 10.0, "two parts of one GPU add up");
    let (points, ended) = bench.second(&[], &[(7, 5)]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 0)], 1));
    let mut out = Batch::default();
    bench.users.end(&mut out);
    assert_eq!(out.ended().len(), 3, "two times, one memory");
}
