//! The top of the screen: how much power, whose points, and the power of each domain over time.

use ratatui::text::Span;
use unicode_width::UnicodeWidthStr as _;
use wattrace_viewer::Domain;

use crate::app::App;
use crate::canvas::Canvas;
use crate::chart;
use crate::text::{clock, cut, duration, energy, left, right, watts};

const SECOND: u64 = 1_000_000_000;

/// From this height on, a domain has a chart of several lines.
const TALL: u16 = 36;
const CHART_LINES: usize = 5;
/// The least width of such a chart.
const CHART_WIDTH: usize = 38;

/// How many domains have a line of their own on a small screen.
const MOST_LINES: usize = 3;

pub(crate) fn draw(app: &App, canvas: &mut Canvas<'_>) {
    title(app, canvas);
    let model = app.shown();
    let domains: Vec<_> = model.domains().iter().filter(|domain| domain.watts() > 0.0).collect();
    if canvas.area.height >= TALL && !domains.is_empty() {
        charts(app, &domains, canvas);
    } else {
        lines(app, &domains, canvas);
    }
}

fn title(app: &App, canvas: &mut Canvas<'_>) {
    let (model, theme) = (app.shown(), app.theme);
    let mut spans = vec![Span::styled("wattrace", theme.title()), Span::raw("  ")];
    if model.frame() == 0 {
        spans.push(Span::raw("waiting for the first reading"));
    } else if model.origins().is_empty() {
        spans.push(Span::styled("no meter", theme.warning()));
    } else {
        let origins = model.origins().join(" and ");
        spans.push(Span::styled(format!("{} W", watts(model.watts())), theme.power()));
        // Who shows joules says where they come from.
        spans.push(Span::raw(format!("  {}  {origins}", energy(model.microjoules() as f64 / 1e6))));
    }
    let now = model.now_unix_nano();
    if model.frame() > 0 {
        spans.push(Span::raw(format!("  {}", clock(now, app.utc_offset))));
    }
    if model.frame() > 0 && canvas.width() >= 100 {
        let seconds = now.saturating_sub(model.begin_unix_nano()) / SECOND;
        spans.push(Span::styled(format!("  seen for {}", duration(seconds)), theme.quiet()));
    }
    let mut state = app.label.clone();
    let mut style = theme.quiet();
    if model.lost() > 0 {
        (state, style) = (format!("{} points lost", model.lost()), theme.warning());
    }
    if let Some(position) = &app.position {
        let playing =
            if position.is_playing { format!("▶ {}×", position.speed) } else { "❚❚".to_owned() };
        state = format!("{playing}  {state}");
    }
    if app.is_paused() {
        (state, style) = ("PAUSED".to_owned(), theme.warning());
    }
    if !app.ended.is_empty() {
        (state, style) = (app.ended.clone(), theme.warning());
    }
    let used: usize = spans.iter().map(|span| span.content.width()).sum();
    let room = canvas.width().saturating_sub(used + 2);
    spans.push(Span::raw("  "));
    spans.push(Span::styled(right(&state, room), style));
    canvas.line(spans);
}

/// The name of a domain, as far as it is to be explained.
fn name_of(domain: &Domain) -> String {
    let name = domain.name();
    // GPUs are named by long numbers.
    let name = cut(name, 16);
    if domain.is_counted() { name } else { format!("({name})") }
}

/// A line for each domain.
fn lines(app: &App, domains: &[&Domain], canvas: &mut Canvas<'_>) {
    let theme = app.theme;
    let (own, others) = match domains.len() > MOST_LINES {
        true => domains.split_at(MOST_LINES - 1),
        false => (domains, &[][..]),
    };
    let names = domains.iter().map(|domain| name_of(domain).width()).max().unwrap_or(0).max(9);
    let width = canvas.width().saturating_sub(names + 11);
    for domain in own {
        let values = domain.history().last(app.shown().frame(), width);
        canvas.line(vec![
            Span::raw(left(&name_of(domain), names)),
            Span::styled(right(&watts(domain.watts()), 8), theme.power()),
            Span::raw(" W "),
            Span::styled(chart::line(&values, width, 0.0), theme.bar()),
        ]);
    }
    if !others.is_empty() {
        let power: f64 = others.iter().map(|domain| domain.watts()).sum();
        let all: Vec<_> = others.iter().map(|domain| name_of(domain)).collect();
        canvas.line(vec![
            Span::raw(left(&format!("{} more", others.len()), names)),
            Span::styled(right(&watts(power), 8), theme.power()),
            Span::styled(format!(" W {}", all.join(", ")), theme.quiet()),
        ]);
    }
}

/// Charts side by side.
fn charts(app: &App, domains: &[&Domain], canvas: &mut Canvas<'_>) {
    let theme = app.theme;
    let count = domains.len().min((canvas.width() / CHART_WIDTH).max(1));
    let width = canvas.width() / count;
    let bars = width - 2;
    let mut headings = Vec::new();
    let mut below: Vec<Vec<String>> = Vec::new();
    for domain in &domains[..count] {
        let values = domain.history().last(app.shown().frame(), bars);
        let peak = values.iter().fold(0.0_f32, |peak, value| peak.max(*value));
        headings.push(Span::styled(name_of(domain), theme.title()));
        let static_watts =
            domain.static_watts().map_or(String::new(), |idle| format!(", {} idle", watts(idle)));
        let power = format!("  {} W", watts(domain.watts()));
        let peak = format!("  peak {}{static_watts}", watts(f64::from(peak)));
        let used = name_of(domain).width() + power.width();
        headings.push(Span::styled(power, theme.power()));
        headings.push(Span::styled(left(&peak, width.saturating_sub(used)), theme.quiet()));
        below.push(chart::lines(&values, bars, CHART_LINES, 0.0));
    }
    canvas.line(headings);
    for line in 0..CHART_LINES {
        let parts = below.iter().map(|lines| Span::styled(left(&lines[line], width), theme.bar()));
        canvas.line(parts.collect());
    }
    if domains.len() > count {
        let others: Vec<_> =
            domains[count..].iter().map(|d| format!("{} {} W", name_of(d), watts(d.watts()))).collect();
        canvas.line(vec![Span::styled(format!("also: {}", others.join(", ")), theme.quiet())]);
    }
}
