//! The last line: what is being typed, a notice, or the most important keys.

use ratatui::text::Span;
use unicode_width::UnicodeWidthStr as _;

use crate::app::{App, Input};
use crate::canvas::Canvas;

const KEYS: [(&str, &str); 8] = [
    ("?", "help"),
    ("q", "quit"),
    ("Tab", "kind"),
    ("s", "sort"),
    ("/", "search"),
    ("f", "filter"),
    ("Enter", "details"),
    ("Space", "pause"),
];

pub(crate) fn draw(app: &App, canvas: &mut Canvas<'_>) {
    let bottom = canvas.area.bottom() - 1;
    canvas.next = bottom;
    let theme = app.theme;
    if let Some(input) = app.input {
        let (name, text) = match input {
            Input::Filter => ("filter: ", &app.query.filter),
            Input::Search => ("search: ", &app.search),
        };
        let cursor = Span::styled(" ", theme.selected());
        return canvas.line(vec![Span::styled(name, theme.title()), Span::raw(text.clone()), cursor]);
    }
    if !app.notice.is_empty() {
        return canvas.line(vec![Span::styled(app.notice.clone(), theme.warning())]);
    }
    let (mut spans, mut used) = (Vec::new(), 0);
    for (key, meaning) in KEYS {
        let width = key.width() + meaning.width() + 3;
        if used + width > canvas.width() {
            break;
        }
        used += width;
        spans.push(Span::styled(key, theme.title()));
        spans.push(Span::styled(format!(" {meaning}  "), theme.quiet()));
    }
    canvas.line(spans);
}
