//! Reload, by command and by signal: it takes effect completely or not at all, and what has not changed keeps
//! running.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::machine::{Agent, ENERGY, Machine, energy};
use crate::support::{is_root, metric, read_jsonl};

#[test]
fn an_invalid_configuration_is_refused_with_all_errors_and_the_old_one_stays() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    let before = energy(&machine.read_meter_into("a.jsonl"));
    // An unknown key and a wrong type are found when the file is read, an invalid value by the plugin.
    machine.configure("b.jsonl", "pth = 1\nappend = \"yes\"\n");
    let text = machine.control(&["reload"]);
    text.is(
        1,
        &["is refused; the old one is in force", "wattrace.toml:8: ", "did you mean `path`?", "append"],
    );
    let refused = machine.json(&["reload"]);
    assert_eq!(refused["error"]["kind"], "bad-config");
    assert_eq!(refused["error"]["problems"].as_array().unwrap().len(), 2, "{refused}");
    machine.configure("b.jsonl", "[plugins.csv]\npath = \"\"\n");
    let sets = fs::read_to_string(machine.file("wattrace.toml")).unwrap().replace("1day", "1us");
    fs::write(machine.file("wattrace.toml"), sets).unwrap();
    machine.control(&["reload"]).is(1, &["plugins.rapl.interval"]);
    agent.signal(libc::SIGHUP);
    agent.says("is refused; the old one is in force");
    agent.says("plugins.rapl.interval");
    fs::remove_file(machine.file("wattrace.toml")).unwrap();
    machine.control(&["reload"]).is(1, &["cannot be read"]);

    assert!(!machine.file("b.jsonl").exists());
    assert_eq!(machine.element(ENERGY)["ticks"]["interval_ns"], 86_400_000_000_000_u64);
    let after = energy(&machine.read_meter_into("a.jsonl"));
    assert!(after.0 == before.0 && after.1 > before.1, "it counts on: {before:?} {after:?}");
    agent.stop();
}

#[test]
fn reload_restarts_only_the_plugins_whose_tables_changed() {
    let machine = Machine::new();
    let csv = format!("plugins.csv.path={}", machine.file("wattrace.csv").display());
    let agent = machine.start("rapl,jsonl,csv", &["--set", &csv]);
    let first = energy(&machine.read_meter_into("a.jsonl"));
    let text = machine.control(&["reload"]);
    text.is(0, &["no plugin's table has changed", "unchanged: rapl, csv, jsonl"]);

    machine.configure("b.jsonl", "");
    let config = fs::read_to_string(machine.file("wattrace.toml")).unwrap();
    fs::write(machine.file("wattrace.toml"), format!("agent.queue = 7\nagent.realtime = true\n{config}"))
        .unwrap();
    let reply = machine.json(&["reload"]);
    assert_eq!(reply["reload"]["restarted"], json!(["jsonl"]));
    assert_eq!(reply["reload"]["unchanged"], json!(["rapl", "csv"]));
    assert_eq!(reply["reload"]["needs_restart"], json!(["agent.queue", "agent.realtime"]));
    assert_eq!(reply["elements"], json!([]), "all new elements work");
    let again = machine.json(&["reload"]);
    assert_eq!(again["reload"]["restarted"], json!([]), "it has taken effect already");
    assert_eq!(again["reload"]["needs_restart"], json!(["agent.queue", "agent.realtime"]), "and this is not");
    let second = energy(&machine.read_meter_into("b.jsonl"));
    assert_eq!(second.0, first.0, "the counter was not reset");
    assert!(second.1 > first.1, "and counted on: {first:?} {second:?}");
    assert_eq!(machine.element(ENERGY)["calls"], 2, "the source is the one it was");
    assert_eq!(energy(&read_jsonl(&machine.file("a.jsonl"))), first, "the old file is left as it was");

    // The reload takes effect, and the reply reports that the output cannot be opened.
    machine.configure("no/such/c.jsonl", "");
    let text = machine.control(&["reload"]);
    text.is(0, &["reloaded: restarted jsonl", "output/jsonl/jsonl is failing", "mkdir -p"]);
    agent.stop_with_losses();
}

#[test]
fn reload_starts_and_stops_plugins_and_sets_the_configured_intervals() {
    let machine = Machine::new();
    machine.configure("a.jsonl", "[plugins.console]\nenabled = false\n[plugins.sched]\nenabled = false\n");
    let agent = Agent::spawn(machine.run());
    agent.says("control: listening on ");
    machine.json(&["set-interval", ENERGY, "1h"]);
    let csv = machine.file("out.csv");
    machine.configure(
        "a.jsonl",
        &format!(
            "enabled = false\n[plugins.console]\nenabled = false\n[plugins.sched]\nenabled = false\n\
             [plugins.csv]\npath = {csv:?}\n"
        ),
    );
    let text = fs::read_to_string(machine.file("wattrace.toml")).unwrap().replace("1day", "2h");
    fs::write(machine.file("wattrace.toml"), text).unwrap();
    machine.control(&["reload"]).is(0, &["restarted rapl; started csv; stopped jsonl"]);
    assert_eq!(machine.json(&["list", "output/*"])["names"], json!(["output/csv/csv"]));
    assert_eq!(machine.element(ENERGY)["ticks"]["interval_ns"], 7_200_000_000_000_u64);
    machine.json(&["set-interval", ENERGY]);
    assert_eq!(machine.element(ENERGY)["ticks"]["interval_ns"], 7_200_000_000_000_u64);
    agent.stop();
}

#[test]
fn sighup_reloads() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    let first = energy(&machine.read_meter_into("a.jsonl"));
    machine.configure("b.jsonl", "");
    agent.signal(libc::SIGHUP);
    agent.says("reloaded: restarted jsonl");
    let second = energy(&machine.read_meter_into("b.jsonl"));
    assert!(second.0 == first.0 && second.1 > first.1, "{first:?} {second:?}");
    agent.stop();
}

#[test]
fn a_reload_makes_outputs_look_for_their_renamed_files() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    machine.read_meter_into("a.jsonl");
    fs::rename(machine.file("a.jsonl"), machine.file("a.1")).unwrap();
    machine.control(&["reload"]).is(0, &["no plugin's table has changed"]);
    assert!(machine.file("a.jsonl").exists(), "nothing else has been written that could notice it");
    fs::rename(machine.file("a.jsonl"), machine.file("a.2")).unwrap();
    agent.signal(libc::SIGHUP);
    agent.says("a.jsonl: going on in another file");
    machine.read_meter_into("a.jsonl");
    agent.stop();
}

#[test]
fn counters_of_usage_and_attribution_survive_a_reload() {
    if !is_root() {
        return;
    }
    let machine = Machine::new();
    let agent = machine.start("sched,rapl,attribution,jsonl", &["--set", "plugins.sched.interval=1day"]);
    let own = agent.child.id().to_string();
    // Start and last value of each counter, and whether it is the agent's own CPU time.
    let counters = |out: &str| -> BTreeMap<String, (u64, f64, bool)> {
        // Twice, since energy is attributed only when usage covers its window.
        machine.json(&["trigger", "source/*"]);
        machine.json(&["trigger", "source/*"]);
        let lines = machine.read_meter_into(out);
        let counts = |l: &&Value| metric(l).starts_with("wattrace.consumer.") || metric(l) == "hw.energy";
        let counter = |l: &Value| {
            let domain = &l["attributes"]["wattrace.domain"];
            let name = format!("{} {} {} {domain}", metric(l), l["consumer"], l["resource"]);
            let its_own = metric(l) == "wattrace.consumer.cpu.time" && l["consumer"]["id"] == own;
            (name, (l["start_unix_nano"].as_u64().unwrap(), l["value"].as_f64().unwrap(), its_own))
        };
        lines.iter().filter(counts).map(counter).collect()
    };
    let first = counters("a.jsonl");
    machine.configure("b.jsonl", "");
    machine.control(&["reload"]).is(0, &["reloaded: restarted jsonl", "unchanged: sched, rapl, attribution"]);
    let second = counters("b.jsonl");
    let both: Vec<_> = first.iter().filter_map(|(name, old)| Some((name, old, second.get(name)?))).collect();
    for (name, old, new) in &both {
        assert_eq!(old.0, new.0, "{name} was reset");
        assert!(old.1 <= new.1, "{name} ran backwards: {old:?} {new:?}");
    }
    assert!(both.iter().any(|(_, old, new)| old.2 && old.1 < new.1), "the agent itself runs: {both:?}");
    assert!(both.iter().any(|(name, old, new)| name.starts_with("hw.energy") && old.1 < new.1), "{both:?}");
    for attributed in ["unattributed", "idle"] {
        let is = |name: &str| name.starts_with("wattrace.consumer.") && name.contains(attributed);
        assert!(both.iter().any(|(name, ..)| is(name)), "{attributed}: {both:?}");
    }
    agent.stop();
}
