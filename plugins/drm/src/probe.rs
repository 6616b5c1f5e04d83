//! What `wattrace doctor` says of the GPUs: finds them as the source does.

use std::fs;
use std::path::Path;

use wattrace_api::{Finding, Verdict};

use crate::cards::{self, Card};
use crate::config::DrmConfig;
use crate::gpu;
use crate::meters::Reading;

/// A row for each GPU, and one for the right to see who uses it. Without any the others go on.
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
    let mut rows: Vec<Finding> = cards.iter().map(finding).collect();
    // Whose files these are is no business of ours, unless we are root or may look at everyone.
    if fs::read_dir(Path::new(&config.proc_root).join("1/fd")).is_err() {
        rows.push(Finding {
            what: "who uses the GPUs".to_owned(),
            verdict: Verdict::Optional,
            found: "only our own user's processes can be seen".to_owned(),
            remedy: "run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH".to_owned(),
        });
    }
    rows
}

fn finding(card: &Card) -> Finding {
    let what = format!("GPU {} ({})", card.id, card.driver);
    let told = |meter: &crate::meters::Meter| {
        let file = meter.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let how = match meter.reading {
            Reading::Energy => "",
            Reading::Power => ", integrated",
        };
        format!("{file}{how} ({})", gpu::origin(meter).as_str())
    };
    let meters: Vec<String> = card.meters.iter().map(told).collect();
    let unmetered = "use by process, but no meter of its own: a GPU inside a processor is metered with that";
    let found = if meters.is_empty() { unmetered.to_owned() } else { meters.join(", ") };
    Finding { what, verdict: Verdict::Ok, found, remedy: String::new() }
}
