//! Tests of children's lives: their starts, their lines and above all their ends.

use std::fs;
use std::io::{BufRead, BufReader};

use super::*;
use crate::inbox::Next;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(script: &str) -> Process {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let (element, env) = ("source/exec/test".to_owned(), [("X".to_owned(), "y".to_owned())].into());
    Process::start(&Program { element, command, env, max_line: 1000 }).unwrap()
}

fn next_line(process: &Process) -> String {
    match process.inbox.next(Instant::now() + PATIENCE) {
        Next::Line(line) => String::from_utf8(line.text.unwrap()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn is_there(pid: &str) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn wait_until_gone(pid: &str) {
    let deadline = Instant::now() + PATIENCE;
    while is_there(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn lines_come_in_order_and_then_the_status() {
    let process = start("echo a; echo $X; exit 3");
    assert_eq!((next_line(&process), next_line(&process)), ("a".to_owned(), "y".to_owned()));
    let exit = process.inbox.exit(PATIENCE).unwrap();
    assert_eq!((exit.how.as_str(), exit.success), ("status 3", false));
}

#[test]
fn only_harmless_variables_are_inherited() {
    // SAFETY: no other thread of this test binary reads this variable.
    unsafe { std::env::set_var("OTEL_EXPORTER_OTLP_HEADERS", "secret") };
    let process = start("echo ${OTEL_EXPORTER_OTLP_HEADERS-nothing}");
    assert_eq!(next_line(&process), "nothing");
}

#[test]
fn what_cannot_be_started_says_what_and_why() {
    let (element, command) = ("x".to_owned(), vec!["/no/such/program".to_owned()]);
    let program = Program { element, command, env: BTreeMap::new(), max_line: 1000 };
    let error = Process::start(&program).unwrap_err().to_string();
    assert!(error.contains("/no/such/program") && error.contains("No such file"), "{error}");
}

#[test]
fn a_killed_child_is_noticed_though_a_grandchild_holds_its_pipes_and_that_one_dies_too() {
    let process = start("sleep 1000 & echo $!; echo $$; wait");
    let (grandchild, child) = (next_line(&process), next_line(&process));
    process::kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(process.inbox.exit(PATIENCE).unwrap().how, "signal 9");
    wait_until_gone(&child);
    wait_until_gone(&grandchild);
}

#[test]
fn a_child_ends_when_its_input_does() {
    let mut process = start("read line; echo got $line; exit 0");
    process.write(b"hello\n", PATIENCE, |_| {}).unwrap();
    assert_eq!(next_line(&process), "got hello");
    process.end(PATIENCE);
    assert!(process.inbox.exit(Duration::ZERO).unwrap().success);
}

#[test]
fn one_that_ignores_everything_is_killed_within_bounds() {
    let mut process = start("trap '' TERM; echo $$; while :; do sleep 1; done");
    let pid = next_line(&process);
    let begun = Instant::now();
    process.end(Duration::from_millis(100));
    assert_eq!(process.inbox.exit(Duration::ZERO).unwrap().how, "signal 9");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    wait_until_gone(&pid);
}

#[test]
fn dropping_it_ends_it_without_waiting() {
    let process = start("trap '' TERM; echo $$; while :; do sleep 1; done");
    let (pid, begun) = (next_line(&process), Instant::now());
    drop(process);
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    wait_until_gone(&pid);
}

#[test]
fn one_that_does_not_read_is_killed_and_its_own_lines_are_read_meanwhile() {
    let mut process = start("exec sleep 1000");
    let much = vec![b'x'; 1 << 20];
    assert_eq!(process.write(&much, Duration::from_millis(100), |_| {}), Err(Unwritten::Deaf));
    assert_eq!(process.inbox.exit(PATIENCE).unwrap().how, "signal 9");

    let mut echo = start("exec cat");
    let line = [vec![b'x'; 99], vec![b'\n']].concat();
    let (lots, mut read) = (line.repeat(100_000), 0);
    let mut take = |inbox: &Inbox| {
        while let Next::Line(_) = inbox.next(Instant::now()) {
            read += 1;
        }
    };
    echo.write(&lots, PATIENCE, &mut take).unwrap();
    echo.close_stdin();
    assert!(echo.inbox.exit(Duration::ZERO).is_none() || read > 0);
}

#[test]
fn one_that_closes_its_output_is_not_left_alone() {
    let process = start("exec >&-; sleep 1000");
    assert_eq!(process.inbox.exit(PATIENCE).unwrap().how, "signal 9");
}

#[test]
fn children_die_with_the_agent_even_if_it_is_killed() {
    const AGENT: &str = "WATTRACE_TEST_AGENT";
    if std::env::var_os(AGENT).is_some() {
        let process = start("echo $$; exec sleep 1000");
        println!("child {}", next_line(&process));
        std::thread::sleep(PATIENCE);
        return;
    }
    let this = "process::tests::children_die_with_the_agent_even_if_it_is_killed";
    let mut agent = std::process::Command::new(std::env::current_exe().unwrap());
    agent.args(["--exact", this, "--nocapture"]).env(AGENT, "1").stdout(std::process::Stdio::piped());
    let mut agent = agent.spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = lines.find_map(|line| Some(line.split_once("child ")?.1.to_owned())).unwrap();
    assert!(is_there(&pid));
    agent.kill().unwrap();
    agent.wait().unwrap();
    wait_until_gone(&pid);
}
