//! The whole screen. From top to bottom: a title, the power of the domains, the rows, what closes the sum,
//! and the keys. Idle and unattributed energy and the meters are always in view.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::app::{App, Overlay};
use crate::canvas::Canvas;
use crate::facts::Facts;
use crate::{detail, footer, header, help, rows};

/// Smaller screens show nothing of use.
const LEAST_WIDTH: u16 = 40;
const LEAST_HEIGHT: u16 = 12;

/// From this height on, details leave room for rows.
const TALL: u16 = 34;

/// Draws the screen.
pub fn draw(app: &mut App, facts: &mut dyn Facts, area: Rect, buffer: &mut Buffer) {
    if area.width < LEAST_WIDTH || area.height < LEAST_HEIGHT {
        let text = format!("wattrace top needs {LEAST_WIDTH}×{LEAST_HEIGHT} characters");
        buffer.set_line(area.x, area.y, &Line::from(text), area.width);
        return;
    }
    facts.begin_screen();
    let mut canvas = Canvas { buffer, area, next: area.y };
    header::draw(app, &mut canvas);
    let columns = rows::Columns::new(app, area.width);
    let table = app.table(usize::from(area.height));
    // The names of the columns, what closes the sum with the meters, and the keys.
    let room = canvas.left().saturating_sub(table.closing.len() + 3);
    let (is_tall, overlay) = (area.height >= TALL, app.overlay);
    let for_rows = |room: usize| match overlay {
        None => room,
        Some(Overlay::Detail) if is_tall => room / 2,
        Some(Overlay::Detail | Overlay::Help) => 0,
    };
    let has_more = app.offset > 0 || table.rows.len() + table.hidden_count > for_rows(room);
    let room = room.saturating_sub(usize::from(has_more));
    let first = app.offset.min(table.rows.len().saturating_sub(1));
    let shown = first..table.rows.len().min(first + for_rows(room));
    let closing = rows::closing(&table, &shown);
    let others = room.saturating_sub(for_rows(room));
    match overlay {
        Some(Overlay::Help) => help::draw(app, &mut canvas, others + 1),
        Some(Overlay::Detail) if !is_tall => detail::draw(app, facts, &mut canvas, others + 1),
        _ => {
            let for_rows = for_rows(room);
            rows::draw(app, &columns, &table, shown, facts, &mut canvas);
            canvas.skip(for_rows.saturating_sub(app.places.rows.len()));
            app.visible = for_rows;
            if overlay.is_some() {
                detail::draw(app, facts, &mut canvas, others);
            }
        }
    }
    rows::draw_closing(app, &columns, &closing, &mut canvas);
    footer::draw(app, &mut canvas);
}

#[cfg(test)]
mod tests;
