//! The `bmc` plugin: how many joules the whole server used, power supplies and fans included, by its BMC
//! (baseboard management controller): over IPMI DCMI through the kernel, or over Redfish through the network.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.bmc]` |
//! | `dcmi` | the way through the kernel |
//! | `redfish` | the way through the network |
//! | `meter` | the domain that both meter |
//!
//! BMCs tell power; integrating it, and counting what is odd, is `wattrace-meter`'s.

mod config;
mod dcmi;
mod meter;
mod redfish;

pub use config::{BmcConfig, Interface, Login, Reading};

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

use dcmi::device;
use dcmi::source::{DcmiSource, ask};
use redfish::client::Credentials;
use redfish::discover::Nowhere;
use redfish::source::{RedfishSource, Refused, connect};

/// For fuzzing: what reads bytes that a BMC sent.
#[doc(hidden)]
pub mod fuzzing {
    use std::hint::black_box;

    pub use crate::dcmi::wire::{Reading, Refusal, parse};
    pub use crate::redfish::model::{Chassis, chassis, link, members, microjoules, microwatts};

    /// Everything that is read from an answer's JSON.
    pub fn redfish(json: &[u8]) {
        let Ok(answer) = serde_json::from_slice(json) else { return };
        _ = black_box((chassis(&answer), members(&answer), link(&answer, "Chassis")));
        _ = black_box((microwatts(&answer), microjoules(&answer)));
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Bmc;

impl Plugin for Bmc {
    const NAME: &'static str = "bmc";
    const DESCRIPTION: &'static str = "energy of the whole server, by its BMC (IPMI DCMI, Redfish)";
    type Config = BmcConfig;

    fn start(config: BmcConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        let trigger = Trigger::every(config.interval);
        if config.by_redfish() {
            let refused = Refused::default();
            setup.source("redfish", trigger, move || {
                RedfishSource::open(&config, refused.clone(), registry.clone(), clock.clone())
            });
        } else {
            let mut open = device::kernel(config.device.clone());
            setup.source("dcmi", trigger, move || {
                DcmiSource::open(open()?, &config, registry.clone(), clock.clone())
            });
        }
        Ok(())
    }

    fn diagnose(config: &BmcConfig) -> Vec<Finding> {
        let what = if config.by_redfish() { "BMC over Redfish" } else { "BMC over IPMI DCMI" };
        let looked = match config.validate() {
            Err(e) => Err(e.to_string()),
            Ok(()) if config.by_redfish() => redfish(config),
            Ok(()) => dcmi(config),
        };
        let (verdict, found, remedy) = match looked {
            Ok(found) => (Verdict::Ok, found, String::new()),
            Err(why) => match why.split_once("; ") {
                Some((found, remedy)) => (Verdict::Optional, found.to_owned(), remedy.to_owned()),
                None => (Verdict::Optional, why, String::new()),
            },
        };
        vec![Finding { what: what.to_owned(), verdict, found, remedy }]
    }
}

/// What a look at the device finds, or what is wrong and, after a semicolon, what to do about it.
fn dcmi(config: &BmcConfig) -> Result<String, String> {
    let mut device = device::kernel(config.device.clone())().map_err(|e| e.to_string())?;
    let reading = ask(&mut *device).map_err(|trouble| trouble.to_string())?;
    Ok(format!("{}: {} W now", config.device.display(), reading.watts))
}

/// The same of the network.
fn redfish(config: &BmcConfig) -> Result<String, String> {
    let credentials = Credentials::read(config).map_err(|e| e.to_string())?;
    let (_, place) = connect(config, credentials).map_err(|nowhere| match nowhere {
        Nowhere::Trouble(trouble) => trouble.to_string(),
        Nowhere::Choice(why) => why,
    })?;
    Ok(format!("chassis {} at {}{}", place.chassis, config.endpoint, place.path))
}
