//! What keys change.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::app::{Action, App, Edge, Input, Overlay};

impl App {
    /// Handles an event of the terminal.
    pub fn handle(&mut self, event: &Event) -> Action {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            Event::Mouse(mouse) => self.mouse(*mouse),
            Event::Resize(..) => Action::Draw,
            Event::Paste(text) if self.input.is_some() => {
                text.chars().filter(|c| !c.is_control()).for_each(|c| self.typed().push(c));
                Action::Draw
            }
            _ => Action::Nothing,
        }
    }

    fn key(&mut self, key: KeyEvent) -> Action {
        self.notice.clear();
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Quit,
                KeyCode::Char('l') => Action::Draw,
                _ => Action::Nothing,
            };
        }
        if let Some(input) = self.input {
            return self.type_into(input, key.code);
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc => return self.go_back(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.toggle(Overlay::Help),
            KeyCode::Enter => self.open_detail(),
            KeyCode::Char(' ') if self.position.is_some() => return Action::Play,
            KeyCode::Char(' ') => self.pause_or_go_on(),
            KeyCode::Tab => self.change_kind(true),
            KeyCode::BackTab => self.change_kind(false),
            KeyCode::Char(digit @ '1'..='9') => self.choose_kind(digit),
            KeyCode::Char('s') => self.change_sort(true),
            KeyCode::Char('S') => self.change_sort(false),
            KeyCode::Char('r') => self.query.is_reversed = !self.query.is_reversed,
            KeyCode::Char('f') => self.input = Some(Input::Filter),
            KeyCode::Char('/') => {
                self.search.clear();
                self.input = Some(Input::Search);
            }
            KeyCode::Char('n') if !self.search.is_empty() => self.search_next(),
            KeyCode::Char('t') => {
                self.theme = self.theme.next();
                self.notice = format!("colours: {}", self.theme.name());
            }
            code => return self.navigate(code),
        }
        Action::Draw
    }

    /// Keys that move: in the rows, and in recorded points.
    fn navigate(&mut self, code: KeyCode) -> Action {
        let page = isize::try_from(self.visible).unwrap_or(isize::MAX);
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.move_selection(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_selection(-1),
            KeyCode::PageDown => self.move_selection(page),
            KeyCode::PageUp => self.move_selection(-page),
            KeyCode::Home => self.move_selection(isize::MIN + 1),
            KeyCode::End => self.move_selection(isize::MAX),
            _ if self.position.is_none() => return Action::Nothing,
            KeyCode::Left => return Action::Seek(-10),
            KeyCode::Right => return Action::Seek(10),
            KeyCode::Char(',') => return Action::Seek(-1),
            KeyCode::Char('.') => return Action::Seek(1),
            KeyCode::Char('[') => return Action::Seek(-300),
            KeyCode::Char(']') => return Action::Seek(300),
            KeyCode::Char('{') => return Action::SeekTo(Edge::Begin),
            KeyCode::Char('}') => return Action::SeekTo(Edge::End),
            KeyCode::Char('+' | '=') => return Action::Speed(2.0),
            KeyCode::Char('-') => return Action::Speed(0.5),
            _ => return Action::Nothing,
        }
        Action::Draw
    }

    /// Closes what is open; then the filter goes.
    fn go_back(&mut self) -> Action {
        if self.overlay.take().is_none() {
            self.query.filter.clear();
            self.selected = None;
        }
        Action::Draw
    }

    fn toggle(&mut self, overlay: Overlay) {
        self.overlay = (self.overlay != Some(overlay)).then_some(overlay);
    }

    pub(crate) fn open_detail(&mut self) {
        if self.selected.is_none() {
            self.move_selection(0);
        }
        if self.selected.is_some() {
            self.toggle(Overlay::Detail);
        }
    }

    fn choose_kind(&mut self, digit: char) {
        let at = digit.to_digit(10).map_or(0, |digit| digit as usize);
        if let Some(kind) = self.kinds().get(at.saturating_sub(1)) {
            self.set_kind(*kind);
        }
    }

    /// The text that is being typed.
    fn typed(&mut self) -> &mut String {
        match self.input {
            Some(Input::Search) => &mut self.search,
            _ => &mut self.query.filter,
        }
    }

    fn type_into(&mut self, input: Input, code: KeyCode) -> Action {
        match code {
            KeyCode::Char(c) => self.typed().push(c),
            KeyCode::Backspace => _ = self.typed().pop(),
            KeyCode::Esc => {
                self.typed().clear();
                self.input = None;
            }
            KeyCode::Enter => {
                self.input = None;
                if input == Input::Search && !self.search.is_empty() {
                    self.search_next();
                }
            }
            _ => return Action::Nothing,
        }
        if input == Input::Filter {
            self.offset = 0;
        }
        Action::Draw
    }
}

#[cfg(test)]
mod tests {
    use wattrace_viewer::testing::Machine;
    use wattrace_viewer::{Kind, Sort};

    use super::*;
    use crate::theme::Theme;

    fn app() -> App {
        let mut machine = Machine::office();
        machine.run(5);
        App::new(machine.model().clone(), "test", Theme::Plain)
    }

    fn press(app: &mut App, keys: &str) -> Action {
        keys.chars().fold(Action::Nothing, |_, c| {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '↓' => KeyCode::Down,
                '↑' => KeyCode::Up,
                '→' => KeyCode::Right,
                c => KeyCode::Char(c),
            };
            app.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
        })
    }

    fn selected(app: &App) -> String {
        app.selected.and_then(|key| app.shown().consumer(key)).map_or(String::new(), |c| c.name().to_owned())
    }

    #[test]
    fn rows_are_selected_searched_and_filtered() {
        let mut app = app();
        press(&mut app, "↓");
        assert_eq!(selected(&app), "python3 train.py");
        press(&mut app, "↓↓↑");
        assert_eq!(selected(&app), app.table(2).rows[1].name);
        press(&mut app, "/NGIN\n");
        assert_eq!(selected(&app), "nginx");
        press(&mut app, "/rustc\n");
        let first = app.selected;
        press(&mut app, "n");
        assert_eq!((selected(&app).as_str(), app.selected != first), ("rustc", true));
        press(&mut app, "/nobody\n");
        assert!(app.notice.contains("no row contains \"nobody\""), "{}", app.notice);
        press(&mut app, "fq");
        assert_eq!((app.query.filter.as_str(), app.table(9).rows.len()), ("q", 0), "typed, and no command");
        press(&mut app, "\u{1b}frustc\n");
        assert_eq!(app.table(9).rows.len(), 2);
        assert_eq!(press(&mut app, "\u{1b}"), Action::Draw);
        assert_eq!((app.query.filter.as_str(), app.selected), ("", None));
    }

    #[test]
    fn kinds_order_and_pause() {
        let mut app = app();
        press(&mut app, "\t\t");
        assert_eq!(app.query.kind, Kind::Program);
        press(&mut app, "4");
        assert_eq!(app.query.kind, Kind::Unit);
        assert!(app.kinds().contains(&Kind::User) && !app.kinds().contains(&Kind::Pod));
        press(&mut app, "sr");
        assert_eq!((app.query.sort, app.query.is_reversed), (Sort::Joules, true));
        let frame = app.shown().frame();
        press(&mut app, " ");
        let mut machine = Machine::office();
        machine.run(5);
        let news = machine.second().iter().any(|message| app.take(message));
        assert_eq!((news, app.shown().frame(), app.model().frame()), (false, frame, frame + 1));
        press(&mut app, " ");
        assert_eq!(app.shown().frame(), frame + 1);
        assert_eq!(press(&mut app, "q"), Action::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.handle(&Event::Key(interrupt)), Action::Quit);
    }

    #[test]
    fn time_moves_in_recorded_points_only() {
        let mut app = app();
        assert_eq!(press(&mut app, "→"), Action::Nothing);
        app.set_position(crate::Position::default());
        assert_eq!((press(&mut app, "→"), press(&mut app, ",")), (Action::Seek(10), Action::Seek(-1)));
        assert_eq!((press(&mut app, " "), press(&mut app, "+")), (Action::Play, Action::Speed(2.0)));
    }
}
