//! `exec --budget`: how much energy the command may use, and what happens when that is used up.
//!
//! The energy of a window is known a little after its end, so a stop that waits for a reading comes too late.
//! Instead the moment at which the budget will be used up is predicted from the power of the last windows.
//! There the command is paused, and the next reading says whether it has used its budget or goes on. A
//! reading that comes late, on a busy machine, delays no pause.
//!
//! | file | holds |
//! | --- | --- |
//! | `budget/energy.rs` | an amount of energy as it is written on the command line |
//! | `budget/meter.rs` | what the command has used so far, window by window |
//! | `budget/prediction.rs` | when to pause, and what a reading decides |
//! | `budget/hold.rs` | pausing, limiting and stopping the command: its cgroup, or signals |

mod energy;
mod hold;
mod meter;
mod prediction;

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{debug, warn};
use wattrace_api::{Clock, Timestamp};

use self::hold::Hold;
pub(super) use self::meter::WithBudget;
use self::meter::{Account, lock};
use self::prediction::{Decision, Enforcement};
use super::child::Root;
use crate::cli::failure::Failure;
use crate::pattern::Pattern;
use crate::pipeline::Pipeline;
use crate::pipeline::status::TickStatus;

/// The time between readings.
const TICK: Duration = Duration::from_millis(10);

/// How long after a whole multiple of [`TICK`] all sources have been read.
const READ_BY: Duration = Duration::from_micros(1_500);

/// Time limit for a reading to pass the transforms.
const SETTLE: Duration = Duration::from_secs(1);

/// The sources that are read every [`TICK`]: usage, and the meters that are updated that often.
const SOURCES: [&str; 2] = ["source/sched/*", "source/rapl/*"];

/// How long the report waits for processes that were killed.
const GONE_WITHIN: Duration = Duration::from_millis(200);

/// How long a command that was asked to end may take.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub(super) struct BudgetOptions {
    /// Energy that the command may use: 50J, 1.5kJ, 0.2Wh. When it is used up, wattrace exits with 3
    #[arg(long, value_name = "ENERGY", value_parser = energy::parse)]
    budget: Option<u64>,
    /// What happens when the budget is used up
    #[arg(long, value_enum, value_name = "ACTION", default_value = "stop", requires = "budget")]
    on_budget: Action,
}

/// What happens to the command when its budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// A message on standard error
    Notify,
    /// From then on, it gets a twentieth of a CPU (cgroup v2)
    Throttle,
    /// It is asked to end (SIGTERM), and killed if it uses 1.6 % more
    Stop,
}

/// The part of the report, `budget`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BudgetJson {
    limit_j: f64,
    /// What the command has used in the end.
    used_j: f64,
    on_budget: Action,
    reached: bool,
    /// When; without it, the budget was not used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached_unix_nano: Option<u64>,
    /// `SIGTERM` or `SIGKILL`, if the command was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'static str>,
    /// How the command is paused and stopped: `cgroup` or `signals`.
    by: &'static str,
}

/// A budget while the command runs.
pub(in crate::cli) struct Budget {
    limit: u64,
    action: Action,
    hold: Hold,
    account: Arc<Mutex<Account>>,
    clock: Clock,
    reached: Option<Timestamp>,
    signal: Option<&'static str>,
}

impl BudgetOptions {
    /// The budget, if there is one.
    ///
    /// # Errors
    /// What should happen to the command is not possible here, or the command is run several times.
    pub(super) fn open(&self, is_repeated: bool) -> Result<Option<Budget>, Failure> {
        let Some(limit) = self.budget else { return Ok(None) };
        if is_repeated {
            return Err(Failure::usage(
                "--budget is for a single run: to compare the mean of several with a limit, use --max-joules",
            ));
        }
        let hold = match self.on_budget {
            Action::Notify => Hold::signals(),
            Action::Throttle => Hold::limited().map_err(Failure::usage)?,
            Action::Stop => Hold::open(),
        };
        Ok(Some(Budget {
            limit,
            action: self.on_budget,
            hold,
            account: Arc::default(),
            clock: Clock::system(),
            reached: None,
            signal: None,
        }))
    }
}

impl Budget {
    /// Where the transform that observes the command adds up what it uses.
    pub(super) fn account(&self) -> Arc<Mutex<Account>> {
        self.account.clone()
    }

    /// Makes the sources tick as often as the budget needs. They keep shorter intervals.
    pub(super) fn quicken(pipeline: &Pipeline) {
        let control = pipeline.control();
        for pattern in SOURCES.iter().filter_map(|name| name.parse::<Pattern>().ok()) {
            let is_fast = |ticks: TickStatus| (1..=TICK.as_nanos() as u64).contains(&ticks.interval_ns);
            if !control.status(&pattern).iter().all(|status| status.ticks.is_some_and(is_fast)) {
                // An error means that there is no such source.
                let _ = control.set_interval(&pattern, TICK);
            }
        }
    }

    /// What the command has to write `0` to before it is executed, to be in a cgroup of its own.
    pub(super) fn to_join(&self) -> Option<File> {
        self.hold.to_join()
    }

    /// The path of the command's cgroup, if it has one.
    pub(super) fn cgroup(&self) -> Option<&str> {
        self.hold.cgroup()
    }

    /// The command runs: `root` is its first process, started at `since`, and `pid` its pid in our namespace.
    pub(super) fn begin(&mut self, root: Root, since: u64, pid: u32) {
        lock(&self.account).begin(root, since);
        self.hold.begin(pid);
    }

    /// Watches the command until it has ended, which the caller finds out.
    pub(super) async fn enforce(&mut self, pipeline: &Pipeline, runtime: &Handle) {
        let mut enforcement = Enforcement::new(self.limit);
        let mut pause = None;
        while self.reached.is_none() {
            let crossing = pause.filter(|_| self.action != Action::Notify);
            tokio::select! {
                () = wait_until(&self.clock, crossing.unwrap_or_default(), runtime),
                    if crossing.is_some() =>
                {
                    self.hold.pause(|| lock(&self.account).living());
                    enforcement.paused(self.clock.now());
                    pause = None;
                    continue;
                }
                () = self.read(pipeline) => {}
            }
            let now = self.clock.now();
            let decision = enforcement.decide(&lock(&self.account).used, now);
            pause = match decision {
                Decision::Run(crossing) => crossing,
                Decision::Wait => None,
                Decision::Resume(crossing) => {
                    self.hold.resume();
                    crossing
                }
                Decision::Reached => {
                    self.act(now);
                    None
                }
            };
        }
        if self.action == Action::Stop {
            self.finish(pipeline, runtime).await;
        }
        std::future::pending().await
    }

    /// Waits until the sources have been read the next time, and until what they gave has been attributed.
    async fn read(&self, pipeline: &Pipeline) {
        let tick = TICK.as_nanos() as u64;
        let since_tick = self.clock.now().0.wrapping_sub(READ_BY.as_nanos() as u64) % tick;
        tokio::time::sleep(Duration::from_nanos(tick - since_tick)).await;
        pipeline.settle(Instant::now() + SETTLE).await;
    }

    /// The budget is used up: the command is paused, unless it used more than was predicted.
    fn act(&mut self, now: Timestamp) {
        self.reached = Some(now);
        let joules = self.limit as f64 * 1e-6;
        match self.action {
            Action::Notify => eprintln!("wattrace: the budget of {joules} J is used up"),
            Action::Throttle => match self.hold.throttle() {
                Ok(()) => {
                    eprintln!("wattrace: the budget of {joules} J is used up: the command is slowed down")
                }
                Err(e) => warn!("the budget is used up, and the command cannot be slowed down: {e}"),
            },
            Action::Stop => {
                self.hold.pause(|| lock(&self.account).living());
                self.hold.terminate();
                self.signal = Some("SIGTERM");
                debug!(used = lock(&self.account).used.total(), "asked the command to end");
            }
        }
        self.hold.resume();
    }

    /// Kills what is left of the command when it has used a little more, or after [`GRACE`].
    async fn finish(&mut self, pipeline: &Pipeline, runtime: &Handle) {
        let deadline = self.clock.now() + GRACE;
        let limit = self.limit + self.limit / 64;
        let (reached, horizon) = (self.reached.unwrap_or_default(), TICK + READ_BY);
        while self.has_processes() {
            let now = self.clock.now();
            let crossing = lock(&self.account).used.crossing(limit, reached);
            let at = crossing.unwrap_or(deadline).min(deadline).max(now);
            if at <= now + horizon {
                wait_until(&self.clock, at, runtime).await;
                if self.has_processes() {
                    self.hold.kill(|| lock(&self.account).living());
                    self.signal = Some("SIGKILL");
                }
                return;
            }
            self.read(pipeline).await;
        }
    }

    /// The command's first process has ended. If it was stopped, its other processes end too.
    pub(super) async fn conclude(&mut self, pipeline: &Pipeline, runtime: &Handle) {
        if self.signal.is_none() {
            return;
        }
        self.finish(pipeline, runtime).await;
        let deadline = Instant::now() + GONE_WITHIN;
        while self.has_processes() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn has_processes(&self) -> bool {
        self.hold.has_processes(|| lock(&self.account).living())
    }

    /// What became of the budget. The command has ended, and has used `used_j` in all.
    pub(super) fn into_report(mut self, used_j: f64) -> BudgetJson {
        // Its last window is known only now.
        let limit_j = self.limit as f64 * 1e-6;
        if used_j >= limit_j {
            self.reached.get_or_insert_with(|| self.clock.now());
        }
        BudgetJson {
            limit_j,
            used_j,
            on_budget: self.action,
            reached: self.reached.is_some(),
            reached_unix_nano: self.reached.map(|at| self.clock.unix_nanos(at)),
            signal: self.signal,
            by: self.hold.means(),
        }
    }
}

/// Waits more exactly than the runtime's timers, which round up to milliseconds.
async fn wait_until(clock: &Clock, at: Timestamp, runtime: &Handle) {
    tokio::time::sleep(at.since(clock.now()).saturating_sub(TICK)).await;
    let wait = at.since(clock.now());
    if !wait.is_zero() {
        // An error means that the runtime ends.
        let _ = runtime.spawn_blocking(move || std::thread::sleep(wait)).await;
    }
}

impl BudgetJson {
    /// Whether it was used up.
    pub(super) fn is_reached(&self) -> bool {
        self.reached
    }

    /// A line for people. The command began at `start`, in nanoseconds since 1970.
    pub(super) fn for_people(&self, start: u64) -> String {
        let Self { limit_j, used_j, .. } = self;
        let Some(at) = self.reached_unix_nano else {
            return format!("  budget of {limit_j} J: {used_j:.3} J used\n");
        };
        let seconds = at.saturating_sub(start) as f64 * 1e-9;
        let done = match (self.on_budget, self.signal) {
            (_, Some(signal)) => format!("the command was stopped ({signal})"),
            (Action::Throttle, _) => "the command was slowed down".into(),
            _ => "nothing was done".into(),
        };
        format!(
            "  budget of {limit_j} J used up after {seconds:.3} s: {done}; {used_j:.3} J used in the end\n"
        )
    }
}
