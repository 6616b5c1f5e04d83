//! The services and replies of machines of the field, where they are beside the repository
//! (`../shared/cases`): each resource is an `index.json` at its path. What differs from that is in
//! `exchange.txt`, which the test repeats.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod bench;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use bench::Bench;
use server::{Reply, Server};
use wattrace_api::ErrorKind;

const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

fn cases() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let there = path.is_dir();
    if !there {
        println!("skipped: {} is not there", path.display());
    }
    there.then_some(path)
}

/// Serves every `index.json` below `directory`.
fn serve(server: &Server, directory: &Path, path: &str) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            serve(server, &entry.path(), &format!("{path}/{name}"));
        } else if name == "index.json" {
            let root = if path == "/redfish/v1" { "/redfish/v1/" } else { path };
            server.set(root, serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap());
        }
    }
}

/// Adds what `exchange.txt` says.
fn exchange(server: &Server, case: &Path, id: &str) {
    let refuse = |place: &str, status: u16| {
        let reply = Reply { status, ..Reply::default() };
        server.bmc.lock().unwrap().logins_refused.insert(place.to_owned(), reply);
    };
    match id {
        "redfish-403-no-licence" => {
            let said = fs::read_to_string(case.join("exchange.txt")).unwrap();
            let body = said.lines().find_map(|line| line.strip_prefix("< {")).unwrap();
            let body = format!("{{{body}").into_bytes();
            let metrics = "/redfish/v1/Chassis/1/EnvironmentMetrics";
            server.reply(metrics, Reply { status: 403, body, ..Reply::default() });
        }
        "redfish-basic-only" => refuse(SESSIONS, 401),
        "redfish-sessions-elsewhere-405" => {
            refuse(SESSIONS, 405);
            server.bmc.lock().unwrap().sessions = "/redfish/v1/Sessions".to_owned();
        }
        "redfish-redirect-to-slash" => {
            let chassis = server.bmc.lock().unwrap().answers["/redfish/v1/Chassis/1"].clone();
            server.reply("/redfish/v1/Chassis/1/", chassis);
            server.redirect("/redfish/v1/Chassis/1", 308, "/redfish/v1/Chassis/1/");
        }
        "redfish-gzip-unasked" => {
            let body = fs::read(case.join("Power.json.gz")).unwrap();
            let headers = "Content-Encoding: gzip\r\n".to_owned();
            server.reply("/redfish/v1/Chassis/1/Power", Reply { status: 200, headers, body });
        }
        _ => {}
    }
}

#[test]
fn services_of_the_field_are_read_as_they_are() {
    let Some(cases) = cases() else { return };
    for (id, expected) in [
        ("redfish-sessions-elsewhere-405", Ok(210.0)),
        ("redfish-redirect-to-slash", Ok(210.0)),
        ("redfish-403-no-licence", Ok(210.0)),
        ("redfish-fujitsu-oem-watts", Ok(150.0)),
        ("redfish-first-control-null", Err("no chassis reports its power (1)")),
        ("redfish-three-controls", Ok(263.0)),
        ("redfish-controls-without-watts", Err("no chassis reports its power (1)")),
        ("redfish-basic-only", Ok(210.0)),
        ("redfish-gzip-unasked", Ok(210.0)),
        ("redfish-powersubsystem-only", Ok(410.5)),
        ("redfish-memberid-number", Ok(344.0)),
        ("redfish-idrac7-supplies", Ok(182.0)),
        ("redfish-four-nodes-one-enclosure", Err("chassis `Enclosure` holds several computers")),
    ] {
        let server = Server::plain();
        serve(&server, &cases.join(id).join("redfish"), "/redfish");
        exchange(&server, &cases.join(id), id);
        let mut bench = Bench::new(server);
        match (bench.start(), expected) {
            (Ok(()), Ok(watts)) => {
                let joules = format!("hw.host.energy = {} [0, 10]", watts * 1e7);
                assert_eq!(bench.at(10).unwrap(), [joules], "{id}");
            }
            (Err(e), Err(says)) => {
                assert_eq!(e.kind(), ErrorKind::Gone, "{id}: {e}");
                assert!(e.to_string().starts_with(says), "{id}: {e}");
            }
            (got, expected) => panic!("{id}: {got:?} and not {expected:?}"),
        }
    }
}
