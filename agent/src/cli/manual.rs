//! `wattrace completions` and `wattrace man`, generated from the definition of the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::{Failure, print};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Of which shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write the pages of all commands into this directory, which is created if it is missing
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn completions(options: &Completions, cli: &mut Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, cli, "wattrace", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(options: &Man, cli: Command) -> Result<ExitCode, Failure> {
    match &options.directory {
        Some(directory) => {
            let cannot = |e| Failure::new(format!("cannot write into {}: {e}", directory.display()));
            std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(cli, directory))
                .map_err(cannot)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(cli).render(&mut page).map_err(Failure::new)?;
            print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
