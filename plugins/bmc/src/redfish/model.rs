//! Parses a Redfish service's answers. Pure functions of JSON. A value that is missing, null or makes no
//! sense yields nothing. Services differ in types: a number may be text, and a list of one may be its only
//! element.

use serde_json::Value;

/// The part of a chassis that is about its power.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chassis {
    /// Its id in the service, which the user may configure.
    pub id: String,
    /// The path of its power since 2020: watts, and perhaps a count of energy.
    pub metrics: Option<String>,
    /// The path of its power in older services.
    pub power: Option<String>,
    /// The path of what holds its power supplies in newer services.
    pub subsystem: Option<String>,
    /// How many computers it holds, if the service says so.
    pub systems: Option<usize>,
}

/// Where vendors have the chassis' power in the older resource, if not in its list of controls: Fujitsu's
/// iRMC, and HPE's iLO 4, which is older than the list.
const ELSEWHERE: [&str; 2] =
    ["/Oem/ts_fujitsu/ChassisPowerConsumption/CurrentPowerConsumptionW", "/PowerConsumedWatts"];

/// Words in the name or context of a control that is about a part of the chassis.
const PARTS: [&str; 10] =
    ["cpu", "processor", "memory", "dimm", "gpu", "accelerator", "fan", "storage", "sub-system", "subsystem"];

/// The path that `key` links to, if it is on the same service.
pub fn link(answer: &Value, key: &str) -> Option<String> {
    path(answer.get(key)?)
}

/// The paths of a collection's members.
pub fn members(collection: &Value) -> Vec<String> {
    collection.get("Members").map(list).unwrap_or_default().iter().filter_map(path).collect()
}

/// The path of the rest of a collection whose members do not fit into one answer.
pub(crate) fn next_page(collection: &Value) -> Option<String> {
    local(collection.get("Members@odata.nextLink")?.as_str()?)
}

/// Where the service lets clients log in.
pub(crate) fn sessions(root: &Value) -> Option<String> {
    link(root.get("Links")?, "Sessions")
}

/// A chassis; `None` if the answer is something else.
pub fn chassis(answer: &Value) -> Option<Chassis> {
    let systems = answer.pointer("/Links/ComputerSystems").and_then(Value::as_array);
    let last_of_path = || Some(path(answer)?.trim_end_matches('/').rsplit('/').next()?.to_owned());
    let id = match answer.get("Id") {
        Some(Value::String(id)) => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => last_of_path(),
    };
    Some(Chassis {
        id: id?,
        metrics: link(answer, "EnvironmentMetrics"),
        power: link(answer, "Power"),
        subsystem: link(answer, "PowerSubsystem"),
        systems: systems.map(Vec::len),
    })
}

/// Microwatts of a chassis, in EnvironmentMetrics or Power.
pub fn microwatts(answer: &Value) -> Option<i128> {
    let excerpt = reading(answer, "PowerWatts");
    let control = || number(chassis_control(answer)?.get("PowerConsumedWatts")?);
    let elsewhere = || ELSEWHERE.iter().find_map(|place| number(answer.pointer(place)?));
    // The server is running, so a BMC that says zero does not know.
    scaled(excerpt.or_else(control).or_else(elsewhere)?, 1e6).filter(|&power| power > 0)
}

/// Microwatts that a power supply takes from the mains. A spare one may take none.
pub fn input_microwatts(metrics: &Value) -> Option<i128> {
    scaled(reading(metrics, "InputPowerWatts")?, 1e6)
}

/// Whether an answer is about a bay without a device.
pub(crate) fn is_absent(answer: &Value) -> bool {
    answer.pointer("/Status/State").and_then(Value::as_str) == Some("Absent")
}

/// Microjoules that EnvironmentMetrics has counted.
pub fn microjoules(answer: &Value) -> Option<i128> {
    match reading(answer, "EnergyJoules") {
        Some(joules) => scaled(joules, 1e6),
        None => scaled(reading(answer, "EnergykWh")?, 3.6e12),
    }
}

/// What a service says about an error: the ids of its messages, such as `Base.1.4.InsufficientPrivilege`.
pub fn message_ids(answer: &Value) -> Vec<&str> {
    let messages = answer.pointer("/error/@Message.ExtendedInfo").map(list).unwrap_or_default();
    let ids = messages.iter().filter_map(|message| message.get("MessageId")?.as_str());
    ids.chain(answer.pointer("/error/code").and_then(Value::as_str)).collect()
}

/// The control of the whole chassis. It is the first; others are those of its parts. It stays the one while
/// it has no reading, as after a restart of the BMC.
fn chassis_control(answer: &Value) -> Option<&Value> {
    list(answer.get("PowerControl")?).iter().find(|control| !is_of_part(control))
}

fn is_of_part(control: &Value) -> bool {
    ["Name", "PhysicalContext"].iter().any(|key| {
        let text = control.get(key).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        PARTS.iter().any(|part| text.contains(part))
    })
}

/// The elements of a list. What is no list is its own only element.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(elements) => elements,
        Value::Null => &[],
        only => std::slice::from_ref(only),
    }
}

fn path(reference: &Value) -> Option<String> {
    local(reference.get("@odata.id")?.as_str()?)
}

/// A reference without its fragment, if it stays on the service.
pub(crate) fn local(reference: &str) -> Option<String> {
    let path = reference.split('#').next()?;
    // Neither on another host, nor with characters that would end the request line.
    let is_good = path.starts_with('/')
        && !path.starts_with("//")
        && path.len() < 1024
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    is_good.then(|| path.to_owned())
}

/// A sensor's excerpt: an object with a `Reading`.
fn reading(answer: &Value, key: &str) -> Option<f64> {
    number(answer.get(key)?.get("Reading")?)
}

/// A number, or the text of one.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|n| n.is_finite())
}

fn scaled(value: f64, factor: f64) -> Option<i128> {
    let scaled = (value * factor).round();
    // Exact up to 2^53, then to a part in 2^53. No meter counts more than 64 bits hold.
    (0.0..1.8e19).contains(&scaled).then_some(scaled as i128)
}

#[cfg(test)]
mod tests;
