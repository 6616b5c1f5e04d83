//! The Redfish source with a simulated service, over real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod bench;
mod server;

use std::path::PathBuf;

use bench::Bench;
use server::{PASSWORD, Server};
use tokio::runtime::Runtime;
use wattrace_api::testing::Rig;
use wattrace_api::{ElementSpec, Error, ErrorKind, Host, Origin, Plugin, Resource, Source, Verdict};
use wattrace_bmc::{Bmc, BmcConfig, Login, Quantity};
use wattrace_http::testing::Authority;

#[test]
fn the_older_resource_is_found_and_its_watts_are_integrated_in_one_session() {
    let mut bench = Bench::new(Server::plain().with_older_chassis());
    bench.start().unwrap();
    let asked = bench.server.asked();
    let login = ["GET /redfish/v1/ nobody", "POST /redfish/v1/SessionService/Sessions nobody"];
    assert_eq!(asked[..2], login);
    assert!(asked[2..].iter().all(|a| a.ends_with(" token")), "{asked:?}");
    bench.server.older_power(400.0);
    assert_eq!(bench.at(5).unwrap(), ["hw.host.energy = 1750000000 [0, 5]"]);
    assert_eq!(bench.server.asked(), ["GET /redfish/v1/Chassis/1U/Power token"]);
    let (_, series) = bench.rig.registry.series().remove(0);
    let domain = series.domain.as_ref().unwrap();
    assert_eq!((&*domain.name, domain.origin, &series.resource), ("bmc", Origin::Simulated, &Resource::HOST));
    // The session is closed.
    bench.rig.sources.clear();
    assert_eq!(bench.server.asked(), ["DELETE /redfish/v1/SessionService/Sessions/1 token"]);
    assert!(bench.server.bmc.lock().unwrap().tokens.is_empty());
}

#[test]
fn an_expired_session_is_renewed_within_the_reading() {
    let mut bench = Bench::new(Server::plain().with_older_chassis());
    bench.start().unwrap();
    bench.server.bmc.lock().unwrap().tokens.clear();
    assert_eq!(bench.at(5).unwrap(), ["hw.host.energy = 1500000000 [0, 5]"]);
    assert_eq!(bench.server.bmc.lock().unwrap().logins, 2);
}

#[test]
fn the_newer_resource_has_watts_and_energy_and_basic_authentication_works() {
    let mut bench = Bench::new(Server::plain().with_newer_chassis());
    bench.config.login = Login::Basic;
    bench.start().unwrap();
    assert_eq!(bench.at(5).unwrap(), ["hw.host.energy = 1871250000 [0, 5]"]);
    assert!(bench.server.asked().iter().all(|a| a.starts_with("GET ") && a.ends_with(" basic")));

    let mut bench = Bench::new(Server::plain().with_newer_chassis());
    bench.config.reading = Quantity::Energy;
    bench.start().unwrap();
    assert!(bench.at(5).unwrap().is_empty());
    bench.server.newer_power(400.0, 325_675.001);
    // A watt-hour; kilowatt-hours in floating point are good for half a joule here.
    let points = bench.at(10).unwrap();
    let joules: u64 = points[0].split([' ', '=']).find_map(|w| w.parse().ok()).unwrap();
    assert!(joules.abs_diff(3_600_000_000) < 1_000_000 && points[0].ends_with("[0, 10]"), "{points:?}");
}

#[test]
fn a_busy_bmc_is_retried_and_the_window_extends() {
    let mut bench = Bench::new(Server::plain().with_older_chassis());
    bench.start().unwrap();
    for (second, status) in [(5, 503), (10, 429), (15, 500)] {
        bench.server.fail("/redfish/v1/Chassis/1U/Power", status);
        let error = bench.at(second).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry);
        assert!(error.to_string().contains(&format!("HTTP {status}")), "{error}");
    }
    for nonsense in
        [serde_json::json!([]), serde_json::json!({"PowerControl": [{"PowerConsumedWatts": null}]})]
    {
        bench.server.set("/redfish/v1/Chassis/1U/Power", nonsense);
        assert!(bench.at(20).unwrap()[0].starts_with("bad_reading"));
    }
    bench.server.older_power(300.0);
    assert_eq!(bench.at(25).unwrap(), ["hw.host.energy = 7500000000 [0, 25]"]);
    // After an update of the firmware the reading may have moved: the source opens again.
    bench.server.fail("/redfish/v1/Chassis/1U/Power", 404);
    assert_eq!(bench.at(30).unwrap_err().kind(), ErrorKind::Fatal);
}

#[test]
fn a_wrong_password_is_not_tried_twice() {
    let bench = Bench::new(Server::plain().with_older_chassis());
    bench.password("wrong");
    let mut opener = Opener::new(&bench.config);
    let error = opener.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("HTTP 401: check plugins.bmc.username"), "{error}");
    // Once for a session, and once in case the service knows only basic authentication.
    let with_password: Vec<_> = bench.server.asked().into_iter().filter(|a| !a.contains("/v1/ ")).collect();
    assert_eq!(with_password.len(), 2, "{with_password:?}");
    for _ in 0..5 {
        assert!(opener.open().unwrap_err().to_string().contains("has refused this name and password"));
    }
    assert!(bench.server.asked().is_empty());
    bench.password(PASSWORD);
    opener.open().unwrap();
    assert_eq!(bench.server.bmc.lock().unwrap().logins, 1);
}

/// The function that opens the plugin's source, as the runner has it.
struct Opener {
    open: Box<dyn FnMut() -> Result<Box<dyn Source>, Error> + Send>,
    _runtime: Runtime,
}

impl Opener {
    fn new(config: &BmcConfig) -> Self {
        let (runtime, rig) = (Runtime::new().unwrap(), Rig::new());
        let mut host = Host::new(rig.registry.clone(), rig.clock.clone(), runtime.handle().clone());
        host.start(Bmc::NAME, |setup| Bmc::start(config.clone(), setup)).unwrap();
        let ElementSpec::Source { open, .. } = host.take_elements().remove(0).spec else { unreachable!() };
        Self { open, _runtime: runtime }
    }

    fn open(&mut self) -> Result<(), Error> {
        (self.open)().map(drop)
    }
}

#[test]
fn a_password_file_is_a_regular_file_of_a_sensible_size() {
    let mut bench = Bench::new(Server::plain().with_older_chassis());
    for (bad, says) in [
        (bench.fifo("fifo"), "it is a FIFO or pipe"),
        (PathBuf::from("/dev/zero"), "it is a device"),
        (bench.file("long", &"x".repeat(5_000)), "it has more than 4096 bytes"),
        (PathBuf::from("/nonexistent"), "No such file"),
    ] {
        bench.config.password_file = bad;
        let error = bench.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gone);
        let message = error.to_string();
        assert!(message.starts_with("plugins.bmc.password_file: ") && message.contains(says), "{message}");
    }
    assert!(bench.server.asked().is_empty());
}

#[test]
fn a_redirect_to_nowhere_is_not_followed_and_nothing_is_sent_after_it() {
    let mut bench = Bench::new(Server::plain().with_older_chassis());
    bench.config.login = Login::Basic;
    bench.server.fail("/redfish/v1/", 308);
    let error = bench.start().unwrap_err();
    assert!(error.to_string().contains("HTTP 308: redirects to elsewhere"), "{error}");
    assert_eq!(bench.server.asked().len(), 1);
}

#[test]
fn several_chassis_need_a_choice_and_doctor_says_so() {
    let mut bench = Bench::new(Server::plain().with_older_chassis());
    let power = serde_json::json!({"@odata.id": "/redfish/v1/Chassis/1U/Power"});
    for id in ["1U", "Disks"] {
        let chassis = serde_json::json!({"Id": id, "Power": power});
        bench.server.set(&format!("/redfish/v1/Chassis/{id}"), chassis);
    }
    let error = bench.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("plugins.bmc.chassis (1U, Disks)"), "{error}");
    assert_eq!(Bmc::diagnose(&bench.config)[0].verdict, Verdict::Optional);
    bench.config.chassis = "Disks".to_owned();
    bench.start().unwrap();
    let finding = Bmc::diagnose(&bench.config).remove(0);
    assert_eq!(finding.verdict, Verdict::Ok);
    assert!(finding.found.starts_with("chassis Disks at http://localhost:"), "{}", finding.found);
}

#[test]
fn a_certificate_is_trusted_by_its_authority_or_without_a_check() {
    let authority = Authority::new();
    let mut bench = Bench::new(Server::tls(authority.server("localhost", b"http/1.1")).with_older_chassis());
    let error = bench.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(error.to_string().contains("plugins.bmc.authority"), "{error}");
    // The password was not sent.
    assert!(bench.server.asked().is_empty());

    bench.config.authority = bench.file("other.pem", &Authority::new().pem());
    assert_eq!(bench.start().unwrap_err().kind(), ErrorKind::Retry);
    bench.config.authority = bench.file("empty.pem", "");
    assert!(bench.start().unwrap_err().to_string().contains("holds no certificate"));
    bench.config.authority = bench.file("authority.pem", &authority.pem());
    bench.start().unwrap();
    assert_eq!(bench.at(5).unwrap(), ["hw.host.energy = 1500000000 [0, 5]"]);

    bench.config.authority = PathBuf::new();
    bench.config.verify = false;
    bench.rig = Rig::new();
    bench.start().unwrap();
}
