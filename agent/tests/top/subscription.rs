//! The points of a running agent over its socket.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::machine::{Machine, assert_closed, next, row, table};
use crate::support::services::eventually;
use crate::support::{interrupt, wattrace};

fn is_viewer(name: &str) -> bool {
    name.starts_with("output/viewer-")
}

fn no_viewers(machine: &Machine) -> Option<()> {
    (!machine.elements().iter().any(|name| is_viewer(name))).then_some(())
}

#[test]
fn the_points_of_a_running_agent_come_over_its_socket_and_cost_nothing_otherwise() {
    let machine = Machine::new();
    let _agent = machine.agent();
    assert!(!machine.elements().iter().any(|name| is_viewer(name)));
    let subscribe = json!({"schema": "wattrace.control/1", "command": "subscribe"});
    let mut first = machine.ask(&subscribe);
    let reply = next(&mut first);
    assert_eq!((&reply["ok"], &reply["command"]), (&json!(true), &json!("subscribe")), "{reply}");
    assert!(reply["agent"]["pid"].is_u64(), "{reply}");
    let message = next(&mut first);
    assert_eq!(message["reset"], true, "{message}");
    assert!(!message["windows"].as_array().unwrap().is_empty(), "{message}");
    // Another viewer has an output of its own.
    let mut second = machine.ask(&subscribe);
    assert_eq!(next(&mut second)["ok"], true);
    let viewers: Vec<_> = machine.elements().into_iter().filter(|name| is_viewer(name)).collect();
    assert_eq!(viewers, ["output/viewer-1/feed", "output/viewer-2/feed"]);
    drop(first);
    eventually("the end of the first viewer's output", || {
        let viewers: Vec<_> = machine.elements().into_iter().filter(|name| is_viewer(name)).collect();
        (viewers == ["output/viewer-2/feed"]).then_some(())
    });
    drop(second);
    eventually("the end of all viewers' outputs", || no_viewers(&machine));

    let top = |by: &str| {
        let mut command = wattrace();
        command.args(["top", "--once", "--format", "json", "--by", by, "--socket"]).arg(machine.socket());
        table(&command.output().unwrap())
    };
    let json = top("process");
    assert_closed(&json);
    let joules = |table: &Value| table["total"]["joules"].as_f64().unwrap();
    assert!(row(&json, "web")["watts"].as_f64().unwrap() > 0.0, "{json:#}");
    let later = top("program");
    assert_closed(&later);
    assert!(joules(&later) > joules(&json), "the joules are those since the agent began");
    eventually("the end of all viewers' outputs", || no_viewers(&machine));
}

#[test]
fn an_agent_that_ends_says_so_and_its_exit_status_is_its_own() {
    let machine = Machine::new();
    let mut agent = machine.agent();
    let subscribe = json!({"schema": "wattrace.control/1", "command": "subscribe"});
    let mut viewer = machine.ask(&subscribe);
    assert_eq!(next(&mut viewer)["ok"], true);
    next(&mut viewer);
    interrupt(&agent.0);
    let mut rest = String::new();
    // The connection ends, even within a line.
    _ = viewer.read_to_string(&mut rest);
    assert_eq!(agent.0.wait().unwrap().code(), Some(0), "a viewer is no reason to fail");
    let mut command = wattrace();
    command.args(["top", "--once", "--socket"]).arg(machine.socket());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no agent listens there"), "{text}");
}
