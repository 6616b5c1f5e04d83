//! The plugin on a real GPU, where there is one: its energy compared with the driver's own counter, and its
//! engine times beside the driver's raw samples. `cargo test -p wattrace-nvidia --test real -- --ignored
//! --nocapture`

#![allow(clippy::unwrap_used, reason = "that is how tests fail")]

use std::thread::sleep;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::Sampling;
use wattrace_api::testing::Rig;
use wattrace_api::{Clock, Origin};
use wattrace_nvidia::{Nvidia, NvidiaConfig};

const SECONDS: u32 = 12;

#[test]
#[ignore = "takes twelve seconds, and needs an NVIDIA GPU"]
fn energy_equals_the_driver_s_counter_within_a_percent() {
    let nvml = match Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init() {
        Ok(nvml) => nvml,
        Err(e) => return println!("skipped: {e}"),
    };
    let count = nvml.device_count().unwrap_or(0);
    let devices: Vec<_> = (0..count).filter_map(|index| nvml.device_by_index(index).ok()).collect();
    if devices.iter().all(|d| d.total_energy_consumption().is_err()) {
        return println!("skipped: no device with an energy counter among {count}");
    }
    let mut rig = Rig::new();
    rig.clock = Clock::system();
    rig.start::<Nvidia>(NvidiaConfig::default()).unwrap();
    let before: Vec<_> = devices.iter().map(|d| d.total_energy_consumption()).collect();
    let (mut points, mut seen) = (Vec::new(), vec![0; devices.len()]);
    for _ in 0..SECONDS {
        sleep(Duration::from_secs(1));
        let batch = rig.tick(rig.clock.now()).unwrap();
        for point in rig.points(&batch).iter().filter(|p| !p.metric.starts_with("hw.")) {
            let who = point.series.consumer.as_ref().unwrap().identity();
            println!("{} {who:?} {} over {} ns", point.metric, point.value, point.window.nanos());
        }
        for (device, last) in devices.iter().zip(&mut seen) {
            println!("raw, since {last}: {:?}", device.process_utilization_stats(*last));
            if let Ok(samples) = device.samples(Sampling::GpuUtilization, *last) {
                println!(
                    "{} samples: {:?}",
                    samples.len(),
                    samples.iter().map(|s| &s.value).collect::<Vec<_>>()
                );
                *last = samples.last().map_or(*last, |s| s.timestamp);
            }
        }
        points.extend(rig.points(&batch));
    }
    for (device, before) in devices.iter().zip(before) {
        let (Ok(before), Ok(after)) = (before, device.total_energy_consumption()) else { continue };
        let uuid = device.uuid().unwrap();
        let id = uuid.trim_start_matches("GPU-");
        let ours = points.iter().rfind(|p| p.metric == "hw.energy" && p.series.resource.id == id).unwrap();
        assert_eq!(ours.series.domain.as_ref().unwrap().origin, Origin::Measured);
        let theirs = (after - before) as f64 / 1e3;
        println!("{uuid}: {} J by the plugin, {theirs} J by the driver", ours.value);
        assert!((ours.value - theirs).abs() <= 0.01 * theirs, "{} J against {theirs} J", ours.value);
    }
}
