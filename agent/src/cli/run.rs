//! `wattrace run`: traces the whole machine until a signal comes or the time is up. Meanwhile it obeys
//! `wattrace control`, and SIGHUP, which reloads.

use std::path::Path;
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
use crate::control::commands::Commands;
use crate::control::reload::Reloader;
use crate::control::server::Server;
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
    let result = runtime.block_on(run(options, config, plugins, runtime.handle()));
    // A source that does not return from its poll must not keep us from ending.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result.map(|()| ExitCode::SUCCESS)
}

async fn run(
    options: &Options,
    config: Config,
    plugins: &[Registered],
    runtime: &tokio::runtime::Handle,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let pipeline = session::start(&config, plugins, &[], None::<fn(&Arc<Registry>) -> NoOutput>, runtime)?;
    if !pipeline.has_source() {
        return Err(session::nothing_to_measure(&pipeline.health()));
    }
    session::report_missing(&pipeline.health());
    let path = config.agent.control_socket.clone();
    let reloader = Reloader::new(options.configuration.request(), plugins, config, pipeline.control());
    let commands = Arc::new(Commands::new(pipeline.control(), reloader));
    let server = listen(&path, commands.clone()).await;
    signals.wait(options.duration, &commands).await;
    if let Some(server) = server {
        server.stop().await;
    }
    let health = pipeline.stop(Instant::now() + STOPPING).await;
    session::report_losses(&health);
    Ok(())
}

/// Lets others control the agent. Tracing goes on without, too.
async fn listen(path: &Path, commands: Arc<Commands>) -> Option<Server> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let refused = match Server::start(path, commands).await {
        Ok(server) => return Some(server),
        Err(why) => why,
    };
    let path = path.display();
    warn!("agent.control_socket: {path}: {refused}; this agent runs without `wattrace control`");
    None
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

    /// Waits for SIGINT or SIGTERM, or until `duration` has passed. SIGHUP reloads.
    async fn wait(&mut self, duration: Option<Duration>, commands: &Arc<Commands>) {
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
                _ = self.hangup.recv() => {
                    let commands = commands.clone();
                    // Beside us: whoever wants to stop need not wait for it.
                    tokio::spawn(async move { commands.reload_and_log().await });
                }
                () = &mut time_is_up => return,
            }
        }
    }
}
