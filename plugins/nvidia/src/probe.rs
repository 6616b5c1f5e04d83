//! What `wattrace doctor` says of NVIDIA's GPUs: opens the very things that the source opens.

use wattrace_api::{Clock, Finding, Verdict};

use crate::config::NvidiaConfig;
use crate::driver_time::DriverTime;
use crate::energy::Meter;
use crate::holders;
use crate::session::{Place, Session};

/// A row for the library, and one for each device. Without any the others go on.
pub(crate) fn findings(config: &NvidiaConfig) -> Vec<Finding> {
    let library = &config.library;
    let row = |what: String, verdict, found: String, remedy: &str| Finding {
        what,
        verdict,
        found,
        remedy: remedy.to_owned(),
    };
    let what = format!("NVIDIA's management library ({library})");
    let session = match Session::open(library) {
        Ok(session) => session,
        Err(e) => {
            // "place: what happened; what to do about it"
            let said = e.to_string();
            let (found, remedy) = said.split_once("; ").unwrap_or((&said, ""));
            return vec![row(what, Verdict::Optional, found.to_owned(), remedy)];
        }
    };
    let mut rows: Vec<Finding> = session.devices().map(|device| finding(&session, device)).collect();
    if rows.is_empty() {
        let remedy = "look at `nvidia-smi` and `dmesg`";
        rows.push(row(what, Verdict::Optional, "it shows no GPU".to_owned(), remedy));
    } else if session.is_stale() {
        let remedy = "look at `nvidia-smi` and `dmesg`";
        rows.push(row(what, Verdict::Optional, "it counts GPUs that do not answer".to_owned(), remedy));
    }
    rows
}

fn finding(session: &Session, (place, uuid, name): (Place, &str, &str)) -> Finding {
    let what = format!("{name} ({uuid})");
    let lost = |found: &str| Finding {
        what: what.clone(),
        verdict: Verdict::Optional,
        found: found.to_owned(),
        remedy: "look at `dmesg`, and reset it (`nvidia-smi --gpu-reset`) or reboot".to_owned(),
    };
    let Some(device) = session.device(place) else { return lost("it is gone") };
    let clock = Clock::system();
    let meter = match Meter::open(&device, &clock) {
        Ok(meter) => meter,
        Err(e) => return lost(&e.to_string()),
    };
    let origin = session.origin.as_str();
    let (since, mig) = (DriverTime::read(&clock).stamp.saturating_sub(1), holders::has_instances(&device));
    let by_process = !mig
        && !matches!(device.process_utilization_stats(since), Err(e) if crate::session::is_unsupported(&e));
    let use_told = match (mig, by_process) {
        (true, _) => "cut into instances (MIG): memory by process, no use by process",
        (_, true) => "use and memory by process",
        (_, false) => "use of the whole and memory by process",
    };
    let verdict = if matches!(meter, Meter::Nothing) { Verdict::Optional } else { Verdict::Ok };
    Finding {
        what,
        verdict,
        found: format!("{} ({origin}); {use_told}", meter.describe()),
        remedy: if verdict == Verdict::Ok {
            String::new()
        } else {
            "none: this GPU meters neither energy nor power".to_owned()
        },
    }
}
