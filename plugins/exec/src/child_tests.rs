//! Tests of a child's start, lines and above all its end.

use std::fs;
use std::io::{BufRead, BufReader};

use std::collections::BTreeMap;

use rustix::process::{Pid, kill_process};

use super::*;
use crate::line_queue::Next;

const TIMEOUT: Duration = Duration::from_secs(20);

fn start(script: &str) -> ChildProcess {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let (element, env) = ("source/exec/test".to_owned(), [("X".to_owned(), "y".to_owned())].into());
    ChildProcess::start(&Program { element, command, env, max_line: 1000 }).unwrap()
}

fn next_line(child: &ChildProcess) -> String {
    match child.queue.next(Instant::now() + TIMEOUT) {
        Next::Line(line) => String::from_utf8(line.text.unwrap()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn exists(pid: &str) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn wait_until_gone(pid: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while exists(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_exit_status_comes_after_all_lines() {
    let child = start("echo a; echo $X; exit 3");
    assert_eq!((next_line(&child), next_line(&child)), ("a".to_owned(), "y".to_owned()));
    let exit = child.queue.exit(TIMEOUT).unwrap();
    assert_eq!((exit.description.as_str(), exit.success), ("status 3", false));
}

#[test]
fn only_listed_environment_variables_are_inherited() {
    // SAFETY: no other thread of this test binary reads this variable.
    unsafe { std::env::set_var("OTEL_EXPORTER_OTLP_HEADERS", "secret") };
    let child = start("echo ${OTEL_EXPORTER_OTLP_HEADERS-nothing}");
    assert_eq!(next_line(&child), "nothing");
}

#[test]
fn a_failed_start_names_the_program_and_the_cause() {
    let (element, command) = ("x".to_owned(), vec!["/no/such/program".to_owned()]);
    let program = Program { element, command, env: BTreeMap::new(), max_line: 1000 };
    let error = ChildProcess::start(&program).unwrap_err().to_string();
    assert!(error.contains("/no/such/program") && error.contains("No such file"), "{error}");
}

#[test]
fn a_killed_child_ends_at_once_and_its_group_is_killed_with_it() {
    let child = start("sleep 1000 & echo $!; echo $$; wait");
    let (grandchild, leader) = (next_line(&child), next_line(&child));
    kill_process(Pid::from_raw(leader.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(child.queue.exit(TIMEOUT).unwrap().description, "signal 9");
    wait_until_gone(&leader);
    wait_until_gone(&grandchild);
}

#[test]
fn a_child_ends_when_its_input_does() {
    let mut child = start("read line; echo got $line; exit 0");
    child.write(b"hello\n", TIMEOUT, |_| {}).unwrap();
    assert_eq!(next_line(&child), "got hello");
    child.end(TIMEOUT);
    assert!(child.queue.exit(Duration::ZERO).unwrap().success);
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_in_time() {
    let mut child = start("trap '' TERM; echo $$; while :; do sleep 1; done");
    let pid = next_line(&child);
    let started = Instant::now();
    child.end(Duration::from_millis(100));
    assert_eq!(child.queue.exit(Duration::ZERO).unwrap().description, "signal 9");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    wait_until_gone(&pid);
}

#[test]
fn dropping_a_child_ends_it_without_waiting() {
    let child = start("trap '' TERM; echo $$; while :; do sleep 1; done");
    let (pid, started) = (next_line(&child), Instant::now());
    drop(child);
    assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
    wait_until_gone(&pid);
}

#[test]
fn a_child_that_does_not_read_is_killed_but_its_own_lines_are_read_first() {
    let mut child = start("exec sleep 1000");
    let much = vec![b'x'; 1 << 20];
    assert_eq!(child.write(&much, Duration::from_millis(100), |_| {}), Err(WriteError::Timeout));
    assert_eq!(child.queue.exit(TIMEOUT).unwrap().description, "signal 9");

    let mut echo = start("exec cat");
    let line = [vec![b'x'; 99], vec![b'\n']].concat();
    let (input, mut read) = (line.repeat(100_000), 0);
    let mut take = |queue: &LineQueue| {
        while let Next::Line(_) = queue.next(Instant::now()) {
            read += 1;
        }
    };
    echo.write(&input, TIMEOUT, &mut take).unwrap();
    echo.close_stdin();
    assert!(echo.queue.exit(Duration::ZERO).is_none() || read > 0);
}

#[test]
fn a_child_that_closes_its_output_is_killed() {
    let child = start("exec >&-; sleep 1000");
    assert_eq!(child.queue.exit(TIMEOUT).unwrap().description, "signal 9");
}

#[test]
fn children_are_killed_if_the_agent_is_killed() {
    const AGENT: &str = "WATTRACE_TEST_AGENT";
    if std::env::var_os(AGENT).is_some() {
        let child = start("echo $$; exec sleep 1000");
        println!("child {}", next_line(&child));
        std::thread::sleep(TIMEOUT);
        return;
    }
    let this = "child::tests::children_are_killed_if_the_agent_is_killed";
    let mut agent = std::process::Command::new(std::env::current_exe().unwrap());
    agent.args(["--exact", this, "--nocapture"]).env(AGENT, "1").stdout(std::process::Stdio::piped());
    let mut agent = agent.spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = lines.find_map(|line| Some(line.split_once("child ")?.1.to_owned())).unwrap();
    assert!(exists(&pid));
    agent.kill().unwrap();
    agent.wait().unwrap();
    wait_until_gone(&pid);
}

#[test]
fn processes_that_left_the_group_are_killed_when_the_program_ends() {
    for script in [
        "setsid sleep 1000 & echo $!; read x",
        "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; read x",
        "env -i setsid sleep 1000 & echo $!; read x",
        // A daemon: its parent has ended.
        "(setsid sh -c 'echo $$; exec sleep 1000' &); read x",
    ] {
        let mut child = start(script);
        let daemon = next_line(&child);
        let other = start("echo $$; exec sleep 1000");
        let neighbour = next_line(&other);
        assert!(exists(&daemon), "{script}");
        child.end(TIMEOUT);
        wait_until_gone(&daemon);
        assert!(exists(&neighbour), "another program goes on: {script}");
    }
}
