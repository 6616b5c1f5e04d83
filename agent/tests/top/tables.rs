//! One table: from a tracer, without rights, and from a recording.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::machine::{Machine, assert_closed, row, table};
use crate::support::{is_root, wattrace};

#[test]
fn without_an_agent_one_table_comes_from_a_tracer_of_its_own() {
    let machine = Machine::new();
    let mut command = machine.command("top", "simulator,attribution");
    let json = table(&command.args(["--once", "--format", "json"]).output().unwrap());
    assert_closed(&json);
    assert_eq!((&json["schema"], &json["origins"]), (&json!("wattrace.top/1"), &json!(["simulated"])));
    let (web, batch) = (row(&json, "web"), row(&json, "batch"));
    let cpus = |row: &Value| row["cpus"].as_f64().unwrap();
    assert!((cpus(web) - 0.6).abs() < 0.1 && (cpus(batch) - 0.9).abs() < 0.1, "{json:#}");
    assert!(web["watts"].as_f64() < batch["watts"].as_f64(), "{json:#}");
    let psys = json["domains"].as_array().unwrap().iter().find(|d| d["domain"] == "psys").unwrap();
    assert_eq!(psys["in_total"], false, "the whole machine would count twice");
    let rest = row(&json, "ended or asleep");
    assert_eq!(rest["watts"], 0.0, "{json:#}");

    let mut command = machine.command("top", "simulator,attribution");
    let text = command.args(["--once", "--by", "program"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    for part in ["PROGRAM", "web", "batch", "idle", "unattributed", "= meters", "simulated", "package-0"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn without_rights_a_few_lines_say_what_is_needed() {
    if !is_root() {
        return;
    }
    let machine = Machine::new();
    let _agent = machine.agent();
    fs::set_permissions(machine.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A copy that anybody may execute.
    let binary = machine.file("wattrace");
    fs::copy(env!("CARGO_BIN_EXE_wattrace"), &binary).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(arguments).env("STATE_DIRECTORY", "/nonexistent").uid(65534).gid(65534);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let socket = machine.socket();
    let text = nobody(&["top", "--once", "--socket", socket.to_str().unwrap()]);
    assert!(text.contains("sudo wattrace top") && text.lines().count() == 1, "{text}");
    let text = nobody(&["top", "--once", "--set", "agent.rediscover=60s"]);
    assert!(text.lines().count() <= 4 && text.contains("sudo"), "{text}");
}

#[test]
fn a_recording_has_the_joules_that_were_recorded() {
    let machine = Machine::new();
    let database = machine.file("energy.db");
    let mut command = machine.command("run", "simulator,attribution,sqlite");
    let path = format!("plugins.sqlite.path={}", database.display());
    let status = command.args(["--duration", "3s", "--set", &path]).status().unwrap();
    assert!(status.success());
    let mut command = wattrace();
    command.args(["top", "--once", "--format", "json", "--replay"]).arg(&database);
    let json = table(&command.output().unwrap());
    assert_closed(&json);
    assert_eq!(json["origins"], json!(["simulated"]));
    assert!(row(&json, "batch")["cpus"].as_f64().unwrap() > 0.7, "{json:#}");
    let mut command = wattrace();
    command.args(["query", "--format", "json", "--db"]).arg(&database);
    let query = table(&command.output().unwrap());
    let (measured, shown) = (query["total"]["measured_j"].as_f64(), json["total"]["joules"].as_f64());
    assert!((measured.unwrap() - shown.unwrap()).abs() < 1e-9, "{query:#}\n{json:#}");
    let missing = wattrace().args(["top", "--once", "--replay", "/nonexistent.db"]).output().unwrap();
    let text = String::from_utf8(missing.stderr).unwrap();
    assert!(text.contains("/nonexistent.db: no such file"), "{text}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = wattrace().arg("top").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.contains("use --once")), (Some(2), true), "{text}");
}
