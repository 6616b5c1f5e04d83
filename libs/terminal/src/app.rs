//! What `wattrace top` shows: the model, which rows in which order, what is selected, what is open. Keys
//! (`keys.rs`) and the mouse (`mouse.rs`) change it; `screen.rs` draws it.

use wattrace_viewer::{Key, Kind, Message, Model, Query, Sort, Table};

use crate::theme::Theme;

/// What the command has to do after an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Nothing, and the screen is as it was.
    Nothing,
    /// Draw.
    Draw,
    /// End.
    Quit,
    /// Of recorded points: go to another time, relative to now, in seconds.
    Seek(i64),
    /// Of recorded points: go to the begin or the end.
    SeekTo(Edge),
    /// Of recorded points: play faster (above 1) or slower.
    Speed(f64),
    /// Of recorded points: stop or go on.
    Play,
}

/// An end of what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The first point.
    Begin,
    /// The last one.
    End,
}

/// Where in recorded points the model stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// The first and the last moment, in nanoseconds since the Unix epoch.
    pub first: u64,
    /// The last moment.
    pub last: u64,
    /// How fast it plays: 1 is as it was recorded.
    pub speed: f64,
    /// Whether it plays.
    pub is_playing: bool,
}

/// What is typed at the bottom of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Only rows that contain the text are shown.
    Filter,
    /// The next row that contains the text is selected.
    Search,
}

/// What covers the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlay {
    Help,
    Detail,
}

/// What `wattrace top` shows.
pub struct App {
    model: Model,
    /// What is shown while the model goes on.
    paused: Option<Box<Model>>,
    /// Whose points they are: `agent 0.1.0`, the name of a file, …
    pub(crate) label: String,
    /// How many nanoseconds local time is ahead of UTC: times are shown in local time.
    pub(crate) utc_offset: i64,
    pub(crate) theme: Theme,
    pub(crate) query: Query,
    pub(crate) search: String,
    pub(crate) input: Option<Input>,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) selected: Option<Key>,
    /// The first row that is shown.
    pub(crate) offset: usize,
    /// How many rows the last screen had room for.
    pub(crate) visible: usize,
    /// Where the mouse finds what: set when a screen is drawn.
    pub(crate) places: Places,
    /// Of recorded points.
    pub(crate) position: Option<Position>,
    /// What the user should know: shown until the next key.
    pub(crate) notice: String,
    /// Why no more points come.
    pub(crate) ended: String,
}

/// Where the last screen had what, in lines and columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The line of the columns' names, and where each column that sorts begins and ends.
    pub(crate) heading: u16,
    pub(crate) columns: Vec<(u16, u16, Sort)>,
    /// The line of the first row, and the consumers of the rows.
    pub(crate) first_row: u16,
    pub(crate) rows: Vec<Key>,
}

impl App {
    /// A new one for a model. `label` says whose points it gets.
    pub fn new(model: Model, label: impl Into<String>, theme: Theme) -> Self {
        Self {
            model,
            paused: None,
            label: label.into(),
            utc_offset: 0,
            theme,
            query: Query::of(Kind::Process),
            search: String::new(),
            input: None,
            overlay: None,
            selected: None,
            offset: 0,
            visible: 20,
            places: Places::default(),
            position: None,
            notice: String::new(),
            ended: String::new(),
        }
    }

    /// Shows times in a zone that is so many seconds ahead of UTC.
    pub fn set_utc_offset(&mut self, seconds: i32) {
        self.utc_offset = i64::from(seconds) * 1_000_000_000;
    }

    /// Shows rows of a kind first.
    pub fn set_kind(&mut self, kind: Kind) {
        self.query.kind = kind;
        (self.selected, self.offset) = (None, 0);
    }

    /// Sorts the rows.
    pub fn set_sort(&mut self, sort: Sort) {
        self.query.sort = sort;
    }

    /// Says where in recorded points the model stands.
    pub fn set_position(&mut self, position: Position) {
        self.position = Some(position);
    }

    /// Takes a message. Returns whether there is something new to show.
    pub fn take(&mut self, message: &Message) -> bool {
        self.model.apply(message) && self.paused.is_none()
    }

    /// Shows another model, as when the time was changed.
    pub fn replace_model(&mut self, model: Model) {
        self.model = model;
        // Its consumers have other keys.
        (self.selected, self.paused) = (None, None);
    }

    /// No more points come, because of this.
    pub fn end(&mut self, why: impl Into<String>) {
        self.ended = why.into();
    }

    /// The model as it is now, shown or not.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model that is shown.
    pub(crate) fn shown(&self) -> &Model {
        self.paused.as_deref().unwrap_or(&self.model)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(crate) fn pause_or_go_on(&mut self) {
        self.paused = match self.paused.take() {
            Some(_) => None,
            None => Some(Box::new(self.model.clone())),
        };
    }

    /// The rows from the first one to the last one that is visible.
    pub(crate) fn table(&self, rows: usize) -> Table {
        self.shown().table(&Query { limit: self.offset + rows, ..self.query.clone() })
    }

    /// The kinds that this machine has. Processes, trees and programs are there always.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let model = self.shown();
        let always = [Kind::Process, Kind::Tree, Kind::Program];
        Kind::ROWS.into_iter().filter(|kind| always.contains(kind) || model.has(*kind)).collect()
    }

    /// Shows the next kind, or the one before.
    pub(crate) fn change_kind(&mut self, forward: bool) {
        let kinds = self.kinds();
        let at = kinds.iter().position(|kind| *kind == self.query.kind).unwrap_or(0);
        let step = if forward { 1 } else { kinds.len() - 1 };
        self.set_kind(kinds[(at + step) % kinds.len()]);
    }

    /// Sorts by the next column, or the one before.
    pub(crate) fn change_sort(&mut self, forward: bool) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.query.sort).unwrap_or(0);
        let step = if forward { 1 } else { Sort::ALL.len() - 1 };
        self.query.sort = Sort::ALL[(at + step) % Sort::ALL.len()];
    }

    /// Selects the row so many rows below the one that is selected, and makes it visible. Without one that is
    /// visible it begins at the top.
    pub(crate) fn move_selection(&mut self, by: isize) {
        let rows = self.shown().table(&Query { limit: usize::MAX, ..self.query.clone() }).rows;
        if rows.is_empty() {
            return;
        }
        let at = rows.iter().position(|row| row.key == self.selected && row.key.is_some());
        let to = match at {
            Some(at) => at.saturating_add_signed(by),
            None if !(0..=1).contains(&by) => self.offset.saturating_add_signed(by),
            None => self.offset,
        };
        self.select(&rows, to.min(rows.len() - 1));
    }

    /// Selects the next row whose name or id contains the text that is searched for.
    pub(crate) fn search_next(&mut self) {
        let rows = self.shown().table(&Query { limit: usize::MAX, ..self.query.clone() }).rows;
        let text = self.search.to_lowercase();
        let from = rows.iter().position(|row| row.key == self.selected && row.key.is_some());
        let first = from.map_or(0, |at| at + 1);
        let order = (first..rows.len()).chain(0..first.min(rows.len()));
        let is_match = |at: &usize| {
            rows.get(*at).is_some_and(|row| row.name.to_lowercase().contains(&text) || row.id.contains(&text))
        };
        match order.into_iter().find(is_match) {
            Some(at) => self.select(&rows, at),
            None => self.notice = format!("no row contains \"{}\"", self.search),
        }
    }

    fn select(&mut self, rows: &[wattrace_viewer::Row], at: usize) {
        self.selected = rows[at].key;
        let visible = self.visible.max(1);
        self.offset = self.offset.clamp((at + 1).saturating_sub(visible), at);
    }

    /// Shows other rows, and leaves the selection alone.
    pub(crate) fn scroll(&mut self, by: isize) {
        let rows = self.shown().consumers().filter(|(_, c)| c.kind() == self.query.kind).count();
        let last = rows.saturating_sub(self.visible);
        self.offset = self.offset.saturating_add_signed(by).min(last);
    }
}
