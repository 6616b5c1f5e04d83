//! Answers as services give them, and what they mean.

use serde_json::json;

use super::*;

#[test]
fn the_power_of_a_chassis_is_found_wherever_its_vendor_has_it() {
    let server_null = json!({"MemberId": "0", "Name": "Server Power Control", "PowerConsumedWatts": null});
    let server = json!({"MemberId": "0", "Name": "Server Power Control", "PowerConsumedWatts": 263});
    let cpu = json!({"MemberId": "1", "Name": "CPU Sub-system Power", "PowerConsumedWatts": 155});
    let memory = json!({"MemberId": 2, "PhysicalContext": "Memory", "PowerConsumedWatts": 49});
    let fujitsu = json!({"ts_fujitsu": {"ChassisPowerConsumption": {"CurrentPowerConsumptionW": 150},
        "ChassisPowerSensors": [{"CurrentPowerConsumptionW": 80}]}});
    for (what, answer, watts) in [
        ("an excerpt", json!({"PowerWatts": {"Reading": 374.25}}), Some(374.25)),
        ("text", json!({"PowerWatts": {"Reading": " 374.25 "}}), Some(374.25)),
        (
            "the server's control, then its parts'",
            json!({"PowerControl": [server, cpu, memory]}),
            Some(263.0),
        ),
        ("parts before the server's control", json!({"PowerControl": [cpu, memory, server]}), Some(263.0)),
        ("the BMC has restarted", json!({"PowerControl": [server_null, cpu, memory]}), None),
        ("only parts", json!({"PowerControl": [cpu, memory]}), None),
        ("a control that is no list", json!({"PowerControl": {"PowerConsumedWatts": "344"}}), Some(344.0)),
        (
            "types of its own",
            json!({"PowerControl": [{"MemberId": 0, "PowerConsumedWatts": 344,
            "PowerMetrics": {"IntervalInMin": 0.5, "AverageConsumedWatts": "n/a"}}]}),
            Some(344.0),
        ),
        ("Fujitsu's", json!({"PowerControl": [{"MemberId": "0"}], "Oem": fujitsu}), Some(150.0)),
        ("iLO 4's", json!({"PowerConsumedWatts": 79, "PowerSupplies": []}), Some(79.0)),
        ("a limit only", json!({"PowerControl": [{"PowerLimit": {"LimitInWatts": 500}}]}), None),
        ("supplies only, with their rating", json!({"PowerSupplies": [{"PowerInputWatts": 900}]}), None),
        ("nothing", json!({}), None),
        ("a list", json!([]), None),
        ("null", json!(null), None),
        ("text alone", json!("374"), None),
        ("no excerpt", json!({"PowerWatts": 5}), None),
        ("null in an excerpt", json!({"PowerWatts": {"Reading": null}}), None),
        ("no number", json!({"PowerWatts": {"Reading": "n/a"}}), None),
        ("infinite", json!({"PowerWatts": {"Reading": "inf"}}), None),
        ("negative", json!({"PowerWatts": {"Reading": -3}}), None),
        ("zero", json!({"PowerWatts": {"Reading": 0}}), None),
        ("too large", json!({"PowerWatts": {"Reading": 1e300}}), None),
        ("no control", json!({"PowerControl": []}), None),
        ("controls of no sense", json!({"PowerControl": [7, null, "x"]}), None),
    ] {
        assert_eq!(microwatts(&answer), watts.map(|w| (w * 1e6) as i128), "{what}: {answer}");
    }
}

#[test]
fn energy_is_in_joules_or_in_kilowatt_hours() {
    assert_eq!(microjoules(&json!({"EnergykWh": {"Reading": 325675.0}})), Some(1_172_430_000_000_000_000));
    let both = json!({"EnergykWh": {"Reading": 1}, "EnergyJoules": {"Reading": 3600000.5}});
    assert_eq!(microjoules(&both), Some(3_600_000_500_000));
    assert_eq!(microjoules(&json!({"EnergykWh": {"Reading": 1e12}})), None);
}

#[test]
fn links_stay_on_the_service() {
    let answer = json!({
        "Good": {"@odata.id": "/redfish/v1/Chassis/1U/Power"},
        "Part": {"@odata.id": "/redfish/v1/Chassis/1U/Power#/PowerControl/0"},
        "Away": {"@odata.id": "https://elsewhere/redfish/v1"},
        "Host": {"@odata.id": "//elsewhere/redfish/v1"},
        "Back": {"@odata.id": "/\\elsewhere/redfish/v1"},
        "Torn": {"@odata.id": "/redfish/v1\r\nHost: elsewhere"},
        "Null": {"@odata.id": null},
        "Members": [{"@odata.id": "/a"}, {}, 5, {"@odata.id": "b"}, {"@odata.id": "/c"}],
        "Members@odata.nextLink": "/redfish/v1/Chassis?$skip=2",
    });
    for good in ["Good", "Part"] {
        assert_eq!(link(&answer, good).as_deref(), Some("/redfish/v1/Chassis/1U/Power"));
    }
    for bad in ["Away", "Host", "Back", "Torn", "Null", "Absent", "Members"] {
        assert_eq!(link(&answer, bad), None, "{bad}");
    }
    assert_eq!(members(&answer), ["/a", "/c"]);
    assert_eq!(members(&json!({"Members": {"@odata.id": "/only"}})), ["/only"]);
    assert_eq!(next_page(&answer).as_deref(), Some("/redfish/v1/Chassis?$skip=2"));
    assert_eq!(next_page(&json!({"Members@odata.nextLink": "https://elsewhere/"})), None);
}

#[test]
fn a_chassis_has_an_id_whatever_its_type() {
    let id = |answer: Value| chassis(&answer).map(|chassis| chassis.id);
    assert_eq!(id(json!({"Id": "1U"})).as_deref(), Some("1U"));
    assert_eq!(id(json!({"Id": 1})).as_deref(), Some("1"));
    assert_eq!(id(json!({"@odata.id": "/redfish/v1/Chassis/Self/"})).as_deref(), Some("Self"));
    assert_eq!(id(json!({"Id": null})), None);
}

#[test]
fn the_ids_of_an_error_s_messages_are_found() {
    let error = json!({"error": {"code": "Base.v1_4_0.GeneralError",
        "@Message.ExtendedInfo": [{"MessageId": "SMC.1.0.OemLicenseNotPassed"}, {}]}});
    assert_eq!(message_ids(&error), ["SMC.1.0.OemLicenseNotPassed", "Base.v1_4_0.GeneralError"]);
    assert!(message_ids(&json!({"error": "text"})).is_empty());
}
