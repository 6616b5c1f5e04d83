//! Parses a Redfish service's answers. Pure functions of JSON. A value that is missing, null or of another
//! type yields nothing.

use serde_json::Value;

/// The part of a chassis that is about its power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chassis {
    /// Its id in the service, which the user may configure.
    pub id: String,
    /// The path of its power since 2020: watts, and perhaps a count of energy.
    pub metrics: Option<String>,
    /// The path of its power in older services.
    pub power: Option<String>,
    /// How many computers it holds, if the service says so.
    pub systems: Option<usize>,
}

/// The path that `key` links to, if it is on the same service.
pub fn link(answer: &Value, key: &str) -> Option<String> {
    path(answer.get(key)?)
}

/// The paths of a collection's members.
pub fn members(collection: &Value) -> Vec<String> {
    let members = collection.get("Members").and_then(Value::as_array);
    members.into_iter().flatten().filter_map(path).collect()
}

/// A chassis; `None` if the answer is something else.
pub fn chassis(answer: &Value) -> Option<Chassis> {
    let systems = answer.pointer("/Links/ComputerSystems").and_then(Value::as_array);
    Some(Chassis {
        id: answer.get("Id")?.as_str()?.to_owned(),
        metrics: link(answer, "EnvironmentMetrics"),
        power: link(answer, "Power"),
        systems: systems.map(Vec::len),
    })
}

/// Microwatts in EnvironmentMetrics or Power.
pub fn microwatts(answer: &Value) -> Option<i128> {
    let excerpt = reading(answer, "PowerWatts");
    let control = || {
        // The first is that of the chassis; others, if there are any, are those of its parts.
        answer.get("PowerControl")?.as_array()?.iter().find_map(|c| number(c.get("PowerConsumedWatts")?))
    };
    // The server is running, so a BMC that says zero does not know.
    scaled(excerpt.or_else(control)?, 1e6).filter(|&power| power > 0)
}

/// Microjoules that EnvironmentMetrics has counted.
pub fn microjoules(answer: &Value) -> Option<i128> {
    match reading(answer, "EnergyJoules") {
        Some(joules) => scaled(joules, 1e6),
        None => scaled(reading(answer, "EnergykWh")?, 3.6e12),
    }
}

fn path(reference: &Value) -> Option<String> {
    let path = reference.get("@odata.id")?.as_str()?;
    // Neither on another host, nor with characters that would end the request line.
    let is_good = path.starts_with('/')
        && !path.starts_with("//")
        && path.len() < 1024
        && path.bytes().all(|b| b.is_ascii_graphic());
    is_good.then(|| path.to_owned())
}

/// A sensor's excerpt: an object with a `Reading`.
fn reading(answer: &Value, key: &str) -> Option<f64> {
    number(answer.get(key)?.get("Reading")?)
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|n| n.is_finite())
}

fn scaled(value: f64, factor: f64) -> Option<i128> {
    let scaled = (value * factor).round();
    // Exact up to 2^53, then to a part in 2^53. No meter counts more than 64 bits hold.
    (0.0..1.8e19).contains(&scaled).then_some(scaled as i128)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn power_is_in_an_excerpt_or_in_the_first_control_that_has_it() {
        assert_eq!(microwatts(&json!({"PowerWatts": {"Reading": 374.25}})), Some(374_250_000));
        let controls = json!({"PowerControl": [
            {"MemberId": "0", "PowerConsumedWatts": null},
            {"PowerConsumedWatts": 344},
            {"PowerConsumedWatts": 12}
        ]});
        assert_eq!(microwatts(&controls), Some(344_000_000));
        for nothing in [
            json!({}),
            json!([]),
            json!({"PowerWatts": 5}),
            json!({"PowerWatts": {"Reading": null}}),
            json!({"PowerWatts": {"Reading": "374"}}),
            json!({"PowerWatts": {"Reading": -3}}),
            json!({"PowerWatts": {"Reading": 0}}),
            json!({"PowerWatts": {"Reading": 1e300}}),
            json!({"PowerControl": {"PowerConsumedWatts": 5}}),
            json!({"PowerControl": []}),
        ] {
            assert_eq!(microwatts(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn energy_is_in_joules_or_in_kilowatt_hours() {
        assert_eq!(
            microjoules(&json!({"EnergykWh": {"Reading": 325675.0}})),
            Some(1_172_430_000_000_000_000)
        );
        let both = json!({"EnergykWh": {"Reading": 1}, "EnergyJoules": {"Reading": 3600000.5}});
        assert_eq!(microjoules(&both), Some(3_600_000_500_000));
        assert_eq!(microjoules(&json!({"EnergykWh": {"Reading": 1e12}})), None);
    }

    #[test]
    fn links_stay_on_the_service() {
        let answer = json!({
            "Good": {"@odata.id": "/redfish/v1/Chassis/1U/Power"},
            "Away": {"@odata.id": "https://elsewhere/redfish/v1"},
            "Host": {"@odata.id": "//elsewhere/redfish/v1"},
            "Torn": {"@odata.id": "/redfish/v1\r\nHost: elsewhere"},
            "Null": {"@odata.id": null},
            "Members": [{"@odata.id": "/a"}, {}, 5, {"@odata.id": "b"}, {"@odata.id": "/c"}],
        });
        assert_eq!(link(&answer, "Good").as_deref(), Some("/redfish/v1/Chassis/1U/Power"));
        for bad in ["Away", "Host", "Torn", "Null", "Absent", "Members"] {
            assert_eq!(link(&answer, bad), None, "{bad}");
        }
        assert_eq!(members(&answer), ["/a", "/c"]);
    }
}
