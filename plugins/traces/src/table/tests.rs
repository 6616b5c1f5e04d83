use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use wattrace_api::testing::Rig;
use wattrace_api::trace::TraceContext;
use wattrace_api::{Attribute, Domain, Follows, Identity, Metric, Origin, Resource, SeriesSpec, metric};
use wattrace_select::Pattern;

use super::*;
use crate::carrier::Carriers;
use crate::config::Policy;
use crate::ids::Ids;
use crate::selection::Selection;

const MS: u64 = 1_000_000;

const CONTEXT: TraceContext = TraceContext { trace_id: 0xabc, span_id: 0xdef, is_sampled: true };

fn policy() -> Policy {
    let select =
        Pattern { attributes: [("name".to_owned(), "chosen".to_owned())].into(), ..Pattern::default() };
    let selection = Selection::compile(&[select], 1.0).unwrap();
    Policy { selection, join: false, period: None, limits: Limits::new(Duration::ZERO, 0) }
}

/// A table with one meter, whose books close as the test says.
struct Scene {
    rig: Rig,
    table: Table,
    queue: SpanQueue,
    losses: Losses,
    domain: Arc<Domain>,
    meter: SeriesId,
    residual: SeriesId,
}

impl Scene {
    fn new(policy: Policy, carriers: Carriers) -> Self {
        let mut rig = Rig::new();
        let (name, origin, follows) = ("package-0".to_owned(), Origin::Simulated, Follows::Package(0));
        let domain = Arc::new(Domain { name, origin, follows, within: None, idle_microwatts: None });
        let [meter, residual] = [&metric::HW_ENERGY, &metric::DOMAIN_RESIDUAL]
            .map(|metric| open(&mut rig, metric, Some(domain.clone()), None));
        let (clock, period, limits) = (rig.clock.clone(), policy.period, policy.limits.clone());
        let trees = Trees::new(policy, carriers, Ids::of_boot("boot"), clock.clone());
        let table = Table::new(rig.registry.clone(), clock, period, limits, trees);
        let (queue, losses) = (SpanQueue::new(1 << 20), Losses::default());
        Self { rig, table, queue, losses, domain, meter, residual }
    }

    fn cpu(&mut self, process: &Arc<Consumer>) -> SeriesId {
        open(&mut self.rig, &metric::CONSUMER_CPU_TIME, None, Some(process.clone()))
    }

    fn energy(&mut self, process: &Arc<Consumer>) -> SeriesId {
        let domain = Some(self.domain.clone());
        open(&mut self.rig, &metric::CONSUMER_ENERGY, domain, Some(process.clone()))
    }

    /// A batch over `from..to` ms, after which `ended` have ended.
    fn write(&mut self, (from, to): (u64, u64), points: &[(SeriesId, u64)], ended: &[SeriesId]) {
        let window = Window::new(Timestamp(from * MS), Timestamp(to * MS));
        self.rig.clock.set(window.end);
        let mut batch = self.rig.batch(window, points);
        ended.iter().for_each(|&id| batch.end(id));
        self.table.write(&batch, &mut self.queue, &mut self.losses);
    }

    /// The books are closed from `from` to `to` ms.
    fn close(&mut self, from: u64, to: u64) {
        self.write((from, to), &[(self.meter, 0), (self.residual, 0)], &[]);
    }

    fn spans(&mut self) -> Vec<Span> {
        let taken = self.queue.take(usize::MAX, usize::MAX);
        taken.iter().map(|span| Span::decode(&*span.encoded).unwrap()).collect()
    }
}

fn open(
    rig: &mut Rig,
    metric: &Metric,
    domain: Option<Arc<Domain>>,
    consumer: Option<Arc<Consumer>>,
) -> SeriesId {
    let metric = rig.registry.metric(metric).unwrap();
    let spec = SeriesSpec::new(metric, Resource::package(0), rig.clock.now());
    rig.registry.open(SeriesSpec { domain, consumer, ..spec })
}

fn identity(pid: u32, start_ms: u64) -> Identity {
    let id = Cow::Owned(pid.to_string());
    Identity { kind: ConsumerKind::Process, id, start_unix_nano: start_ms * MS }
}

fn process(pid: u32, start_ms: u64, parent: Option<&Arc<Consumer>>, name: &str) -> Arc<Consumer> {
    let parent = parent.map(|parent| parent.identity().clone());
    let attributes = vec![Attribute::new("name", name), Attribute::new("process.pid", pid)];
    Arc::new(Consumer::new(identity(pid, start_ms), parent, attributes))
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a any_value::Value> {
    span.attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()
}

fn number(span: &Span, key: &str) -> f64 {
    match attribute(span, key) {
        Some(any_value::Value::DoubleValue(number)) => *number,
        Some(any_value::Value::IntValue(number)) => *number as f64,
        _ => 0.0,
    }
}

fn microjoules(span: &Span) -> u64 {
    (number(span, "wattrace.energy.package-0") * 1e6).round() as u64
}

fn pid(span: &Span) -> u64 {
    number(span, "process.pid") as u64
}

fn ended(process: &Arc<Consumer>, at_ms: u64) {
    process.update(vec![Attribute::new("process.exit.code", 0_i64)]);
    process.ended_at(at_ms * MS);
}

#[test]
fn a_commands_descendants_are_traced_in_whatever_order_their_points_come() {
    let mut scene = Scene::new(policy(), Carriers::none());
    let other = process(5, 1, None, "other");
    let first = process(10, 20, Some(&other), "make");
    let second = process(11, 30, Some(&first), "cc");
    let third = process(12, 40, Some(&second), "cc1");
    scene.table.command_started(CommandStarted { pid: 10, since_unix_nano: 15 * MS, context: CONTEXT });
    let all = [&third, &other, &second, &first];
    let cpu = all.map(|process| scene.cpu(process));
    scene.write((0, 100), &cpu.map(|id| (id, 7_000)), &[]);
    let energy = all.map(|process| scene.energy(process));
    scene.write((0, 100), &[(energy[0], 1), (energy[1], 20), (energy[2], 300), (energy[3], 4000)], &[]);
    all.iter().for_each(|process| ended(process, 90));
    scene.write((100, 200), &[], &[cpu, energy].concat());
    scene.close(0, 200);
    let spans = scene.spans();
    let ids = Ids::of_boot("boot");
    let expected = [(10, 20, CONTEXT.span_id, 4000), (11, 30, ids.span(10, 20 * MS), 300)];
    let expected = [expected[0], expected[1], (12, 40, ids.span(11, 30 * MS), 1)];
    assert_eq!(spans.len(), 3, "the other process is not traced");
    for (pid_, start, parent, energy) in expected {
        let span = spans.iter().find(|span| pid(span) == pid_).unwrap();
        assert_eq!(span.trace_id, CONTEXT.trace_id.to_be_bytes());
        assert_eq!(span.span_id, ids.span(pid_ as u32, start * MS).to_be_bytes());
        assert_eq!(span.parent_span_id, parent.to_be_bytes());
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (start * MS, 90 * MS));
        assert_eq!((microjoules(span), number(span, "wattrace.cpu.time")), (energy, 7e-6));
        assert_eq!(attribute(span, "wattrace.process.running"), None);
    }
    assert_eq!(scene.losses.take(), []);
}

#[test]
fn a_span_waits_until_the_books_are_closed_to_the_last_moment_in_which_its_process_ran() {
    let mut scene = Scene::new(policy(), Carriers::none());
    let worker = process(7, 10, None, "chosen");
    let cpu = scene.cpu(&worker);
    scene.write((0, 100), &[(cpu, 5)], &[]);
    scene.close(0, 50);
    ended(&worker, 60);
    scene.write((100, 200), &[], &[cpu]);
    assert_eq!(scene.spans().len(), 0, "its energy is not known");
    // A slow meter: the series of energy begins after that of time has ended.
    let energy = scene.energy(&worker);
    scene.write((50, 300), &[(scene.meter, 0), (scene.residual, 0), (energy, 9)], &[]);
    assert_eq!(scene.spans().len(), 0, "its energy may go on");
    scene.write((300, 400), &[], &[energy]);
    assert_eq!(scene.spans().iter().map(microjoules).collect::<Vec<_>>(), [9]);
    let late = scene.energy(&worker);
    scene.write((300, 400), &[(late, 9)], &[late]);
    assert_eq!((scene.losses.take(), scene.spans().len()), (vec![("late", 1)], 0));
}

#[test]
fn at_the_end_all_processes_become_spans_with_what_is_known_of_them() {
    let mut scene = Scene::new(policy(), Carriers::none());
    let parent = process(7, 10, None, "chosen");
    let child = process(8, 20, Some(&parent), "child");
    let [cpu, energy] = [scene.cpu(&parent), scene.energy(&child)];
    scene.write((0, 100), &[(scene.meter, 0), (cpu, 5), (energy, 9)], &[]);
    ended(&child, 60);
    scene.table.finish(&mut scene.queue, &mut scene.losses);
    let spans = scene.spans();
    let figures: Vec<_> = spans.iter().map(|span| (pid(span), span.end_time_unix_nano / MS)).collect();
    assert_eq!(figures, [(8, 60), (7, 100)]);
    let running = spans.iter().map(|span| attribute(span, "wattrace.process.running").is_some());
    assert_eq!(running.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn without_an_answer_of_a_meter_a_span_waits_for_a_minute() {
    let mut scene = Scene::new(policy(), Carriers::none());
    let worker = process(7, 10, None, "chosen");
    let cpu = scene.cpu(&worker);
    scene.write((0, 100), &[(scene.meter, 0), (cpu, 5)], &[]);
    scene.write((100, 200), &[], &[cpu]);
    scene.write((200, 60_199), &[], &[]);
    assert_eq!(scene.spans().len(), 0);
    scene.write((200, 60_200), &[], &[]);
    assert_eq!(scene.spans().len(), 1);
    // When the meter goes, so does the wait.
    let worker = process(8, 10, None, "chosen");
    let cpu = scene.cpu(&worker);
    scene.write((60_000, 60_300), &[(cpu, 5)], &[cpu]);
    assert_eq!(scene.spans().len(), 0);
    scene.write((60_300, 60_400), &[], &[scene.meter]);
    assert_eq!(scene.spans().len(), 1);
}

#[test]
fn a_process_is_selected_once_its_attributes_match_and_so_are_its_descendants_from_then_on() {
    let mut scene = Scene::new(policy(), Carriers::none());
    let shell = process(7, 10, None, "shell");
    let before = process(8, 20, Some(&shell), "child");
    let cpu = [&shell, &before].map(|process| scene.cpu(process));
    scene.write((0, 100), &cpu.map(|id| (id, 3)), &[]);
    shell.update(vec![Attribute::new("name", "chosen")]);
    let after = process(9, 120, Some(&shell), "child");
    let third = scene.cpu(&after);
    scene.write((100, 200), &[(third, 3), (cpu[0], 5), (cpu[1], 5)], &[]);
    scene.write((200, 300), &[], &[cpu[0], cpu[1], third]);
    scene.table.command_ended(
        &CommandEnded {
            context: CONTEXT,
            parent: None,
            start_unix_nano: 1,
            end_unix_nano: 2,
            command: "make".to_owned(),
            exit_code: 2,
        },
        &mut scene.queue,
    );
    scene.close(0, 300);
    let spans = scene.spans();
    let [shell, child, command] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!(
        (&*command.name, command.span_id.clone()),
        ("wattrace exec make", 0xdef_u64.to_be_bytes().to_vec())
    );
    assert_eq!((pid(shell), pid(child)), (7, 9));
    assert_eq!(number(shell, "wattrace.cpu.time"), 5e-9, "all of it, since counters are cumulative");
    assert_eq!((shell.parent_span_id.len(), &child.parent_span_id), (0, &shell.span_id));
    let trace = Ids::of_boot("boot").trace(Ids::of_boot("boot").span(7, 10 * MS));
    assert_eq!((&shell.trace_id, &child.trace_id), (&trace.to_be_bytes().to_vec(), &shell.trace_id));
}

#[test]
fn a_long_process_is_a_chain_of_spans_whose_energy_adds_up() {
    let policy = Policy { period: Some(Duration::from_secs(1)), ..policy() };
    let mut scene = Scene::new(policy, Carriers::none());
    let worker = process(7, 0, None, "chosen");
    let (cpu, energy) = (scene.cpu(&worker), scene.energy(&worker));
    for second in 0..3 {
        scene.write(
            (second * 1000, (second + 1) * 1000),
            &[(energy, 100 * (second + 1)), (cpu, second)],
            &[],
        );
    }
    // It began in the first period, and is seen in the third one.
    let children = [process(8, 500, Some(&worker), "child"), process(9, 2500, Some(&worker), "child")];
    let of_children = [scene.cpu(&children[0]), scene.cpu(&children[1])];
    scene.write((3000, 3100), &[(of_children[0], 1), (of_children[1], 1), (energy, 345)], &[]);
    ended(&worker, 3050);
    scene.write((3100, 3200), &[], &[cpu, energy, of_children[0], of_children[1]]);
    scene.close(0, 3200);
    let spans = scene.spans();
    let chain: Vec<_> = spans.iter().filter(|span| pid(span) == 7).collect();
    assert_eq!(chain.iter().map(|span| microjoules(span)).collect::<Vec<_>>(), [100, 100, 100, 45]);
    let times: Vec<_> =
        chain.iter().map(|s| (s.start_time_unix_nano / MS, s.end_time_unix_nano / MS)).collect();
    assert_eq!(times, [(0, 1000), (1000, 2000), (2000, 3000), (3000, 3050)]);
    for pair in chain.windows(2) {
        assert_eq!((&pair[1].links[0].span_id, pair[1].links.len()), (&pair[0].span_id, 1));
        assert_eq!(attribute(pair[0], "wattrace.process.running"), Some(&any_value::Value::BoolValue(true)));
    }
    assert!(chain[0].links.is_empty() && attribute(chain[3], "wattrace.process.running").is_none());
    let parent = |number: u64| &spans.iter().find(|span| pid(span) == number).unwrap().parent_span_id;
    assert_eq!(parent(9), &chain[2].span_id, "the span in which it was forked");
}

#[test]
fn what_is_beyond_a_limit_is_counted_in_the_span_of_its_parent() {
    let limits = Limits::new(Duration::from_millis(10), 2);
    let mut scene = Scene::new(Policy { limits, ..policy() }, Carriers::none());
    let parent = process(7, 0, None, "chosen");
    let short = process(8, 20, Some(&parent), "short");
    let long: Vec<_> = (10..14).map(|pid| process(pid, 20, Some(&parent), "long")).collect();
    let mut all = vec![&parent, &short];
    all.extend(&long);
    let energy: Vec<_> = all.iter().map(|process| scene.energy(process)).collect();
    let points: Vec<_> = energy.iter().enumerate().map(|(n, &id)| (id, 10_u64.pow(n as u32))).collect();
    scene.write((0, 100), &points, &[]);
    ended(&short, 29);
    long.iter().for_each(|process| ended(process, 40));
    ended(&parent, 50);
    scene.write((100, 200), &[], &energy);
    let spans = scene.spans();
    let figures: Vec<_> = spans.iter().map(|span| (pid(span), microjoules(span))).collect();
    assert_eq!(figures, [(10, 100), (11, 1000), (7, 110_011)], "no energy is lost");
    assert_eq!(number(&spans[2], "wattrace.folded.processes"), 3.0);
    assert_eq!(scene.losses.take(), []);
    // Without a parent there is no other place.
    let [first, second, third] = [20, 21, 22].map(|pid| process(pid, 1000, None, "chosen"));
    let energy = [&first, &second, &third].map(|process| scene.energy(process));
    scene.write((1000, 1100), &energy.map(|id| (id, 1)), &[]);
    [&first, &second, &third].into_iter().for_each(|process| ended(process, 1020));
    scene.write((1100, 1200), &[], &energy);
    assert_eq!((scene.spans().len(), scene.losses.take()), (2, vec![("rate", 1)]));
}

#[test]
fn a_process_joins_the_trace_in_its_environment_unless_it_has_it_from_its_parent() {
    let proc = tempfile::tempdir().unwrap();
    let environment = |pid: u32, context: TraceContext| {
        std::fs::create_dir_all(proc.path().join(pid.to_string())).unwrap();
        std::fs::write(proc.path().join(format!("{pid}/environ")), format!("TRACEPARENT={context}\0"))
            .unwrap();
    };
    let other = TraceContext { trace_id: 0x77, span_id: 0x88, is_sampled: true };
    let mut scene = Scene::new(policy(), Carriers::at(proc.path()));
    let command = process(10, 20, None, "sh");
    let inherits = process(11, 30, Some(&command), "a");
    let joins = process(12, 40, Some(&command), "b");
    let child = process(13, 50, Some(&joins), "c");
    let unsampled = process(14, 60, Some(&command), "d");
    for (pid, context) in [
        (10, CONTEXT),
        (11, CONTEXT),
        (12, other),
        (13, other),
        (14, TraceContext { is_sampled: false, ..other }),
    ] {
        environment(pid, context);
    }
    scene.table.command_started(CommandStarted { pid: 10, since_unix_nano: 0, context: CONTEXT });
    let all = [&command, &inherits, &joins, &child, &unsampled];
    let cpu = all.map(|process| scene.cpu(process));
    scene.write((0, 100), &cpu.map(|id| (id, 1)), &[]);
    // The last one executes another program, with another environment.
    environment(14, other);
    unsampled.update(vec![Attribute::new("process.executable.path", "/bin/e")]);
    scene.write((100, 200), &[(cpu[4], 2)], &[]);
    scene.write((200, 300), &[], &cpu);
    let spans = scene.spans();
    let ids = Ids::of_boot("boot");
    let expected = [
        (10, CONTEXT.trace_id, CONTEXT.span_id),
        (11, CONTEXT.trace_id, ids.span(10, 20 * MS)),
        (12, other.trace_id, other.span_id),
        (13, other.trace_id, ids.span(12, 40 * MS)),
        (14, other.trace_id, other.span_id),
    ];
    for (number, trace, parent) in expected {
        let span = spans.iter().find(|span| pid(span) == number).unwrap();
        assert_eq!(span.trace_id, trace.to_be_bytes(), "{number}");
        assert_eq!(span.parent_span_id, parent.to_be_bytes(), "{number}");
    }
}
