//! The pipeline element: reads the server's power from the BMC on each tick, and integrates it.

use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp};
use wattrace_meter::{Anomaly, Channel};

use super::device::Device;
use super::wire::{self, PowerReading, Refusal};
use crate::config::BmcConfig;
use crate::meter::server;

/// A BMC whose clock and power have not changed for so long no longer measures.
const STALL_NANOS: u64 = 60_000_000_000;
/// More than the longest reply.
const ROOM: usize = 64;

/// The server's own BMC.
pub(crate) struct DcmiSource {
    device: Box<dyn Device>,
    clock: Clock,
    channel: Channel,
    last: Option<LastReading>,
}

/// The last reading that differed from the one before.
struct LastReading {
    reading: PowerReading,
    at: Timestamp,
    /// Whether it has been reported that the BMC repeats it.
    is_reported: bool,
}

/// Why there is no reading.
pub(crate) enum ReadError {
    Refused(Refusal),
    Device(std::io::Error),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Refused(refusal) => refusal.fmt(f),
            ReadError::Device(e) => write!(f, "asking the BMC: {e}"),
        }
    }
}

/// Reads the current power.
pub(crate) fn ask(device: &mut dyn Device) -> Result<PowerReading, ReadError> {
    let mut reply = [0; ROOM];
    let length = device
        .request(wire::GROUP_EXTENSION, wire::GET_POWER_READING, &wire::REQUEST, &mut reply)
        .map_err(ReadError::Device)?;
    wire::parse(&reply[..length.min(ROOM)]).map_err(ReadError::Refused)
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
            Err(e @ ReadError::Refused(Refusal::Unsupported(_) | Refusal::Inactive)) => {
                let why = format!(
                    "{}: {e}; where the BMC speaks Redfish, set plugins.bmc.endpoint",
                    config.device.display()
                );
                return Err(Error::gone(why));
            }
            Err(e) => {
                tracing::warn!("no first reading: {e}");
                None
            }
        };
        if reading.is_some_and(|reading| !reading.is_active) {
            tracing::warn!("the BMC says that power measurement is off, but gives watts: they are used");
        }
        let now = clock.now();
        let mut channel = Channel::of_power(server(config.origin()), config.longest_gap(), now, &registry)?;
        if let Some(reading) = reading {
            // The first reading gives no point.
            channel.take(now, microwatts(reading), &mut Batch::default());
        }
        let last = reading.map(|reading| LastReading { reading, at: now, is_reported: false });
        Ok(Self { device, clock, channel, last })
    }

    /// Whether the BMC has repeated the same reading, with the same time, for long. True once per standstill.
    fn has_stalled(&mut self, reading: PowerReading, now: Timestamp) -> bool {
        match &mut self.last {
            Some(last) if last.reading == reading => {
                now.0.saturating_sub(last.at.0) >= STALL_NANOS
                    && !std::mem::replace(&mut last.is_reported, true)
            }
            last => {
                *last = Some(LastReading { reading, at: now, is_reported: false });
                false
            }
        }
    }
}

fn microwatts(reading: PowerReading) -> i128 {
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
            // The BMC is busy, or its reply is malformed: the next tick tries again.
            Err(e @ ReadError::Refused(_)) => {
                self.channel.miss(now, &e, out);
                Ok(())
            }
            // It does not answer, perhaps because it restarts: the runner polls less and less often.
            Err(e) => {
                self.channel.miss(now, &e, out);
                Err(Error::retry(format!("{e}; `sudo ipmitool mc info` shows whether it works")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
