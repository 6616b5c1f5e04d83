//! What services of the field do that the standard does not say, or says otherwise. Inputs are rewritten
//! after public reports about iDRAC, iLO, XCC, iRMC, Supermicro's BMCs and OpenBMC.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod bench;
mod server;

use std::io::Write;

use bench::Bench;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use server::{Reply, Server};
use wattrace_api::{ErrorKind, Plugin};
use wattrace_bmc::Bmc;

const ROOT: &str = "/redfish/v1/";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const CHASSIS: &str = "/redfish/v1/Chassis/1U";
const POWER: &str = "/redfish/v1/Chassis/1U/Power";

fn link(path: &str) -> Value {
    json!({"@odata.id": path})
}

fn control(watts: impl Into<Value>) -> Value {
    json!({"MemberId": "0", "PowerConsumedWatts": watts.into()})
}

fn status(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

/// Joules in the first five seconds.
fn joules(bench: &mut Bench) -> f64 {
    bench.start().unwrap();
    let points = bench.at(5).unwrap();
    let microjoules = points[0].strip_prefix("hw.host.energy = ").unwrap().split(' ').next().unwrap();
    microjoules.parse::<f64>().unwrap() / 1e6
}

fn gone(bench: &mut Bench) -> String {
    let error = bench.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
    error.to_string()
}

#[test]
fn power_is_the_server_s_and_never_that_of_a_part_or_a_rating() {
    let named = |name: &str, watts: Value| json!({"Name": name, "PowerConsumedWatts": watts});
    let parts = [named("CPU Sub-system Power", json!(155)), named("Memory Sub-system Power", json!(49))];
    let controls = |watts: Value| {
        let all: Vec<_> = [named("Server Power Control", watts)].into_iter().chain(parts.clone()).collect();
        json!({"PowerControl": all})
    };
    let oem = json!({"ts_fujitsu": {"ChassisPowerConsumption": {"CurrentPowerConsumptionW": 150}}});
    let supply = json!({"MemberId": "PSU.Slot.1", "LastPowerOutputWatts": null, "PowerInputWatts": 900});
    for (power, watts) in [
        (controls(json!(263)), Some(263.0)),
        (controls(Value::Null), None),
        (json!({"PowerControl": [{"MemberId": "0"}], "Oem": oem}), Some(150.0)),
        (json!({"PowerControl": [control(182)], "PowerSupplies": [supply]}), Some(182.0)),
        (json!({"PowerControl": [], "PowerSupplies": [supply]}), None),
        (json!({"PowerControl": [{"MemberId": 0, "PowerConsumedWatts": 344}]}), Some(344.0)),
        (json!({"PowerControl": [{"MemberId": "0", "PowerLimit": {"LimitInWatts": null}}]}), None),
    ] {
        let mut bench = Bench::with_power(power.clone());
        match watts {
            Some(watts) => assert_eq!(joules(&mut bench), watts * 5.0, "{power}"),
            None => assert_eq!(gone(&mut bench), "no chassis reports its power (1U, Disks)", "{power}"),
        }
    }
}

#[test]
fn sessions_are_opened_where_the_root_says_or_else_at_the_usual_places() {
    for (links, elsewhere) in [
        (json!({"Sessions": link("/redfish/v1/Sessions")}), "/redfish/v1/Sessions"),
        (json!({"Sessions": link("/redfish/v1/Own/Sessions/")}), "/redfish/v1/Own/Sessions/"),
        (json!({}), "/redfish/v1/Sessions"),
    ] {
        for refusal in [405, 400, 404] {
            let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
            bench.server.set(ROOT, json!({"Chassis": link("/redfish/v1/Chassis"), "Links": links}));
            {
                let mut bmc = bench.server.bmc.lock().unwrap();
                bmc.logins_refused.insert(SESSIONS.to_owned(), status(refusal));
                bmc.sessions = elsewhere.to_owned();
            }
            assert_eq!(joules(&mut bench), 1050.0);
            let asked = bench.server.asked();
            assert!(asked.contains(&format!("POST {elsewhere} nobody")), "{asked:?}");
            bench.rig.sources.clear();
            assert!(bench.server.asked()[0].starts_with("DELETE "), "the session is closed");
        }
    }
}

#[test]
fn where_no_session_is_granted_each_request_has_name_and_password() {
    let taken = json!({"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.SessionLimitExceeded"}]}});
    let taken = |status| Reply { status, body: taken.to_string().into(), ..Reply::default() };
    // Basic only, or the account may not open one; nowhere; all are taken; granted without a token.
    for refusal in [status(401), status(403), status(501), taken(503), taken(400), status(201)] {
        let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
        for place in [SESSIONS, "/redfish/v1/Sessions"] {
            bench.server.bmc.lock().unwrap().logins_refused.insert(place.to_owned(), refusal.clone());
        }
        assert_eq!(joules(&mut bench), 1050.0, "HTTP {}", refusal.status);
        assert_eq!(bench.server.asked().last().unwrap(), &format!("GET {POWER} basic"));
    }
    // A busy BMC is asked again later, and not sent the password otherwise.
    let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
    bench.server.bmc.lock().unwrap().logins_refused.insert(SESSIONS.to_owned(), status(503));
    let error = bench.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(bench.server.asked().iter().all(|a| a.ends_with(" nobody")), "{error}");
}

#[test]
fn redirects_are_followed_within_the_service_and_nowhere_else() {
    let here = |bench: &Bench| bench.server.endpoint.clone();
    for code in [301, 302, 307, 308] {
        for absolute in [false, true] {
            let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
            let slash = format!("{CHASSIS}/");
            let chassis = bench.server.bmc.lock().unwrap().answers[CHASSIS].clone();
            bench.server.reply(&slash, chassis);
            let to = if absolute { format!("{}{slash}", here(&bench)) } else { slash.clone() };
            bench.server.redirect(CHASSIS, code, &to);
            assert_eq!(joules(&mut bench), 1050.0, "HTTP {code} to {to}");
        }
    }
    let other = Server::plain();
    let port = |bench: &Bench| here(bench).rsplit(':').next().unwrap().to_owned();
    let elsewhere: [fn(&Bench, &str) -> String; 5] = [
        |_, _| format!("https://elsewhere.example{CHASSIS}/"),
        |_, _| "//elsewhere.example/redfish/v1".to_owned(),
        |_, other| format!("{other}{CHASSIS}/"),
        |bench, _| format!("http://reader@elsewhere:{}/", bench.server.endpoint.rsplit(':').next().unwrap()),
        |_, _| CHASSIS.to_owned(),
    ];
    for to in elsewhere {
        let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
        assert_ne!(port(&bench), other.endpoint.rsplit(':').next().unwrap());
        let to = to(&bench, &other.endpoint);
        bench.server.redirect(CHASSIS, 308, &to);
        let error = bench.start().unwrap_err().to_string();
        assert!(error.contains(&format!("HTTP 308: redirects to {to}; give that as")), "{error}");
        assert!(other.asked().is_empty());
    }
}

#[test]
fn a_redirect_of_the_login_keeps_name_and_password_and_a_loop_ends() {
    let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
    let slash = format!("{SESSIONS}/");
    {
        let headers = format!("Location: {slash}\r\n");
        let mut bmc = bench.server.bmc.lock().unwrap();
        bmc.logins_refused.insert(SESSIONS.to_owned(), Reply { status: 308, headers, body: Vec::new() });
        bmc.sessions = slash.clone();
    }
    assert_eq!(joules(&mut bench), 1050.0);
    assert_eq!(bench.server.bmc.lock().unwrap().logins, 1);

    let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
    for (from, to) in [(POWER, "/loop"), ("/loop", POWER)] {
        bench.server.redirect(from, 307, to);
    }
    assert_eq!(bench.start().unwrap_err().kind(), ErrorKind::Retry);
    let asked = bench.server.asked();
    assert!(asked.iter().filter(|a| a.contains("/loop") || a.contains("/Power ")).count() <= 4, "{asked:?}");
}

#[test]
fn a_resource_without_licence_or_rights_counts_as_absent_and_is_named() {
    let metrics = "/redfish/v1/Chassis/1U/EnvironmentMetrics";
    let chassis = |power: bool| {
        let mut chassis = json!({"Id": "1U", "EnvironmentMetrics": link(metrics)});
        if power {
            chassis["Power"] = link(POWER);
        }
        chassis
    };
    let licence = json!({"error": {"code": "Base.v1_4_0.GeneralError",
        "@Message.ExtendedInfo": [{"MessageId": "SMC.1.0.OemLicenseNotPassed"}]}});
    let forbidden = || Reply { status: 403, body: licence.to_string().into(), ..Reply::default() };
    let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
    bench.server.set(CHASSIS, chassis(true));
    bench.server.reply(metrics, forbidden());
    assert_eq!(joules(&mut bench), 1050.0);
    assert_eq!(bench.server.bmc.lock().unwrap().logins, 1, "the login was right");

    let mut bench = Bench::with_power(Value::Null);
    bench.server.set(CHASSIS, chassis(false));
    bench.server.reply(metrics, forbidden());
    let message = gone(&mut bench);
    assert!(message.starts_with("no chassis reports its power (1U, Disks); http://localhost"), "{message}");
    assert!(message.ends_with("the BMC has no licence for it (SMC.1.0.OemLicenseNotPassed)"), "{message}");
    // An account that may see nothing is not refused for good: its rights may change.
    let mut bench = Bench::with_power(Value::Null);
    bench.server.reply("/redfish/v1/Chassis", status(403));
    assert!(bench.start().unwrap_err().to_string().contains("may not read it"));
}

#[test]
fn an_error_of_one_resource_leaves_the_others_and_an_unknown_chassis_is_not_passed_over() {
    let metrics = "/redfish/v1/Chassis/1U/EnvironmentMetrics";
    let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
    bench.server.set(CHASSIS, json!({"Id": "1U", "EnvironmentMetrics": link(metrics), "Power": link(POWER)}));
    bench.server.fail(metrics, 500);
    assert_eq!(joules(&mut bench), 1050.0);
    // The drawer of disks reports power, too: it must not be taken for the server that does not answer now.
    let mut bench = Bench::with_power(Value::Null);
    bench.server.fail(POWER, 503);
    bench.server.set("/redfish/v1/Chassis/Disks", json!({"Id": "Disks", "Power": link("/disks")}));
    bench.server.set("/disks", json!({"PowerControl": [control(80)]}));
    let error = bench.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(error.to_string().contains("HTTP 503; if it stays so and `1U` is not this machine"), "{error}");
}

#[test]
fn compressed_answers_are_unpacked() {
    let mut bench = Bench::with_power(Value::Null);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json!({"PowerControl": [control(210)]}).to_string().as_bytes()).unwrap();
    let headers = "Content-Encoding: gzip\r\nContent-Type: application/json\r\n".to_owned();
    bench.server.reply(POWER, Reply { status: 200, headers, body: encoder.finish().unwrap() });
    assert_eq!(joules(&mut bench), 1050.0);
}

#[test]
fn a_web_page_is_no_answer_and_says_what_to_check() {
    let mut bench = Bench::with_power(Value::Null);
    let page = |body: &str| Reply { status: 200, body: body.into(), ..Reply::default() };
    bench.server.reply(ROOT, page("\r\n<!DOCTYPE html><form action=/login>"));
    let error = bench.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(error.to_string().contains("is a web page and not Redfish; check plugins.bmc.endpoint"));
}

/// A server whose supplies are metered, and nothing else. `readings` are JSON of InputPowerWatts.
fn with_supplies(readings: &[Value]) -> Bench {
    let bench = Bench::with_power(Value::Null);
    let subsystem = "/redfish/v1/Chassis/1U/PowerSubsystem";
    let metrics = "/redfish/v1/Chassis/1U/EnvironmentMetrics";
    let chassis = json!({"Id": "1U", "EnvironmentMetrics": link(metrics), "PowerSubsystem": link(subsystem)});
    bench.server.set(CHASSIS, chassis);
    bench.server.set(metrics, json!({"Id": "EnvironmentMetrics", "TemperatureCelsius": {"Reading": 24}}));
    let supplies = format!("{subsystem}/PowerSupplies");
    bench.server.set(subsystem, json!({"Id": "PowerSubsystem", "PowerSupplies": link(&supplies)}));
    let members: Vec<Value> = (0..readings.len()).map(|n| link(&format!("{supplies}/{n}"))).collect();
    bench.server.set(&supplies, json!({"Members": members}));
    for (n, reading) in readings.iter().enumerate() {
        let supply = format!("{supplies}/{n}");
        bench.server.set(&supply, json!({"Id": n, "Metrics": link(&format!("{supply}/Metrics"))}));
        bench.server.set(&format!("{supply}/Metrics"), json!({"InputPowerWatts": {"Reading": reading}}));
    }
    bench
}

#[test]
fn supplies_are_summed_and_one_without_a_reading_makes_the_sum_unknown() {
    assert_eq!(joules(&mut with_supplies(&[json!(212.5), json!("198.0")])), 2052.5);
    assert_eq!(joules(&mut with_supplies(&[json!(300), json!(0)])), 1500.0, "a spare");
    assert!(gone(&mut with_supplies(&[json!(212.5), Value::Null])).contains("no chassis reports its power"));
    let absent = |bench: &Bench| {
        let supply = json!({"Id": "1", "Status": {"State": "Absent"}});
        bench.server.set("/redfish/v1/Chassis/1U/PowerSubsystem/PowerSupplies/1", supply);
    };
    let mut bench = with_supplies(&[json!(212.5), Value::Null]);
    absent(&bench);
    assert_eq!(joules(&mut bench), 1062.5, "an empty bay");

    let mut bench = with_supplies(&[json!(200), json!(100)]);
    bench.start().unwrap();
    let second = "/redfish/v1/Chassis/1U/PowerSubsystem/PowerSupplies/1/Metrics";
    bench.server.set(second, json!({"InputPowerWatts": {"Reading": null}}));
    assert!(bench.at(5).unwrap()[0].starts_with("bad_reading"), "not 200 W");
    bench.server.set(second, json!({"InputPowerWatts": {"Reading": 100}}));
    assert_eq!(bench.at(10).unwrap(), ["hw.host.energy = 3000000000 [0, 10]"]);
    assert!(Bmc::diagnose(&bench.config)[0].found.contains("/0/Metrics and /redfish"));
}

#[test]
fn an_enclosure_of_several_computers_is_refused_and_a_node_s_own_chassis_is_taken() {
    let systems: Vec<Value> = (1..=4).map(|n| link(&format!("/redfish/v1/Systems/{n}"))).collect();
    let mut bench = Bench::with_power(json!({"PowerControl": [control(1100)]}));
    let chassis = |id: &str, systems: &[Value], power: &str| {
        let links = json!({"ComputerSystems": systems});
        json!({"Id": id, "Links": links, "Power": link(power)})
    };
    bench.server.set(CHASSIS, chassis("Enclosure", &systems, POWER));
    assert!(gone(&mut bench).contains("chassis `Enclosure` holds several computers"));
    bench.server.set("/redfish/v1/Chassis/Disks", chassis("Node1", &systems[..1], "/node"));
    bench.server.set("/node", json!({"PowerControl": [control(260)]}));
    assert_eq!(joules(&mut bench), 1300.0);
}

#[test]
fn a_collection_in_pages_is_read_to_its_end() {
    let mut bench = Bench::with_power(json!({"PowerControl": [control(210)]}));
    let (first, second) = ("/redfish/v1/Chassis", "/redfish/v1/Chassis?$skip=1");
    let disks = link("/redfish/v1/Chassis/Disks");
    bench.server.set(first, json!({"Members": [disks], "Members@odata.nextLink": second}));
    bench.server.set(second, json!({"Members": [link(CHASSIS)], "Members@odata.nextLink": first}));
    assert_eq!(joules(&mut bench), 1050.0);
}
