//! A table of processes and their joules, on standard output: redrawn in place on a terminal, plain text
//! elsewhere.
//!
//! | file | holds |
//! | --- | --- |
//! | state.rs | the sums of the points: per domain, process and closing entry |
//! | processes.rs | one row per process; those that ended are kept, the smaller ones as one sum |
//! | table.rs | the state as lines of text, for a given width and height; pure |
//! | text.rs | safe names, text fitted to a width |
//! | screen.rs | draws lines on a terminal or into a file |
//! | output.rs | the output: when each of these is done |

mod output;
mod processes;
mod screen;
mod state;
mod table;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Plugin, Setup};

use output::ConsoleOutput;
use screen::Screen;

/// The plugin.
pub struct Console;

/// `[plugins.console]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Time between two tables.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How many processes have a row of their own; on a terminal no more than fit.
    pub top: usize,
    /// "always", "never", or "auto": on a terminal, unless NO_COLOR is set.
    pub color: Color,
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2), top: 20, color: Color::Auto }
    }
}

impl Plugin for Console {
    const NAME: &'static str = "console";
    const DESCRIPTION: &'static str = "Shows a table of processes and their joules";
    type Config = ConsoleConfig;
    const IS_INTERACTIVE: bool = true;

    fn start(config: ConsoleConfig, setup: &mut Setup) -> Result<(), Error> {
        if config.interval.is_zero() {
            return Err(Error::fatal("plugins.console.interval: must be longer than 0s"));
        }
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.output(Self::NAME, move || {
            Ok(ConsoleOutput::new(
                config.clone(),
                Screen::stdout(config.color),
                registry.clone(),
                clock.clone(),
            ))
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_default_and_a_wrong_color_is_refused() {
        let config: ConsoleConfig = toml::from_str("").unwrap();
        assert_eq!(toml::to_string(&config).unwrap(), "interval = \"2s\"\ntop = 20\ncolor = \"auto\"\n");
        let error = toml::from_str::<ConsoleConfig>("color = \"pink\"").unwrap_err().to_string();
        assert!(error.contains("`auto`, `always`, `never`"), "{error}");
        assert!(Console::on_by_default());
        let zero = ConsoleConfig { interval: Duration::ZERO, ..config };
        let error = wattrace_api::testing::Rig::new().start::<Console>(zero).unwrap_err();
        assert!(error.to_string().starts_with("plugins.console.interval: "), "{error}");
    }
}
