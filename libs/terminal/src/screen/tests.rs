//! What screens look like: each is compared with a file in `tests/screens`, which `UPDATE_SCREENS=1` writes.

use std::path::PathBuf;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;
use wattrace_viewer::testing::{Machine, Process};
use wattrace_viewer::{Kind, Model};

use super::draw;
use crate::{App, Facts, Position, ProcessFacts, Theme, ThreadFacts};

/// What a kernel would say.
struct SimulatedFacts;

impl Facts for SimulatedFacts {
    fn memory(&mut self, pid: u32) -> Option<u64> {
        Some(u64::from(pid) * 300_000)
    }

    fn memory_of_cgroup(&mut self, path: &str) -> Option<u64> {
        Some(path.len() as u64 * 100_000_000)
    }

    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        let thread = |n: u32, name: &str, state, seconds: u64| ThreadFacts {
            id: pid + n,
            name: name.to_owned(),
            state,
            cpu_nanos: seconds * 1_000_000_000,
        };
        let threads =
            vec![thread(0, "python3", 'R', 20), thread(1, "worker", 'R', 75), thread(2, "worker", 'S', 45)];
        let span = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        Some(ProcessFacts { threads, cpu_nanos: 150_000_000_000, span })
    }
}

fn office(seconds: u64) -> App {
    let mut machine = Machine::office();
    machine.run(seconds);
    App::new(machine.model().clone(), "agent 0.1.0", Theme::Dark)
}

fn drawn(app: &mut App, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(app, &mut SimulatedFacts, area, &mut buffer);
    buffer
}

fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let (mut line, mut x) = (String::new(), 0);
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            // A wide character has two cells.
            x += (symbol.width() as u16).max(1);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn press(app: &mut App, code: KeyCode) {
    app.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
}

/// Compares a screen with its file.
fn check(name: &str, app: &mut App, width: u16, height: u16) {
    let screen = text(&drawn(app, width, height));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}.txt"));
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &screen).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(screen == expected, "{name} is now\n{screen}\nand was\n{expected}\nUPDATE_SCREENS=1 accepts it");
}

#[test]
fn processes_at_80_by_24_and_200_by_60() {
    check("processes-80x24", &mut office(75), 80, 24);
    check("processes-200x60", &mut office(220), 200, 60);
}

#[test]
fn programs_and_containers() {
    let mut app = office(30);
    app.set_kind(Kind::Program);
    check("programs-80x24", &mut app, 80, 24);
    app.set_kind(Kind::Container);
    check("containers-80x24", &mut app, 80, 24);
}

#[test]
fn details_and_help() {
    let mut app = office(75);
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Enter);
    check("details-80x24", &mut app, 80, 24);
    check("details-200x60", &mut app, 200, 60);
    press(&mut app, KeyCode::Char('?'));
    check("help-80x24", &mut app, 80, 24);
}

#[test]
fn a_filter_while_it_is_typed_and_recorded_points() {
    let mut app = office(75);
    for c in "frus".chars() {
        press(&mut app, KeyCode::Char(c));
    }
    check("filter-80x24", &mut app, 80, 24);
    press(&mut app, KeyCode::Esc);
    app.label = "energy.db".to_owned();
    app.set_position(Position { first: 0, last: 0, speed: 4.0, is_playing: true });
    check("recorded-80x24", &mut app, 80, 24);
}

#[test]
fn nothing_yet_and_too_small() {
    let empty = Model::new(std::time::Duration::from_secs(1));
    let mut app = App::new(empty, "agent 0.1.0", Theme::Plain);
    check("empty-80x24", &mut app, 80, 24);
    let tiny = text(&drawn(&mut app, 30, 5));
    assert!(tiny.starts_with("wattrace top needs 40×12"), "{tiny}");
    // Whatever the size, nothing panics, and the meters are in view where there is room.
    let mut full = office(20);
    for (width, height) in [(40, 12), (41, 13), (59, 20), (99, 35), (100, 36), (300, 90), (1, 1), (0, 0)] {
        let screen = text(&drawn(&mut full, width, height));
        assert!(height < 12 || screen.contains("= meters"), "{width}×{height}\n{screen}");
        press(&mut full, KeyCode::Enter);
    }
}

#[test]
fn wide_and_hostile_names_leave_the_columns_where_they_are() {
    let mut machine = Machine::office();
    for (pid, name) in
        [(9000, "日本語のとても長いプログラムの名前です"), (9001, &*"x".repeat(300)), (9002, "")]
    {
        let name = name.to_owned();
        let lives = 0..u64::MAX;
        let (user, unit, container, load, gpu) = ("ada", "a.service", "", 700, 0);
        machine.add(Process { name, pid, user, unit, container, load, gpu, lives });
    }
    machine.run(8);
    let mut app = App::new(machine.model().clone(), "agent", Theme::Plain);
    let buffer = drawn(&mut app, 80, 24);
    let column = |y: u16| (0..80).filter(|x| buffer[(*x, y)].symbol() == ".").collect::<Vec<_>>();
    let screen = text(&buffer);
    let line = |name: &str| screen.lines().position(|line| line.contains(name)).unwrap() as u16;
    let reference = column(line("firefox"));
    assert!(reference.len() >= 3, "{screen}");
    for name in ["日本語", "xxxx…"] {
        assert_eq!(column(line(name))[..3], reference[..3], "{screen}");
    }
}

#[test]
fn colours_follow_the_theme_and_none_means_none() {
    let mut app = office(20);
    let colours = |app: &mut App| {
        let buffer = drawn(app, 80, 24);
        let all = buffer.content.iter().map(|cell| cell.fg).filter(|colour| *colour != Color::Reset);
        let mut all: Vec<_> = all.map(|colour| format!("{colour:?}")).collect();
        all.sort();
        all.dedup();
        all
    };
    assert_eq!(colours(&mut app), ["Cyan", "DarkGray", "Green", "Yellow"]);
    press(&mut app, KeyCode::Char('t'));
    let light = colours(&mut app);
    assert!(light.contains(&"Blue".to_owned()) && !light.contains(&"Yellow".to_owned()), "{light:?}");
    press(&mut app, KeyCode::Char('t'));
    assert_eq!(colours(&mut app), [""; 0]);
}

#[test]
fn the_mouse_sorts_selects_opens_and_scrolls() {
    let mut app = office(20);
    let screen = text(&drawn(&mut app, 80, 24));
    let lines: Vec<_> = screen.lines().collect();
    let heading = lines.iter().position(|line| line.contains("JOULES")).unwrap();
    let column = lines[heading].chars().collect::<String>().find("JOULES").unwrap();
    let event = |kind, column: usize, row: usize| {
        let (column, row) = (column as u16, row as u16);
        Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
    };
    let click = MouseEventKind::Down(MouseButton::Left);
    app.handle(&event(click, column, heading));
    assert_eq!(app.query.sort, wattrace_viewer::Sort::Joules);
    let screen = text(&drawn(&mut app, 80, 24));
    assert!(screen.contains("JOULES▾"), "{screen}");
    app.handle(&event(click, 12, heading + 2));
    let buffer = drawn(&mut app, 80, 24);
    assert!(buffer[(12, heading as u16 + 2)].modifier.contains(Modifier::REVERSED));
    app.handle(&event(click, 12, heading + 2));
    assert_eq!(app.overlay, Some(crate::app::Overlay::Detail));
    app.handle(&event(click, 0, 0));
    assert_eq!(app.overlay, None);
    app.visible = 5;
    app.handle(&event(MouseEventKind::ScrollDown, 5, 5));
    assert_eq!(app.offset, 3);
}
