//! A reply of an agent as text for people: a table, and below it the details of elements that need attention.

use std::time::Duration;

use wattrace_api::text::printable;

use crate::cli::table::aligned;
use crate::control::command::Command;
use crate::control::protocol::{Problem, Reloaded, Reply};
use crate::pipeline::status::{ElementStatus, TickStatus};

/// The reply to `command`.
pub(super) fn reply(command: &Command, reply: &Reply) -> String {
    let mut text = String::new();
    if let Some(names) = &reply.names {
        text += &lines("", names);
    }
    if let Some(done) = &reply.done {
        text += &lines(outcome(command), done);
    }
    if let Some(reloaded) = &reply.reload {
        text += &reload(reloaded);
    }
    let elements = reply.elements.as_deref().unwrap_or_default();
    if reply.agent.is_some() {
        text += &table(elements);
    }
    text + &details(elements)
}

/// Why a command was not carried out.
pub(super) fn problem(problem: &Problem) -> String {
    let mut message = problem.message.clone();
    for line in &problem.problems {
        message += &format!("\n  {line}");
    }
    message
}

fn lines(prefix: &str, names: &[String]) -> String {
    names.iter().map(|name| format!("{prefix}{name}\n")).collect()
}

/// What happened to an element, before its name.
fn outcome(command: &Command) -> &'static str {
    match command {
        Command::Pause { .. } => "paused ",
        Command::Resume { .. } => "resumed ",
        Command::Trigger { .. } => "triggered ",
        Command::Flush { .. } => "flushed ",
        Command::SetInterval { .. } => "interval set: ",
        Command::Status { .. } | Command::List { .. } | Command::Reload {} | Command::Subscribe {} => "",
    }
}

fn reload(reloaded: &Reloaded) -> String {
    let mut text = format!("{reloaded}\n");
    if !reloaded.unchanged.is_empty() {
        text += &format!("unchanged: {}\n", reloaded.unchanged.join(", "));
    }
    if !reloaded.needs_restart.is_empty() {
        let keys = reloaded.needs_restart.join(", ");
        text += &format!("takes effect when the agent is restarted: {keys}\n");
    }
    text
}

fn table(elements: &[ElementStatus]) -> String {
    let header =
        ["ELEMENT", "STATE", "EVERY", "TICKS", "MISSED", "LATE", "IN", "OUT", "LOST", "ERRORS", "QUEUE"];
    let mut rows = vec![header.map(String::from)];
    for e in elements {
        let ticks = |cell: fn(&TickStatus) -> String| e.ticks.as_ref().map_or_else(|| "-".into(), cell);
        rows.push([
            printable(&e.name).into_owned(),
            e.state.as_str().into(),
            ticks(|t| interval(t.interval_ns)),
            ticks(|t| t.ticks.to_string()),
            ticks(|t| t.missed.to_string()),
            ticks(|t| short(t.lateness_mean_ns)),
            e.points_in.to_string(),
            e.points_out.to_string(),
            e.lost.to_string(),
            e.errors.to_string(),
            e.queue.as_ref().map_or_else(|| "-".into(), |q| format!("{}/{}", q.depth, q.capacity)),
        ]);
    }
    aligned(&rows, &[0, 1], "")
}

/// Reasons, errors and losses, one a line.
fn details(elements: &[ElementStatus]) -> String {
    let mut text = String::new();
    for e in elements {
        let name = printable(&e.name);
        if !e.reason.is_empty() {
            text += &format!("{name} is {}: {}\n", e.state.as_str(), printable(&e.reason));
        }
        if !e.last_error.is_empty() && e.last_error != e.reason {
            text += &format!("{name}: last error: {}\n", printable(&e.last_error));
        }
        for loss in &e.losses {
            text += &format!("{name}: {} points lost: {}\n", loss.points, printable(&loss.reason));
        }
        if e.left_out > 0 {
            text += &format!("{name}: {} points left out, as configured\n", e.left_out);
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

/// A duration in at most three digits, which is enough for how late a tick is.
fn short(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{}ms", nanos / 1_000_000),
        _ => format!("{}s", nanos / 1_000_000_000),
    }
}
