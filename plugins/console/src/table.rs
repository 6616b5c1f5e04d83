//! Renders the state as lines of text that fit a given width and height. Pure: the text depends on nothing
//! else. `screen` draws the lines.

use std::cmp::Ordering;
use std::time::Duration;

use wattrace_api::{ConsumerKind, Origin};

use crate::processes::Consumption;
use crate::state::State;
use crate::text::{cells, cut, fit};

/// How a line looks, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Strong,
    Faint,
    Warning,
}

/// A line of the table, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// What the rates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of the last windows.
    Now,
    /// Means over the whole run.
    Totals,
}

/// How much of the state to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) scope: Scope,
    /// Most processes with a row of their own.
    pub(crate) top: usize,
    /// Cells per line.
    pub(crate) width: usize,
    /// Lines.
    pub(crate) height: usize,
}

/// Renders `state`.
pub(crate) fn render(state: &State, view: &View) -> Vec<Line> {
    let elapsed = state.elapsed().unwrap_or_default();
    let has_energy = state.domains.iter().any(|d| d.is_counted);
    let mut lines = header(state, view, elapsed);
    if !has_energy {
        let why = match state.domains.is_empty() {
            true => "origin none: no meter and no estimate, CPU time only",
            false => "no meter but the whole host's: processes have CPU time only",
        };
        lines.push(Line { text: why.to_string(), style: Style::Warning });
    }
    // The titles take a line.
    let rows = rows(state, view, view.height.saturating_sub(lines.len() + 1), elapsed);
    lines.extend(columns(&rows, view.width, has_energy.then(|| joules(state)), state.has_intervals));
    lines.truncate(view.height);
    for line in &mut lines {
        line.text = cut(&line.text, view.width);
    }
    lines
}

/// The time and the domains, as many on a line as fit.
fn header(state: &State, view: &View, elapsed: Duration) -> Vec<Line> {
    let seconds = elapsed.as_secs_f64();
    let mut parts = vec![match view.scope {
        Scope::Now => time(elapsed),
        Scope::Totals => format!("totals over {}", time(elapsed)),
    }];
    for domain in state.domains.iter().filter(|d| d.is_metered || d.is_counted) {
        let usage = scoped(domain.usage(), view.scope, seconds);
        let (joules, origin) = (usage.microjoules as f64 / 1e6, domain.domain.origin.as_str());
        let apart = if domain.is_counted { "" } else { ", not in TOTAL" };
        let mut part = format!("{} {joules:.2} J {:.2} W ({origin}{apart})", domain.name, usage.watts);
        if domain.residual != 0.0 {
            part += &format!(" residual {} J", domain.residual);
        }
        parts.push(part);
    }
    const BETWEEN: &str = " | ";
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if cells(line) + cells(BETWEEN) + cells(&part) <= view.width => {
                *line += &(BETWEEN.to_string() + &part)
            }
            _ => lines.push(part),
        }
    }
    lines.into_iter().map(|text| Line { text, style: Style::Strong }).collect()
}

fn time(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0..100 => format!("{:.1} s", elapsed.as_secs_f64()),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// The title of the column of joules. It says their origin, unless all are measured.
fn joules(state: &State) -> String {
    let mut origins: Vec<Origin> =
        state.domains.iter().filter(|d| d.is_counted).map(|d| d.domain.origin).collect();
    origins.sort();
    origins.dedup();
    match origins[..] {
        [Origin::Measured] => "J".to_string(),
        _ => format!("J ({})", origins.iter().map(|o| o.as_str()).collect::<Vec<_>>().join("+")),
    }
}

struct Row {
    pid: String,
    name: String,
    usage: Consumption,
    has_ended: bool,
    style: Style,
}

fn scoped(usage: Consumption, scope: Scope, seconds: f64) -> Consumption {
    match scope {
        Scope::Now => usage,
        Scope::Totals if seconds > 0.0 => Consumption {
            watts: usage.microjoules as f64 / 1e6 / seconds,
            cpus: usage.cpu_nanos as f64 / 1e9 / seconds,
            ..usage
        },
        Scope::Totals => usage,
    }
}

/// The top processes, all others, the closing entries and the sum, in `room` lines.
fn rows(state: &State, view: &View, room: usize, elapsed: Duration) -> Vec<Row> {
    let scope = |usage| scoped(usage, view.scope, elapsed.as_secs_f64());
    let mut processes: Vec<_> = state.processes.iter().collect();
    processes.sort_unstable_by(|a, b| {
        let now = || a.has_ended().cmp(&b.has_ended()).then_with(|| a.usage.order_now(&b.usage));
        let first = if view.scope == Scope::Now { now() } else { Ordering::Equal };
        first.then_with(|| a.usage.order(&b.usage)).then_with(|| a.pid.cmp(&b.pid))
    });

    let mut closing = Vec::new();
    for kind in [ConsumerKind::Idle, ConsumerKind::Irq, ConsumerKind::Unattributed] {
        if let Some(&usage) = state.closing.get(&kind) {
            closing.push((kind.as_str().to_string(), usage));
        }
    }
    let mut pending = pending(state);
    if view.scope == Scope::Totals {
        pending.watts = 0.0;
    }
    if pending != Consumption::default() {
        closing.push((PENDING.to_string(), pending));
    }
    // Two lines: the others, and the sum.
    let own = view.top.min(room.saturating_sub(closing.len() + 2)).min(processes.len());
    let mut others = state.ended;
    others += state.processes.folded_usage;
    others += state.closing.get(&ConsumerKind::Other).copied().unwrap_or_default();
    for process in &processes[own..] {
        others += process.usage;
    }
    match (processes.len() - own) as u64 + state.processes.folded {
        0 if others == Consumption::default() => {}
        0 => closing.insert(0, ("other".to_string(), others)),
        1 => closing.insert(0, ("other 1 process".to_string(), others)),
        n => closing.insert(0, (format!("other {n} processes"), others)),
    }

    let mut sum = Consumption::default();
    let mut rows = Vec::with_capacity(own + closing.len() + 1);
    for process in &processes[..own] {
        sum += process.usage;
        rows.push(Row {
            pid: process.pid.clone(),
            name: process.name.clone(),
            usage: scope(process.usage),
            has_ended: process.has_ended() && view.scope == Scope::Now,
            style: Style::Plain,
        });
    }
    for (name, usage) in closing {
        sum += usage;
        let usage = scope(usage);
        rows.push(Row { pid: String::new(), name, usage, has_ended: false, style: Style::Faint });
    }
    // The sum is what the meters counted, whoever received it.
    sum.square = 0.0;
    let (name, usage) = ("TOTAL".to_string(), scope(sum));
    rows.push(Row { pid: String::new(), name, usage, has_ended: false, style: Style::Strong });
    rows
}

/// What meters counted and nobody has yet: usage of the latest windows is still to come.
const PENDING: &str = "not yet attributed";

fn pending(state: &State) -> Consumption {
    let mut pending = Consumption::default();
    for domain in state.domains.iter().filter(|d| d.is_counted) {
        let (all, attributed) = (domain.usage(), domain.attributed);
        pending.microjoules += all.microjoules - attributed.microjoules;
        // Sums of the same rates in another order differ in their last bits.
        let watts = all.watts - attributed.watts;
        pending.watts += if watts > all.watts * 1e-9 { watts } else { 0.0 };
    }
    pending
}

struct Column {
    title: String,
    cell: fn(&Row) -> String,
    /// When there is no room, the column with the lowest priority goes first; the last two stay.
    priority: u8,
    is_name: bool,
}

/// Cells between columns.
const GAP: usize = 2;
/// Fewest cells of a name, while another column can go instead.
const NAME_LEAST: usize = 8;

/// Puts rows into columns under their titles. `joules` is the title of the column of energy; without, there
/// is none; `intervals`: it has a column of its 95 % interval.
fn columns(rows: &[Row], width: usize, joules: Option<String>, intervals: bool) -> Vec<Line> {
    let column =
        |title: &str, priority, cell| Column { title: title.to_string(), cell, priority, is_name: false };
    let mut columns = vec![
        column("PID", 3, |row| row.pid.clone()),
        Column { is_name: true, ..column("NAME", 9, |row| row.name.clone()) },
        column("CPU s", if joules.is_some() { 0 } else { 8 }, |row| {
            format!("{:.2}", row.usage.cpu_nanos as f64 / 1e9)
        }),
        column("CPU %", 1, |row| rate(row, row.usage.cpus * 100.0, 1)),
    ];
    if let Some(title) = joules {
        columns.push(column(&title, 8, |row| format!("{:.2}", row.usage.microjoules as f64 / 1e6)));
        if intervals {
            columns.push(column("± J", 4, half_width));
        }
        columns.push(column("W", 2, |row| rate(row, row.usage.watts, 2)));
    }
    let natural = |column: &Column| {
        let of_rows = rows.iter().map(|row| cells(&(column.cell)(row))).max().unwrap_or(0);
        of_rows.max(cells(&column.title))
    };
    let mut widths: Vec<usize> = columns.iter().map(natural).collect();
    let mut name_room;
    loop {
        let beside_name = columns.iter().zip(&widths).filter(|(c, _)| !c.is_name);
        let taken: usize = beside_name.map(|(_, w)| w + GAP).sum();
        name_room = width.saturating_sub(taken);
        if name_room >= NAME_LEAST || columns.len() <= 2 {
            break;
        }
        let least = columns.iter().enumerate().min_by_key(|(_, c)| c.priority).map_or(0, |(at, _)| at);
        columns.remove(least);
        widths.remove(least);
    }
    for (column, width) in columns.iter().zip(&mut widths) {
        if column.is_name {
            *width = (*width).min(name_room);
        }
    }
    let join = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().zip(&widths).map(|(c, &w)| fit(&cell(c), w, !c.is_name));
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP))
    };
    let mut lines = vec![Line { text: join(&|c| c.title.clone()), style: Style::Strong }];
    lines.extend(rows.iter().map(|row| Line { text: join(&|c| (c.cell)(row)), style: row.style }));
    lines
}

/// Half the width of the energy's 95 % interval, where it is large enough to be known.
fn half_width(row: &Row) -> String {
    if row.usage.square > 0.0 { format!("{:.2}", row.usage.square.sqrt()) } else { String::new() }
}

/// A rate; a process that has ended has none.
fn rate(row: &Row, value: f64, decimals: usize) -> String {
    if row.has_ended { "-".to_string() } else { format!("{value:.decimals$}") }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
