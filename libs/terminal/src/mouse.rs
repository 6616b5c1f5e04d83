//! What the mouse changes: a click on a column sorts by it, one on a row selects it, another one opens its
//! details, and the wheel scrolls.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use crate::app::{Action, App};

/// Rows that the wheel scrolls at once.
const WHEEL: isize = 3;

impl App {
    pub(crate) fn mouse(&mut self, mouse: MouseEvent) -> Action {
        match mouse.kind {
            MouseEventKind::ScrollDown => self.scroll(WHEEL),
            MouseEventKind::ScrollUp => self.scroll(-WHEEL),
            MouseEventKind::Down(MouseButton::Left) => return self.click(mouse.column, mouse.row),
            // The terminal reports every movement.
            _ => return Action::Nothing,
        }
        Action::Draw
    }

    fn click(&mut self, column: u16, line: u16) -> Action {
        if self.overlay.take().is_some() {
            return Action::Draw;
        }
        if line == self.places.heading {
            let columns = self.places.columns.iter();
            let Some((.., sort)) = columns.into_iter().find(|(from, to, _)| (*from..*to).contains(&column))
            else {
                return Action::Nothing;
            };
            if self.query.sort == *sort {
                self.query.is_reversed = !self.query.is_reversed;
            } else {
                (self.query.sort, self.query.is_reversed) = (*sort, false);
            }
            return Action::Draw;
        }
        let row = line.checked_sub(self.places.first_row);
        let Some(key) = row.and_then(|row| self.places.rows.get(usize::from(row))).copied() else {
            return Action::Nothing;
        };
        if self.selected == Some(key) {
            self.open_detail();
        }
        self.selected = Some(key);
        Action::Draw
    }
}
