//! The `bmc` plugin: the energy of the whole server, power supplies and fans included, from its BMC
//! (baseboard management controller): over IPMI DCMI through the kernel, or over Redfish through the network.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.bmc]` |
//! | `dcmi` | reading through the kernel |
//! | `redfish` | reading over the network |
//! | `meter` | the domain that both measure |
//!
//! BMCs report power. `wattrace-meter` integrates it and counts anomalies.

mod config;
mod dcmi;
mod meter;
mod redfish;

pub use config::{BmcConfig, Interface, Login, Quantity};

use tokio::runtime::Builder;
use wattrace_api::{Device, Error, Finding, Plugin, ResourceKind, Setup, Trigger, Verdict};

use dcmi::device;
use dcmi::source::{DcmiSource, ask};
use redfish::credentials::Credentials;
use redfish::discover::DiscoveryError;
use redfish::source::{RedfishSource, RefusedCredentials, connect};

/// For fuzzing: the functions that parse bytes from a BMC.
#[doc(hidden)]
pub mod fuzzing {
    use std::hint::black_box;

    pub use crate::dcmi::wire::{PowerReading, Refusal, parse};
    pub use crate::redfish::model::{
        Chassis, chassis, input_microwatts, link, members, message_ids, microjoules, microwatts,
    };

    /// All parsers of an answer's JSON.
    pub fn redfish(json: &[u8]) {
        let Ok(answer) = serde_json::from_slice(json) else { return };
        _ = black_box((chassis(&answer), members(&answer), link(&answer, "Chassis")));
        _ = black_box((microwatts(&answer), microjoules(&answer), input_microwatts(&answer)));
        _ = black_box(message_ids(&answer));
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Bmc;

impl Plugin for Bmc {
    const NAME: &'static str = "bmc";
    const DESCRIPTION: &'static str = "energy of the whole server, by its BMC (IPMI DCMI, Redfish)";
    type Config = BmcConfig;
    const DEVICE: Option<Device> = Some(Device {
        name: "BMC",
        meters: ResourceKind::Host,
        without: "no energy of the whole server: fans, disks and losses of power supplies are not seen",
    });
    const USES_NETWORK: bool = true;

    fn start(config: BmcConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        let trigger = Trigger::every(config.interval);
        if config.uses_redfish() {
            let refused = RefusedCredentials::default();
            setup.source("redfish", trigger, move || {
                let (registry, clock) = (registry.clone(), clock.clone());
                RedfishSource::open(&config, refused.clone(), registry, clock, runtime.clone())
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
        let what = if config.uses_redfish() { "BMC over Redfish" } else { "BMC over IPMI DCMI" };
        let checked = match config.validate() {
            Err(e) => Err(e.to_string()),
            Ok(()) if config.uses_redfish() => redfish(config),
            Ok(()) => dcmi(config),
        };
        let (verdict, found, remedy) = match checked {
            Ok(found) => (Verdict::Ok, found, String::new()),
            Err(why) => match why.split_once("; ") {
                Some((found, remedy)) => (Verdict::Optional, found.to_owned(), remedy.to_owned()),
                None => (Verdict::Optional, why, String::new()),
            },
        };
        vec![Finding { what: what.to_owned(), verdict, found, remedy }]
    }
}

/// What the device reports, or what is wrong and, after a semicolon, what to do about it.
fn dcmi(config: &BmcConfig) -> Result<String, String> {
    let mut device = device::kernel(config.device.clone())().map_err(|e| e.to_string())?;
    let reading = ask(&mut *device).map_err(|e| e.to_string())?;
    Ok(format!("{}: {} W now", config.device.display(), reading.watts))
}

/// The same for Redfish.
fn redfish(config: &BmcConfig) -> Result<String, String> {
    let credentials = Credentials::read(config).map_err(|e| e.to_string())?;
    let runtime =
        Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| e.to_string())?;
    let found = connect(config, credentials, runtime.handle().clone());
    // The client logs out, for which it needs the runtime.
    let location = found.map(|(_client, location)| location).map_err(|e| match e {
        DiscoveryError::Request(e) => e.to_string(),
        DiscoveryError::Choice(why) => why,
    })?;
    let place = config.endpoint.trim_end_matches('/');
    Ok(format!("chassis {} at {place}{}", location.chassis, location.paths.join(" and ")))
}
