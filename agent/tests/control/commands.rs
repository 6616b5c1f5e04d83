//! The commands: what they do, and how they refuse invalid ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::json;

use crate::machine::{Answer, ENERGY, Machine};
use crate::support::{metric, wattrace};

#[test]
fn status_and_list_show_every_element_as_a_table_and_as_json() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    machine.read_meter_into("a.jsonl");
    let status = machine.json(&["status"]);
    assert_eq!(status["agent"]["pid"], agent.child.id());
    assert_eq!(status["agent"]["version"], env!("CARGO_PKG_VERSION"));
    let names: Vec<_> = status["elements"].as_array().unwrap().iter().map(|e| e["name"].clone()).collect();
    // In the order of ticks: RAPL is read a little after the multiple of the interval.
    assert_eq!(names, ["source/agent/self", ENERGY, "output/jsonl/jsonl"]);
    assert_eq!(machine.json(&["list"])["names"], json!(names));
    let text = machine.control(&["list", "source/*"]);
    assert_eq!((text.code, text.out.as_str()), (0, "source/agent/self\nsource/rapl/energy\n"));

    let source = machine.element(ENERGY);
    assert_eq!(source["state"], "running");
    assert_eq!((&source["calls"], &source["points_out"]), (&json!(1), &json!(1)));
    assert_eq!(source["ticks"]["interval_ns"], 86_400_000_000_000_u64);
    assert_eq!((&source["errors"], &source["last_error"]), (&json!(0), &json!("")));
    let output = machine.element("output/jsonl/*");
    let queue = json!({
        "depth": 0, "capacity": 4096, "points": 0, "capacity_points": 2_000_000, "policy": "drop-oldest",
    });
    assert_eq!(output["queue"], queue);
    assert_eq!(output["points_in"], output["points_out"]);
    assert!(output["points_out"].as_u64() >= Some(1), "{output}");
    assert_eq!((&output["points_lost"], &output["losses"]), (&json!(0), &json!([])));

    let table = machine.control(&["status", "--format", "human"]);
    table.is(0, &["ELEMENT", "source/rapl/energy", "running", "1day", "0/4096"]);
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 4, "{table:?}");
    assert!(lines.iter().all(|l| *l == l.trim_end() && l.chars().count() <= 100), "{table:?}");
    let column = lines[0].find("STATE").unwrap();
    assert!(lines[1..].iter().all(|l| l[column..].starts_with("running ")), "{table:?}");
    agent.stop();
}

#[test]
fn elements_pause_resume_are_triggered_flushed_and_change_their_interval() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    let text = machine.control(&["pause", "source/rapl/*"]);
    assert_eq!((text.code, text.out.as_str()), (0, "paused source/rapl/energy\n"));
    assert_eq!(machine.element(ENERGY)["state"], "paused");
    assert_eq!(machine.element("output/jsonl/jsonl")["state"], "running");
    assert_eq!(machine.json(&["resume"])["done"].as_array().unwrap().len(), 3);
    assert_eq!(machine.element(ENERGY)["state"], "running");

    let before = machine.element(ENERGY)["points_out"].as_u64().unwrap();
    assert_eq!(machine.json(&["trigger", "*/rapl/*"])["done"], json!([ENERGY]));
    assert_eq!(machine.element(ENERGY)["points_out"].as_u64(), Some(before + 1));
    assert!(machine.read_meter_into("a.jsonl").iter().any(|l| metric(l) == "hw.energy"));
    machine.control(&["flush", "output/*"]).is(0, &["flushed output/jsonl/jsonl"]);

    machine.control(&["set-interval", ENERGY, "5ms"]).is(0, &["interval set: source/rapl/energy"]);
    assert_eq!(machine.element(ENERGY)["ticks"]["interval_ns"], 5_000_000);
    let ticking = (0..1000).any(|_| machine.element(ENERGY)["ticks"]["count"].as_u64() > Some(20));
    assert!(ticking, "{}", machine.element(ENERGY));
    machine.control(&["set-interval", ENERGY, "0s"]).is(0, &[]);
    assert_eq!(machine.element(ENERGY)["ticks"]["interval_ns"], 0);
    machine.control(&["set-interval", "source/rapl/*"]).is(0, &["source/rapl/energy"]);
    assert_eq!(machine.element(ENERGY)["ticks"]["interval_ns"], 86_400_000_000_000_u64);
    agent.stop();
}

#[test]
fn invalid_commands_are_refused_with_a_suggestion() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    machine
        .control(&["pause", "source/rapl/enrgy"])
        .is(1, &["wattrace: no element matches source/rapl/enrgy", "source/rapl/energy"]);
    let refused = machine.json(&["status", "source/rapl/enrgy"]);
    assert_eq!(
        (&refused["error"]["kind"], &refused["error"]["nearest"][0]),
        (&json!("no-match"), &json!(ENERGY))
    );
    for command in ["resume", "trigger", "flush", "list", "set-interval"] {
        assert_eq!(machine.json(&[command, "output/nobody/*"])["error"]["kind"], "no-match", "{command}");
    }
    assert_eq!(machine.json(&["flush", "source/*"])["error"]["kind"], "not-for");
    assert_eq!(machine.json(&["trigger", "output/*"])["error"]["kind"], "not-for");
    assert_eq!(machine.json(&["set-interval", "output/*"])["error"]["kind"], "not-for");
    machine.control(&["set-interval", ENERGY, "1us"]).is(2, &["must be 1ms to 1day"]);
    machine.control(&["set-interval", ENERGY, "soon"]).is(2, &["soon"]);
    machine.control(&["pause", "rapl"]).is(2, &["KIND/PLUGIN/ELEMENT"]);
    machine.control(&["pause"]).is(2, &["ELEMENT"]);
    machine.control(&["explode"]).is(2, &["explode"]);
    agent.stop();
}

#[test]
fn without_an_agent_or_permission_it_reports_the_socket_and_the_remedy() {
    let machine = Machine::new();
    let socket = machine.socket();
    let name = socket.to_str().unwrap();
    machine.control(&["status"]).is(1, &[name, "no agent listens there", "wattrace run", "--socket"]);
    assert_eq!(machine.json(&["reload"])["error"]["kind"], "no-agent");

    let agent = machine.start("rapl,jsonl", &[]);
    // SAFETY: the call has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        for directory in [machine.dir.path(), socket.parent().unwrap()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // A copy: the directory of the build may not be accessible to others.
        let binary = machine.file("wattrace");
        fs::copy(wattrace().get_program(), &binary).unwrap();
        let mut command = Command::new(binary);
        command.args(["control", "status", "--socket", name]).uid(65534).gid(65534).current_dir("/");
        Answer::of(command).is(1, &[name, "Permission denied", "sudo wattrace control"]);
    }
    agent.kill();
    machine.control(&["status"]).is(1, &[name, "no agent listens there", "has ended"]);
}

#[test]
fn status_shows_that_a_collector_is_absent() {
    let machine = Machine::new();
    let absent = "plugins.otlp={ endpoint = \"http://127.0.0.1:1\", timeout = \"50ms\", spool = \"none\" }";
    let own = ["--set", absent];
    let agent = machine.start("rapl,otlp", &own);
    // The output still takes points meanwhile, which must not hide the failure.
    machine.json(&["set-interval", ENERGY, "1ms"]);
    assert!((0..1000).any(|_| machine.element("output/otlp/*")["points_out"].as_u64() > Some(0)));
    for _ in 0..20 {
        let refused = machine.json(&["flush", "output/otlp/*"]);
        assert_eq!(refused["error"]["kind"], "failed", "{refused}");
        assert_eq!((&refused["done"], &refused["late"]), (&json!([]), &json!([])));
        assert_eq!(refused["elements"][0]["name"], "output/otlp/metrics");
    }
    let output = machine.element("output/otlp/metrics");
    assert!(output["last_error"].as_str().unwrap().contains("http://127.0.0.1:1"), "{output}");
    assert_eq!(output["losses"][0]["points"], output["points_lost"], "{output}");
    machine.control(&["status"]).is(0, &["output/otlp/metrics", "http://127.0.0.1:1", "points lost: unsent"]);
    agent.stop_with_losses();
}
