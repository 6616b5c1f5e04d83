//! Energy as a trace, end to end: real processes, a simulated meter, and a trace server that shares no code
//! with the agent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use support::load_meter::zone_of_the_cpus;
use support::{interrupt, is_root, metric, read_jsonl, wattrace};
use wattrace_rapl_simulator::{Running, Tree};

/// A span, as the server prints it.
#[derive(Clone, Debug, Deserialize)]
struct Span {
    resource: HashMap<String, Value>,
    scope: String,
    trace: String,
    span: String,
    parent: String,
    flags: u32,
    links: Vec<String>,
    name: String,
    kind: String,
    status: String,
    start: u64,
    end: u64,
    attributes: HashMap<String, Value>,
}

impl Span {
    fn pid(&self) -> Option<i64> {
        self.attributes.get("process.pid")?.as_i64()
    }

    fn microjoules(&self) -> i64 {
        self.attributes.get("wattrace.energy.package-0").map_or(0, |joules| scaled(joules, 1e6))
    }

    fn cpu_nanos(&self) -> i64 {
        self.attributes.get("wattrace.cpu.time").map_or(0, |seconds| scaled(seconds, 1e9))
    }
}

fn scaled(value: &Value, factor: f64) -> i64 {
    (value.as_f64().unwrap() * factor).round() as i64
}

/// A trace server.
struct Server {
    child: Child,
    spans: JoinHandle<Vec<Span>>,
    endpoint: String,
}

impl Server {
    /// Starts one that first refuses some requests; `None` if its Python environment is not there, which
    /// fails under CI=true.
    fn start(refused: u32) -> Option<Self> {
        let Ok(python) = std::env::var("WATTRACE_TEST_PYTHON") else {
            assert!(std::env::var("CI").is_err(), "WATTRACE_TEST_PYTHON is not set: run `cargo xtask test`");
            eprintln!("skipped: traces need a server in Python; run `cargo xtask test`");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/trace_server.py");
        let mut command = Command::new(python);
        command.arg(script).arg(refused.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = printed.next().expect("the server prints its port").unwrap();
        let read = |line: String| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}"));
        let spans = std::thread::spawn(move || printed.map_while(Result::ok).map(read).collect());
        Some(Self { child, spans, endpoint: format!("http://127.0.0.1:{port}") })
    }

    /// The spans that it has acknowledged, in this order. Printed before it answers, so all are there.
    fn stop(mut self) -> Vec<Span> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.spans.join().unwrap()
    }
}

/// The options that make an agent read the meter in `sysfs` and send spans to `server`.
fn options(sysfs: &Path, server: &Server) -> Vec<String> {
    let settings = [
        format!("plugins.rapl.sysfs_root={}", sysfs.display()),
        format!("plugins.traces.endpoint={}", server.endpoint),
        "plugins.traces.protocol=http/protobuf".to_owned(),
        "plugins.sched.interval=100ms".to_owned(),
        "plugins.rapl.interval=100ms".to_owned(),
    ];
    settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

fn meter(sysfs: &Path) -> Running {
    Tree::create(sysfs, vec![zone_of_the_cpus()]).unwrap().run(Duration::from_millis(1))
}

/// An agent without the variables of the tests' own environment.
fn agent() -> Command {
    let mut command = wattrace();
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.env_remove("TRACEPARENT");
    command
}

/// `wattrace exec --trace` of a shell's script. Returns the report and the spans.
fn exec(server: Server, traceparent: Option<&str>, command: &[&str]) -> (Value, Vec<Span>) {
    let dir = tempfile::tempdir().unwrap();
    let (_meter, report) = (meter(dir.path()), dir.path().join("report.json"));
    let mut agent = agent();
    agent.args(["exec", "--trace", "--format", "json", "--output"]).arg(&report);
    agent.args(options(dir.path(), &server)).arg("--").args(command).stdout(Stdio::null());
    agent.envs(traceparent.map(|context| ("TRACEPARENT", context)));
    let output = agent.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("were lost"), "{text}");
    (serde_json::from_slice(&fs::read(report).unwrap()).unwrap(), server.stop())
}

/// A program of 30 files and its Makefile.
fn c_project(dir: &Path) {
    let mut makefile = "program: ".to_owned();
    makefile += &(0..30).map(|n| format!("f{n}.o ")).collect::<String>();
    makefile += "main.o\n\tcc -o $@ $^\n%.o: %.c\n\tcc -O1 -c -o $@ $<\n";
    fs::write(dir.join("Makefile"), makefile).unwrap();
    for n in 0..30 {
        let source =
            format!("#include <stdio.h>\nint f{n}(int x) {{ printf(\"%d\", x); return x + {n}; }}\n");
        fs::write(dir.join(format!("f{n}.c")), source).unwrap();
    }
    let calls: String = (0..30).map(|n| format!("+ f{n}(1)")).collect();
    let declared: String = (0..30).map(|n| format!("int f{n}(int);\n")).collect();
    fs::write(dir.join("main.c"), format!("{declared}int main(void) {{ return (0 {calls}) == 0; }}\n"))
        .unwrap();
}

#[test]
fn every_process_of_a_make_is_a_span_and_their_joules_are_those_of_the_command() {
    if !is_root() {
        return;
    }
    // The first request is refused for now: nothing is lost, and nothing sent twice.
    let Some(server) = Server::start(1) else { return };
    let project = tempfile::tempdir().unwrap();
    c_project(project.path());
    let (report, spans) = exec(server, None, &["make", "-j2", "-C", project.path().to_str().unwrap()]);
    let (roots, spans): (Vec<_>, Vec<_>) = spans.into_iter().partition(|span| span.pid().is_none());
    let [root] = &roots[..] else { panic!("{roots:#?}") };
    assert_eq!((&*root.name, &*root.parent, &*root.kind), ("wattrace exec make", "", "SPAN_KIND_INTERNAL"));
    assert_eq!((&*root.scope, &root.resource["service.name"]), ("wattrace", &"wattrace".into()));
    assert_eq!(root.attributes["process.exit.code"], 0);

    check_tree(&report, root, &spans);
    let compilers = spans.iter().filter(|span| span.name == "cc1").count();
    assert_eq!(compilers, 31, "one for each file");

    let domain = &report["domains"][0];
    let micro = |key: &str| scaled(&domain[key], 1e6);
    let of_spans: i64 = spans.iter().map(Span::microjoules).sum();
    assert!(of_spans > 0);
    let rest = micro("other_j") + micro("idle_j") + micro("unattributed_j");
    assert_eq!(of_spans + rest, micro("measured_j"), "{domain}");
    let cpu: i64 = spans.iter().map(Span::cpu_nanos).sum();
    assert_eq!(cpu, scaled(&report["total"]["cpu_time_s"], 1e9));
}

/// The spans are the processes of the report, with its figures, and children of those that forked them.
fn check_tree(report: &Value, root: &Span, spans: &[Span]) {
    let processes = report["processes"].as_array().unwrap();
    assert_eq!(spans.len(), processes.len());
    let by_id: HashMap<_, _> = spans.iter().map(|span| (&*span.span, span)).collect();
    assert_eq!(by_id.len(), spans.len(), "each has its own id");
    let by_identity: HashMap<_, _> =
        spans.iter().map(|span| ((span.pid().unwrap(), span.start), span)).collect();
    for p in processes {
        let identity = (p["pid"].as_i64().unwrap(), p["start_unix_nano"].as_u64().unwrap());
        let span = by_identity.get(&identity).unwrap_or_else(|| panic!("{p} is no span"));
        assert_eq!((&span.trace, Some(span.end)), (&root.trace, p["end_unix_nano"].as_u64()), "{p}");
        assert_eq!(span.attributes["process.exit.code"], p["exit_code"], "{p}");
        assert_eq!(span.attributes["process.executable.path"], p["exe"], "{p}");
        let microjoules = p["energy_j"].get("package-0").map_or(0, |joules| scaled(joules, 1e6));
        assert_eq!(span.microjoules(), microjoules, "{p}");
        if microjoules > 0 {
            assert_eq!(span.attributes["wattrace.origin.package-0"], "simulated", "{p}");
        }
        // The first is the command.
        if p == &processes[0] {
            assert_eq!((&*span.name, &span.parent), ("make", &root.span));
            assert!(root.start <= span.start + 10_000_000 && span.end <= root.end + 10_000_000, "{p}");
        } else {
            let parent = by_id.get(&*span.parent).unwrap_or_else(|| panic!("{span:?} has no parent"));
            assert_eq!(parent.pid(), p["ppid"].as_i64(), "{p}");
            assert!(parent.start <= span.start && span.start <= parent.end, "{p}");
        }
    }
}

const FOUND: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

#[test]
fn a_context_is_honoured_and_handed_on_and_a_process_with_another_one_joins_that_trace() {
    if !is_root() {
        return;
    }
    let Some(server) = Server::start(0) else { return };
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    let script = format!(
        "echo $TRACEPARENT > {}; /bin/true; TRACEPARENT={OTHER} sh -c 'sleep 1; exit 3'; true",
        given.display()
    );
    let (_, spans) = exec(server, Some(FOUND), &["sh", "-c", &script]);
    let [root] = &spans.iter().filter(|span| span.pid().is_none()).collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((&*root.trace, &*root.parent), ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"));
    assert_eq!(root.flags & 0x301, 0x301, "sampled, and its parent is another program's");
    let context = format!("00-{}-{}-01", root.trace, root.span);
    assert_eq!(fs::read_to_string(given).unwrap().trim(), context);

    let of = |fits: &dyn Fn(&&Span) -> bool| {
        let [span] = &spans.iter().filter(fits).collect::<Vec<_>>()[..] else { panic!("{spans:#?}") };
        (*span).clone()
    };
    let command = of(&|span| span.parent == root.span);
    let short = of(&|span| span.name == "true");
    assert_eq!((&short.trace, &short.parent), (&root.trace, &command.span));
    let joined = of(&|span| span.name == "sh" && span.span != command.span);
    assert_eq!((&*joined.trace, &*joined.parent), (&"1".repeat(32)[..], &"2".repeat(16)[..]));
    assert_eq!((&*joined.status, &joined.attributes["error.type"]), ("STATUS_CODE_ERROR", &"3".into()));
    let child = of(&|span| span.name == "sleep");
    assert_eq!((&child.trace, &child.parent), (&joined.trace, &joined.span));
}

#[test]
fn a_context_that_is_not_sampled_is_left_alone() {
    if !is_root() {
        return;
    }
    let Some(server) = Server::start(0) else { return };
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    let unsampled = FOUND.replace("-01", "-00");
    let script = format!("echo $TRACEPARENT > {}", given.display());
    let (report, spans) = exec(server, Some(&unsampled), &["sh", "-c", &script]);
    assert_eq!(fs::read_to_string(given).unwrap().trim(), unsampled);
    assert_eq!((report["total"]["processes"].as_u64(), spans.len()), (Some(1), 0));
}

#[test]
fn spans_of_a_command_without_a_collector_arrive_with_those_of_the_next_one() {
    if !is_root() {
        return;
    }
    let Some(server) = Server::start(0) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_meter, spool) = (meter(dir.path()), dir.path().join("spool.db"));
    let absent = Server { endpoint: "http://127.0.0.1:1".to_owned(), ..Server::start(0).unwrap() };
    for (server, program) in [(&absent, "/bin/false"), (&server, "/bin/true")] {
        let mut agent = agent();
        agent.args(["exec", "--trace"]).args(options(dir.path(), server));
        agent.args(["--set", &format!("plugins.traces.spool={}", spool.display()), "--", program]);
        let output = agent.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), program == "/bin/true", "{text}");
        assert!(!text.contains("were lost"), "{text}");
    }
    absent.stop();
    let mut names: Vec<_> = server.stop().into_iter().map(|span| span.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["false", "true", "wattrace exec false", "wattrace exec true"]);
}

/// The sum of the energy of the process `pid` according to the file `out`, in microjoules.
fn attributed(out: &Path, pid: u32) -> i64 {
    let mut last: HashMap<String, i64> = HashMap::new();
    for point in read_jsonl(out).iter().filter(|p| metric(p) == "wattrace.consumer.energy") {
        if point["consumer"]["id"] == *pid.to_string() {
            last.insert(point["start_unix_nano"].to_string(), scaled(&point["value"], 1e6));
        }
    }
    last.values().sum()
}

/// The attribute by which the daemon's processes are selected.
const NAME: &str = "'process.executable.name'";

#[test]
fn selected_trees_are_traced_by_a_daemon_and_a_long_process_is_a_chain_of_spans() {
    if !is_root() {
        return;
    }
    let Some(server) = Server::start(0) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_meter, out) = (meter(dir.path()), dir.path().join("out.jsonl"));
    let program = dir.path().join("worker-of-this-test");
    fs::copy("/bin/sh", &program).unwrap();
    let mut agent = agent()
        .args(["run", "--plugins", "sched,rapl,attribution,jsonl,traces"])
        .args(options(dir.path(), &server))
        .args(["--set", &format!("plugins.jsonl.path={}", out.display())])
        .args(["--set", "plugins.traces.period=1s"])
        .args(["--set", &format!("plugins.traces.select=[{{ attributes = {{ {NAME} = 'worker-of-*' }} }}]")])
        .spawn()
        .unwrap();
    while fs::metadata(&out).map_or(0, |file| file.len()) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let script =
        "for n in 1 2 3 4 5 6 7 8; do sleep 0.4; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done";
    let mut worker = Command::new(&program).args(["-c", script]).spawn().unwrap();
    let pid = worker.id();
    assert!(worker.wait().unwrap().success());
    interrupt(&agent);
    assert!(agent.wait().unwrap().success());
    let spans = server.stop();

    let mut chain: Vec<_> = spans.iter().filter(|span| span.pid() == Some(i64::from(pid))).collect();
    chain.sort_by_key(|span| span.start);
    assert!(chain.len() >= 3, "{chain:#?}");
    assert_eq!(chain.iter().map(|span| span.microjoules()).sum::<i64>(), attributed(&out, pid));
    for pair in chain.windows(2) {
        assert_eq!((pair[1].start, &pair[1].links), (pair[0].end, &vec![pair[0].span.clone()]));
        assert_eq!(pair[0].attributes["wattrace.process.running"], true);
        assert_eq!((&pair[0].trace, &*pair[1].parent), (&pair[1].trace, ""));
    }
    assert_eq!(chain.last().unwrap().attributes["process.exit.code"], 0);

    let ids: HashSet<_> = chain.iter().map(|span| &span.span).collect();
    let children: Vec<_> = spans.iter().filter(|span| span.name == "sleep").collect();
    assert_eq!(children.len(), 8);
    assert!(children.iter().all(|span| ids.contains(&span.parent) && span.trace == chain[0].trace));
    assert_eq!(spans.len(), chain.len() + children.len(), "nothing else is traced");
}

#[test]
fn what_the_agent_does_is_a_trace_of_its_own_if_asked_for() {
    for is_asked_for in [true, false] {
        let Some(server) = Server::start(1) else { return };
        let dir = tempfile::tempdir().unwrap();
        let (_meter, out) = (meter(dir.path()), dir.path().join("out.jsonl"));
        let mut agent = agent();
        agent.args(["run", "--plugins", "rapl,jsonl,otlp"]).args(is_asked_for.then_some("--trace-operation"));
        agent.args(options(dir.path(), &server)).args(["--set", "plugins.otlp.interval=100ms"]);
        agent.args(["--set", "plugins.otlp.spool=none"]);
        agent.args(["--set", &format!("plugins.otlp.endpoint={}", server.endpoint)]);
        agent.args(["--set", &format!("plugins.jsonl.path={}", out.display())]);
        agent.env("OTEL_EXPORTER_OTLP_ENDPOINT", &server.endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "100");
        let protocol = ["OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"];
        let mut agent = agent.env(protocol[0], protocol[1]).spawn().unwrap();
        let windows = || {
            let points = if out.exists() { read_jsonl(&out) } else { Vec::new() };
            let metered = points.iter().filter(|point| metric(point) == "hw.energy");
            metered.map(|point| point["time_unix_nano"].to_string()).collect::<HashSet<_>>().len()
        };
        while windows() < 10 {
            std::thread::sleep(Duration::from_millis(20));
        }
        interrupt(&agent);
        agent.wait().unwrap();
        let spans = server.stop();
        if !is_asked_for {
            assert_eq!(spans.len(), 0, "{spans:#?}");
            continue;
        }
        assert!(spans.iter().all(|span| span.scope == "wattrace.agent" && span.start <= span.end));
        let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
        let ticks = of("source/rapl/energy");
        assert!(ticks.len() > windows(), "a tick is a span: {} for {} windows", ticks.len(), windows());
        let opening = |span: &&&Span| span.attributes["wattrace.opening"] == true;
        assert_eq!(ticks.iter().filter(opening).count(), 1);
        let writes: HashMap<_, _> =
            of("output/otlp/metrics").into_iter().map(|span| (&*span.span, &*span.trace)).collect();
        let exports = of("export");
        assert!(!exports.is_empty(), "{spans:#?}");
        for export in exports {
            assert_eq!(writes.get(&*export.parent), Some(&&*export.trace), "{export:?}");
            assert!(export.attributes["bytes"].as_i64() > Some(0), "{export:?}");
        }
    }
}
