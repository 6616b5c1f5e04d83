//! The pipeline element: reads this machine's power or energy from a Redfish service on each tick.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick};
use wattrace_meter::Channel;

use super::answer::RequestError;
use super::client::Client;
use super::credentials::Credentials;
use super::discover::{DiscoveryError, Location, discover};
use crate::config::{BmcConfig, Quantity};
use crate::meter::server;

/// The credentials that were refused last. They are not tried again: BMCs lock accounts after a few attempts.
pub(crate) type RefusedCredentials = Arc<Mutex<Option<Credentials>>>;

/// A server's BMC on the network.
pub(crate) struct RedfishSource {
    client: Client,
    credentials: Option<Credentials>,
    refused: RefusedCredentials,
    location: Location,
    clock: Clock,
    channel: Channel,
    /// The last value of a count of energy.
    last: Option<i128>,
}

/// Finds the reading, for the source and for `doctor`.
pub(crate) fn connect(
    config: &BmcConfig,
    credentials: Option<Credentials>,
    runtime: Handle,
) -> Result<(Client, Location), DiscoveryError> {
    let mut client =
        Client::new(config, credentials, runtime).map_err(|e| DiscoveryError::Choice(e.to_string()))?;
    let location = discover(&mut client, &config.chassis, config.reading)?;
    Ok((client, location))
}

impl RedfishSource {
    /// Finds the chassis and takes the first reading, from which joules are counted.
    pub(crate) fn open(
        config: &BmcConfig,
        refused: RefusedCredentials,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: Handle,
    ) -> Result<Self, Error> {
        let credentials = Credentials::read(config)?;
        let known = refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if credentials.is_some() && credentials == known {
            let path = config.password_file.display();
            return Err(Error::gone(format!(
                "the BMC has refused this name and password; the next try is when {path} has changed"
            )));
        }
        let connected = connect(config, credentials.clone(), runtime);
        let (client, location) = connected.map_err(|e| match e {
            DiscoveryError::Request(e) => consequence(e, &credentials, &refused),
            DiscoveryError::Choice(why) => Error::gone(why),
        })?;
        if location.quantity != config.reading {
            let (wanted, found) = (config.reading, location.quantity);
            tracing::warn!("plugins.bmc.reading: the BMC reports no {wanted:?}; {found:?} is read instead");
        }
        tracing::info!(chassis = location.chassis, paths = location.paths.join(" "), "Redfish opened");
        let now = clock.now();
        let subject = server(config.origin());
        let channel = match location.quantity {
            Quantity::Power => Channel::of_power(subject, config.longest_gap(), now, &registry)?,
            Quantity::Energy => Channel::of_energy(subject, now, &registry)?,
        };
        let mut source = Self { client, credentials, refused, location, clock, channel, last: None };
        // The first reading gives no point.
        source.read(&mut Batch::default())?;
        Ok(source)
    }

    fn read(&mut self, out: &mut Batch) -> Result<(), Error> {
        let read = self.location.read(&mut self.client);
        let now = self.clock.now();
        match read {
            Err(e) => {
                self.channel.miss(now, &e, out);
                return Err(consequence(e, &self.credentials, &self.refused));
            }
            Ok(Err(why)) => self.channel.miss(now, &why, out),
            // Energy moves in steps. Until the next step there is no point; its window will cover this time,
            // too.
            Ok(Ok(number)) if self.location.quantity == Quantity::Energy && self.last == Some(number) => {}
            Ok(Ok(number)) => {
                self.last = Some(number);
                self.channel.take(now, number, out);
            }
        }
        Ok(())
    }
}

/// The error of the source for a failed request. Refused credentials are remembered.
fn consequence(
    error: RequestError,
    credentials: &Option<Credentials>,
    refused: &RefusedCredentials,
) -> Error {
    match error {
        RequestError::Refused(why) => {
            refused.lock().unwrap_or_else(PoisonError::into_inner).clone_from(credentials);
            Error::gone(why)
        }
        // The reading has moved, as after an update of the firmware, or rights or a licence have changed: the
        // source opens again and searches for it.
        RequestError::Absent(why) | RequestError::Forbidden(why) => Error::fatal(why),
        RequestError::Later(why) => Error::retry(why),
    }
}

impl Source for RedfishSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.read(out)
    }
}
