//! The trees of machines of the field, where they are beside the repository (`../shared/cases`). A text file
//! in the place of a link holds its target; `after` is copied over the tree for the second reading.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod machine;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use machine::{ENERGY, MEMORY, Machine, TIME, values};
use wattrace_api::testing::Point;
use wattrace_api::{Plugin, Verdict};
use wattrace_drm::Drm;

fn cases() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let there = path.is_dir();
    if !there {
        println!("skipped: {} is not there", path.display());
    }
    there.then_some(path)
}

/// Copies a tree, with links for text files in their places.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name().into_string().unwrap();
        let parent = from.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        if name == "README.md" || name == "after" {
            continue;
        }
        if from.is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&from, &to);
        } else if parent == "fd" || name == "driver" || name == "device" && parent.starts_with("card") {
            symlink(fs::read_to_string(&from).unwrap().trim(), &to).unwrap();
        } else {
            fs::write(&to, fs::read(&from).unwrap()).unwrap();
        }
    }
}

/// What a case shows in the first second. `pids` are in the order of their start.
fn run(cases: &Path, id: &str, pids: &[u32]) -> (Machine, Vec<Point>) {
    let mut machine = Machine::new();
    copy(&cases.join(id), machine.root.path());
    for (start, &pid) in pids.iter().enumerate() {
        machine.process_since(pid, 1_000_000_000 * (start as u64 + 1));
    }
    machine.start();
    if cases.join(id).join("after").exists() {
        copy(&cases.join(id).join("after"), machine.root.path());
    }
    let (points, _) = machine.tick(1).unwrap();
    (machine, points)
}

#[test]
fn machines_of_the_field_are_read_as_they_are() {
    let Some(cases) = cases() else { return };
    type Expected<'a> = &'a [(&'a str, f64)];
    let kib = |kib: u32| f64::from(kib) * 1024.0;
    // The case, its pids by start, their time, their memory, and the joules of the GPU.
    type Row<'a> = (&'a str, &'a [u32], Expected<'a>, Expected<'a>, Option<f64>);
    let table: [Row<'_>; 9] = [
        ("drm-inherited-descriptor", &[8120, 700], &[("8120", 0.6)], &[("8120", kib(20_480))], Some(30.0)),
        ("drm-apu-works-in-gtt", &[900], &[("900", 0.0)], &[("900", kib(25_863_348))], None),
        ("drm-one-client-two-descriptors", &[910], &[("910", 0.0)], &[("910", kib(100))], Some(30.0)),
        ("drm-amdgpu-5-15-format", &[920], &[("920", 0.7425)], &[("920", kib(204_800))], Some(95.0)),
        (
            "drm-mi250-second-die",
            &[941, 942],
            &[("941", 0.0), ("942", 1.0)],
            &[("941", kib(1_000_000)), ("942", kib(1_000_000))],
            Some(237.0),
        ),
        ("drm-suspended-card-ebusy", &[], &[], &[], Some(0.0)),
        ("drm-xe-cycles-only", &[950], &[("950", 0.5)], &[], Some(0.0)),
        ("drm-panfrost-profiling-off", &[970], &[("970", 0.0)], &[("970", kib(51_200))], None),
        ("drm-bare-numbers", &[980], &[("980", 0.0)], &[("980", kib(10_240))], Some(1e-6)),
    ];
    for (id, pids, time, memory, joules) in table {
        let (machine, points) = run(&cases, id, pids);
        let owned = |of: Expected<'_>| of.iter().map(|&(pid, v)| (pid.to_owned(), v)).collect::<Vec<_>>();
        assert_eq!(values(&points, TIME), owned(time), "{id}");
        assert_eq!(values(&points, MEMORY), owned(memory), "{id}");
        let energy: Vec<f64> = values(&points, ENERGY).into_iter().map(|(_, joules)| joules).collect();
        assert_eq!(energy, joules.into_iter().collect::<Vec<_>>(), "{id}");
        let finding = Drm::diagnose(&machine.config).remove(0);
        let hint = id == "drm-panfrost-profiling-off";
        assert_eq!(finding.verdict == Verdict::Optional, hint, "{id}: {finding:?}");
    }
}
