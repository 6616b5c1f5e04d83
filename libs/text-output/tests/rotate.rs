//! Rotation by the output itself: whatever the sizes, periods and restarts, all files together hold each line
//! once, and each begins with the header.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use wattrace_api::testing::Rig;
use wattrace_api::{Error, Resource, Series, Timestamp, Window, metric};
use wattrace_text_output::{Compression, Format, Rotation, RowTemplate, Settings, Size, add_output};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-27T14:00:00Z, in seconds since the Unix epoch.
const BEGIN: u64 = 1_795_788_000;

/// Rows of a time and a value.
struct Plain;

impl Format for Plain {
    const OPENING: &'static str = Self::HEADER;
    const HEADER: &'static str = "time value\n";
    const BETWEEN: &'static str = " ";
    const NO_NUMBER: &'static str = "-";

    fn row(_: &Series, _: u64) -> RowTemplate {
        RowTemplate { head: String::new(), tail: "\n".into() }
    }
}

fn start(path: &Path, second: u64, rotation: Rotation) -> Result<Rig, Error> {
    let mut rig = Rig::new();
    rig.clock.set(Timestamp(second * SECOND));
    let (path, flush_interval) = (path.into(), Duration::ZERO);
    let settings = Settings { plugin: "plain", path, append: true, flush_interval, rotation };
    rig.start_with("plain", |setup| add_output::<Plain>(setup, settings))?;
    Ok(rig)
}

/// Writes `count` points `after` seconds later. Their values ascend from `first`.
fn write(rig: &mut Rig, after: u64, first: u64, count: u64) {
    let now = Timestamp(rig.clock.now().0 + after * SECOND);
    rig.clock.set(now);
    let series = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let points: Vec<_> = (first..first + count).map(|value| (series, value)).collect();
    let batch = rig.batch(Window::new(now, now), &points);
    rig.pass(batch).unwrap();
}

/// The names in a directory, in order.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
    String::from_utf8(if is_compressed { zstd::decode_all(&*bytes).unwrap() } else { bytes }).unwrap()
}

/// The values in a file, in microjoules.
fn values(path: &Path) -> Vec<u64> {
    let text = text(path);
    let rows = text.strip_prefix(Plain::HEADER).unwrap_or_else(|| panic!("{path:?} has no header: {text}"));
    assert!(!rows.contains("time") && (rows.is_empty() || rows.ends_with('\n')), "{path:?}: {text}");
    rows.lines().map(|row| row.split_once(' ').unwrap().1.replace('.', "").parse().unwrap()).collect()
}

/// The values of the rotated files, the oldest first, and of the current one.
fn all_values(path: &Path) -> Vec<u64> {
    let dir = path.parent().unwrap();
    let rotated = names(dir).into_iter().map(|name| dir.join(name)).filter(|file| file != path);
    rotated.chain([path.to_owned()]).flat_map(|file| values(&file)).collect()
}

/// Waits until the background has done its work.
fn eventually(what: &str, mut is_done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

fn fixture() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.log");
    (dir, path)
}

#[test]
fn all_files_together_hold_each_line_once_whatever_the_sizes_periods_and_restarts() {
    for seed in 0..20 {
        let ((dir, path), mut rng) = (fixture(), Rng::with_seed(seed));
        let (mut second, mut next) = (BEGIN, 0);
        for _ in 0..4 {
            let rotation = Rotation {
                size: Size(rng.u64(..3000)),
                every: Duration::from_secs(rng.u64(..100)),
                keep: 0,
                compression: [Compression::None, Compression::Zstd][rng.usize(..2)],
            };
            let mut rig = start(&path, second, rotation).unwrap();
            for _ in 0..30 {
                let count = rng.u64(..60);
                write(&mut rig, rng.u64(..20), next, count);
                next += count;
            }
            second = rig.clock.now().0 / SECOND;
        }
        // Nothing runs any more, and what was interrupted is complete in one form.
        for name in names(dir.path()).iter().filter(|name| name.ends_with(".part")) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert_eq!(all_values(&path), (0..next).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_file_is_left_when_it_is_large_and_named_after_that_moment() {
    let (dir, path) = fixture();
    let mut rig = start(&path, BEGIN, Rotation { size: Size(100), ..Rotation::default() }).unwrap();
    write(&mut rig, 0, 0, 3);
    assert_eq!(names(dir.path()), ["out.log"], "it has {} bytes", text(&path).len());
    write(&mut rig, 5, 3, 1);
    write(&mut rig, 0, 4, 4);
    write(&mut rig, 0, 8, 1);
    let expected = ["out.20261127T140005Z.log", "out.20261127T140006Z.log", "out.log"];
    assert_eq!(names(dir.path()), expected, "two of one second have names of their own");
    let counts = expected.map(|name| values(&dir.path().join(name)).len());
    assert_eq!(counts, [4, 4, 1]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_file_is_left_at_midnight_also_after_a_restart() {
    let (dir, path) = fixture();
    let rotation = Rotation { every: Duration::from_secs(86_400), ..Rotation::default() };
    let mut rig = start(&path, BEGIN, rotation).unwrap();
    write(&mut rig, 1, 0, 1);
    write(&mut rig, 35_998, 1, 1);
    assert_eq!(names(dir.path()), ["out.log"]);
    write(&mut rig, 1, 2, 1);
    assert_eq!(names(dir.path()), ["out.20261128T000000Z.log", "out.log"]);
    assert_eq!(values(&path), [2]);
    write(&mut rig, 86_400, 3, 0);
    write(&mut rig, 86_400, 3, 0);
    assert_eq!(names(dir.path()).len(), 3, "a file without lines stays");
    write(&mut rig, 1, 3, 1);
    drop(rig);
    // Its last line is of the 30th, and the agent starts on the next day.
    let file = fs::File::options().append(true).open(&path).unwrap();
    let second = BEGIN + 36_000 + 2 * 86_400;
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(second + 1)).unwrap();
    drop(file);
    let mut rig = start(&path, second + 86_400, rotation).unwrap();
    write(&mut rig, 1, 4, 1);
    let days =
        ["out.20261128T000000Z.log", "out.20261129T000000Z.log", "out.20261201T000001Z.log", "out.log"];
    assert_eq!(names(dir.path()), days);
    assert_eq!((values(&path), all_values(&path)), (vec![4], vec![0, 1, 2, 3, 4]));
}

#[test]
fn rotated_files_are_compressed_and_the_oldest_deleted() {
    let (dir, path) = fixture();
    let foreign = ["out.log.1", "out.20261127T140000Z.txt"];
    foreign.iter().for_each(|name| fs::write(dir.path().join(name), "mine").unwrap());
    let rotation = Rotation { size: Size(1), keep: 3, compression: Compression::Zstd, ..Rotation::default() };
    let mut rig = start(&path, BEGIN, rotation).unwrap();
    for n in 0..5 {
        write(&mut rig, 1, n * 100, 100);
    }
    let expected =
        ["out.20261127T140003Z.log.zst", "out.20261127T140004Z.log.zst", "out.20261127T140005Z.log.zst"];
    let is_ours = |name: &String| !foreign.contains(&&**name) && name != "out.log";
    let rotated = || names(dir.path()).into_iter().filter(is_ours).collect::<Vec<_>>();
    eventually("three compressed files", || rotated() == expected);
    let kept: Vec<u64> = expected.iter().flat_map(|name| values(&dir.path().join(name))).collect();
    assert_eq!(kept, (100..400).collect::<Vec<_>>());
    assert!(foreign.iter().all(|name| text(&dir.path().join(name)) == "mine"));
    let mode = fs::metadata(dir.path().join(expected[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn what_an_interrupted_run_left_is_taken_up() {
    let (dir, path) = fixture();
    let file = |name: &str| dir.path().join(name);
    let lines = |first: u64| format!("{}0 0.00000{first}\n", Plain::HEADER);
    let compressed = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    // Stopped while it compressed the first, and before it deleted the second.
    fs::write(file("out.20261127T130000Z.log"), lines(0)).unwrap();
    fs::write(file("out.20261127T130000Z.log.zst.part"), &compressed(&lines(0))[..9]).unwrap();
    fs::write(file("out.20261127T130001Z.log"), lines(1)).unwrap();
    fs::write(file("out.20261127T130001Z.log.zst"), compressed(&lines(1))).unwrap();
    let rotation = Rotation { size: Size(1), compression: Compression::Zstd, ..Rotation::default() };
    let mut rig = start(&path, BEGIN, rotation).unwrap();
    write(&mut rig, 1, 2, 1);
    let expected = ["out.20261127T130000Z.log.zst", "out.20261127T130001Z.log.zst", "out.log"];
    eventually("two compressed files", || names(dir.path()) == expected);
    assert_eq!(all_values(&path), [0, 1, 2]);
}

#[test]
fn a_file_that_cannot_be_rotated_goes_on() {
    let (dir, path) = fixture();
    let rotation = Rotation { size: Size(1), ..Rotation::default() };
    let mut rig = start(&path, BEGIN, rotation).unwrap();
    write(&mut rig, 1, 0, 1);
    // A directory where the next file would be: the rename succeeds, and the opening does not.
    fs::rename(&path, dir.path().join("kept")).unwrap();
    fs::create_dir(&path).unwrap();
    rig.outputs[0].1.flush().unwrap_err();
    fs::remove_dir(&path).unwrap();
    fs::rename(dir.path().join("kept"), &path).unwrap();
    write(&mut rig, 1, 1, 1);
    assert_eq!(all_values(&path), [0, 1]);
}

/// A small file system, unmounted in the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// One with room for so many files. `None`: only root can mount it; under CI=true that fails.
    fn with_files(most: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("nr_inodes={most},size=1m");
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        assert!(std::env::var("CI").as_deref() != Ok("true"), "mounting needs root");
        eprintln!("skipped: mounting a small file system needs root");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_rotation_whose_new_file_cannot_be_made_is_undone() {
    let Some(disk) = Mounted::with_files(8) else { return };
    let dir = disk.0.path();
    let path = dir.join("out.log");
    let rotation = Rotation { size: Size(1), ..Rotation::default() };
    let mut rig = start(&path, BEGIN, rotation).unwrap();
    write(&mut rig, 1, 0, 1);
    // There is room for a name, but not for another file.
    let more = || (0..).map(|n| dir.join(format!("filler-{n}")));
    let made: Vec<_> = more().take_while(|file| fs::File::create(file).is_ok()).collect();
    for n in 1..4 {
        write(&mut rig, 1, n, 1);
    }
    let is_ours = |name: &String| !name.starts_with("filler");
    let ours = || names(dir).into_iter().filter(is_ours).collect::<Vec<_>>();
    assert_eq!((ours(), values(&path)), (vec!["out.log".to_owned()], vec![0, 1, 2, 3]));
    made.iter().for_each(|file| fs::remove_file(file).unwrap());
    write(&mut rig, 1, 4, 1);
    assert_eq!((ours().len(), values(&path)), (2, vec![4]));
    assert_eq!(all_values(&path), [0, 1, 2, 3, 4]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let sized = Rotation { size: Size(100), ..Rotation::default() };
    let error = start(Path::new("-"), BEGIN, sized).err().unwrap().to_string();
    assert!(error.contains("plugins.plain.path: standard output cannot be rotated"), "{error}");
    let often = Rotation { every: Duration::from_millis(10), ..Rotation::default() };
    let (_dir, path) = fixture();
    let error = start(&path, BEGIN, often).err().unwrap().to_string();
    assert!(error.contains("plugins.plain.rotate_every: must be at least 1s"), "{error}");
}
