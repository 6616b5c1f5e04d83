//! Prices by the time of day, in the time zone of the electricity supplier.

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::check::{MAX_PER_KWH, refuse};

/// A price that applies at some times of day.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffTime {
    /// Start, as `22:00`.
    pub from: String,
    /// End, exclusive, as `06:00`. If it is not after `from`, it is on the next day.
    pub to: String,
    /// Days on which it starts; empty: all.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Price of a kilowatt hour.
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

/// All prices of a day.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    zone: TimeZone,
    periods: Vec<Period>,
    /// The price where no period applies.
    default_price: f64,
}

#[derive(Debug, Clone)]
struct Period {
    /// Minutes since midnight.
    from: u16,
    to: u16,
    /// Monday first.
    days: [bool; 7],
    price: f64,
}

impl Schedule {
    /// `None`: no times are given.
    ///
    /// # Errors
    /// Fatal, if a value is invalid. The message names the key.
    pub(crate) fn new(times: &[TariffTime], zone: &str, default_price: f64) -> Result<Option<Self>, Error> {
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
        let period = |given: &TariffTime| {
            let minutes = |key: &str, text: &str| match minutes(text) {
                Some(minutes) => Ok(minutes),
                None => refuse("tariff_times", format_args!("{key}: \"{text}\" is not a time such as 22:00")),
            };
            if !(0.0..=MAX_PER_KWH).contains(&given.price) {
                return refuse(
                    "tariff_times",
                    format_args!("price: {} is not between 0 and {MAX_PER_KWH}", given.price),
                );
            }
            let mut days = [given.days.is_empty(); 7];
            given.days.iter().for_each(|day| days[*day as usize] = true);
            let (from, to) = (minutes("from", &given.from)? % MINUTES_A_DAY, minutes("to", &given.to)?);
            Ok(Period { from, to, days, price: given.price })
        };
        let periods = times.iter().map(period).collect::<Result<_, Error>>()?;
        Ok(Some(Self { zone, periods, default_price }))
    }

    /// Calls `each` for the prices in `span`, given in nanoseconds since the Unix epoch: with the end of
    /// each, in nanoseconds since the span's start, and the price. The last one ends with the span.
    pub(crate) fn for_each_price(&self, span: Range<u64>, mut each: impl FnMut(u64, f64)) {
        // Prices and time zone offsets change on whole minutes only.
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

    /// The price at a time.
    fn at(&self, unix_nanos: u64) -> f64 {
        let moment = Timestamp::from_nanosecond(unix_nanos.into()).unwrap_or_default();
        let local = self.zone.to_datetime(moment);
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let today = local.weekday().to_monday_zero_offset() as usize;
        let applies = |period: &&Period| period.applies(minute, today);
        self.periods.iter().find(applies).map_or(self.default_price, |period| period.price)
    }
}

impl Period {
    fn applies(&self, minute: u16, today: usize) -> bool {
        let started = self.days[today] && minute >= self.from;
        if self.from < self.to {
            return started && minute < self.to;
        }
        started || self.days[(today + 6) % 7] && minute < self.to
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
    fn the_first_period_that_covers_a_time_applies() {
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
        let mut prices = Vec::new();
        schedule.for_each_price(end - 60_000_000_000..end, |until, price| prices.push((until, price)));
        assert_eq!(prices, [(30_000_000_000, 0.10), (60_000_000_000, 0.30)]);
        prices.clear();
        schedule.for_each_price(end..end, |until, price| prices.push((until, price)));
        assert_eq!(prices, [(0, 0.30)]);
    }

    #[test]
    fn times_are_local_in_summer_and_winter() {
        if !std::path::Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
            return eprintln!("skipped: the package tzdata is not installed");
        }
        let schedule = schedule("Europe/Berlin");
        assert_eq!(at(&schedule, "2026-07-01T20:00:00Z"), 0.10);
        assert_eq!(at(&schedule, "2026-12-01T20:00:00Z"), 0.30);
    }

    #[test]
    fn an_error_names_the_key_of_the_invalid_time_or_zone() {
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
