//! The pipeline element: asks the BMC for the server's power on each tick, and integrates it.

use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp};
use wattrace_meter::{Anomaly, Channel};

use super::device::Device;
use super::wire::{self, Reading, Refusal};
use crate::config::BmcConfig;
use crate::meter::server;

/// A BMC whose clock and power have not moved for so long no longer measures.
const STALL_NANOS: u64 = 60_000_000_000;
/// More than the longest reply.
const ROOM: usize = 64;

/// The server's own BMC.
pub(crate) struct DcmiSource {
    device: Box<dyn Device>,
    clock: Clock,
    channel: Channel,
    /// The last reading that was new, when it came, and whether it was told that it stands still.
    last: Option<(Reading, Timestamp, bool)>,
}

/// Why there is no reading.
pub(crate) enum Trouble {
    Refused(Refusal),
    Device(std::io::Error),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Refused(refusal) => refusal.fmt(f),
            Trouble::Device(e) => write!(f, "asking the BMC: {e}"),
        }
    }
}

/// Asks for the power now.
pub(crate) fn ask(device: &mut dyn Device) -> Result<Reading, Trouble> {
    let mut reply = [0; ROOM];
    let length = device
        .request(wire::GROUP_EXTENSION, wire::GET_POWER_READING, &wire::REQUEST, &mut reply)
        .map_err(Trouble::Device)?;
    wire::parse(&reply[..length.min(ROOM)]).map_err(Trouble::Refused)
}

impl DcmiSource {
    /// Takes the first reading, from which joules are counted. A BMC without a power meter is a state.
    pub(crate) fn open(
        mut device: Box<dyn Device>,
        config: &BmcConfig,
        registry: Arc<Registry>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let reading = match ask(&mut *device) {
            Ok(reading) => Some(reading),
            Err(trouble @ Trouble::Refused(Refusal::Unsupported(_) | Refusal::Inactive)) => {
                let why = format!(
                    "{}: {trouble}; where the BMC speaks Redfish, set plugins.bmc.endpoint",
                    config.device.display()
                );
                return Err(Error::gone(why));
            }
            Err(trouble) => {
                tracing::warn!("no first reading: {trouble}");
                None
            }
        };
        let now = clock.now();
        let mut channel = Channel::of_power(server(config.origin()), config.longest_gap(), now, &registry)?;
        if let Some(reading) = reading {
            // A first one gives no point.
            channel.take(now, microwatts(reading), &mut Batch::default());
        }
        let last = reading.map(|reading| (reading, now, false));
        Ok(Self { device, clock, channel, last })
    }

    /// Whether the BMC repeats itself, clock and all, since long ago; told once.
    fn has_stalled(&mut self, reading: Reading, now: Timestamp) -> bool {
        match &mut self.last {
            Some((last, since, told)) if *last == reading => {
                now.0.saturating_sub(since.0) >= STALL_NANOS && !std::mem::replace(told, true)
            }
            last => {
                *last = Some((reading, now, false));
                false
            }
        }
    }
}

fn microwatts(reading: Reading) -> i128 {
    i128::from(reading.watts) * 1_000_000
}

impl Source for DcmiSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let asked = ask(&mut *self.device);
        let now = self.clock.now();
        match asked {
            Ok(reading) => {
                self.channel.take(now, microwatts(reading), out);
                if self.has_stalled(reading, now) {
                    self.channel.note(now, Anomaly::Stalled, out);
                }
                Ok(())
            }
            // The BMC is busy, or mumbles: it is asked again at the next tick.
            Err(trouble @ Trouble::Refused(_)) => {
                self.channel.miss(now, &trouble, out);
                Ok(())
            }
            // It is silent, perhaps being reset: it is asked less and less often.
            Err(trouble) => {
                self.channel.miss(now, &trouble, out);
                Err(Error::retry(format!("{trouble}; `sudo ipmitool mc info` shows whether it is well")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
