//! `chaos`: agents that are killed at random while their collector misbehaves, whose files are cut, whose
//! disk is full; and whether the collector knows in the end what their own ledgers say. The harness is
//! `agent/tests/spool.rs`, and the machine it meters is simulated.

use anyhow::Result;

use crate::environment::host_cargo;
use crate::process::{run as run_command, say};

/// Runs it with so many kills; `seed` repeats a run.
pub(crate) fn run(kills: u32, seed: Option<u64>, release: bool) -> Result<()> {
    say("chaos", format_args!("{kills} kills of the agent while its collector misbehaves"));
    let mut cargo = host_cargo();
    cargo.args(["test", "--package", "wattrace", "--test", "spool"]);
    cargo.args(release.then_some("--release"));
    cargo.args(["--", "--ignored", "--nocapture", "chaos"]);
    cargo.env("WATTRACE_CHAOS_KILLS", kills.to_string());
    if let Some(seed) = seed {
        cargo.env("WATTRACE_CHAOS_SEED", seed.to_string());
    }
    run_command(&mut cargo)
}
