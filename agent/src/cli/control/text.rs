//! What an agent answered, for people: a table, and below it, in lines of their own, what would not fit into
//! one.

use std::time::Duration;

use crate::cli::table::aligned;
use crate::control::element::{Element, Ticks};
use crate::control::protocol::{Problem, Reply};
use crate::control::reload::Reloaded;

/// What was done, or how elements are doing.
pub(super) fn of(reply: &Reply) -> String {
    let mut text = String::new();
    if let Some(names) = &reply.names {
        text += &lines(names, "");
    }
    if let Some(done) = &reply.done {
        text += &lines(done, past(&reply.command));
    }
    if let Some(reloaded) = &reply.reload {
        text += &of_reload(reloaded);
    }
    let elements = reply.elements.as_deref().unwrap_or_default();
    if reply.agent.is_some() {
        text += &table(elements);
    }
    text + &remarks(elements)
}

/// Why something was not done.
pub(super) fn of_problem(problem: &Problem) -> String {
    let mut message = problem.message.clone();
    for line in &problem.problems {
        message += &format!("\n  {line}");
    }
    message
}

fn lines(names: &[String], verb: &str) -> String {
    names.iter().map(|name| format!("{verb}{name}\n")).collect()
}

/// What was done with an element by a command, before its name.
fn past(command: &str) -> &'static str {
    match command {
        "pause" => "paused ",
        "resume" => "resumed ",
        "trigger" => "triggered ",
        "flush" => "flushed ",
        "set-interval" => "interval set: ",
        _ => "",
    }
}

fn of_reload(reloaded: &Reloaded) -> String {
    let mut text = format!("{reloaded}\n");
    if !reloaded.unchanged.is_empty() {
        text += &format!("went on: {}\n", reloaded.unchanged.join(", "));
    }
    if !reloaded.needs_restart.is_empty() {
        let keys = reloaded.needs_restart.join(", ");
        text += &format!("to be in force after a restart of the agent only: {keys}\n");
    }
    text
}

fn table(elements: &[Element]) -> String {
    let header =
        ["ELEMENT", "STATE", "EVERY", "TICKS", "MISSED", "LATE", "IN", "OUT", "LOST", "ERRORS", "QUEUE"];
    let mut rows = vec![header.map(String::from)];
    for e in elements {
        let ticks = |show: fn(&Ticks) -> String| e.ticks.as_ref().map_or_else(|| "-".into(), show);
        rows.push([
            printable(&e.name),
            e.state.clone(),
            ticks(|t| interval(t.interval_ns)),
            ticks(|t| t.count.to_string()),
            ticks(|t| t.missed.to_string()),
            ticks(|t| short(t.lateness_mean_ns)),
            e.points_in.to_string(),
            e.points_out.to_string(),
            e.points_lost.to_string(),
            e.errors.to_string(),
            e.queue.as_ref().map_or_else(|| "-".into(), |q| format!("{}/{}", q.depth, q.capacity)),
        ]);
    }
    aligned(&rows, &[0, 1], "")
}

/// What else is to be said of each.
fn remarks(elements: &[Element]) -> String {
    let mut text = String::new();
    for e in elements {
        let name = printable(&e.name);
        if !e.reason.is_empty() {
            text += &format!("{name} is {}: {}\n", e.state, printable(&e.reason));
        }
        if !e.last_error.is_empty() && e.last_error != e.reason {
            text += &format!("{name}: last error: {}\n", printable(&e.last_error));
        }
        for loss in &e.losses {
            text += &format!("{name}: {} points lost: {}\n", loss.points, printable(&loss.reason));
        }
        if e.points_left_out > 0 {
            text += &format!("{name}: {} points left out, as configured\n", e.points_left_out);
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn interval(nanos: u64) -> String {
    match nanos {
        0 => "manual".into(),
        _ => humantime::format_duration(Duration::from_nanos(nanos)).to_string(),
    }
}

/// Three digits are enough to see how late a tick is.
fn short(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{}ms", nanos / 1_000_000),
        _ => format!("{}s", nanos / 1_000_000_000),
    }
}

/// Names and messages come from plugins: they must not command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
