//! Whose points `wattrace top` shows: those of the agent that runs already, without a second tracer, or of a
//! tracer in this process, if no agent runs.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;
use wattrace_api::{ElementKind, Role, Usage};
use wattrace_viewer::Message;

use crate::cli::control::configured_socket;
use crate::cli::failure::Failure;
use crate::cli::missing::nothing_to_measure;
use crate::cli::options::Configuration;
use crate::cli::session;
use crate::config::{Config, Request};
use crate::control::feed::{self, FeedReceiver};
use crate::control::protocol::{Problem, ProblemKind};
use crate::control::subscription::Subscription;
use crate::control::viewers::NAMES;
use crate::pipeline::Pipeline;
use crate::plugins::Registered;

/// Time limit for opening the sources, and for their first reading, for the slowest of machines.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for stopping.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Where points come from.
pub(super) enum Source {
    /// An agent that runs.
    Agent(Subscription),
    /// A tracer in this process.
    Own(Box<Tracer>),
}

impl Source {
    /// The agent that listens on `socket` or that runs as a service; without one, a tracer, as with a
    /// configuration of its own.
    ///
    /// # Errors
    /// An agent runs, and this user may not connect; or nothing can be traced. The message says what is
    /// needed.
    pub(super) fn open(
        configuration: &Configuration,
        socket: Option<&Path>,
        plugins: &[Registered],
    ) -> Result<Self, Failure> {
        let start = || Tracer::start(&configuration.request(), plugins).map(Self::own);
        if configuration.is_given() && socket.is_none() {
            return start();
        }
        let is_named = socket.is_some();
        let socket = socket.map_or_else(configured_socket, Path::to_owned);
        match Subscription::open(&socket) {
            Ok(subscription) => Ok(Self::Agent(subscription)),
            Err(problem) if problem.kind == ProblemKind::NoAgent && !is_named => start(),
            Err(problem) => Err(refused(&socket, &problem)),
        }
    }

    fn own(tracer: Tracer) -> Self {
        Self::Own(Box::new(tracer))
    }

    /// What they are, in a few words.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Agent(subscription) => match subscription.agent() {
                Some(agent) => format!("agent {} (pid {})", agent.version, agent.pid),
                None => "agent".to_owned(),
            },
            Self::Own(_) => "own tracer".to_owned(),
        }
    }

    /// Waits for the next message; `None`: no more come.
    pub(super) fn next(&mut self) -> Result<Option<Message>, String> {
        match self {
            Self::Agent(subscription) => subscription.next().map_err(|problem| problem.message),
            Self::Own(tracer) => Ok(tracer.feed.blocking_next()),
        }
    }

    /// Ends the tracer, if it is ours.
    pub(super) fn stop(self) {
        if let Self::Own(tracer) = self {
            tracer.stop();
        }
    }
}

fn refused(socket: &Path, problem: &Problem) -> Failure {
    match problem.kind {
        ProblemKind::PermissionDenied => Failure::new(format!(
            "an agent runs ({}), and only root and its own user may see its points: sudo wattrace top",
            socket.display()
        )),
        _ => Failure::new(&problem.message),
    }
}

/// A pipeline whose only output is ours.
pub(super) struct Tracer {
    runtime: Runtime,
    pipeline: Pipeline,
    feed: FeedReceiver,
}

impl Tracer {
    fn start(request: &Request, plugins: &[Registered]) -> Result<Self, Failure> {
        let mut config = Config::load(request, plugins).map_err(Failure::usage)?;
        // Others get nothing from here, and see everything: the transforms that leave out are for outputs.
        let plugins: Vec<_> = plugins
            .iter()
            .copied()
            .filter(|plugin| !plugin.is_interactive && !plugin.shapes_output)
            .collect();
        let runtime = session::runtime()?;
        let (sender, feed) = feed::feed();
        let handle = runtime.handle().clone();
        let pipeline = runtime.block_on(async {
            let mut host = session::start_plugins(&config, &plugins, &handle)?;
            host.retain(|element| element.spec.kind() != ElementKind::Output);
            host.start(NAMES[0], |setup| {
                feed::add_output(setup, sender);
                Ok(())
            })
            .map_err(Failure::new)?;
            config.agent.outputs.clear();
            let registry = host.registry().clone();
            let pipeline = session::start_pipeline(host, &config)?;
            let deadline = Instant::now() + OPEN_TIMEOUT;
            pipeline.sources_opened(deadline).await;
            pipeline.poll_all(deadline).await;
            pipeline.settle(deadline).await;
            let counts =
                registry.series().iter().any(|(_, series)| series.role == Role::Usage(Usage::CpuTime));
            if !counts {
                let needed = "a plugin that counts CPU time";
                return Err(nothing_to_measure(&pipeline.health(), &config, &plugins, needed));
            }
            Ok(pipeline)
        })?;
        Ok(Self { runtime, pipeline, feed })
    }

    fn stop(self) {
        let Self { runtime, pipeline, feed } = self;
        // Its output has nobody to write to.
        drop(feed);
        runtime.block_on(pipeline.stop(Instant::now() + STOP_TIMEOUT));
        // Does not wait for tasks that never end.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}
