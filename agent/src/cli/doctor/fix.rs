//! `--fix`: runs the commands of the rows that have one, each after a question.

use std::io::{BufRead as _, Write as _};
use std::process::Command;

use super::row::Fix;

/// Runs those of `fixes` to which `ask` agrees. Returns whether any was run.
///
/// # Errors
/// A command failed; those after it were not run.
pub(super) fn apply(
    fixes: &[&Fix],
    ask: impl Fn(&str) -> bool,
    run: impl Fn(&[String]) -> Result<(), String>,
) -> Result<bool, String> {
    let mut any = false;
    for fix in fixes {
        let command = as_root(&fix.command);
        let shown = command.join(" ");
        if ask(&format!("{}: `{shown}`", fix.what)) {
            run(&command).map_err(|why| format!("`{shown}` {why}"))?;
            eprintln!("wattrace: done: `{shown}`");
            any = true;
        }
    }
    Ok(any)
}

/// The command as this user has to run it.
fn as_root(command: &[String]) -> Vec<String> {
    let is_root = rustix::process::geteuid().is_root();
    let sudo = (!is_root).then(|| "sudo".to_owned());
    sudo.into_iter().chain(command.iter().cloned()).collect()
}

/// Asks at the terminal; anything but yes is no.
pub(super) fn ask(question: &str) -> bool {
    eprint!("wattrace: {question}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Runs a command.
pub(super) fn run(command: &[String]) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("is empty")?;
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("failed: {status}")),
        Err(e) => Err(format!("cannot be run: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn fix(name: &str) -> Fix {
        Fix { what: format!("load the driver {name}"), command: vec!["modprobe".into(), name.into()] }
    }

    #[test]
    fn only_what_is_agreed_to_is_run_and_the_first_failure_ends_it() {
        let (rapl, msr, ipmi) = (fix("rapl"), fix("msr"), fix("ipmi_si"));
        let run = RefCell::new(Vec::new());
        let record = |command: &[String]| {
            run.borrow_mut().push(command.last().unwrap().clone());
            if command.contains(&"msr".to_owned()) {
                Err("failed: exit status: 1".to_owned())
            } else {
                Ok(())
            }
        };
        let all = [&rapl, &msr, &ipmi];
        assert_eq!(apply(&all, |_| false, record), Ok(false));
        assert!(run.borrow().is_empty());
        let not_msr = |question: &str| !question.contains("msr");
        assert_eq!(apply(&all, not_msr, record), Ok(true));
        assert_eq!(run.take(), ["rapl", "ipmi_si"]);
        let failed = apply(&all, |_| true, record).unwrap_err();
        assert!(failed.ends_with("modprobe msr` failed: exit status: 1"), "{failed}");
        assert_eq!(run.take(), ["rapl", "msr"]);
    }

    #[test]
    fn a_command_that_fails_or_does_not_exist_is_an_error() {
        let of = |program: &str| run(&[program.to_owned()]);
        assert_eq!(of("true"), Ok(()));
        assert!(of("false").unwrap_err().contains("exit status: 1"));
        assert!(of("/nonexistent").unwrap_err().contains("cannot be run"));
    }
}
