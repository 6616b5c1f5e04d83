//! Times as people write them, and what is left of a list.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::moment::{Moment, rfc3339, shown, zone_name};

/// Noon of the day on which clocks went back in the night: it has 25 hours.
fn now() -> Zoned {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    "2026-10-25T11:00:00Z".parse::<Timestamp>().unwrap().to_zoned(zone)
}

fn utc(text: &str) -> Result<String, String> {
    let nanos = text.parse::<Moment>()?.unix_nanos(&now())?;
    Ok(rfc3339(nanos, &TimeZone::UTC).replace("+00:00", "Z"))
}

#[test]
fn times_are_read_as_people_write_them_on_the_local_clock() {
    for (text, expected) in [
        ("2026-10-24", "2026-10-23T22:00:00Z"),
        ("2026-10-24 14:00", "2026-10-24T12:00:00Z"),
        ("2026-10-24T14:00:05.25", "2026-10-24T12:00:05.25Z"),
        ("2026-10-24T14:00:00+05:30", "2026-10-24T08:30:00Z"),
        ("2026-10-24T14:00:00Z", "2026-10-24T14:00:00Z"),
        ("now", "2026-10-25T11:00:00Z"),
        ("today", "2026-10-24T22:00:00Z"),
        ("yesterday", "2026-10-23T22:00:00Z"),
        ("-2h", "2026-10-25T09:00:00Z"),
        ("1h 30m ago", "2026-10-25T09:30:00Z"),
    ] {
        assert_eq!(utc(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_time_is_refused_with_examples() {
    for text in ["", "gestern", "2026-13-01", "25:00", "-2 parsecs", "ago"] {
        assert!(utc(text).unwrap_err().contains("yesterday"), "{text}");
    }
    assert!(utc("1969-12-31").unwrap_err().contains("before 1970"));
}

#[test]
fn times_are_shown_with_their_zone() {
    let (nanos, zone) = (1_792_926_000_250_000_000, now().time_zone().clone());
    assert_eq!(shown(nanos, &zone), "2026-10-25 12:00:00");
    assert_eq!(rfc3339(nanos, &zone), "2026-10-25T12:00:00.25+01:00");
    assert!(zone_name(&zone).starts_with("UTC+0"), "{}", zone_name(&zone));
    assert_eq!(zone_name(&TimeZone::UTC), "UTC");
}
