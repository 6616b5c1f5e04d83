//! `wattrace plugins list`.

use std::process::ExitCode;

use clap::Subcommand;

use super::failure::{Failure, print};
use crate::plugins::Registered;

#[derive(Debug, Subcommand)]
pub(super) enum Options {
    /// List them with their purpose, and whether they run when the configuration does not mention them
    List,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    match options {
        Options::List => {
            let width = plugins.iter().map(|p| p.name.len()).max().unwrap_or(0);
            let row = |plugin: &Registered| {
                let on = if (plugin.on_by_default)() { "on " } else { "off" };
                format!("{:width$}  {on}  {}\n", plugin.name, plugin.description)
            };
            print(&plugins.iter().map(row).collect::<String>())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
