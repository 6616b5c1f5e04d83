//! What `wattrace doctor` reports of the GPUs. It finds them in the way that the source does.

use std::fs;
use std::path::Path;

use wattrace_api::privilege::for_kernel_file;
use wattrace_api::{Finding, Verdict};

use crate::cards::{self, Card};
use crate::config::DrmConfig;
use crate::dies;
use crate::gpu;
use crate::sensors::{Quantity, Sensor};

/// A row for each GPU, and one if the agent may not see the processes that use it. All of it is optional.
pub(crate) fn findings(config: &DrmConfig) -> Vec<Finding> {
    let cards = cards::find(Path::new(&config.sysfs_root));
    if cards.is_empty() {
        return vec![Finding {
            what: "GPUs of AMD, Intel and others".to_owned(),
            verdict: Verdict::Optional,
            found: format!("none under {}/class/drm", config.sysfs_root),
            remedy: "if there is one, load its driver: `sudo modprobe amdgpu`, or i915, or xe".to_owned(),
        }];
    }
    let groups = dies::by_meter(cards);
    let mut rows: Vec<Finding> = groups.iter().map(|cards| finding(cards)).collect();
    // Other users' open files are visible to root and with these capabilities only.
    let of_init = Path::new(&config.proc_root).join("1/fd");
    if for_kernel_file(&of_init, || fs::read_dir(&of_init)).is_err() {
        rows.push(Finding {
            what: "the processes that use the GPUs".to_owned(),
            verdict: Verdict::Optional,
            found: "only processes of the agent's user can be seen".to_owned(),
            remedy: "run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH".to_owned(),
        });
    }
    rows
}

/// The row of the GPU that consists of `cards`, of which the first is metered.
fn finding(cards: &[Card]) -> Finding {
    let card = &cards[0];
    let ids: Vec<&str> = cards.iter().map(|card| &*card.id).collect();
    let what = format!("GPU {} ({})", ids.join(" and "), card.driver);
    let describe = |sensor: &Sensor| {
        let file = sensor.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let how = match sensor.quantity {
            Quantity::Energy => "",
            Quantity::Power => ", integrated",
            Quantity::Accumulator(_) => ", its counter of energy",
        };
        format!("{file}{how} ({})", gpu::origin(sensor).as_str())
    };
    let sensors: Vec<String> = gpu::meters(card).iter().map(describe).collect();
    let unmetered =
        "use by process, but no meter of its own: a GPU inside a processor is metered with the processor";
    let found = if sensors.is_empty() { unmetered.to_owned() } else { sensors.join(", ") };
    match card.unprofiled() {
        None => Finding { what, verdict: Verdict::Ok, found, remedy: String::new() },
        Some(path) => Finding {
            what,
            verdict: Verdict::Optional,
            found: format!("{found}; its driver does not measure for whom it works"),
            remedy: format!("`echo 1 | sudo tee {}`", path.display()),
        },
    }
}
