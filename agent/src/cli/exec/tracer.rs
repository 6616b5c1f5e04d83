//! A pipeline that measures commands, one run after the other, or what runs already. It starts once: loading
//! the kernel programs takes longer than many a command, and what attribution has learnt in one run serves
//! the next. `child.rs` has the command's process, `recorder.rs` what is counted.

use std::ops::Range;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use wattrace_api::{Registry, Role, Usage};

use super::budget::{Budget, WithBudget};
use super::child::{self, Job, Root, shell_code, unix_nanos};
use super::history::{self, SharedHistory, WithHistory};
use super::network::CommandCgroup;
use super::recorder::{CommandRecorder, Recording, lock};
use super::selection::Selection;
use super::trace::RootSpan;
use crate::cli::failure::Failure;
use crate::cli::missing::{Missing, nothing_to_measure};
use crate::cli::session::{self, Outputs};
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::plugins::Registered;

/// Time limit for the last readings and writes.
const STOP_TIMEOUT: Duration = Duration::from_millis(4500);

/// Time limit for the readings before and after a command.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit for opening the sources, and for their first reading, for the slowest of machines.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The running pipeline.
pub(in crate::cli) struct Tracer {
    pipeline: Pipeline,
    recording: Arc<Mutex<Recording>>,
    runtime: Handle,
    signals: Signals,
    /// What a command may use.
    pub(super) budget: Option<Budget>,
    /// Where the bytes that commands send and receive are counted, if they are.
    cgroup: Option<CommandCgroup>,
    /// Who used how much when, if that is wanted.
    pub(super) history: Option<SharedHistory>,
    registry: Arc<Registry>,
    /// Whether commands get spans.
    pub(super) is_traced: bool,
}

/// A command that has ended.
#[derive(Debug)]
pub(in crate::cli) struct Ended {
    pub(in crate::cli) status: ExitStatus,
    root: Root,
    /// From just before its start until just after its end, in nanoseconds since 1970.
    pub(super) window: Range<u64>,
}

impl Ended {
    /// The command's process and its descendants among what was recorded.
    pub(super) fn selection(&self, recording: &Recording) -> Selection {
        Selection::of_command(self.root, self.window.start, &recording.processes)
    }
}

impl Tracer {
    /// Starts a pipeline, and takes a first reading.
    ///
    /// # Errors
    /// No source counts CPU time, or a plugin refuses its configuration.
    pub(in crate::cli) async fn start(
        config: &mut Config,
        plugins: &[Registered],
        runtime: &Handle,
        outputs: Outputs,
        budget: Option<Budget>,
        history: Option<SharedHistory>,
    ) -> Result<Self, Failure> {
        // Caught from before the first command starts: the terminal sends an interrupt to the command too,
        // and the report follows when the command ends.
        let signals = Signals::listen()?;
        let cgroup = CommandCgroup::open(config, budget.as_ref().and_then(Budget::cgroup));
        let network = cgroup.as_ref().map(CommandCgroup::count);
        let recording = Arc::new(Mutex::new(Recording { network, ..Recording::default() }));
        // The terminal is the command's.
        let plugins: Vec<_> = plugins.iter().copied().filter(|plugin| !plugin.is_interactive).collect();
        let (counted, written) = (recording.clone(), history.clone());
        let account = budget.as_ref().map(Budget::account);
        let counter = move |registry: Arc<Registry>, since| {
            let recorder = CommandRecorder::new(counted.clone(), registry.clone(), since);
            let recorder = WithHistory::new(recorder, written.clone(), registry.clone(), since);
            WithBudget::new(recorder, account.clone(), registry, since)
        };
        let host = session::start_counting(config, &plugins, runtime, outputs, counter)?;
        let registry = host.registry().clone();
        let pipeline = session::start_pipeline(host, config)?;
        pipeline.sources_opened(Instant::now() + OPEN_TIMEOUT).await;
        pipeline.poll_all(Instant::now() + POLL_TIMEOUT).await;
        if !counts_cpu_time(&registry) {
            // On a slow machine, the first reading takes longer than one that hangs may delay the command.
            pipeline.poll_all(Instant::now() + OPEN_TIMEOUT).await;
        }
        pipeline.settle(Instant::now() + STOP_TIMEOUT).await;
        if !counts_cpu_time(&registry) {
            let needed = "a plugin that counts CPU time";
            return Err(nothing_to_measure(&pipeline.health(), config, &plugins, needed));
        }
        if budget.is_some() || history.is_some() {
            Budget::quicken(&pipeline);
        }
        let runtime = runtime.clone();
        let is_traced = false;
        Ok(Self { pipeline, recording, runtime, signals, budget, cgroup, history, registry, is_traced })
    }

    /// Reports on stderr what is missing here, once for all commands.
    pub(in crate::cli) fn report_missing(&self, config: &Config, plugins: &[Registered]) {
        Missing::find(&self.pipeline.health(), config, plugins).report(&self.registry);
    }

    /// Records what runs already, until `end` or until a signal asks this process to end. Returns the span in
    /// nanoseconds since 1970, and what `end` returned; `None` after a signal.
    pub(in crate::cli) async fn watch<T>(&mut self, end: impl Future<Output = T>) -> (Range<u64>, Option<T>) {
        self.begin().await;
        let start = unix_nanos();
        let ended = tokio::select! {
            ended = end => Some(ended),
            _ = self.signals.next() => None,
        };
        (start..unix_nanos(), ended)
    }

    /// Runs a command to its end. What is recorded counts from its beginning.
    ///
    /// # Errors
    /// It cannot be executed.
    pub(in crate::cli) async fn run(&mut self, job: &Job) -> Result<Ended, Failure> {
        self.begin().await;
        let joins = self.budget.as_ref().and_then(Budget::to_join);
        let joins = joins.or_else(|| self.cgroup.as_ref().and_then(CommandCgroup::to_join));
        let span = self.is_traced.then(|| RootSpan::open(job, self.registry.events().clone())).flatten();
        let child = child::spawn(job, span.as_ref().map(RootSpan::variable), joins, &self.runtime).await?;
        let (pid, start, root) = (child.pid(), child.start, child.root);
        span.iter().for_each(|span| span.started(root.pid, start));
        let status = {
            let wait = child.wait(&self.runtime);
            let enforce = async {
                if let Some(budget) = &mut self.budget {
                    budget.begin(root, start, pid);
                    budget.enforce(&self.pipeline, &self.runtime).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::pin!(wait, enforce);
            loop {
                tokio::select! {
                    status = &mut wait => break status?,
                    () = &mut enforce => {}
                    signal = self.signals.next() => if signal == SignalKind::terminate() {
                        // SAFETY: the call has no preconditions. The pid is still the child's: it is not
                        // reaped yet.
                        unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
                    },
                }
            }
        };
        let window = start..unix_nanos();
        span.into_iter().for_each(|span| span.ended(&window, shell_code(status)));
        if let Some(budget) = &mut self.budget {
            budget.conclude(&self.pipeline, &self.runtime).await;
        }
        Ok(Ended { status, root, window })
    }

    /// Takes the reading after a command, and what `read` makes of everything recorded since it began.
    pub(super) async fn read<T>(&self, read: impl FnOnce(&Recording) -> T) -> T {
        self.take_reading().await;
        read(&lock(&self.recording))
    }

    /// Continues unless a signal has asked this process to end. A single run is reported then; nothing is
    /// reported on an interrupted series of runs, which is shorter than was asked for.
    ///
    /// # Errors
    /// It has.
    pub(in crate::cli) async fn check_signals(&mut self) -> Result<(), Failure> {
        let Some(signal) = self.signals.received().await else { return Ok(()) };
        let code = u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX);
        Err(Failure { message: "interrupted".to_owned(), code })
    }

    /// Takes the last reading, stops the pipeline, and reports what was lost.
    pub(in crate::cli) async fn stop(self) -> Arc<Mutex<Recording>> {
        let health = self.pipeline.stop(Instant::now() + STOP_TIMEOUT).await;
        session::report_losses(&health);
        self.recording
    }

    /// What was recorded up to the last reading.
    pub(super) fn recording(&self) -> MutexGuard<'_, Recording> {
        lock(&self.recording)
    }

    /// What is recorded counts from now.
    async fn begin(&self) {
        self.take_reading().await;
        lock(&self.recording).reset();
        self.history.iter().for_each(|history| history::lock(history).reset());
    }

    async fn take_reading(&self) {
        self.pipeline.poll_all(Instant::now() + POLL_TIMEOUT).await;
        self.pipeline.settle(Instant::now() + STOP_TIMEOUT).await;
    }
}

/// Whether a source counts the CPU time of processes, which the report is made of.
fn counts_cpu_time(registry: &Registry) -> bool {
    registry.series().iter().any(|(_, series)| series.role == Role::Usage(Usage::CpuTime))
}

/// The signals that ask a process to end.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    received: Option<SignalKind>,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            received: None,
        })
    }

    /// Waits for the next signal.
    async fn next(&mut self) -> SignalKind {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        self.received = Some(kind);
        kind
    }

    async fn received(&mut self) -> Option<SignalKind> {
        tokio::select! {
            biased;
            _ = self.next() => {}
            () = std::future::ready(()) => {}
        }
        self.received
    }
}
