//! Prices by the time of day: what holds when, in the time zone of whoever sends the bill.

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::config::{MOST, refuse};

/// A price that holds at some times.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffTime {
    /// From when, `22:00`.
    pub from: String,
    /// Until when, exclusive, `06:00`; not after `from`: on the next day.
    pub to: String,
    /// On which days it begins; none: on all.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Of a kilowatt hour.
    pub price: f64,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

const MINUTE: u64 = 60_000_000_000;
const MINUTES_A_DAY: u16 = 24 * 60;

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    zone: TimeZone,
    times: Vec<Time>,
    /// Where none holds.
    otherwise: f64,
}

#[derive(Debug, Clone)]
struct Time {
    /// Minutes since midnight.
    from: u16,
    to: u16,
    /// From Monday on.
    days: [bool; 7],
    price: f64,
}

impl Schedule {
    /// `None`: no times are given.
    ///
    /// # Errors
    /// Fatal, if a value makes no sense; the message names the key.
    pub(crate) fn new(times: &[TariffTime], zone: &str, otherwise: f64) -> Result<Option<Self>, Error> {
        if times.is_empty() {
            return Ok(None);
        }
        let zone = match zone {
            "" => TimeZone::system(),
            zone => match TimeZone::get(zone) {
                Ok(zone) => zone,
                Err(e) => {
                    return refuse(
                        "time_zone",
                        format_args!("{e}; an example is Europe/Paris (package tzdata)"),
                    );
                }
            },
        };
        let time = |given: &TariffTime| {
            let minutes = |key: &str, text: &str| match minutes(text) {
                Some(minutes) => Ok(minutes),
                None => refuse("tariff_times", format_args!("{key}: \"{text}\" is no time, as 22:00 is one")),
            };
            if !(0.0..=MOST).contains(&given.price) {
                return refuse(
                    "tariff_times",
                    format_args!("price: {} is not between 0 and {MOST}", given.price),
                );
            }
            let mut days = [given.days.is_empty(); 7];
            given.days.iter().for_each(|day| days[*day as usize] = true);
            let (from, to) = (minutes("from", &given.from)? % MINUTES_A_DAY, minutes("to", &given.to)?);
            Ok(Time { from, to, days, price: given.price })
        };
        let times = times.iter().map(time).collect::<Result<_, Error>>()?;
        Ok(Some(Self { zone, times, otherwise }))
    }

    /// Says what holds in `span`, in nanoseconds since the Unix epoch: up to how many of them which price.
    /// The last one is its end.
    pub(crate) fn over(&self, span: Range<u64>, mut each: impl FnMut(u64, f64)) {
        // Prices change, and clocks are put forward and back, on whole minutes.
        let mut at = span.start;
        loop {
            let next = ((at / MINUTE + 1) * MINUTE).min(span.end);
            each(next.saturating_sub(span.start), self.at(at));
            if next >= span.end {
                return;
            }
            at = next;
        }
    }

    /// The price at a moment.
    fn at(&self, unix_nanos: u64) -> f64 {
        let moment = Timestamp::from_nanosecond(unix_nanos.into()).unwrap_or_default();
        let local = self.zone.to_datetime(moment);
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let today = local.weekday().to_monday_zero_offset() as usize;
        let holds = |time: &&Time| time.holds(minute, today);
        self.times.iter().find(holds).map_or(self.otherwise, |time| time.price)
    }
}

impl Time {
    fn holds(&self, minute: u16, today: usize) -> bool {
        let begun = self.days[today] && minute >= self.from;
        if self.from < self.to {
            return begun && minute < self.to;
        }
        begun || self.days[(today + 6) % 7] && minute < self.to
    }
}

/// `06:30` as minutes since midnight; `24:00` is the day's end.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= MINUTES_A_DAY).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(zone: &str) -> Schedule {
        let time = |from: &str, to: &str, days: &[Day], price| TariffTime {
            from: from.to_owned(),
            to: to.to_owned(),
            days: days.to_vec(),
            price,
        };
        let times = [
            time("00:00", "24:00", &[Day::Sun], 0.05),
            time("22:00", "06:00", &[Day::Fri], 0.15),
            time("22:00", "06:00", &[], 0.10),
            time("17:00", "19:30", &[Day::Mon, Day::Fri], 0.50),
        ];
        Schedule::new(&times, zone, 0.30).unwrap().unwrap()
    }

    fn at(schedule: &Schedule, moment: &str) -> f64 {
        schedule.at(moment.parse::<Timestamp>().unwrap().as_nanosecond() as u64)
    }

    #[test]
    fn the_first_time_that_covers_a_moment_decides() {
        let schedule = schedule("UTC");
        // The first of 2026-11 is a Sunday.
        for (moment, price) in [
            ("2026-11-01T00:00:00Z", 0.05),
            ("2026-11-01T23:59:59.999999999Z", 0.05),
            ("2026-11-02T00:00:00Z", 0.10),
            ("2026-11-02T05:59:59Z", 0.10),
            ("2026-11-02T06:00:00Z", 0.30),
            ("2026-11-02T17:00:00Z", 0.50),
            ("2026-11-02T19:30:00Z", 0.30),
            ("2026-11-03T18:00:00Z", 0.30),
            ("2026-11-06T18:00:00Z", 0.50),
            ("2026-11-06T05:00:00Z", 0.10),
            ("2026-11-06T22:00:00Z", 0.15),
            ("2026-11-07T05:59:59Z", 0.15),
            ("2026-11-07T22:00:00Z", 0.10),
        ] {
            assert_eq!(at(&schedule, moment), price, "{moment}");
        }
    }

    #[test]
    fn a_span_is_cut_where_the_price_changes() {
        let schedule = schedule("UTC");
        let end = "2026-11-02T06:00:30Z".parse::<Timestamp>().unwrap().as_nanosecond() as u64;
        let mut said = Vec::new();
        schedule.over(end - 60_000_000_000..end, |until, price| said.push((until, price)));
        assert_eq!(said, [(30_000_000_000, 0.10), (60_000_000_000, 0.30)]);
        said.clear();
        schedule.over(end..end, |until, price| said.push((until, price)));
        assert_eq!(said, [(0, 0.30)]);
    }

    #[test]
    fn the_clock_on_the_wall_counts_in_summer_and_winter() {
        if !std::path::Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
            return eprintln!("skipped: the package tzdata is not installed");
        }
        let schedule = schedule("Europe/Berlin");
        assert_eq!(at(&schedule, "2026-07-01T20:00:00Z"), 0.10);
        assert_eq!(at(&schedule, "2026-12-01T20:00:00Z"), 0.30);
    }

    #[test]
    fn what_is_no_time_or_zone_is_refused_by_its_key() {
        let time = |from: &str, price| {
            [TariffTime { from: from.to_owned(), to: "06:00".to_owned(), days: vec![], price }]
        };
        for (times, zone, expected) in [
            (time("9:00", 1.0), "UTC", "plugins.carbon.tariff_times: from: \"9:00\""),
            (time("24:01", 1.0), "UTC", "plugins.carbon.tariff_times: from"),
            (time("09:60", 1.0), "UTC", "plugins.carbon.tariff_times: from"),
            (time("09:00", -1.0), "UTC", "plugins.carbon.tariff_times: price: -1"),
            (time("09:00", 1.0), "Mars/Olympus", "plugins.carbon.time_zone"),
        ] {
            let error = Schedule::new(&times, zone, 0.0).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(Schedule::new(&[], "Mars/Olympus", 0.0).unwrap().is_none());
    }
}
