//! The details of one consumer: what it is, its energy in each domain, its power over time, its threads.

use ratatui::text::Span;
use wattrace_viewer::{Consumer, Key, Kind};

use crate::app::App;
use crate::canvas::Canvas;
use crate::chart;
use crate::facts::{Facts, ProcessFacts};
use crate::memory::{self, Memory};
use crate::text::{bytes, clock, cut, duration, energy, left, percent, right, watts};
use crate::threads;

const SECOND: u64 = 1_000_000_000;

/// Attributes that are worth a line, with what they are called.
const ATTRIBUTES: [(&str, &str); 12] = [
    ("process.owner", "user"),
    ("process.command_line", "command"),
    ("process.executable.path", "program"),
    ("container.name", "container"),
    ("container.image.name", "image"),
    ("k8s.namespace.name", "namespace"),
    ("k8s.pod.name", "pod"),
    ("k8s.pod.uid", "pod uid"),
    ("wattrace.job.id", "job"),
    ("wattrace.machine.name", "machine"),
    ("systemd.unit", "unit"),
    ("process.linux.cgroup", "cgroup"),
];

/// Width of the names of attributes and domains.
const NAMES: usize = 11;

/// The least number of lines of the chart, with its heading, and of the threads, with theirs.
const LEAST_CHART: usize = 2;
const LEAST_THREADS: usize = 3;

/// Draws the details of what is selected in exactly `room` lines.
pub(crate) fn draw(app: &App, facts: &mut dyn Facts, canvas: &mut Canvas<'_>, room: usize) {
    let selected = app.selected.and_then(|key| Some((key, app.shown().consumer(key)?)));
    let Some((key, consumer)) = selected else {
        canvas.line(vec![Span::styled("it has ended", app.theme.warning())]);
        return canvas.skip(room.saturating_sub(1));
    };
    let width = canvas.width();
    let kernel = match consumer.kind() {
        Kind::Process => consumer.id().parse().ok().and_then(|pid| facts.process(pid)),
        _ => None,
    };
    let mut lines = vec![title(app, consumer)];
    lines.extend(parts(app, consumer));
    lines.extend(numbers(app, consumer, kernel.as_ref(), memory_of(app, key, facts), width));
    let names = names(app, consumer, width);
    let most = room.saturating_sub(LEAST_CHART);
    if let Some(kernel) = &kernel {
        let for_threads = most.saturating_sub(lines.len() + names.len()).max(LEAST_THREADS);
        lines.extend(threads::lines(app, consumer, kernel, for_threads, width));
    }
    lines.extend(names);
    lines.truncate(most);
    let used = lines.len();
    lines.into_iter().for_each(|line| canvas.line(line));
    let frame = app.shown().frame();
    let height = room.saturating_sub(used + 1).min(8);
    let values = consumer.history().last(frame, width);
    let peak = values.iter().fold(0.0_f32, |peak, value| peak.max(*value));
    if room > used {
        let text = format!("power of the last {} frames, peak {} W", values.len(), watts(f64::from(peak)));
        canvas.line(vec![Span::styled(text, app.theme.quiet())]);
    }
    for line in chart::lines(&values, width, height, 0.0) {
        canvas.line(vec![Span::styled(line, app.theme.bar())]);
    }
    canvas.skip(room.saturating_sub(used + 1 + height));
}

/// Its memory, and what that is.
fn memory_of(app: &App, key: Key, facts: &mut dyn Facts) -> Option<String> {
    let recorded = app.position.is_some();
    let memory = if recorded { None } else { memory::of(app.shown(), &[key], facts).remove(&key) };
    let what = match memory? {
        Memory::Resident(_) => "resident".to_owned(),
        Memory::Cgroup(_) => "of its cgroup, with its page cache".to_owned(),
        Memory::Sum(_, count) => format!("resident in {count} processes; what they share counts for each"),
    };
    Some(format!("{} {what}", bytes(memory?.bytes() as f64)))
}

fn title<'a>(app: &App, consumer: &Consumer) -> Vec<Span<'a>> {
    let (model, theme) = (app.shown(), app.theme);
    let what = match consumer.kind() {
        Kind::Process => format!("  process {}", consumer.id()),
        Kind::Tree => format!("  processes below {}", consumer.id()),
        kind => format!("  {}", kind.as_str()),
    };
    let joules = match consumer.is_seen() {
        true => energy(model.microjoules_of(consumer) as f64 / 1e6),
        false => "joules not seen yet".to_owned(),
    };
    let error = model.half_width_of(consumer).map_or(String::new(), |half| format!(" ± {}", energy(half)));
    let mut text = format!("  {joules}{error}  CPU {} %", percent(model.cpus_of(consumer)));
    if model.gpus_of(consumer) > 0.0 || consumer.gpu_memory() > 0.0 {
        text += &format!("  GPU {} %", percent(model.gpus_of(consumer)));
    }
    if consumer.gpu_memory() > 0.0 {
        text += &format!(" {}", bytes(consumer.gpu_memory()));
    }
    vec![
        Span::styled(consumer.name().to_owned(), theme.title()),
        Span::styled(what, theme.quiet()),
        Span::styled(format!("  {} W", watts(model.watts_of(consumer))), theme.power()),
        Span::raw(text),
    ]
}

/// A line for each domain in which it used energy.
fn parts<'a>(app: &App, consumer: &Consumer) -> Vec<Vec<Span<'a>>> {
    let model = app.shown();
    let mut lines = Vec::new();
    for part in consumer.parts() {
        let Some(domain) = model.domains().get(part.domain()) else { continue };
        let error = part.half_width().map_or(String::new(), |half| format!(" ± {}", energy(half)));
        let joules = energy(part.microjoules() as f64 / 1e6);
        let outside = if domain.is_counted() { "" } else { ", not in the total" };
        lines.push(vec![
            Span::styled(left(domain.name(), NAMES), app.theme.quiet()),
            Span::raw(right(&joules, 9)),
            Span::raw(format!("{error}  {}{outside}", domain.origin())),
        ]);
    }
    lines
}

/// When it began, how much it used of what.
fn numbers<'a>(
    app: &App,
    consumer: &Consumer,
    kernel: Option<&ProcessFacts>,
    memory: Option<String>,
    width: usize,
) -> Vec<Vec<Span<'a>>> {
    let mut facts: Vec<(&str, String)> = Vec::new();
    let mut times = Vec::new();
    if consumer.start_unix_nano() > 0 {
        let age = app.shown().now_unix_nano().saturating_sub(consumer.start_unix_nano()) / SECOND;
        let began = clock(consumer.start_unix_nano(), app.utc_offset);
        times.push(format!("began {began}, {} ago", duration(age)));
    }
    if consumer.cpu_nanos() > 0 {
        times.push(format!("{:.1} s on CPUs while traced", consumer.cpu_nanos() as f64 / 1e9));
    }
    if !times.is_empty() {
        facts.push(("time", times.join("; ")));
    }
    if matches!(consumer.kind(), Kind::Program | Kind::Tree) {
        facts.push(("processes", consumer.processes().to_string()));
    }
    facts.extend(memory.map(|memory| ("memory", memory)));
    facts.extend(kernel.and_then(|kernel| kernel.span.clone()).map(|span| ("open span", span)));
    facts.iter().map(|(name, value)| line(app, name, value, width)).collect()
}

/// What it is called, and what it belongs to.
fn names<'a>(app: &App, consumer: &Consumer, width: usize) -> Vec<Vec<Span<'a>>> {
    let known = ATTRIBUTES.iter().filter_map(|(key, name)| Some((name, consumer.attributes().get(*key)?)));
    let known = known.filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| line(app, name, value, width)).collect()
}

fn line<'a>(app: &App, name: &str, value: &str, width: usize) -> Vec<Span<'a>> {
    // Attributes hold what processes chose.
    let value: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    vec![
        Span::styled(left(name, NAMES), app.theme.quiet()),
        Span::raw(cut(&value, width.saturating_sub(NAMES))),
    ]
}
