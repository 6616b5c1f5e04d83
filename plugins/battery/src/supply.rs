//! Reads `class/power_supply`: which batteries power the machine now, and their power and level, or what else
//! powers it. Drivers differ: every file may be missing or contain nonsense. `source.rs` counts the energy.

use std::path::{Path, PathBuf};

use wattrace_meter::sysfs::{names, parse_number, read_word};

/// What powers the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// The machine has no battery.
    NoBattery,
    /// Not its batteries alone. The text says what powers it, or the status of the batteries.
    External(String),
    /// A battery discharges, and a supply says that it is plugged in. Whether that feeds the machine is not
    /// known: a charger that is too weak does, a phone on a USB port does not.
    Unclear {
        /// The battery.
        battery: String,
        /// The supply.
        supply: String,
    },
    /// These batteries alone.
    Discharging(Vec<Battery>),
}

/// A battery that discharges. A value that is missing or not a plausible number is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Battery {
    /// Its name, `BAT0`.
    pub name: String,
    /// The power that it delivers, in microwatts.
    pub microwatts: Option<u64>,
    /// The energy or charge left.
    pub level: Option<Level>,
}

/// The energy or charge left in a battery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In microwatt-hours.
    Energy(u64),
    /// In microampere-hours, and the voltage in microvolts.
    Charge(u64, u64),
}

impl Level {
    /// Microjoules delivered since the level was `before`; `None` if the level has risen, or has another unit
    /// now.
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

impl PowerState {
    /// Why the energy is not metered although a battery discharges, and what to do about it; `None`: not so.
    pub(crate) fn doubt(&self) -> Option<(String, String)> {
        let PowerState::Unclear { battery, supply } = self else { return None };
        let why =
            format!("{battery} discharges, but {supply} says that it is plugged in and may feed a part");
        let remedy = format!("if {supply} feeds nothing then, set plugins.battery.ignore = [\"{supply}\"]");
        Some((why, remedy))
    }
}

/// The directory.
pub(crate) fn class(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("class/power_supply")
}

/// A supply that may feed the machine.
struct Feed {
    name: String,
    is_mains: bool,
    is_online: bool,
}

/// Reads all power supplies below `sysfs_root`, except those of devices (a mouse's battery). What the
/// supplies in `ignored` say about themselves is not believed while a battery discharges.
pub(crate) fn read_state(sysfs_root: &Path, ignored: &[String]) -> PowerState {
    let class = class(sysfs_root);
    let (mut has_battery, mut discharging) = (false, Vec::new());
    let (mut feeds, mut status_text) = (Vec::new(), String::new());
    for name in names(&class).unwrap_or_default() {
        let supply = class.join(&name);
        if is_of_device(&supply) {
            continue;
        }
        match word(&supply, "type").as_deref() {
            Some("Battery") if number(&supply, "present") != Some(0) => {
                has_battery = true;
                match word(&supply, "status") {
                    Some(status) if status == "Discharging" => discharging.push(battery(name, &supply)),
                    status => status_text = format!("{name}: {}", status.as_deref().unwrap_or("no status")),
                }
            }
            Some(kind) if is_feed(kind) => {
                let online = number(&supply, "online");
                feeds.extend(online.map(|online| Feed {
                    is_mains: kind == "Mains",
                    is_online: online > 0,
                    name,
                }));
            }
            _ => {}
        }
    }
    if !has_battery {
        return PowerState::NoBattery;
    }
    if discharging.is_empty() {
        let online = feeds.iter().find(|feed| feed.is_online);
        return PowerState::External(
            online.map_or(status_text, |feed| format!("{} is plugged in", feed.name)),
        );
    }
    feeds.retain(|feed| !ignored.contains(&feed.name));
    match contradicting(&feeds) {
        None => PowerState::Discharging(discharging),
        Some(feed) => PowerState::Unclear { battery: discharging.remove(0).name, supply: feed.name.clone() },
    }
}

/// Whether supplies of this type feed machines. Older kernels have a type for each kind of USB charger.
fn is_feed(kind: &str) -> bool {
    matches!(kind, "Mains" | "Wireless" | "BrickID") || kind.starts_with("USB")
}

/// The supply that says that it is online although a battery discharges, if it is to be believed. The
/// controller of a USB port says so also while the machine feeds what is plugged in there: if the machine has
/// an adapter, and that says that it is off, nothing feeds the machine.
fn contradicting(feeds: &[Feed]) -> Option<&Feed> {
    let mut adapters = feeds.iter().filter(|feed| feed.is_mains).peekable();
    if adapters.peek().is_some() && adapters.all(|adapter| !adapter.is_online) {
        return None;
    }
    // An adapter first: it is the one to look at.
    let online = || feeds.iter().filter(|feed| feed.is_online);
    online().find(|feed| feed.is_mains).or_else(|| online().next())
}

fn is_of_device(supply: &Path) -> bool {
    word(supply, "scope").is_some_and(|scope| scope == "Device")
}

fn battery(name: String, supply: &Path) -> Battery {
    // Drivers differ in the sign of the power and current of a battery that discharges.
    let size = |file: &str| number(supply, file).and_then(|n| u64::try_from(n.unsigned_abs()).ok());
    let volts = size("voltage_now").filter(|&v| v > 0);
    let product = || {
        let microamperes = size("current_now")?;
        u64::try_from(u128::from(microamperes) * u128::from(volts?) / 1_000_000).ok()
    };
    // A battery that powers a running machine delivers some power: zero means that the driver does not know.
    let microwatts = size("power_now").filter(|&p| p > 0).or_else(|| product().filter(|&p| p > 0));
    let energy = number(supply, "energy_now").and_then(|n| u64::try_from(n).ok()).map(Level::Energy);
    let charge = || {
        let microampere_hours = u64::try_from(number(supply, "charge_now")?).ok()?;
        Some(Level::Charge(microampere_hours, volts?))
    };
    Battery { name, microwatts, level: energy.or_else(charge) }
}

/// Whether every battery has files from which its power is known, whether or not it discharges now.
pub(crate) fn all_report_power(sysfs_root: &Path) -> bool {
    let class = class(sysfs_root);
    let reports = |supply: &Path| {
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
        .all(|battery| reports(&battery))
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
    fn the_energy_between_two_levels_is_known_only_if_the_level_has_fallen() {
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
