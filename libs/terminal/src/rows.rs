//! The rows of the table, and what closes their sum.

use std::collections::HashMap;
use std::ops::Range;

use ratatui::style::{Modifier, Style};
use ratatui::text::Span;
use unicode_width::UnicodeWidthStr as _;
use wattrace_viewer::{Key, Kind, Row, Sort, Table};

use crate::app::App;
use crate::canvas::Canvas;
use crate::chart;
use crate::facts::Facts;
use crate::memory::{self, Memory};
use crate::text::{bytes, joules, left, percent, right, watts};

/// A column, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    User,
    Name,
    Watts,
    Joules,
    HalfWidth,
    Cpu,
    Gpu,
    Memory,
    History,
}

impl Column {
    fn heading(self, kind: Kind) -> &'static str {
        match self {
            Column::Id => "PID",
            Column::User => "USER",
            Column::Name => match kind {
                Kind::Process => "PROCESS",
                Kind::Tree => "TREE",
                Kind::Program => "PROGRAM",
                Kind::Unit => "UNIT",
                Kind::Container => "CONTAINER",
                Kind::Pod => "POD",
                Kind::Job => "JOB",
                Kind::Machine => "MACHINE",
                Kind::User => "USER",
                _ => "NAME",
            },
            Column::Watts => "WATTS",
            Column::Joules => "JOULES",
            Column::HalfWidth => "±",
            Column::Cpu => "CPU%",
            Column::Gpu => "GPU%",
            Column::Memory if memory::has_cgroups(kind) => "MEM",
            Column::Memory => "RSS",
            Column::History => "HISTORY",
        }
    }

    fn sort(self) -> Option<Sort> {
        match self {
            Column::Name => Some(Sort::Name),
            Column::Watts => Some(Sort::Watts),
            Column::Joules => Some(Sort::Joules),
            Column::Cpu => Some(Sort::Cpu),
            Column::Gpu => Some(Sort::Gpu),
            _ => None,
        }
    }

    fn is_left(self) -> bool {
        matches!(self, Column::Name | Column::User | Column::History)
    }
}

/// The columns of a screen, with their widths.
pub(crate) struct Columns(Vec<(Column, usize)>);

impl Columns {
    pub(crate) fn new(app: &App, width: u16) -> Self {
        let width = usize::from(width);
        let (kind, model) = (app.query.kind, app.shown());
        let is_process = matches!(kind, Kind::Process | Kind::Tree);
        let has_gpu = model.consumers().any(|(_, consumer)| model.gpus_of(consumer) > 0.0);
        let is_wide = width >= 100;
        let history = if is_wide { (width / 5).min(60) } else { width / 10 };
        let mut columns = Vec::new();
        let mut add = |is_shown: bool, column, width| {
            if is_shown {
                columns.push((column, width));
            }
        };
        add(is_process, Column::Id, 7);
        add(is_wide && kind == Kind::Process, Column::User, 9);
        add(true, Column::Name, 0);
        add(true, Column::Watts, 7);
        add(true, Column::Joules, 7);
        add(is_wide && is_process, Column::HalfWidth, 6);
        add(true, Column::Cpu, 6);
        add(has_gpu && width >= 60, Column::Gpu, 6);
        add(width >= 70 && app.position.is_none(), Column::Memory, 5);
        add(width >= 60, Column::History, history);
        let used: usize = columns.iter().map(|(_, width)| width + 1).sum();
        for (column, own) in &mut columns {
            if *column == Column::Name {
                *own = width.saturating_sub(used).max(8);
            }
        }
        Self(columns)
    }
}

/// Draws the names of the columns and the rows of `shown`.
pub(crate) fn draw(
    app: &mut App,
    columns: &Columns,
    table: &Table,
    shown: Range<usize>,
    facts: &mut dyn Facts,
    canvas: &mut Canvas<'_>,
) {
    heading(app, columns, canvas);
    let shown = &table.rows[shown];
    app.places.first_row = canvas.next;
    app.places.rows = shown.iter().filter_map(|row| row.key).collect();
    let total = table.total.watts;
    let has_memory = columns.0.iter().any(|(column, _)| *column == Column::Memory);
    let keys = if has_memory { &app.places.rows[..] } else { &[] };
    let memory = memory::of(app.shown(), keys, facts);
    for row in shown {
        let is_selected = row.key.is_some() && row.key == app.selected;
        let mut spans = Vec::new();
        for &(column, width) in &columns.0 {
            let text = cell(app, row, column, width, &memory);
            let style = match column {
                _ if is_selected => app.theme.selected(),
                _ if row.has_ended => app.theme.quiet(),
                Column::Watts if total > 0.0 && row.watts >= total / 10.0 => {
                    app.theme.power().add_modifier(Modifier::BOLD)
                }
                Column::Watts => app.theme.power(),
                Column::History => app.theme.bar(),
                Column::Id | Column::User | Column::HalfWidth => app.theme.quiet(),
                _ => Style::new(),
            };
            spans.push(Span::styled(fitted(&text, column, width), style));
            spans.push(Span::styled(" ", if is_selected { style } else { Style::new() }));
        }
        canvas.line(spans);
    }
}

fn fitted(text: &str, column: Column, width: usize) -> String {
    if column.is_left() { left(text, width) } else { right(text, width) }
}

fn heading(app: &mut App, columns: &Columns, canvas: &mut Canvas<'_>) {
    app.places.heading = canvas.next;
    app.places.columns.clear();
    let (mut spans, mut x) = (Vec::new(), 0);
    for &(column, width) in &columns.0 {
        let mut name = column.heading(app.query.kind).to_owned();
        if column == Column::Name && !app.query.filter.is_empty() {
            name = format!("{name} with \"{}\"", app.query.filter);
        }
        let is_sorted = column.sort() == Some(app.query.sort);
        if is_sorted {
            name.push(if app.query.is_reversed { '▴' } else { '▾' });
        }
        if let Some(sort) = column.sort() {
            app.places.columns.push((x, x + width as u16 + 1, sort));
        }
        x += width as u16 + 1;
        let style = app.theme.heading();
        let style = if is_sorted { style.patch(app.theme.title()) } else { style };
        spans.push(Span::styled(fitted(&name, column, width), style));
        spans.push(Span::styled(" ", app.theme.heading()));
    }
    canvas.line(spans);
}

fn cell(app: &App, row: &Row, column: Column, width: usize, memory: &HashMap<Key, Memory>) -> String {
    let consumer = || row.key.and_then(|key| app.shown().consumer(key));
    match column {
        Column::Id => row.id.clone(),
        Column::User => {
            let user = consumer().and_then(|consumer| consumer.attributes().get("process.owner").cloned());
            user.unwrap_or_default()
        }
        Column::Name => match consumer() {
            Some(group) if group.kind() == Kind::Program && group.processes() > 1 => {
                format!("{} ({})", row.name, group.processes())
            }
            _ => row.name.clone(),
        },
        Column::Watts => watts(row.watts),
        Column::Joules if !row.is_seen => "-".to_owned(),
        Column::Joules => joules(row.joules()),
        Column::HalfWidth => row.half_width.map_or(String::new(), joules),
        Column::Cpu => percent(row.cpus),
        Column::Gpu => percent(row.gpus),
        Column::Memory => match row.key.and_then(|key| memory.get(&key)) {
            // Where the heading promises a cgroup's.
            Some(Memory::Sum(sum, _)) if memory::has_cgroups(app.query.kind) => {
                format!("~{}", bytes(*sum as f64))
            }
            Some(memory) => bytes(memory.bytes() as f64),
            None => String::new(),
        },
        Column::History => {
            let Some(consumer) = consumer() else { return String::new() };
            let values = consumer.history().last(app.shown().frame(), width);
            chart::line(&values, width, 0.0)
        }
    }
}

/// What closes the sum of the rows that are `shown`: the sum of the others, idle energy and the like, and the
/// meters as the last.
pub(crate) fn closing(table: &Table, shown: &Range<usize>) -> Vec<Row> {
    let mut all = Vec::new();
    let mut more = table.hidden.clone();
    let others = table.rows.iter().enumerate().filter(|(at, _)| !shown.contains(at));
    let mut count = table.hidden_count;
    for (_, row) in others {
        count += 1;
        more.watts += row.watts;
        more.microjoules += row.microjoules;
        more.cpus += row.cpus;
    }
    if count > 0 {
        all.push(Row { name: format!("{count} more"), ..more });
    }
    all.extend(table.closing.iter().cloned());
    all.push(Row { name: "= meters".to_owned(), ..table.total.clone() });
    all
}

/// Draws what closes the sum.
pub(crate) fn draw_closing(app: &App, columns: &Columns, closing: &[Row], canvas: &mut Canvas<'_>) {
    for (number, row) in closing.iter().enumerate() {
        let is_total = number + 1 == closing.len();
        let style = if is_total { Style::new().add_modifier(Modifier::BOLD) } else { app.theme.quiet() };
        let mut spans: Vec<Span<'_>> = Vec::new();
        for &(column, width) in &columns.0 {
            let text = match column {
                Column::Name => fitted(&row.name, column, width),
                Column::Watts => fitted(&watts(row.watts), column, width),
                Column::Joules => fitted(&joules(row.joules()), column, width),
                Column::Cpu if row.cpus >= 0.0005 => fitted(&percent(row.cpus), column, width),
                _ => " ".repeat(width),
            };
            debug_assert_eq!(text.width(), width);
            spans.push(Span::styled(text, style));
            spans.push(Span::raw(" "));
        }
        canvas.line(spans);
    }
}
