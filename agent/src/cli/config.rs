//! `wattrace config init|check|show`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::{Failure, print};
use super::options::Configuration;
use super::session;
use crate::config::{Config, DEFAULT_PATH, TEMPLATE};
use crate::plugins::Registered;

#[derive(Debug, Subcommand)]
pub(super) enum Options {
    /// Write a configuration file with every key, commented out
    Init(Init),
    /// Check a configuration and report all that is wrong with it
    Check(Configuration),
    /// Show the configuration that would be used, with every key; secrets are hidden
    Show(Configuration),
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The file to write; - is standard output
    #[arg(default_value = "wattrace.toml")]
    file: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    match options {
        Options::Init(init) => write_template(init)?,
        Options::Check(configuration) => {
            let config = load(configuration, plugins)?;
            // Starting a plugin checks its values and touches nothing yet.
            let runtime = session::runtime()?;
            session::start_plugins(&config, plugins, runtime.handle())?;
            print("the configuration is valid\n")?;
        }
        Options::Show(configuration) => print(&load(configuration, plugins)?.to_toml(plugins))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(configuration: &Configuration, plugins: &[Registered]) -> Result<Config, Failure> {
    Config::load(&configuration.request(), plugins).map_err(Failure::usage)
}

fn write_template(init: &Init) -> Result<(), Failure> {
    if init.file.as_os_str() == "-" {
        return print(TEMPLATE);
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if init.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let name = init.file.display();
    let written = options.open(&init.file).and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    match written {
        Ok(()) => print(&format!("wrote {name}; use it with --config {name}, or put it at {DEFAULT_PATH}\n")),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("{name} exists already; --force overwrites it")))
        }
        Err(e) => Err(Failure::new(format!("cannot write {name}: {e}"))),
    }
}
