//! `wattrace run`: traces the whole machine until a signal comes or the time is up.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::{info, warn};
use wattrace_api::Registry;

use super::{Configuration, Failure, session};
use crate::config::Config;
use crate::observe::NoOutput;
use crate::plugins::Registered;

/// Stopping takes no longer than this.
const STOPPING: Duration = Duration::from_millis(4500);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configuration: Configuration,
    /// Stop after this time, as in 10s or 5min
    #[arg(short, long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    let runtime = session::runtime()?;
    let result = runtime.block_on(run(options.duration, &config, plugins, runtime.handle()));
    // A source that does not return from its poll must not keep us from ending.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result.map(|()| ExitCode::SUCCESS)
}

async fn run(
    duration: Option<Duration>,
    config: &Config,
    plugins: &[Registered],
    runtime: &tokio::runtime::Handle,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let pipeline = session::start(config, plugins, &[], None::<fn(&Arc<Registry>) -> NoOutput>, runtime)?;
    if !pipeline.has_source() {
        return Err(session::nothing_to_measure(pipeline.health()));
    }
    session::report_missing(pipeline.health());
    signals.wait(duration).await;
    let health = pipeline.stop(Instant::now() + STOPPING).await;
    session::report_losses(&health);
    Ok(())
}

/// The signals that concern us.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGINT or SIGTERM, or until `duration` has passed.
    async fn wait(&mut self, duration: Option<Duration>) {
        let time_is_up = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time_is_up);
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return info!("interrupted, stopping"),
                _ = self.terminate.recv() => return info!("terminated, stopping"),
                _ = self.hangup.recv() => warn!("SIGHUP: this version cannot reload its configuration; restart it"),
                () = &mut time_is_up => return,
            }
        }
    }
}
