//! Tests of `usage.rs`: which processes get points, when, and that no time is lost.

use super::*;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{Clock, Identity};
use wattrace_procfs::Procfs;

struct Scene {
    rig: Rig,
    usage: ProcessUsage,
    resolver: ProcessResolver,
    proc_root: tempfile::TempDir,
    now: u64,
}

fn process(pid: u32, start_unix_nano: u64) -> Arc<Consumer> {
    let identity = Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano };
    Arc::new(Consumer::new(identity, None, Vec::new()))
}

impl Scene {
    fn new(lateness: u64) -> Self {
        let (rig, proc_root) = (Rig::new(), tempfile::tempdir().unwrap());
        let lateness = Duration::from_secs(lateness);
        let usage = ProcessUsage::new(rig.registry.clone(), Resource::gpu("x".into()), lateness).unwrap();
        let clock = Clock::manual(Timestamp(0));
        let procfs = Procfs::at(proc_root.path());
        let resolver = ProcessResolver::new(rig.registry.directory().clone(), clock, procfs);
        Self { rig, usage, resolver, proc_root, now: 0 }
    }

    /// A second passes in which `used` (pid, ns) and `held` (pid, bytes) are read.
    fn second(&mut self, used: &[(u32, u64)], held: &[(u32, u64)]) -> (Vec<Point>, Vec<SeriesId>) {
        let window = Window::new(at(self.now), at(self.now + 1));
        self.now += 1;
        used.iter().for_each(|&(pid, nanos)| self.usage.add_time(pid, nanos, window.end));
        held.iter().for_each(|&(pid, bytes)| self.usage.add_memory(pid, bytes, window.end));
        let mut out = Batch::default();
        self.usage.emit(Some(window), Some(window), window.end, &mut self.resolver, &mut out);
        (self.rig.points(&out), out.ended().to_vec())
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp(second * 1_000_000_000)
}

fn ids(points: &[Point]) -> Vec<(String, u64)> {
    let id = |p: &Point| p.series.consumer.as_ref().unwrap().identity().id.to_string();
    points.iter().filter(|p| p.metric.ends_with("time")).map(|p| (id(p), p.steps)).collect()
}

#[test]
fn a_window_waits_until_its_pids_are_resolved_and_later_windows_wait_for_it() {
    let mut scene = Scene::new(0);
    let keeper = scene.rig.registry.directory().keep();
    keeper.announce(8, process(8, 1));
    assert_eq!(ids(&scene.second(&[(8, 5)], &[]).0), [("8".into(), 5)]);
    assert!(ids(&scene.second(&[(7, 100), (8, 5), (7, 11)], &[(7, 1 << 20)]).0).is_empty());
    assert!(ids(&scene.second(&[(8, 5)], &[(7, 1 << 20)]).0).is_empty());
    let consumer = process(7, 1);
    keeper.announce(7, consumer.clone());
    let (points, _) = scene.second(&[(7, 50)], &[(7, 1 << 21)]);
    let seen: Vec<_> = points.iter().map(|p| (p.window.start.0 / 1_000_000_000, p.steps)).collect();
    let memory = f64::from(1 << 21).to_bits();
    assert_eq!(seen, [(1, 111), (1, 10), (2, 111), (2, 15), (3, 161), (3, memory)]);
    assert_eq!(points[0].series.start, at(1));
    assert!(Arc::ptr_eq(points[0].series.consumer.as_ref().unwrap(), &consumer));
}

#[test]
fn a_process_that_ends_while_its_window_waits_ends_after_that_window() {
    let mut scene = Scene::new(0);
    let keeper = scene.rig.registry.directory().keep();
    let eight = process(8, 1);
    keeper.announce(8, eight.clone());
    scene.second(&[(8, 5)], &[]);
    scene.second(&[(7, 100), (8, 5)], &[]);
    keeper.withdraw(8, &eight);
    assert!(scene.second(&[], &[]).1.is_empty());
    keeper.announce(7, process(7, 1));
    let (points, ended) = scene.second(&[], &[]);
    assert_eq!(ids(&points), [("7".into(), 100), ("8".into(), 10)]);
    assert_eq!(ended, [points[1].id]);
}

#[test]
fn the_time_of_a_pid_that_is_never_resolved_is_unattributed() {
    let mut scene = Scene::new(0);
    let _keeper = scene.rig.registry.directory().keep();
    scene.usage.add_unattributed_time(5);
    let seen: Vec<_> = (0..4).flat_map(|n| scene.second(&[(7, 100)][n.min(1)..], &[]).0).collect();
    let steps: Vec<_> = seen.iter().map(|p| (p.window.start, p.steps)).collect();
    assert_eq!(steps, [(at(0), 105)]);
    assert_eq!(seen[0].series.consumer.as_ref().unwrap().kind(), ConsumerKind::Unattributed);
    assert!(scene.usage.processes.is_empty() && scene.usage.pending.is_empty());
}

#[test]
fn at_the_end_no_window_waits() {
    for lost in [false, true] {
        let mut scene = Scene::new(0);
        let _keeper = scene.rig.registry.directory().keep();
        scene.second(&[(7, 100)], &[]);
        let mut out = Batch::default();
        if lost {
            scene.usage.end(&mut out);
        } else {
            scene.usage.stop_waiting();
            scene.usage.emit(None, None, at(1) + Duration::from_nanos(1), &mut scene.resolver, &mut out);
        }
        let points = scene.rig.points(&out);
        assert_eq!((points.len(), points[0].steps), (1, 100));
        assert_eq!(out.ended().len(), usize::from(lost));
    }
}

#[test]
fn a_process_that_sleeps_since_before_the_directory_gets_points() {
    let mut scene = Scene::new(0);
    let _keeper = scene.rig.registry.directory().keep();
    let dir = scene.proc_root.path().join("7");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("stat"), format!("7 (burn) S 1 {}300 0\n", "0 ".repeat(17))).unwrap();
    // It only holds memory at first.
    let seen: Vec<_> = (0..4).map(|_| scene.second(&[], &[(7, 1)]).0.len()).collect();
    assert_eq!(seen, [0, 0, 0, 2]);
    assert_eq!(ids(&scene.second(&[(7, 100)], &[(7, 1)]).0), [("7".into(), 100)]);
}

#[test]
fn time_reported_after_a_process_ended_is_still_its_own() {
    let mut scene = Scene::new(2);
    let keeper = scene.rig.registry.directory().keep();
    let consumer = process(7, 1);
    keeper.announce(7, consumer.clone());
    assert_eq!(ids(&scene.second(&[(7, 100)], &[(7, 9)]).0), [("7".into(), 100)]);
    keeper.withdraw(7, &consumer);
    let (points, ended) = scene.second(&[(7, 10)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 110)], 1), "the memory series has ended");
    let (points, ended) = scene.second(&[(7, 1)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 111)], 0));
    assert_eq!(scene.second(&[], &[]).1.len(), 1);
}

#[test]
fn the_next_process_with_a_pid_has_a_series_of_its_own() {
    let mut scene = Scene::new(60);
    let keeper = scene.rig.registry.directory().keep();
    keeper.announce(7, process(7, 1));
    scene.second(&[(7, 100)], &[]);
    let next = process(7, 1_000_000_000);
    keeper.announce(7, next.clone());
    // Either of the two may have used this; the old one is more likely.
    let (points, ended) = scene.second(&[(7, 10)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 110)], 1));
    let (points, _) = scene.second(&[(7, 3)], &[]);
    assert_eq!(ids(&points), [("7".into(), 3)]);
    assert!(Arc::ptr_eq(points[0].series.consumer.as_ref().unwrap(), &next));
}

#[test]
fn a_consumer_made_from_proc_is_replaced_by_the_directory_s_without_loss() {
    let mut scene = Scene::new(0);
    let dir = scene.proc_root.path().join("7");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("stat"), format!("7 (burn) R 1 {}300 0\n", "0 ".repeat(17))).unwrap();
    assert_eq!(ids(&scene.second(&[(7, 100)], &[]).0), [("7".into(), 100)]);
    let keeper = scene.rig.registry.directory().keep();
    keeper.announce(7, process(7, 3_004_000_000));
    let (points, ended) = scene.second(&[(7, 20)], &[]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 20)], 1));
    assert_eq!(points[0].series.start, at(1));
}

#[test]
fn a_process_with_memory_has_a_point_in_each_window_until_it_frees_it() {
    let mut scene = Scene::new(0);
    let keeper = scene.rig.registry.directory().keep();
    keeper.announce(7, process(7, 1));
    keeper.announce(8, process(8, 1));
    scene.usage.add_memory(7, 5, at(0));
    assert_eq!(scene.usage.sole_holder(), Some(7));
    let (points, _) = scene.second(&[(8, 1)], &[(7, 5), (8, 1)]);
    assert_eq!(ids(&points), [("7".into(), 0), ("8".into(), 1)]);
    assert_eq!(points[2].value, 10.0, "the memory of two instances of a GPU adds up");
    let (points, ended) = scene.second(&[], &[(7, 5)]);
    assert_eq!((ids(&points), ended.len()), (vec![("7".into(), 0)], 1));
    let mut out = Batch::default();
    scene.usage.end(&mut out);
    assert_eq!(out.ended().len(), 3, "two series of time, one of memory");
}
