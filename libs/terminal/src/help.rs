//! The help: what the keys do, and what the closing rows mean.

use ratatui::text::Span;

use crate::app::App;
use crate::canvas::Canvas;
use crate::text::left;

const KEYS: [(&str, &str); 11] = [
    ("Tab 1-9", "other rows: processes, trees, programs, units, containers, users, …"),
    ("s S r", "sort by the next column, by the one before; the other way round"),
    ("↑ ↓ PgUp PgDn", "select a row; Enter shows its details"),
    ("/ n", "search for a row; the next one"),
    ("f Esc", "show only rows with a text; all rows again"),
    ("Space", "pause; the points of the pause are not lost"),
    ("t", "colours: dark, light, none"),
    ("mouse", "click a column or a row, twice for details; the wheel scrolls"),
    ("q", "end"),
    ("", ""),
    ("idle", "drawn without load, whoever runs"),
];

const CLOSING: [(&str, &str); 3] = [
    ("unattributed", "of processes that are not known"),
    ("ended …", "of processes that have ended, or not run since this began"),
    ("±", "half the width of the 95 % interval of the joules"),
];

const RECORDED: [(&str, &str); 4] = [
    ("← →", "10 seconds back, or on"),
    (", . [ ]", "a second; five minutes"),
    ("{ }", "to the begin, to the end"),
    ("Space + -", "stop or play; faster, slower"),
];

/// Draws it in exactly `room` lines.
pub(crate) fn draw(app: &App, canvas: &mut Canvas<'_>, room: usize) {
    let recorded = if app.position.is_some() { &RECORDED[..] } else { &[] };
    // What cannot be seen is not needed most.
    let all = recorded.iter().chain(&KEYS).chain(&CLOSING).take(room);
    let mut used = 0;
    for (keys, meaning) in all {
        canvas.line(vec![Span::styled(left(keys, 15), app.theme.title()), Span::raw(*meaning)]);
        used += 1;
    }
    canvas.skip(room - used);
}
