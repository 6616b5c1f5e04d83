//! Histories of processes: what the groups must show, and that nothing is left at the end.

use std::collections::BTreeMap;
use std::fs;

use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, AttributeValue, Identity, Metric, Resource, Series, SeriesSpec, Unit, Window, metric, network,
};

use super::*;
use crate::level::Level;
use crate::names::lookup::Answer;

mod histories;

const ID: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
const UID: &str = "7e44ee88-1e65-4a16-8cdf-9a90c819180e";

fn second(n: u64) -> Timestamp {
    Timestamp(n * 1_000_000_000)
}

/// A transform with a /proc that the test writes, and the series that came out of it.
struct Scene {
    rig: Rig,
    transform: Transformer,
    proc: tempfile::TempDir,
    second: u64,
    /// By series: what it is and its last value, ended ones included.
    seen: BTreeMap<(usize, u64), (Arc<Series>, u64)>,
    /// How often an id was given out, to keep series with the same id apart.
    lives: BTreeMap<usize, u64>,
}

impl Scene {
    fn new(config: &str) -> Self {
        Self::with(config, "0::/\n")
    }

    fn with(config: &str, own_cgroups: &str) -> Self {
        let rig = Rig::new();
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        fs::write(proc.path().join("self/cgroup"), own_cgroups).unwrap();
        let config: GroupsConfig = toml::from_str(&format!("names = false\n{config}")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let names = Names::open(&config, runtime.handle());
        let (registry, clock, read) = (rig.registry.clone(), rig.clock.clone(), Procfs::at(proc.path()));
        let transform = Transformer::new(&config, registry, clock, read, names);
        Self { rig, transform, proc, second: 0, seen: BTreeMap::new(), lives: BTreeMap::new() }
    }

    /// A process that started at `pid` hundredths of a second.
    fn process(&self, pid: u32, path: &str, parent: Option<&Consumer>) -> Arc<Consumer> {
        let mut attributes = vec![Attribute::new("process.pid", pid)];
        if !path.is_empty() {
            attributes.push(Attribute::new("process.linux.cgroup", path));
        }
        if let Some(AttributeValue::Int(of)) = parent.and_then(|parent| parent.attribute("process.pid")) {
            attributes.push(Attribute::new("process.parent_pid", of));
        }
        let start_unix_nano = u64::from(pid) * 10_000_000;
        let identity = Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano };
        Arc::new(Consumer::new(identity, parent.map(|parent| parent.identity().clone()), attributes))
    }

    /// Writes a process into /proc.
    fn in_proc(&self, pid: u32, parent: u32, state: char, cgroups: &str) {
        let folder = self.proc.path().join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        let stat = format!("{pid} (x) {state} {parent} 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {pid} 0 0");
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("cgroup"), cgroups).unwrap();
    }

    fn series(&self, metric: &Metric, package: u32, consumer: &Arc<Consumer>) -> SeriesId {
        let metric = self.rig.registry.metric(metric).unwrap();
        let spec = SeriesSpec::new(metric, Resource::package(package), second(self.second));
        self.rig.registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec })
    }

    fn cpu_time(&self, consumer: &Arc<Consumer>) -> SeriesId {
        self.series(&metric::CONSUMER_CPU_TIME, 0, consumer)
    }

    /// Advances the clock by a second, in which these series reach these values, and then some end.
    fn pass(&mut self, points: &[(SeriesId, u64)], ended: &[SeriesId]) -> Batch {
        self.second += 1;
        let mut batch = self.rig.batch(Window::new(second(self.second - 1), second(self.second)), points);
        ended.iter().for_each(|&series| batch.end(series));
        self.transform.apply(&mut batch).unwrap();
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                let series = self.rig.registry.get(id).unwrap();
                let life = *self.lives.entry(id.index()).or_default();
                let (_, last) = self.seen.entry((id.index(), life)).or_insert((series, 0));
                assert!(value.steps() >= *last, "a counter went back");
                *last = value.steps();
            }
        }
        batch.ended().iter().for_each(|id| *self.lives.entry(id.index()).or_default() += 1);
        self.rig.registry.release(batch.ended());
        batch
    }

    /// Per consumer of `kind` the sum over all its series, ended ones included.
    fn sums(&self, kind: ConsumerKind) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (series, last) in self.seen.values() {
            let consumer = series.consumer.as_ref().unwrap();
            if consumer.kind() == kind {
                *sums.entry(consumer.identity().id.to_string()).or_default() += last;
            }
        }
        sums
    }

    fn attribute(&self, kind: ConsumerKind, id: &str, key: &str) -> String {
        let mut consumers = self.seen.values().filter_map(|(series, _)| series.consumer.as_ref());
        let found = consumers.find(|c| c.kind() == kind && c.identity().id == id).unwrap();
        found.attribute(key).map(|value| value.to_string()).unwrap_or_default()
    }

    /// Whether nothing is left but the rests.
    fn is_empty(&self) -> bool {
        let rests = self.transform.levels;
        self.transform.processes.is_empty() && self.transform.processes.table.counts() == (rests, 0)
    }
}

fn sums<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.into_iter().map(|(id, sum)| (id.to_owned(), sum)).collect()
}

#[test]
fn each_level_divides_all_processes_and_each_process_carries_its_groups() {
    let mut scene = Scene::new("");
    let in_pod = format!("/kubepods/burstable/pod{UID}/{ID}");
    let (a, b) = (scene.process(100, &in_pod, None), scene.process(101, &in_pod, None));
    let (c, d) = (scene.process(102, "/system.slice/cron.service", None), scene.process(103, "/", None));
    c.update(vec![Attribute::new("process.real_user.id", 7_i64)]);
    a.update(vec![Attribute::new("process.real_user.id", 0_i64)]);
    let all = [&a, &b, &c, &d].map(|process| scene.cpu_time(process));
    scene.pass(&[(all[0], 1), (all[1], 20), (all[2], 300), (all[3], 4000)], &[]);
    scene.pass(&[(all[0], 2), (all[3], 4003)], &[]);

    assert_eq!(scene.sums(ConsumerKind::Process).values().sum::<u64>(), 4325);
    assert_eq!(scene.sums(ConsumerKind::Container), sums([(ID, 22), ("", 4303)]));
    assert_eq!(scene.sums(ConsumerKind::Pod), sums([(UID, 22), ("", 4303)]));
    assert_eq!(scene.sums(ConsumerKind::Unit), sums([("cron.service", 300), ("", 4025)]));
    assert_eq!(scene.sums(ConsumerKind::User), sums([("0", 2), ("7", 300), ("", 4023)]));
    assert_eq!(scene.sums(ConsumerKind::Job), sums([]), "no job, no rest of jobs");
    assert_eq!(scene.sums(ConsumerKind::Cgroup), sums([]), "off by default");

    let value = |process: &Consumer, key| process.attribute(key).map(|v| v.to_string()).unwrap_or_default();
    assert_eq!((value(&a, "container.id"), value(&a, "k8s.pod.uid")), (ID.to_owned(), UID.to_owned()));
    assert_eq!(
        (value(&a, "process.real_user.id"), value(&c, "systemd.unit")),
        ("0".to_owned(), "cron.service".to_owned())
    );
    assert_eq!(value(&d, "container.id"), "");
    assert_eq!(scene.attribute(ConsumerKind::Pod, UID, "k8s.pod.qos_class"), "Burstable");
    let container = scene
        .seen
        .values()
        .find_map(|(s, _)| {
            s.consumer.clone().filter(|c| c.kind() == ConsumerKind::Container && !c.identity().id.is_empty())
        })
        .unwrap();
    assert_eq!(container.parent().unwrap().id, UID);
}

#[test]
fn the_rest_appears_with_the_first_group_of_a_level_with_all_that_it_has_counted() {
    let mut scene = Scene::new("levels = ['container']");
    let outside = scene.process(100, "/", None);
    let time = scene.cpu_time(&outside);
    assert_eq!(scene.pass(&[(time, 5)], &[]).len(), 1);
    let inside = scene.process(101, &format!("/docker/{ID}"), None);
    let other = scene.cpu_time(&inside);
    let batch = scene.pass(&[(other, 1)], &[]);
    assert_eq!(batch.len(), 3);
    assert_eq!(scene.sums(ConsumerKind::Container), sums([(ID, 1), ("", 5)]));
    // All points cover the same window.
    assert!(batch.segments().all(|segment| segment.window == Window::new(second(1), second(2))));
}

#[test]
fn what_a_process_used_before_a_move_stays_in_the_old_group() {
    let mut scene = Scene::new("levels = ['container', 'user']");
    let process = scene.process(100, "/", None);
    let (time, energy) = (scene.cpu_time(&process), scene.series(&metric::CONSUMER_ENERGY, 0, &process));
    scene.pass(&[(time, 5), (energy, 50)], &[]);
    process.update(vec![Attribute::new("process.linux.cgroup", format!("/docker/{ID}"))]);
    scene.pass(&[(time, 7), (energy, 90)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Container), sums([(ID, 42), ("", 55)]));
    process.update(vec![Attribute::new("process.linux.cgroup", "/")]);
    scene.pass(&[(energy, 91)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Container), sums([(ID, 42), ("", 56)]));
    assert_eq!(process.attribute("container.id"), Some("".into()), "the attribute is cleared");
}

#[test]
fn a_group_ends_after_the_lingering_time_and_nothing_is_left() {
    let mut scene = Scene::new("levels = ['container', 'pod']\nlinger = '2s'");
    let path = format!("/docker/{ID}");
    let (a, b) = (scene.process(100, &path, None), scene.process(101, &path, None));
    let (first, second) = (scene.cpu_time(&a), scene.cpu_time(&b));
    scene.pass(&[(first, 5)], &[]);
    assert_eq!(scene.pass(&[(first, 6)], &[first]).ended(), [first]);
    assert_eq!(scene.pass(&[], &[]).ended(), []);
    // Another process came in time: the group continues.
    scene.pass(&[(second, 1)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Container), sums([(ID, 7)]));
    assert_eq!(scene.pass(&[], &[second]).ended(), [second]);
    assert_eq!(scene.pass(&[], &[]).ended(), []);
    assert!(!scene.is_empty());
    let last = scene.pass(&[], &[]);
    assert_eq!(last.ended().len(), 1);
    assert!(scene.is_empty());
    let (series, _) = &scene.seen[&(last.ended()[0].index(), 0)];
    let group = series.consumer.as_ref().unwrap();
    assert_eq!((group.kind(), group.identity().start_unix_nano), (ConsumerKind::Container, 0));
    assert_eq!(group.end_unix_nano(), Some(5_000_000_000), "when its last process ended");
    // The same container later is another group.
    let again = scene.process(102, &path, None);
    let time = scene.cpu_time(&again);
    let batch = scene.pass(&[(time, 9)], &[]);
    let series = scene.rig.registry.get(*batch.series().last().unwrap()).unwrap();
    assert_eq!(series.consumer.as_ref().unwrap().identity().start_unix_nano, 7_000_000_000);
}

#[test]
fn what_was_counted_before_a_reload_is_not_counted_twice() {
    let mut scene = Scene::new("levels = ['user']");
    let process = scene.process(100, "/", None);
    process.update(vec![Attribute::new("process.real_user.id", 7_i64)]);
    let time = scene.cpu_time(&process);
    scene.rig.clock.set(second(5));
    scene.second = 6;
    let config: GroupsConfig = toml::from_str("names = false\nlevels = ['user']").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (registry, clock, proc) =
        (scene.rig.registry.clone(), scene.rig.clock.clone(), Procfs::at(scene.proc.path()));
    let names = Names::open(&config, runtime.handle());
    scene.transform = Transformer::new(&config, registry, clock, proc, names);
    scene.pass(&[(time, 1000)], &[]);
    scene.pass(&[(time, 1003)], &[]);
    assert_eq!(scene.sums(ConsumerKind::User), sums([("7", 3)]));
}

#[test]
fn with_cgroup_v1_proc_is_read_and_a_process_that_has_ended_counts_to_its_parents_groups() {
    let own = "6:freezer:/\n1:name=systemd:/\n0::/\n";
    let mut scene = Scene::with("levels = ['job', 'user', 'cgroup']", own);
    let in_job =
        "6:freezer:/slurm_n1/uid_7/job_3/step_0\n1:name=systemd:/system.slice/slurmd.service\n0::/\n";
    scene.in_proc(100, 1, 'S', in_job);
    let parent = scene.process(100, "/", None);
    parent.update(vec![Attribute::new("process.real_user.id", 7_i64)]);
    let gone = scene.process(101, "/", Some(&parent));
    let zombie = scene.process(102, "/", Some(&parent));
    scene.in_proc(102, 100, 'Z', own);
    // The pid has been reused by a process that started later.
    let reused = scene.process(103, "/", None);
    scene.in_proc(900, 1, 'S', in_job);
    fs::rename(scene.proc.path().join("900"), scene.proc.path().join("103")).unwrap();
    let unknown = scene.process(104, "/", None);
    let all = [&parent, &gone, &zombie, &reused, &unknown].map(|process| scene.cpu_time(process));
    scene.pass(&[(all[0], 1), (all[1], 20), (all[2], 300), (all[3], 4000), (all[4], 50_000)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Job), sums([("3", 321), ("", 54_000)]));
    assert_eq!(scene.sums(ConsumerKind::User), sums([("7", 321), ("", 54_000)]));
    assert_eq!(
        scene.sums(ConsumerKind::Cgroup),
        sums([("/slurm_n1/uid_7/job_3/step_0", 321), ("/", 54_000)])
    );
    assert_eq!(scene.attribute(ConsumerKind::Job, "3", "process.real_user.id"), "7");

    // It exits, so its consumer changes. It is still in its job.
    scene.in_proc(100, 1, 'Z', own);
    parent.update(vec![Attribute::new("process.exit.code", 0_i64)]);
    scene.pass(&[(all[0], 2)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Job)["3"], 322);
}

#[test]
fn with_cgroup_v1_parents_are_read_before_their_children_in_any_order_of_points() {
    let mut scene = Scene::with("levels = [\"job\"]", "4:freezer:/\n0::/\n");
    let old = scene.process(100, "/", None);
    scene.in_proc(100, 1, 'S', "4:freezer:/\n0::/\n");
    let old_time = scene.cpu_time(&old);
    scene.pass(&[(old_time, 1)], &[]);

    // Within a second it joins a job and executes a program there, and its children and grandchildren start
    // and end.
    scene.in_proc(100, 1, 'S', "4:freezer:/slurm/uid_1000/job_7/step_0\n0::/\n");
    old.update(vec![Attribute::new("process.executable.name", "slurm_script")]);
    let child = scene.process(101, "/", Some(&old));
    let grandchild = scene.process(102, "/", Some(&child));
    let [of_child, of_grandchild] = [&child, &grandchild].map(|process| scene.cpu_time(process));
    let points = [(of_grandchild, 100), (of_child, 20), (old_time, 4)];
    scene.pass(&points, &[of_grandchild, of_child]);
    assert_eq!(scene.sums(ConsumerKind::Job), sums([("7", 123), ("", 1)]));
    assert_eq!(scene.attribute(ConsumerKind::Process, "102", "wattrace.job.id"), "7");
}

#[test]
fn a_tree_belongs_to_its_oldest_ancestor_even_if_that_never_ran() {
    let mut scene = Scene::new("levels = ['tree']\nlinger = '0s'");
    // 10 sleeps and is never seen; 11 is its child, and 12 is a child of 11.
    for (pid, parent) in [(10, 1), (11, 10), (12, 11), (20, 2)] {
        scene.in_proc(pid, parent, 'S', "0::/\n");
    }
    let child = scene.process(11, "/", None);
    child.update(vec![Attribute::new("process.parent_pid", 10_i64)]);
    let grandchild = scene.process(12, "/", Some(&child));
    let kernel = scene.process(20, "/", None);
    kernel.update(vec![Attribute::new("process.parent_pid", 2_i64)]);
    let all = [&child, &grandchild, &kernel].map(|process| scene.cpu_time(process));
    scene.pass(&[(all[1], 1), (all[0], 20), (all[2], 300)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Tree), sums([("10", 21), ("20", 300)]));
    scene.pass(&[], &all);
    scene.pass(&[], &[]);
    assert!(scene.is_empty());
}

#[test]
fn a_name_reaches_the_group_its_processes_and_a_pods_containers() {
    let mut scene = Scene::new("");
    let process = scene.process(100, &format!("/kubepods/pod{UID}/{ID}"), None);
    let time = scene.cpu_time(&process);
    scene.pass(&[(time, 1)], &[]);
    let names = vec![Attribute::new("k8s.pod.name", "web-1")];
    let labels = vec![Attribute::new("k8s.pod.label.app", "web")];
    let answer = Answer { level: Level::Pod, key: UID.into(), of_group: labels, of_processes: names };
    scene.transform.processes.set_names(&answer);
    let late = scene.process(101, &format!("/kubepods/pod{UID}/{}", ID.replace('9', "8")), None);
    let late_time = scene.cpu_time(&late);
    let batch = scene.pass(&[(time, 2), (late_time, 1)], &[]);
    for id in batch.series() {
        let series = scene.rig.registry.get(*id).unwrap();
        let consumer = series.consumer.as_ref().unwrap();
        let is_of_pod = !consumer.identity().id.is_empty() && consumer.kind() != ConsumerKind::Unit;
        let name = consumer.attribute("k8s.pod.name");
        assert_eq!(name.is_some(), is_of_pod, "{consumer:?}");
        let label = consumer.attribute("k8s.pod.label.app");
        assert_eq!(label.is_some(), consumer.kind() == ConsumerKind::Pod && is_of_pod, "{consumer:?}");
    }
    assert_eq!(scene.sums(ConsumerKind::Container).len(), 2);
}

#[test]
fn counters_of_processes_are_summed_but_for_core_time_and_gauges() {
    let mut scene = Scene::new("levels = ['container']");
    let process = scene.process(100, &format!("/docker/{ID}"), None);
    let own = Metric::counter("wattrace.consumer.requests", Unit::Count("{request}"), 1.0, "");
    let all = [&own, &metric::CONSUMER_GPU_TIME, &metric::CONSUMER_CORE_TIME, &metric::CONSUMER_GPU_MEMORY];
    let all = all.map(|metric| scene.series(metric, 0, &process));
    let idle = Arc::new(Consumer::closing(ConsumerKind::Idle));
    let idle = scene.cpu_time(&idle);
    let batch = scene.pass(&[(all[0], 1), (all[1], 2), (all[2], 3), (all[3], 4), (idle, 5)], &[]);
    let points = scene.rig.points(&batch);
    let added: Vec<_> = points[5..].iter().map(|p| (&*p.metric, p.steps)).collect();
    assert_eq!(added, [("wattrace.consumer.requests", 1), ("wattrace.consumer.gpu.time", 2)]);
}

#[test]
fn what_a_cgroup_receives_counts_to_its_groups_and_not_a_second_time_to_cgroups() {
    let mut scene = Scene::new("levels = [\"cgroup\", \"container\", \"pod\", \"tree\"]");
    let path = format!("/kubepods/burstable/pod{UID}/{ID}");
    let identity = Identity { kind: ConsumerKind::Cgroup, id: path.clone().into(), start_unix_nano: 1 };
    let attributes = vec![Attribute::new("process.linux.cgroup", path.as_str())];
    let cgroup = Arc::new(Consumer::new(identity, None, attributes));
    let series = scene.series(&network::RECEIVED, 0, &cgroup);
    scene.pass(&[(series, 700)], &[]);
    scene.pass(&[(series, 1000)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Container), sums([(ID, 1000)]));
    assert_eq!(scene.sums(ConsumerKind::Pod), sums([(UID, 1000)]));
    assert_eq!(scene.sums(ConsumerKind::Cgroup), sums([(&path, 1000)]), "its own series, and no other");
    assert_eq!(scene.sums(ConsumerKind::Tree), sums([]));
    assert_eq!(scene.attribute(ConsumerKind::Cgroup, &path, "container.id"), ID);
    // Of anything else, cgroups are not the parts of which others are made.
    let time = scene.cpu_time(&cgroup);
    scene.pass(&[(time, 5)], &[]);
    assert_eq!(scene.sums(ConsumerKind::Container), sums([(ID, 1000)]));
    for _ in 0..20 {
        scene.pass(&[], &[series, time]);
    }
    assert!(scene.is_empty());
}
