//! Wattrace as a library: the pipeline runner, the configuration and the commands. An agent is made of these
//! and a list of plugins.
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     // The standard agent; `.plugin::<Mine>()` adds a plugin of your own.
//!     wattrace::Agent::builder().standard_plugins().run()
//! }
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`plugins`] | the list of standard plugins |
//! | [`config`] | configuration: file, `--set`, defaults; errors that name the line |
//! | [`pattern`] | names of elements with wildcards |
//! | [`pipeline`] | the runner: threads, queues, isolation |
//! | `control` | the socket that controls a running agent, and reload |
//! | `cli` | the commands |
//! | `sys` | the system calls of the runner |
//! | `observe` | the agent's own metrics |

mod cli;
pub mod config;
mod control;
mod observe;
mod operation;
pub mod pattern;
pub mod pipeline;
pub mod plugins;
mod sys;

use std::process::ExitCode;

use wattrace_api::Plugin;

use crate::plugins::Registered;

/// An agent: the runner plus a list of plugins.
#[derive(Debug)]
pub struct Agent {
    plugins: Vec<Registered>,
}

impl Agent {
    /// An agent without plugins.
    pub fn builder() -> Self {
        Self { plugins: Vec::new() }
    }

    /// Adds the standard plugins that were compiled in.
    pub fn standard_plugins(mut self) -> Self {
        self.plugins.extend(plugins::standard());
        self
    }

    /// Adds `P`. Elements of one kind are ordered as their plugins were added.
    pub fn plugin<P: Plugin>(mut self) -> Self {
        self.plugins.push(Registered::of::<P>());
        self
    }

    /// Runs the command on the command line with this agent's plugins. Returns the process's exit code.
    pub fn run(self) -> ExitCode {
        cli::main(&self.plugins)
    }
}
