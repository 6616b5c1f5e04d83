//! The details of one consumer: what it is, its energy in each domain, its power over time, its threads.

use ratatui::text::Span;
use wattrace_viewer::{Consumer, Kind};

use crate::app::App;
use crate::canvas::Canvas;
use crate::chart;
use crate::facts::{Facts, ProcessFacts};
use crate::text::{bytes, clock, cut, duration, energy, left, percent, right, watts};

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

/// The least number of lines of the chart.
const LEAST_CHART: usize = 3;

/// Draws the details of what is selected in exactly `room` lines.
pub(crate) fn draw(app: &App, facts: &mut dyn Facts, canvas: &mut Canvas<'_>, room: usize) {
    let consumer = app.selected.and_then(|key| app.shown().consumer(key));
    let Some(consumer) = consumer else {
        canvas.line(vec![Span::styled("it has ended", app.theme.warning())]);
        return canvas.skip(room.saturating_sub(1));
    };
    let width = canvas.width();
    let kernel = match consumer.kind() {
        Kind::Process => consumer.id().parse().ok().and_then(|pid| facts.process(pid)),
        _ => None,
    };
    let memory = match consumer.kind() {
        Kind::Process => consumer.id().parse().ok().and_then(|pid| facts.memory(pid)),
        _ => None,
    };
    let mut lines = vec![title(app, consumer, memory)];
    lines.extend(parts(app, consumer));
    lines.extend(attributes(app, consumer, kernel.as_ref(), width));
    lines.truncate(room.saturating_sub(LEAST_CHART));
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

fn title<'a>(app: &App, consumer: &Consumer, memory: Option<u64>) -> Vec<Span<'a>> {
    let (model, theme) = (app.shown(), app.theme);
    let what = match consumer.kind() {
        Kind::Process => format!("  process {}", consumer.id()),
        Kind::Tree => format!("  processes below {}", consumer.id()),
        kind => format!("  {}", kind.as_str()),
    };
    let joules = energy(model.microjoules_of(consumer) as f64 / 1e6);
    let error = model.half_width_of(consumer).map_or(String::new(), |half| format!(" ± {}", energy(half)));
    let mut text = format!("  {joules}{error}  CPU {} %", percent(model.cpus_of(consumer)));
    if model.gpus_of(consumer) > 0.0 || consumer.gpu_memory() > 0.0 {
        text += &format!("  GPU {} %", percent(model.gpus_of(consumer)));
    }
    if consumer.gpu_memory() > 0.0 {
        text += &format!(" {}", bytes(consumer.gpu_memory()));
    }
    if let Some(memory) = memory {
        text += &format!("  memory {}", bytes(memory as f64));
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

fn attributes<'a>(
    app: &App,
    consumer: &Consumer,
    kernel: Option<&ProcessFacts>,
    width: usize,
) -> Vec<Vec<Span<'a>>> {
    let mut facts: Vec<(&str, String)> = Vec::new();
    if consumer.start_unix_nano() > 0 {
        let age = app.shown().now_unix_nano().saturating_sub(consumer.start_unix_nano()) / SECOND;
        let began = clock(consumer.start_unix_nano(), app.utc_offset);
        facts.push(("began", format!("{began}, {} ago", duration(age))));
    }
    if consumer.cpu_nanos() > 0 {
        let seconds = consumer.cpu_nanos() as f64 / 1e9;
        facts.push(("CPU time", format!("{seconds:.1} s")));
    }
    if matches!(consumer.kind(), Kind::Program | Kind::Tree) {
        facts.push(("processes", consumer.processes().to_string()));
    }
    if let Some(kernel) = kernel {
        let running = kernel.threads.iter().filter(|(.., state)| *state == 'R').count();
        let names: Vec<_> = kernel.threads.iter().map(|(_, name, _)| name.as_str()).collect();
        let count = names.len();
        facts.push(("threads", format!("{count}, {running} running: {}", distinct(&names))));
        facts.extend(kernel.span.clone().map(|span| ("open span", span)));
    }
    for (key, name) in ATTRIBUTES {
        if let Some(value) = consumer.attributes().get(key).filter(|value| !value.is_empty()) {
            facts.push((name, value.clone()));
        }
    }
    let line = |(name, value): (&str, String)| {
        // Attributes hold what processes chose.
        let value: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        vec![
            Span::styled(left(name, NAMES), app.theme.quiet()),
            Span::raw(cut(&value, width.saturating_sub(NAMES))),
        ]
    };
    facts.into_iter().map(line).collect()
}

/// Names, each once, with how often it is there.
fn distinct(names: &[&str]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    let text = |(name, count): &(&str, usize)| {
        if *count > 1 { format!("{count}×{name}") } else { (*name).to_owned() }
    };
    counted.iter().map(text).collect::<Vec<_>>().join(", ")
}
