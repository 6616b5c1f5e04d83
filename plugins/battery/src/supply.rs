//! What `class/power_supply` says: which batteries feed the machine just now, and how hard, or that something
//! else feeds it. Every file may be missing, or say nonsense: drivers differ. Joules are counted in
//! `source.rs`.

use std::path::{Path, PathBuf};

use wattrace_meter::sysfs::{names, parse_number, read_word};

/// How the machine is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no battery that could feed it.
    NoBattery,
    /// Not by its batteries, or not by them alone: what feeds it, or what the batteries do instead.
    External(String),
    /// By these batteries alone.
    Discharging(Vec<Battery>),
}

/// A battery that discharges. What it does not tell, or tells in no sensible number, is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Battery {
    /// Its name, `BAT0`.
    pub name: String,
    /// What it gives, in microwatts.
    pub microwatts: Option<u64>,
    /// What is left in it.
    pub level: Option<Level>,
}

/// What is left in a battery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In microwatt-hours.
    Energy(u64),
    /// In microampere-hours, at so many microvolts.
    Charge(u64, u64),
}

impl Level {
    /// Microjoules given since the level was `before`; `None` if it has risen, or is told in another way now.
    pub fn drained_since(self, before: Level) -> Option<u64> {
        let picowatt_hours = match (before, self) {
            (Level::Energy(before), Level::Energy(now)) => u128::from(before.checked_sub(now)?) * 1_000_000,
            (Level::Charge(before, volts), Level::Charge(now, volts_now)) => {
                u128::from(before.checked_sub(now)?) * ((u128::from(volts) + u128::from(volts_now)) / 2)
            }
            _ => return None,
        };
        // An hour has 3600 seconds, a microjoule a million picojoules.
        u64::try_from(picowatt_hours.checked_mul(3_600)? / 1_000_000).ok()
    }
}

/// The directory.
pub(crate) fn class(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("class/power_supply")
}

/// Looks at all power supplies under `sysfs_root`. Those of devices (a mouse's battery) are none of the
/// machine's.
pub fn look(sysfs_root: &Path) -> State {
    let class = class(sysfs_root);
    let (mut batteries, mut discharging) = (0, Vec::new());
    let (mut plugged_in, mut doing) = (None, String::new());
    for name in names(&class).unwrap_or_default() {
        let supply = class.join(&name);
        if is_of_device(&supply) {
            continue;
        }
        match word(&supply, "type").as_deref() {
            Some("Battery") if number(&supply, "present") != Some(0) => {
                batteries += 1;
                match word(&supply, "status") {
                    Some(status) if status == "Discharging" => discharging.push(battery(name, &supply)),
                    status => doing = format!("{name}: {}", status.as_deref().unwrap_or("says nothing")),
                }
            }
            Some("Mains" | "USB" | "Wireless")
                if number(&supply, "online").is_some_and(|online| online > 0) =>
            {
                plugged_in = Some(format!("{name} is plugged in"));
            }
            _ => {}
        }
    }
    match (batteries, plugged_in) {
        (0, _) => State::NoBattery,
        // However many batteries discharge beside it, they are not all that feeds the machine.
        (_, Some(plugged_in)) => State::External(plugged_in),
        _ if discharging.is_empty() => State::External(doing),
        _ => State::Discharging(discharging),
    }
}

fn is_of_device(supply: &Path) -> bool {
    word(supply, "scope").is_some_and(|scope| scope == "Device")
}

fn battery(name: String, supply: &Path) -> Battery {
    // Whether what leaves the battery is negative differs from driver to driver.
    let size = |file: &str| number(supply, file).and_then(|n| u64::try_from(n.unsigned_abs()).ok());
    let volts = size("voltage_now").filter(|&v| v > 0);
    let product = || {
        let microamperes = size("current_now")?;
        u64::try_from(u128::from(microamperes) * u128::from(volts?) / 1_000_000).ok()
    };
    // A battery that feeds a running machine gives something: a zero is a driver that does not know.
    let microwatts = size("power_now").filter(|&p| p > 0).or_else(|| product().filter(|&p| p > 0));
    let energy = number(supply, "energy_now").and_then(|n| u64::try_from(n).ok()).map(Level::Energy);
    let charge = || {
        let microampere_hours = u64::try_from(number(supply, "charge_now")?).ok()?;
        Some(Level::Charge(microampere_hours, volts?))
    };
    Battery { name, microwatts, level: energy.or_else(charge) }
}

/// Whether every battery has a file that tells its power, whether or not it discharges now.
pub(crate) fn all_tell_power(sysfs_root: &Path) -> bool {
    let class = class(sysfs_root);
    let tells = |supply: &Path| {
        number(supply, "power_now").is_some()
            || number(supply, "current_now").is_some() && number(supply, "voltage_now").is_some()
    };
    let of_machine = |supply: &PathBuf| {
        word(supply, "type").is_some_and(|kind| kind == "Battery") && !is_of_device(supply)
    };
    names(&class)
        .unwrap_or_default()
        .iter()
        .map(|name| class.join(name))
        .filter(of_machine)
        .all(|b| tells(&b))
}

fn word(supply: &Path, file: &str) -> Option<String> {
    read_word(&supply.join(file))
}

fn number(supply: &Path, file: &str) -> Option<i128> {
    parse_number(word(supply, file)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_that_fall_give_joules_and_others_none() {
        // 10 mWh are 36 J.
        assert_eq!(Level::Energy(40_000_000).drained_since(Level::Energy(40_010_000)), Some(36_000_000));
        // 1 mAh at 11.9 V on average is 11.9 mWh, 42.84 J.
        let before = Level::Charge(3_000_000, 12_000_000);
        assert_eq!(Level::Charge(2_999_000, 11_800_000).drained_since(before), Some(42_840_000));
        assert_eq!(Level::Energy(2).drained_since(Level::Energy(1)), None);
        assert_eq!(Level::Energy(1).drained_since(before), None);
        assert_eq!(Level::Energy(0).drained_since(Level::Energy(u64::MAX)), None);
    }
}
