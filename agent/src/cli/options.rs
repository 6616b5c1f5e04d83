//! Options that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::Request;

/// The options that say which configuration to use.
#[derive(Debug, Clone, Args)]
pub(super) struct Configuration {
    /// Configuration file [default: /etc/wattrace/wattrace.toml, if there is one]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, as in plugins.rapl.interval=100ms; a value that is no TOML is taken as a string
    #[arg(short, long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run with exactly these plugins
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    plugins: Option<Vec<String>>,
}

impl Configuration {
    pub(super) fn request(&self) -> Request {
        Request { file: self.config.clone(), set: self.set.clone(), only: self.plugins.clone() }
    }
}

/// How a command writes its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}
