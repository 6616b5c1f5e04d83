//! The Redfish source with a simulated service, on a clock that the test sets.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use wattrace_api::testing::Rig;
use wattrace_api::{Error, Timestamp};
use wattrace_bmc::{Bmc, BmcConfig};

use crate::server::{PASSWORD, Server};

const SECOND: u64 = 1_000_000_000;

/// The plugin's source, and the service that it reads.
pub(crate) struct Bench {
    directory: TempDir,
    pub server: Server,
    pub config: BmcConfig,
    pub rig: Rig,
}

impl Bench {
    pub(crate) fn new(server: Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = BmcConfig {
            endpoint: format!("{}/", server.endpoint),
            username: "reader".to_owned(),
            password_file: directory.path().join("password"),
            verify: server.endpoint.starts_with("https"),
            simulated: true,
            timeout: Duration::from_secs(20),
            ..BmcConfig::default()
        };
        let bench = Self { directory, server, config, rig: Rig::new() };
        bench.password(PASSWORD);
        bench
    }

    /// A service with one chassis of one computer. `power` is in the older resource.
    pub(crate) fn with_power(power: serde_json::Value) -> Self {
        let bench = Self::new(Server::plain().with_older_chassis());
        bench.server.set("/redfish/v1/Chassis/1U/Power", power);
        bench
    }

    pub(crate) fn password(&self, password: &str) {
        fs::write(self.directory.path().join("password"), format!("{password}\n")).unwrap();
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        path
    }

    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.rig.start::<Bmc>(self.config.clone())
    }

    /// `what = steps [from, to]` in seconds.
    pub(crate) fn at(&mut self, second: u64) -> Result<Vec<String>, Error> {
        let batch = self.rig.tick(Timestamp(second * SECOND))?;
        let show = |p: wattrace_api::testing::Point| {
            let anomaly = p.series.attributes.iter().find(|a| a.key == "wattrace.anomaly");
            let what = anomaly.map_or(p.metric, |a| a.value.to_string());
            format!("{what} = {} [{}, {}]", p.steps, p.window.start.0 / SECOND, p.window.end.0 / SECOND)
        };
        Ok(self.rig.points(&batch).into_iter().map(show).collect())
    }
}
