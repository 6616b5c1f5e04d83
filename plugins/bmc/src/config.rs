//! The keys of `[plugins.bmc]`, and which of their values make sense.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Origin};
use wattrace_meter::keys::check_duration;

/// Configuration of the `bmc` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BmcConfig {
    /// Time between readings, 1 s to 1 hour. BMCs refresh about once a second and answer slowly. Between two
    /// readings of power that are more than five intervals (and a minute) apart there is a gap, whose energy
    /// is not counted.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How to reach the BMC: `dcmi` (this machine's own, through `device`), `redfish` (over the network, at
    /// `endpoint`), or `auto`: Redfish where an endpoint is given, else DCMI.
    pub interface: Interface,
    /// DCMI: the kernel's device.
    pub device: PathBuf,
    /// Redfish: the BMC's address, as in `https://10.0.0.2`. Empty: none.
    pub endpoint: String,
    /// Redfish: the account that reads. It needs no right but to read.
    pub username: String,
    /// Redfish: the file that holds the password, and nothing else. Only the agent should be able to read it.
    pub password_file: PathBuf,
    /// Redfish: `session` (log in once and use a token) or `basic` (send name and password with every
    /// request).
    pub login: Login,
    /// Redfish: a PEM file with the authority that signed the BMC's certificate. Empty: the system's
    /// authorities.
    pub authority: PathBuf,
    /// Redfish: false: do not check the BMC's certificate, and allow `http://`.
    pub verify: bool,
    /// Redfish: the id of the chassis that holds this machine and nothing else. Empty: the one with a power
    /// reading.
    pub chassis: String,
    /// Redfish: `power`, integrated here, or `energy`, counted by the BMC, often in coarse steps.
    pub reading: Quantity,
    /// Redfish: the longest wait for an answer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// true: the BMC is simulated, and its joules are labelled so.
    pub simulated: bool,
}

/// How to reach the BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// Redfish where an endpoint is given, else DCMI.
    Auto,
    /// IPMI DCMI through the kernel's device.
    Dcmi,
    /// Redfish over HTTPS.
    Redfish,
}

/// How the agent authenticates to Redfish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// With the token of a session.
    Session,
    /// With name and password in every request.
    Basic,
}

/// What is read over Redfish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Watts, integrated here.
    Power,
    /// Joules or kilowatt-hours, counted by the BMC.
    Energy,
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

impl Default for BmcConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            interface: Interface::Auto,
            device: "/dev/ipmi0".into(),
            endpoint: String::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            login: Login::Session,
            authority: PathBuf::new(),
            verify: true,
            chassis: String::new(),
            reading: Quantity::Power,
            timeout: Duration::from_secs(10),
            simulated: false,
        }
    }
}

impl BmcConfig {
    /// Refuses values that make no sense; the message names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |key: &str, why: &str| Err(Error::fatal(format!("plugins.bmc.{key}: {why}")));
        check_duration("plugins.bmc.interval", self.interval, SHORTEST..=LONGEST)?;
        if self.timeout.is_zero() {
            return refuse("timeout", "0s waits for no answer; the default is \"10s\"");
        }
        if self.uses_redfish() {
            if self.endpoint.is_empty() {
                return refuse("endpoint", "is empty: give the BMC's address, as in \"https://10.0.0.2\"");
            }
            let plain = self.endpoint.starts_with("http://");
            if !plain && !self.endpoint.starts_with("https://") {
                return refuse("endpoint", "begins with neither https:// nor http://");
            }
            if plain && self.verify {
                let why = "http:// shows the password to the network: use https://, or set verify = false";
                return refuse("endpoint", why);
            }
            if !self.username.is_empty() && self.password_file.as_os_str().is_empty() {
                return refuse("password_file", "is empty: name the file that holds the password");
            }
        }
        Ok(())
    }

    /// Whether the BMC is read over Redfish.
    pub(crate) fn uses_redfish(&self) -> bool {
        match self.interface {
            Interface::Auto => !self.endpoint.is_empty(),
            Interface::Dcmi => false,
            Interface::Redfish => true,
        }
    }

    /// The longest time between two readings of power that is integrated over.
    pub(crate) fn longest_gap(&self) -> Duration {
        (self.interval * 5).max(Duration::from_secs(60))
    }

    /// Where the joules come from.
    pub(crate) fn origin(&self) -> Origin {
        if self.simulated { Origin::Simulated } else { Origin::Measured }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_make_no_sense_are_refused_by_their_key() {
        let default = BmcConfig::default;
        let redfish = |endpoint: &str| BmcConfig { endpoint: endpoint.to_owned(), ..default() };
        let refused = [
            ("interval", BmcConfig { interval: Duration::from_millis(999), ..default() }),
            ("timeout", BmcConfig { timeout: Duration::ZERO, ..default() }),
            ("endpoint", BmcConfig { interface: Interface::Redfish, ..default() }),
            ("endpoint", redfish("10.0.0.2")),
            ("endpoint", redfish("http://10.0.0.2")),
            ("password_file", BmcConfig { username: "reader".to_owned(), ..redfish("https://10.0.0.2") }),
        ];
        for (key, config) in refused {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("plugins.bmc.{key}: ")), "{message}");
        }
        default().validate().unwrap();
        BmcConfig { verify: false, ..redfish("http://10.0.0.2") }.validate().unwrap();
        assert!(!default().uses_redfish() && redfish("https://b").uses_redfish());
    }
}
