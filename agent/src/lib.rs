//! Wattrace as a library: the pipeline runner, configuration and commands, from which an agent is made by
//! naming plugins.
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     // The standard agent, plus `.plugin::<Mine>()` for one's own.
//!     wattrace::Agent::builder().standard_plugins().run()
//! }
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`plugins`] | the list of plugins an agent is made of |
//! | [`config`] | configuration: file, `--set`, defaults; errors that name the line |
//! | [`pipeline`] | the runner: tasks, queues, isolation |
//! | `control` | the socket by which a running agent is controlled, and reload |
//! | `cli` | the commands |
//! | `observe` | the agent's own metrics |

mod cli;
pub mod config;
mod control;
mod observe;
pub mod pipeline;
pub mod plugins;

use std::process::ExitCode;

use wattrace_api::Plugin;

use crate::plugins::Registered;

/// An agent: the runner plus a list of plugins.
#[derive(Debug)]
pub struct Agent {
    plugins: Vec<Registered>,
}

impl Agent {
    /// An agent without any plugin.
    pub fn builder() -> Self {
        Self { plugins: Vec::new() }
    }

    /// Adds the standard plugins that were compiled in.
    pub fn standard_plugins(mut self) -> Self {
        self.plugins.extend(plugins::standard());
        self
    }

    /// Adds `P`. Elements of one kind stand in the pipeline in the order in which their plugins were added.
    pub fn plugin<P: Plugin>(mut self) -> Self {
        self.plugins.push(Registered::of::<P>());
        self
    }

    /// Does what the command line says, with this agent's plugins. Returns the process's exit code.
    pub fn run(self) -> ExitCode {
        cli::main(&self.plugins)
    }
}
