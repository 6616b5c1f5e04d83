//! What is compared: two commands, one command in two revisions of a git repository, or two saved reports.
//! `checkout.rs` has the revisions' working trees.

use std::fs;
use std::path::Path;

use super::Options;
use super::checkout::Checkouts;
use crate::cli::exec::child::Job;
use crate::cli::exec::repeat::{SavedRuns, shell};
use crate::cli::failure::Failure;

/// One of the two sides.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// What the report calls it.
    pub(super) name: String,
    pub(super) job: Job,
}

/// What was asked for.
pub(super) enum Subject {
    /// Commands to run.
    Commands { sides: [Side; 2], checkouts: Option<Checkouts> },
    /// Reports that `exec --export` wrote.
    Saved([SavedRuns; 2]),
}

impl Subject {
    /// Finds out what the arguments mean; checks out and builds revisions.
    ///
    /// # Errors
    /// The arguments make no sense, a report cannot be read, a revision cannot be built.
    pub(super) fn find(options: &Options) -> Result<Self, Failure> {
        let job = |command: &str, directory| Job {
            command: shell(command),
            directory,
            shares_terminal: options.run.show_output,
        };
        match (&options.git, options.what.as_slice()) {
            (Some(range), [command]) => {
                let checkouts = Checkouts::new(range, options.build.as_deref())?;
                let sides = checkouts.revisions().map(|revision| Side {
                    name: format!("{}: {command}", revision.name),
                    job: job(command, Some(revision.directory.clone())),
                });
                Ok(Subject::Commands { sides, checkouts: Some(checkouts) })
            }
            (Some(_), _) => Err(Failure::usage("--git compares one command in two revisions: give one")),
            (None, [a, b]) => match [a, b].map(|what| is_saved(what)) {
                [true, true] => Ok(Subject::Saved([saved(a)?, saved(b)?])),
                [false, false] => {
                    let sides = [a, b].map(|command| Side { name: command.clone(), job: job(command, None) });
                    Ok(Subject::Commands { sides, checkouts: None })
                }
                _ => Err(Failure::usage(
                    "a saved report and a command cannot be compared: the machine has changed since the \
                     report; give two commands, or two reports",
                )),
            },
            (None, _) => Err(Failure::usage(
                "two sides are needed: two commands, two saved reports, or --git A..B and one command",
            )),
        }
    }
}

/// Whether an argument names a saved report, instead of being a command.
fn is_saved(what: &str) -> bool {
    let path = Path::new(what);
    path.extension().is_some_and(|extension| extension == "json") && path.is_file()
}

fn saved(path: &str) -> Result<SavedRuns, Failure> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string());
    text.and_then(|text| SavedRuns::parse(&text)).map_err(|e| Failure::usage(format!("{path}: {e}")))
}
