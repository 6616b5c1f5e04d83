//! The keys of `[plugins.parquet]`, and the [`Settings`] that they are resolved to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// `[plugins.parquet]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParquetConfig {
    /// The directory of the files. It is created if it is missing.
    pub directory: PathBuf,
    /// How long points wait in memory, to become a row group. That much is lost if the agent is killed.
    #[serde(with = "humantime_serde")]
    pub row_group: Duration,
    /// How long a file grows before it is completed, and another begins.
    #[serde(with = "humantime_serde")]
    pub file_interval: Duration,
    /// The size at which it is completed earlier, in MiB.
    pub file_mib: u32,
    /// What this machine is called in the column `host`, and in the files' names. Empty: its name.
    pub host: String,
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self {
            directory: "wattrace-parquet".into(),
            row_group: Duration::from_secs(300),
            file_interval: Duration::from_secs(3600),
            file_mib: 256,
            host: String::new(),
        }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) directory: PathBuf,
    pub(crate) row_group: Duration,
    pub(crate) file_interval: Duration,
    pub(crate) file_bytes: u64,
    pub(crate) host: String,
}

/// An error about `key`.
pub(crate) fn bad(key: &str, problem: impl fmt::Display) -> Error {
    Error::fatal(format!("plugins.parquet.{key}: {problem}"))
}

impl Settings {
    /// # Errors
    /// A value that makes no sense; the message names the key.
    pub(crate) fn resolve(config: ParquetConfig) -> Result<Self, Error> {
        let ParquetConfig { directory, row_group, file_interval, file_mib, host } = config;
        if directory.as_os_str().is_empty() {
            return Err(bad("directory", "is empty: name a directory for the files"));
        }
        if file_interval < row_group || file_interval.is_zero() {
            return Err(bad("file_interval", "is shorter than row_group: a file holds whole row groups"));
        }
        if file_mib == 0 {
            return Err(bad("file_mib", "is 0, so that no file could be written"));
        }
        let name = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.is_empty() { name().trim().to_owned() } else { host };
        let file_bytes = u64::from(file_mib) * 1024 * 1024;
        Ok(Self { directory, row_group, file_interval, file_bytes, host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_key() {
        let error = |change: fn(&mut ParquetConfig)| {
            let mut config = ParquetConfig::default();
            change(&mut config);
            Settings::resolve(config).unwrap_err().to_string()
        };
        assert!(error(|c| c.directory = "".into()).starts_with("plugins.parquet.directory: "));
        assert!(error(|c| c.file_interval = Duration::ZERO).starts_with("plugins.parquet.file_interval: "));
        assert!(error(|c| c.file_mib = 0).starts_with("plugins.parquet.file_mib: "));
    }
}
