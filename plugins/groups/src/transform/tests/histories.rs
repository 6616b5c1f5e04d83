//! Random histories: processes start, use CPU time and energy on two packages, move, change users, and end.
//! At every moment each level shows exactly what a simple model of it computes, and sums to all processes.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A cgroup path, and the groups that it means: container, pod, unit, job.
const PATHS: [(&str, [&str; 4]); 7] = [
    ("/", ["", "", "", ""]),
    ("/system.slice/a.service", ["", "", "a.service", ""]),
    ("/system.slice/docker-aa.scope", ["aa", "", "docker-aa.scope", ""]),
    (
        "/kubepods/pod00000000-0000-0000-0000-000000000001/crio-bb",
        ["bb", "00000000-0000-0000-0000-000000000001", "", ""],
    ),
    (
        "/kubepods/pod00000000-0000-0000-0000-000000000001/crio-cc",
        ["cc", "00000000-0000-0000-0000-000000000001", "", ""],
    ),
    ("/slurm/uid_1/job_5/step_0", ["", "", "", "5"]),
    ("/slurm/uid_1/job_5/step_1", ["", "", "", "5"]),
];
const KINDS: [ConsumerKind; 4] =
    [ConsumerKind::Container, ConsumerKind::Pod, ConsumerKind::Unit, ConsumerKind::Job];

#[derive(Clone, Debug)]
enum Event {
    Start { path: usize, user: u8 },
    Use { who: Index, what: usize, amount: u32 },
    Move { who: Index, path: usize },
    Become { who: Index, user: u8 },
    EndOne { who: Index, what: usize },
    End { who: Index },
    Tick,
}

fn event() -> impl Strategy<Value = Event> {
    let (who, path, user, what) = (any::<Index>(), 0..PATHS.len(), 0..3_u8, 0..4_usize);
    prop_oneof![
        2 => (path.clone(), user.clone()).prop_map(|(path, user)| Event::Start { path, user }),
        8 => (who.clone(), what.clone(), any::<u32>())
            .prop_map(|(who, what, amount)| Event::Use { who, what, amount }),
        1 => (who.clone(), path).prop_map(|(who, path)| Event::Move { who, path }),
        1 => (who.clone(), user).prop_map(|(who, user)| Event::Become { who, user }),
        1 => (who.clone(), what).prop_map(|(who, what)| Event::EndOne { who, what }),
        1 => who.prop_map(|who| Event::End { who }),
        4 => Just(Event::Tick),
    ]
}

struct Process {
    consumer: Arc<Consumer>,
    path: usize,
    user: u8,
    /// CPU time and energy on two packages: the series, once there is one, and the total use.
    used: [(Option<SeriesId>, u64); 4],
}

fn user(id: u8) -> Vec<Attribute> {
    vec![Attribute::new("process.real_user.id", i64::from(id))]
}

fn check(scene: &Scene, model: &BTreeMap<(ConsumerKind, String), u64>) {
    let processes: u64 = scene.sums(ConsumerKind::Process).values().sum();
    for kind in KINDS.into_iter().chain([ConsumerKind::User]) {
        let mut shown = scene.sums(kind);
        if !shown.is_empty() {
            assert_eq!(shown.values().sum::<u64>(), processes, "{kind:?} sums to all processes");
        }
        shown.retain(|_, sum| *sum > 0);
        let is_shown = shown.keys().any(|id| !id.is_empty());
        let of_kind = model.iter().filter(|((k, _), sum)| *k == kind && **sum > 0);
        let expected: BTreeMap<_, _> = of_kind.map(|((_, id), sum)| (id.clone(), *sum)).collect();
        if is_shown || expected.keys().any(|id| !id.is_empty()) {
            assert_eq!(shown, expected, "{kind:?}");
        }
    }
    // Per metric and resource, too; and a pod equals its containers, since nothing else runs in it here.
    let mut by_quantity: BTreeMap<(String, String, &str), u64> = BTreeMap::new();
    for (series, last) in scene.seen.values() {
        let consumer = series.consumer.as_ref().unwrap();
        let quantity = (series.metric.name.to_string(), series.resource.id.to_string());
        *by_quantity
            .entry((quantity.0.clone(), quantity.1.clone(), consumer.kind().as_str()))
            .or_default() += last;
        let in_pod = consumer.kind() == ConsumerKind::Pod && !consumer.identity().id.is_empty();
        if in_pod || consumer.parent().is_some() {
            let side = if in_pod { "a pod" } else { "its containers" };
            *by_quantity.entry((quantity.0, quantity.1, side)).or_default() += last;
        }
    }
    for ((metric, package, kind), sum) in &by_quantity {
        let whole = if *kind == "its containers" {
            "a pod"
        } else if *kind == "a pod" {
            continue;
        } else {
            "process"
        };
        assert_eq!(
            by_quantity[&(metric.clone(), package.clone(), whole)],
            *sum,
            "{metric} of {kind} on {package}"
        );
    }
}

fn run(events: Vec<Event>, linger: u32) {
    let mut scene =
        Scene::new(&format!("levels = ['user', 'container', 'unit', 'pod', 'job']\nlinger = '{linger}s'"));
    let mut model: BTreeMap<(ConsumerKind, String), u64> = BTreeMap::new();
    let (mut living, mut points, mut ended) = (Vec::<Process>::new(), Vec::new(), Vec::new());
    let mut pid = 1_000_000;
    for event in events.into_iter().chain([Event::Tick]) {
        match event {
            Event::Start { path, user: id } => {
                pid += 1;
                let consumer = scene.process(pid, PATHS[path].0, None);
                consumer.update(user(id));
                living.push(Process { consumer, path, user: id, used: [(None, 0); 4] });
            }
            Event::Use { who, what, amount } if !living.is_empty() => {
                let at = who.index(living.len());
                let process = &mut living[at];
                let (series, sum) = &mut process.used[what];
                let metric = [metric::CONSUMER_CPU_TIME, metric::CONSUMER_ENERGY][what % 2].clone();
                let id =
                    *series.get_or_insert_with(|| scene.series(&metric, what as u32 / 2, &process.consumer));
                *sum += u64::from(amount);
                points.push((id, *sum, at, u64::from(amount)));
            }
            Event::Move { who, path } if !living.is_empty() => {
                let at = who.index(living.len());
                let process = &mut living[at];
                process.path = path;
                process.consumer.update(vec![Attribute::new("process.linux.cgroup", PATHS[path].0)]);
            }
            Event::Become { who, user: id } if !living.is_empty() => {
                let at = who.index(living.len());
                living[at].user = id;
                living[at].consumer.update(user(id));
            }
            // A series ends; the process may open another one for the same quantity later.
            Event::EndOne { who, what } if !living.is_empty() => {
                let at = who.index(living.len());
                ended.extend(std::mem::take(&mut living[at].used[what]).0);
                tick(&mut scene, &mut model, &living, &mut points, &mut ended);
            }
            Event::End { who } if !living.is_empty() => {
                let at = who.index(living.len());
                ended.extend(living[at].used.iter().filter_map(|(series, _)| *series));
                tick(&mut scene, &mut model, &living, &mut points, &mut ended);
                living.swap_remove(at);
            }
            Event::Tick => tick(&mut scene, &mut model, &living, &mut points, &mut ended),
            _ => {}
        }
    }
    let rest = living.iter().flat_map(|process| process.used.iter().filter_map(|(series, _)| *series));
    ended.extend(rest);
    tick(&mut scene, &mut model, &living, &mut points, &mut ended);
    for _ in 0..=linger {
        scene.pass(&[], &[]);
    }
    assert!(scene.is_empty(), "after all processes have ended, nothing is left of them");
}

/// Points count to the groups that their processes are in when they arrive.
fn tick(
    scene: &mut Scene,
    model: &mut BTreeMap<(ConsumerKind, String), u64>,
    living: &[Process],
    points: &mut Vec<(SeriesId, u64, usize, u64)>,
    ended: &mut Vec<SeriesId>,
) {
    for (_, _, at, amount) in &*points {
        let process = &living[*at];
        for (kind, id) in KINDS.into_iter().zip(PATHS[process.path].1) {
            *model.entry((kind, id.to_owned())).or_default() += amount;
        }
        *model.entry((ConsumerKind::User, process.user.to_string())).or_default() += amount;
    }
    let values: Vec<_> = points.drain(..).map(|(series, sum, ..)| (series, sum)).collect();
    scene.pass(&values, &std::mem::take(ended));
    check(scene, model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn each_level_sums_to_all_processes_in_every_history(
        events in prop::collection::vec(event(), 1..120),
        linger in 0..3_u32,
    ) {
        run(events, linger);
    }
}
