//! The file of the socket: permissions, and what happens if it exists already.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use crate::machine::{Agent, Machine, energy};
use crate::support::read_jsonl;

#[test]
fn only_the_owner_may_use_the_socket_and_the_agent_removes_it_at_its_end() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    let file = fs::symlink_metadata(machine.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
    agent.stop();
    assert!(!machine.socket().exists());
}

#[test]
fn the_socket_of_a_dead_agent_is_replaced() {
    let machine = Machine::new();
    machine.start("rapl,jsonl", &[]).kill();
    assert!(machine.socket().exists());
    let agent = machine.start("rapl,jsonl", &[]);
    assert_eq!(machine.json(&["status"])["agent"]["pid"], agent.child.id());
    agent.stop();
}

#[test]
fn exactly_one_of_several_agents_that_start_at_once_replaces_a_dead_agents_socket() {
    let machine = Machine::new();
    for round in 0..20 {
        machine.start("rapl,jsonl", &[]).kill();
        let mut agents: Vec<Agent> = (0..4)
            .map(|nth| {
                let own = format!("plugins.jsonl.path={}", machine.file(&format!("{nth}.jsonl")).display());
                machine.spawn("rapl,jsonl", &["--set", &own])
            })
            .collect();
        agents.retain(|agent| agent.says("control").contains("control: listening on "));
        let [agent] = &agents[..] else { panic!("{} agents listen in round {round}", agents.len()) };
        assert_eq!(machine.json(&["status"])["agent"]["pid"], agent.child.id());
    }
}

#[test]
fn an_unusable_socket_path_is_reported_once_and_the_agent_runs_without_it() {
    let machine = Machine::new();
    let first = machine.start("rapl,jsonl", &[]);
    let (taken, file) = (machine.socket(), machine.file("precious"));
    fs::write(&file, "letters").unwrap();
    let long = machine.file(&"x".repeat(200));
    for (path, why) in [
        (&taken, "another agent listens there"),
        (&file, "is no socket"),
        (&long, "bytes long"),
        (&file.join("x"), "cannot make"),
    ] {
        let out = machine.file("second.jsonl");
        let own = [
            format!("agent.control_socket={}", path.display()),
            format!("plugins.jsonl.path={}", out.display()),
        ];
        let second = machine.spawn("rapl,jsonl", &["--set", &own[0], "--set", &own[1]]);
        let warning = second.says("runs without `wattrace control`");
        assert!(warning.contains("agent.control_socket: ") && warning.contains(why), "{warning}");
        assert!(warning.contains(path.to_str().unwrap()), "{warning}");
        let more = second.stop();
        assert!(!more.contains("control"), "{more}");
        assert!(energy(&read_jsonl(&out)).0 > 0, "it traced");
        fs::remove_file(&out).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "letters");
    assert_eq!(
        machine.json(&["status"])["agent"]["pid"],
        first.child.id(),
        "the first agent keeps its socket"
    );
    first.stop();
}
