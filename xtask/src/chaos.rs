//! `chaos`: agents that are killed at random while their collector misbehaves, whose files are cut, whose
//! disk is full; and whether the collector knows in the end what their own ledgers say. The harness is
//! `agent/tests/spool.rs`, and the machine it meters is simulated. With `--volume`, an outage with as many
//! points as two hours of 1,000 processes: `plugins/otlp/tests/spool.rs`.

use anyhow::Result;

use crate::environment::host_cargo;
use crate::process::{run as run_command, say};
use crate::test_tools;

/// Which agents are killed, and how often.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many kills
    #[arg(long, default_value_t = 40)]
    kills: u32,
    /// How many agents run at a time [default: four per CPU]
    #[arg(long)]
    jobs: Option<u32>,
    /// The seed that an earlier run printed: the same kills, though not at the same nanosecond
    #[arg(long)]
    seed: Option<u64>,
    /// Instead, an outage with as many points as two hours of 1,000 processes at 1 s
    #[arg(long, conflicts_with_all = ["kills", "jobs", "seed"])]
    volume: bool,
    /// How many seconds that outage has
    #[arg(long, default_value_t = 7200, requires = "volume")]
    seconds: u32,
    /// Run the release build
    #[arg(long)]
    release: bool,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (package, test) = match options.volume {
        true => ("wattrace-otlp", "two_hours_of_a_thousand_processes_lose_no_joule"),
        false => ("wattrace", "chaos"),
    };
    match options.volume {
        true => say("chaos", format_args!("an outage with {} s of 1,000 processes", options.seconds)),
        false => say("chaos", format_args!("{} kills while the collector misbehaves", options.kills)),
    }
    let mut cargo = host_cargo();
    cargo.args(["test", "--package", package, "--test", "spool"]);
    cargo.args(options.release.then_some("--release"));
    cargo.args(["--", "--ignored", "--nocapture", "--exact", test]);
    cargo.env("WATTRACE_TEST_PYTHON", test_tools::python());
    cargo.env("WATTRACE_CHAOS_KILLS", options.kills.to_string());
    cargo.env("WATTRACE_CHAOS_SECONDS", options.seconds.to_string());
    for (name, value) in [("JOBS", options.jobs.map(u64::from)), ("SEED", options.seed)] {
        if let Some(value) = value {
            cargo.env(format!("WATTRACE_CHAOS_{name}"), value.to_string());
        }
    }
    run_command(&mut cargo)
}
