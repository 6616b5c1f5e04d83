//! A look at the machine before the command starts: attribution learns from it what the domains draw at no
//! load, and the command's own energy is known from its first moment on. `static_power.rs` has what is known
//! then.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};
use wattrace_api::Origin;

use super::recorder::{DomainRecord, ProcessRecord, Recording};
use super::static_power::Baseline;
use super::tracer::Tracer;
use crate::cli::failure::Failure;

/// At most so long if it was not asked for: somebody waits at a terminal, and sees that something happens. A
/// script is not delayed by more than what starting takes.
const AT_A_TERMINAL: Duration = Duration::from_secs(2);
const IN_A_SCRIPT: Duration = Duration::from_millis(500);

/// How often it is read. Attribution learns from windows of 100 ms and more.
const STEP: Duration = Duration::from_millis(105);

/// It goes on for so many readings, even if the first one looks sure.
const FEWEST_READINGS: u32 = 3;

/// A machine that is busier has no power at no load to show.
const MOST_BUSY: f64 = 0.6;

#[derive(Debug, Args)]
pub(in crate::cli) struct BaselineOptions {
    /// Measure the machine for this long before the command starts, as in 2s; none: not at all [default: for
    /// at most 2s, or 0.5s without a terminal, where the power at no load is not known]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    baseline: Option<Duration>,
}

/// Measures the machine before the first command starts, if that was asked for or shows something new.
///
/// # Errors
/// A signal asked this process to end.
pub(in crate::cli) async fn take(options: &BaselineOptions, tracer: &mut Tracer) -> Result<(), Failure> {
    let is_needed = |recording: &Recording| recording.domains.iter().any(is_unknown);
    let longest = match options.baseline {
        Some(asked_for) => asked_for,
        None if !tracer.read(is_needed).await => return Ok(()),
        None if std::io::stderr().is_terminal() => AT_A_TERMINAL,
        None => IN_A_SCRIPT,
    };
    if longest.is_zero() {
        return Ok(());
    }
    tracer.recording().reset();
    let began = Instant::now();
    for readings in 1_u32.. {
        sleep(STEP.min(longest.saturating_sub(began.elapsed()))).await;
        let (cpu_time, is_needed) = tracer.read(|r| (cpu_time(r), is_needed(r))).await;
        tracer.check_signals().await?;
        let elapsed = began.elapsed();
        let busy = cpu_time.as_secs_f64() / (elapsed.as_secs_f64() * cpus());
        let skipped = busy > MOST_BUSY;
        let is_enough = options.baseline.is_none() && !is_needed && readings >= FEWEST_READINGS;
        if skipped && readings > 1 || is_enough || elapsed >= longest {
            let duration_s = elapsed.as_secs_f64();
            tracer.recording().baseline = Some(Baseline { duration_s, busy, skipped });
            break;
        }
    }
    Ok(())
}

/// A duration, or `none` for zero.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    if text == "none" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) }
}

/// Whether a baseline may show what a domain draws at no load: an estimate says it itself.
fn is_unknown(domain: &DomainRecord) -> bool {
    let is_metered = domain.counts_in_totals && domain.domain.origin != Origin::Estimated;
    is_metered && !domain.static_power.is_known()
}

/// CPU time of all processes but this one, since the last reset.
fn cpu_time(recording: &Recording) -> Duration {
    let own = std::process::id().to_string();
    let is_counted = |p: &&ProcessRecord| !p.is_thread() && *p.consumer.identity().id != *own;
    Duration::from_nanos(recording.processes.iter().filter(is_counted).map(|p| p.cpu_time).sum())
}

/// CPUs that are online.
fn cpus() -> f64 {
    // SAFETY: the call has no preconditions.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    online.max(1) as f64
}
