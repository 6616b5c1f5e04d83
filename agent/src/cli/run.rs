//! `wattrace run`: traces the whole machine until a signal arrives or the time is up. Meanwhile it serves
//! `wattrace control`, and reloads on SIGHUP.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::{info, warn};

use super::failure::Failure;
use super::missing::{Missing, nothing_to_measure};
use super::options::Configuration;
use super::service::{self, Service};
use super::session;
use crate::config::Config;
use crate::control::executor::Executor;
use crate::control::reload::Reloader;
use crate::control::server::Server;
use crate::plugins::Registered;
use crate::sys::heap;

/// Time limit for stopping.
const STOP_TIMEOUT: Duration = Duration::from_millis(4500);

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
    // Does not wait for tasks that never end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn run(
    options: &Options,
    config: Config,
    plugins: &[Registered],
    runtime: &Handle,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let host = session::start_plugins(&config, plugins, runtime)?;
    let registry = host.registry().clone();
    let pipeline = session::start_pipeline(host, &config)?;
    if !pipeline.has_source() {
        let needed = "a plugin with a source";
        return Err(nothing_to_measure(&pipeline.health(), &config, plugins, needed));
    }
    Missing::find(&pipeline.health(), &config, plugins).report(&registry);
    let asked_for = session::asked_for(&config);
    let path = config.agent.control_socket.clone();
    let reloader = Reloader::new(options.configuration.request(), plugins, config, pipeline.control());
    let executor = Arc::new(Executor::new(pipeline.control(), reloader));
    let server = listen(&path, executor.clone()).await;
    let service = Service::ready(pipeline.control());
    heap::unmap_startup_code();
    signals.wait(options.duration, &executor).await;
    service.stopping();
    if let Some(server) = server {
        server.stop().await;
    }
    let health = pipeline.stop(Instant::now() + STOP_TIMEOUT).await;
    // Both, so that each is reported.
    let failed = session::report_losses(&health) | session::report_failed(&health, &asked_for);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Listens on the control socket. If that fails, the agent runs without it.
async fn listen(path: &Path, executor: Arc<Executor>) -> Option<Server> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let cause = match Server::start(path, executor).await {
        Ok(server) => return Some(server),
        Err(cause) => cause,
    };
    let path = path.display();
    warn!("agent.control_socket: {path}: {cause}; this agent runs without `wattrace control`");
    None
}

/// The signals that the agent handles.
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
    async fn wait(&mut self, duration: Option<Duration>, executor: &Arc<Executor>) {
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
                    let executor = executor.clone();
                    // A task of its own, so that a reload does not delay SIGTERM.
                    tokio::spawn(async move { service::reloading(executor.reload_and_log()).await });
                }
                () = &mut time_is_up => return,
            }
        }
    }
}
