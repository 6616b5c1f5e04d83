//! Times as people write them, in the local time zone.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A moment, which may depend on the present one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Moment {
    /// With its offset from UTC.
    Absolute(Timestamp),
    /// On the local clock.
    Local(DateTime),
    /// The beginning of the day so many days ago.
    Day(i64),
    /// So long ago.
    Ago(Duration),
}

const EXPECTED: &str = "expected a time as in 2026-11-27, \"2026-11-27 14:00\", 2026-11-27T14:00:00+01:00, \
                        now, today, yesterday, -2h or \"1h 30m ago\"";

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "now" => return Ok(Moment::Ago(Duration::ZERO)),
            "today" => return Ok(Moment::Day(0)),
            "yesterday" => return Ok(Moment::Day(1)),
            _ => {}
        }
        let duration = text.strip_prefix('-').or_else(|| text.strip_suffix("ago"));
        if let Some(duration) = duration {
            let duration = humantime::parse_duration(duration.trim());
            return duration.map(Moment::Ago).map_err(|e| format!("{e}; {EXPECTED}"));
        }
        if let Ok(absolute) = text.parse() {
            return Ok(Moment::Absolute(absolute));
        }
        let local = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(Into::into));
        local.map(Moment::Local).map_err(|_| EXPECTED.to_owned())
    }
}

impl Moment {
    /// In nanoseconds since the Unix epoch, as seen from `now`.
    ///
    /// # Errors
    /// No such time: before 1970, or after the year 2262.
    pub(super) fn unix_nanos(&self, now: &Zoned) -> Result<u64, String> {
        let zone = now.time_zone();
        let local = |local: DateTime| local.to_zoned(zone.clone()).map(|zoned| zoned.timestamp());
        let timestamp = match self {
            Moment::Absolute(timestamp) => Ok(*timestamp),
            Moment::Local(time) => local(*time),
            Moment::Day(days) => jiff::Span::new()
                .try_days(*days)
                .and_then(|days| now.date().checked_sub(days))
                .and_then(|date| local(date.into())),
            Moment::Ago(duration) => now.timestamp().checked_sub(*duration),
        };
        let nanos = timestamp.map_err(|e| e.to_string())?.as_nanosecond();
        u64::try_from(nanos).map_err(|_| "is before 1970".to_owned())
    }
}

/// A moment on the local clock, to the second.
pub(super) fn shown(nanos: u64, zone: &TimeZone) -> String {
    zoned(nanos, zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The same in RFC 3339, with its offset from UTC and all digits.
pub(super) fn rfc3339(nanos: u64, zone: &TimeZone) -> String {
    zoned(nanos, zone).strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
}

/// `Europe/Berlin`, or the offset from UTC where the zone has no name.
pub(super) fn zone_name(zone: &TimeZone) -> String {
    let name = zone.iana_name().map(str::to_owned);
    name.unwrap_or_else(|| Timestamp::now().to_zoned(zone.clone()).strftime("UTC%:z").to_string())
}

fn zoned(nanos: u64, zone: &TimeZone) -> Zoned {
    Timestamp::from_nanosecond(nanos.into()).unwrap_or_default().to_zoned(zone.clone())
}
