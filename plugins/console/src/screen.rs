//! Draws lines on a terminal in place of those drawn before; without a terminal, one table after the other.
//!
//! No raw mode, no alternate screen, no hidden cursor: Ctrl-C and scrolling back work, and the terminal is
//! usable whenever the agent dies.

use std::io::{self, IsTerminal, Stdout, Write};

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::queue;
use crossterm::style::{Attribute, SetAttribute};
use crossterm::terminal::{Clear, ClearType};

use crate::Color;
use crate::table::{Line, Style};
use crate::text::cells;

/// Where tables go.
pub(crate) struct Screen<W> {
    out: W,
    is_terminal: bool,
    has_colors: bool,
    /// Cells of each line that the next draw replaces.
    drawn: Vec<usize>,
    bytes: Vec<u8>,
}

impl Screen<Stdout> {
    /// Standard output, as the environment describes it.
    pub(crate) fn stdout(color: Color) -> Self {
        let out = io::stdout();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let is_terminal = out.is_terminal() && !is_dumb;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let has_colors = match color {
            Color::Auto => is_terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        };
        Self::new(out, is_terminal, has_colors)
    }
}

impl<W: Write> Screen<W> {
    pub(crate) fn new(out: W, is_terminal: bool, has_colors: bool) -> Self {
        Self { out, is_terminal, has_colors, drawn: Vec::new(), bytes: Vec::new() }
    }

    /// Whether a draw replaces the one before.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Its present columns and lines. Without a terminal both are unlimited.
    pub(crate) fn size(&self) -> (usize, usize) {
        if !self.is_terminal {
            return (usize::MAX, usize::MAX);
        }
        match crossterm::terminal::size() {
            Ok((width, height)) if width > 0 && height > 0 => (width.into(), height.into()),
            _ => (80, 24),
        }
    }

    /// Draws `lines`, none wider than `width`, where the last draw was. `width` is the terminal's now: if it
    /// has become narrower, what was drawn has been wrapped and takes more lines.
    ///
    /// # Errors
    /// Those of the write.
    pub(crate) fn draw(&mut self, lines: &[Line], width: usize) -> io::Result<()> {
        self.bytes.clear();
        if self.is_terminal {
            let above: usize = self.drawn.iter().map(|cells| cells.div_ceil(width.max(1)).max(1)).sum();
            if let Ok(above @ 1..) = u16::try_from(above) {
                queue!(self.bytes, MoveUp(above))?;
            }
            self.drawn.clear();
            // Line by line, and the rest last: clearing all of it first would flicker, and tmux would push a
            // table that fills the screen into the scrollback every time.
            for line in lines {
                queue!(self.bytes, MoveToColumn(0), Clear(ClearType::UntilNewLine))?;
                self.put(line)?;
                self.bytes.extend_from_slice(b"\r\n");
                self.drawn.push(cells(&line.text));
            }
            queue!(self.bytes, Clear(ClearType::FromCursorDown))?;
        } else {
            for line in lines {
                self.put(line)?;
                self.bytes.push(b'\n');
            }
            self.bytes.push(b'\n');
        }
        self.out.write_all(&self.bytes)?;
        self.out.flush()
    }

    /// Keeps what is drawn: the next draw goes below.
    pub(crate) fn keep(&mut self) {
        self.drawn.clear();
    }

    fn put(&mut self, line: &Line) -> io::Result<()> {
        let attribute = match line.style {
            Style::Strong => Some(Attribute::Bold),
            Style::Faint => Some(Attribute::Dim),
            Style::Warning => Some(Attribute::Reverse),
            Style::Plain => None,
        };
        match attribute.filter(|_| self.has_colors) {
            Some(attribute) => {
                queue!(self.bytes, SetAttribute(attribute))?;
                self.bytes.extend_from_slice(line.text.as_bytes());
                queue!(self.bytes, SetAttribute(Attribute::Reset))
            }
            None => {
                self.bytes.extend_from_slice(line.text.as_bytes());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line { text: text.to_string(), style: Style::Strong }).collect()
    }

    /// What a terminal shows after `draw` has drawn on it.
    fn shown(width: u16, draw: impl FnOnce(&mut Screen<Vec<u8>>)) -> Vec<String> {
        let mut screen = Screen::new(b"$ wattrace run\r\n".to_vec(), true, true);
        draw(&mut screen);
        let mut terminal = vt100::Parser::new(8, width, 0);
        terminal.process(&screen.out);
        let rows = terminal.screen().rows(0, width).map(|row| row.trim_end().to_string());
        let mut rows: Vec<_> = rows.collect();
        while rows.last().is_some_and(|row| row.is_empty()) {
            rows.pop();
        }
        rows
    }

    #[test]
    fn a_draw_replaces_the_one_before_and_nothing_else() {
        let shown = shown(20, |screen| {
            screen.draw(&lines(&["first", "long line", "third"]), 20).unwrap();
            screen.draw(&lines(&["1", "2"]), 20).unwrap();
        });
        assert_eq!(shown, ["$ wattrace run", "1", "2"]);
    }

    #[test]
    fn a_kept_table_stays_and_the_next_goes_below() {
        let shown = shown(20, |screen| {
            screen.draw(&lines(&["live"]), 20).unwrap();
            screen.draw(&lines(&["totals"]), 20).unwrap();
            screen.keep();
            screen.draw(&lines(&["live again"]), 20).unwrap();
        });
        assert_eq!(shown, ["$ wattrace run", "totals", "live again"]);
    }

    #[test]
    fn lines_that_a_narrower_terminal_wrapped_are_replaced_whole() {
        // A terminal of 10 columns shows the first draw, made for 16, as the resized one does: wrapped.
        let shown = shown(10, |screen| {
            screen.out.clear();
            screen.draw(&lines(&["0123456789abcdef", "0123456789", "x"]), 16).unwrap();
            screen.draw(&lines(&["new"]), 10).unwrap();
        });
        assert_eq!(shown, ["new"]);
    }

    #[test]
    fn without_a_terminal_there_are_no_escape_sequences() {
        let mut screen = Screen::new(Vec::new(), false, false);
        screen.draw(&lines(&["a", "b"]), usize::MAX).unwrap();
        screen.draw(&lines(&["c"]), usize::MAX).unwrap();
        assert_eq!(String::from_utf8(screen.out).unwrap(), "a\nb\n\nc\n\n");
    }
}
