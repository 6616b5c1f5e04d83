//! A screen that is filled from top to bottom.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// A screen that is filled from top to bottom.
pub(crate) struct Canvas<'a> {
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) area: Rect,
    /// The next line.
    pub(crate) next: u16,
}

impl Canvas<'_> {
    /// How many lines are left.
    pub(crate) fn left(&self) -> usize {
        usize::from(self.area.bottom().saturating_sub(self.next))
    }

    pub(crate) fn width(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Fills the next line. Beyond the last one nothing is drawn.
    pub(crate) fn line(&mut self, spans: Vec<Span<'_>>) {
        if self.next < self.area.bottom() {
            self.buffer.set_line(self.area.x, self.next, &Line::from(spans), self.area.width);
            self.next += 1;
        }
    }

    /// Leaves lines empty.
    pub(crate) fn skip(&mut self, lines: usize) {
        let lines = u16::try_from(lines).unwrap_or(u16::MAX);
        self.next = self.next.saturating_add(lines).min(self.area.bottom());
    }
}
