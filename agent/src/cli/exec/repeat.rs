//! Runs of a command, one after the other: options, the runs that do not count, what is run before each, and
//! what happens when one fails. `exec --repeat` and `compare` share it.
//!
//! | file | holds |
//! | --- | --- |
//! | `repeat/report.rs` | the object `wattrace.repeat/1` |
//! | `repeat/text.rs` | the same for people, and in Markdown |

mod report;
mod text;

use std::process::ExitStatus;

use clap::Args;

pub(super) use self::report::RepeatReport;
pub(in crate::cli) use self::report::SavedRuns;
pub(in crate::cli) use self::text::{markdown_code, number, sparkline};
use super::child::{Job, shell_code};
use super::tracer::Tracer;
use super::usage::RunUsage;
use crate::cli::failure::Failure;

/// Options of commands that run other commands more than once.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct RunOptions {
    /// Runs of each command before the first that counts
    #[arg(long, value_name = "N")]
    warmup: Option<u32>,
    /// Run this shell command before each run, outside the measurement
    #[arg(long, value_name = "CMD")]
    pub(super) prepare: Option<String>,
    /// Continue after a run that fails
    #[arg(short, long)]
    ignore_failure: bool,
    /// Show what the commands write
    #[arg(long)]
    pub(in crate::cli) show_output: bool,
}

impl RunOptions {
    /// Runs that do not count, or `default` if none were asked for.
    pub(in crate::cli) fn warmup(&self, default: u32) -> u32 {
        self.warmup.unwrap_or(default)
    }

    /// Whether any of them, except for `--show-output`, was given.
    pub(super) fn are_given(&self) -> bool {
        self.warmup.is_some() || self.prepare.is_some() || self.ignore_failure
    }

    /// Runs `job` once, and returns what it used.
    ///
    /// # Errors
    /// It cannot be executed; it, or the command before it, failed; a signal asked this process to end.
    pub(in crate::cli) async fn run(&self, tracer: &mut Tracer, job: &Job) -> Result<RunUsage, Failure> {
        if let Some(prepare) = &self.prepare {
            let before = Job { command: shell(prepare), ..job.clone() };
            let status = tracer.run(&before).await?.status;
            self.check(status, &format!("--prepare `{prepare}`"))?;
        }
        let ended = tracer.run(job).await?;
        tracer.check_signals().await?;
        self.check(ended.status, &format!("`{}`", job.command.join(" ")))?;
        Ok(tracer.read(|recording| RunUsage::new(&ended, recording)).await)
    }

    fn check(&self, status: ExitStatus, what: &str) -> Result<(), Failure> {
        if status.success() || self.ignore_failure {
            return Ok(());
        }
        let code = shell_code(status);
        let remedies = "--show-output shows what it wrote, --ignore-failure continues";
        Err(Failure { message: format!("{what} exited with {code}: {remedies}"), code })
    }
}

/// The arguments that make a shell run `command`.
pub(in crate::cli) fn shell(command: &str) -> Vec<String> {
    ["sh", "-c", command].map(str::to_owned).to_vec()
}
