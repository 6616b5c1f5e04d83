//! The pipeline element: asks a Redfish service for this machine's power, or energy, on each tick.

use std::sync::{Arc, Mutex, PoisonError};

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick};
use wattrace_meter::Channel;

use super::client::{Client, Credentials, Trouble};
use super::discover::{Nowhere, Place, discover};
use super::model;
use crate::config::{BmcConfig, Reading};
use crate::meter::server;

/// The credentials that were refused last. They are not tried again: BMCs lock accounts after a few attempts.
pub(crate) type Refused = Arc<Mutex<Option<Credentials>>>;

/// A server's BMC on the network.
pub(crate) struct RedfishSource {
    client: Client,
    credentials: Option<Credentials>,
    refused: Refused,
    place: Place,
    clock: Clock,
    channel: Channel,
    /// The last energy that was told.
    last: Option<i128>,
}

/// Finds the reading, for the source and for `doctor`.
pub(crate) fn connect(
    config: &BmcConfig,
    credentials: Option<Credentials>,
) -> Result<(Client, Place), Nowhere> {
    let mut client = Client::new(config, credentials).map_err(|e| Nowhere::Choice(e.to_string()))?;
    let place = discover(&mut client, &config.chassis, config.reading)?;
    Ok((client, place))
}

impl RedfishSource {
    /// Finds the chassis and takes the first reading, from which joules are counted.
    pub(crate) fn open(
        config: &BmcConfig,
        refused: Refused,
        registry: Arc<Registry>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let credentials = Credentials::read(config)?;
        let known = refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if credentials.is_some() && credentials == known {
            let path = config.password_file.display();
            return Err(Error::gone(format!(
                "the BMC has refused this name and password; they are tried again once {path} holds another"
            )));
        }
        let (client, place) = connect(config, credentials.clone()).map_err(|nowhere| match nowhere {
            Nowhere::Trouble(trouble) => consequence(trouble, &credentials, &refused),
            Nowhere::Choice(why) => Error::gone(why),
        })?;
        if place.reading != config.reading {
            let (wanted, told) = (config.reading, place.reading);
            tracing::warn!("plugins.bmc.reading: the BMC tells no {wanted:?}; {told:?} is read instead");
        }
        tracing::info!(chassis = place.chassis, path = place.path, "Redfish opened");
        let now = clock.now();
        let subject = server(config.origin());
        let channel = match place.reading {
            Reading::Power => Channel::of_power(subject, config.longest_gap(), now, &registry)?,
            Reading::Energy => Channel::of_energy(subject, now, &registry)?,
        };
        let mut source = Self { client, credentials, refused, place, clock, channel, last: None };
        // A first one gives no point.
        source.read(&mut Batch::default())?;
        Ok(source)
    }

    fn read(&mut self, out: &mut Batch) -> Result<(), Error> {
        let answer = self.client.get(&self.place.path);
        let now = self.clock.now();
        let told = match &answer {
            Ok(answer) => match self.place.reading {
                Reading::Power => model::microwatts(answer),
                Reading::Energy => model::microjoules(answer),
            },
            Err(trouble) => {
                self.channel.miss(now, trouble, out);
                None
            }
        };
        match (answer, told) {
            (Err(trouble), _) => return Err(consequence(trouble, &self.credentials, &self.refused)),
            (Ok(_), None) => {
                let why = format!("{}: tells no number of {:?}", self.place.path, self.place.reading);
                self.channel.miss(now, &why, out);
            }
            // Energy moves in steps: until the next one there is nothing to tell, and its window covers this
            // time too.
            (Ok(_), Some(_)) if self.place.reading == Reading::Energy && told == self.last => {}
            (Ok(_), Some(number)) => {
                self.last = told;
                self.channel.take(now, number, out);
            }
        }
        Ok(())
    }
}

/// What follows from `trouble`. Credentials that were refused are remembered.
fn consequence(trouble: Trouble, credentials: &Option<Credentials>, refused: &Refused) -> Error {
    match trouble {
        Trouble::Refused(why) => {
            refused.lock().unwrap_or_else(PoisonError::into_inner).clone_from(credentials);
            Error::gone(why)
        }
        // The reading has moved, as after an update of the firmware: it is looked for anew.
        Trouble::Absent(why) => Error::fatal(why),
        Trouble::Later(why) => Error::retry(why),
    }
}

impl Source for RedfishSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.read(out)
    }
}
