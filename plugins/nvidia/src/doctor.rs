//! What `wattrace doctor` reports of NVIDIA's GPUs. It opens what the source opens.

use wattrace_api::{Clock, Finding, Verdict};

use crate::config::NvidiaConfig;
use crate::driver_time::DriverTime;
use crate::energy::Meter;
use crate::memory;
use crate::session::{Session, ShownDevice, is_unsupported};
use crate::sleep::PciBus;
use crate::source::nothing_measured;

/// A row for each device, and one for the library if something is wrong with it. All of it is optional.
pub(crate) fn findings(config: &NvidiaConfig) -> Vec<Finding> {
    let library = &config.library;
    let row = |what: String, verdict, found: String, remedy: &str| Finding {
        what,
        verdict,
        found,
        remedy: remedy.to_owned(),
    };
    let what = format!("NVIDIA's management library ({library})");
    // "place: cause; remedy"
    let problem = |e: &wattrace_api::Error| {
        let message = e.to_string();
        let (found, remedy) = message.split_once("; ").unwrap_or((&message, ""));
        row(what.clone(), Verdict::Optional, found.to_owned(), remedy)
    };
    if let Err(e) = config.validate() {
        return vec![problem(&e)];
    }
    let bus = PciBus::new(&config.sysfs_root);
    let (asleep, awake): (Vec<_>, Vec<_>) =
        bus.gpus().into_iter().partition(|address| bus.is_asleep(address));
    let sleeper = |address: &String| {
        let found = "it sleeps, and is not woken: 0 W until it wakes".to_owned();
        row(format!("NVIDIA GPU {address}"), Verdict::Ok, found, "")
    };
    let mut rows: Vec<Finding> = asleep.iter().map(sleeper).collect();
    if !asleep.is_empty() && awake.is_empty() {
        return rows;
    }
    let session = match Session::open(library, (!asleep.is_empty()).then_some(&*awake)) {
        Ok(session) => session,
        Err(e) => {
            rows.push(problem(&e));
            return rows;
        }
    };
    rows.extend(session.devices().map(|device| finding(&session, &device)));
    if !session.nameless.is_empty() {
        rows.push(problem(&nothing_measured(library, &session.nameless.join(", "))));
    }
    let remedy = "look at `nvidia-smi` and `dmesg`";
    if rows.is_empty() {
        rows.push(row(what, Verdict::Optional, "it shows no GPU".to_owned(), remedy));
    } else if session.is_stale() {
        rows.push(row(what, Verdict::Optional, "it counts GPUs that do not answer".to_owned(), remedy));
    }
    rows
}

fn finding(session: &Session, shown: &ShownDevice<'_>) -> Finding {
    let what = format!("{} ({})", shown.name, shown.uuid);
    let lost = |found: &str| Finding {
        what: what.clone(),
        verdict: Verdict::Optional,
        found: found.to_owned(),
        remedy: "look at `dmesg`, and reset it (`nvidia-smi --gpu-reset`) or reboot".to_owned(),
    };
    let Some(device) = session.device(shown.index) else { return lost("it is gone") };
    let clock = Clock::system();
    let meter = match Meter::open(&device, &clock) {
        Ok(meter) => meter,
        Err(e) => return lost(&e.to_string()),
    };
    let origin = session.origin.as_str();
    let (since, mig) = (DriverTime::read(&clock).stamp.saturating_sub(1), memory::has_instances(&device));
    let by_process = !mig && !matches!(device.process_utilization_stats(since), Err(e) if is_unsupported(&e));
    let usage = match (mig, by_process) {
        (true, _) if device.gpm_support().unwrap_or(false) => {
            "MIG instances: memory by process, use by instance"
        }
        (true, _) => "MIG instances: memory by process, no use by process",
        (_, true) => "use and memory by process",
        (_, false) => "use of the whole device, and memory by process",
    };
    let verdict = if matches!(meter, Meter::None) { Verdict::Optional } else { Verdict::Ok };
    Finding {
        what,
        verdict,
        found: format!("{} ({origin}); {usage}", meter.describe()),
        remedy: if verdict == Verdict::Ok {
            String::new()
        } else {
            "none: this GPU measures neither energy nor power".to_owned()
        },
    }
}
