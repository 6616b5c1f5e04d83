//! The screens on a terminal.

use std::process::Child;

use crate::machine::Machine;
use crate::support::wattrace;
use crate::terminal::OnTerminal;

#[test]
fn screens_keys_and_the_end_on_a_terminal() {
    let machine = Machine::new();
    let command = machine.command("top", "simulator,attribution");
    let mut top = OnTerminal::start(command, 24, 80);
    top.until("the first frame", |screen| screen.contains("= meters") && screen.contains("batch"));
    let screen = top.screen();
    assert!(screen.contains("simulated") && screen.contains("own tracer"), "{screen}");
    assert!(top.terminal.screen().alternate_screen());
    top.press("?");
    top.until("help", |screen| screen.contains("search for a row"));
    top.press("\u{1b}");
    // What follows an escape at once is a key with Alt.
    top.until("no help", |screen| !screen.contains("search for a row"));
    top.press("\t\t");
    top.until("programs", |screen| screen.contains("PROGRAM"));
    top.press("/web\r\r");
    top.until("details", |screen| screen.contains("web  program"));
    top.press("q");
    assert_eq!(top.end(), Some(0), "{}", top.screen());
    assert!(!top.terminal.screen().alternate_screen(), "the terminal is given back");
    assert!(!top.terminal.screen().hide_cursor());
}

#[test]
fn a_recording_plays_on_a_terminal_and_sigterm_gives_it_back() {
    let machine = Machine::new();
    let database = machine.file("energy.db");
    let mut command = machine.command("run", "simulator,attribution,sqlite");
    let path = format!("plugins.sqlite.path={}", database.display());
    assert!(command.args(["--duration", "4s", "--set", &path]).status().unwrap().success());
    let mut command = wattrace();
    command.args(["top", "--replay"]).arg(&database);
    let mut top = OnTerminal::start(command, 24, 100);
    top.until("the recording", |screen| screen.contains("batch") && screen.contains("energy.db"));
    top.press("}");
    top.until("the end", |screen| screen.contains("❚❚"));
    let joules = |screen: &str| {
        let line = screen.lines().find(|line| line.contains("= meters")).unwrap().to_owned();
        line.split_whitespace().last().unwrap().parse::<f64>().unwrap()
    };
    let at_end = joules(&top.screen());
    top.press(",,");
    top.until("earlier", |screen| joules(screen) < at_end);
    interrupt_with(&top.child, libc::SIGTERM);
    assert_eq!(top.end(), Some(0));
    assert!(!top.terminal.screen().alternate_screen());
}

fn interrupt_with(child: &Child, signal: libc::c_int) {
    // SAFETY: the call has no preconditions.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}
