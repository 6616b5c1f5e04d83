//! What others do to files while they are written (`rotate.rs` has what the output itself does): `mv`, `rm`,
//! `truncate`, logrotate with `create` and with `copytruncate`. No line is lost or doubled, and every file
//! begins with the header.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use wattrace_api::testing::Rig;
use wattrace_api::{Error, ErrorKind, Resource, Series, SeriesId, Timestamp, Window, metric};
use wattrace_text_output::{Format, Rotation, RowTemplate, Settings, add_output};

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

struct Fixture {
    dir: tempfile::TempDir,
    rig: Rig,
    series: SeriesId,
    sent: u64,
}

impl Fixture {
    fn new() -> Self {
        Self::writing_to("out")
    }

    fn writing_to(name: &str) -> Self {
        let (dir, mut rig) = (tempfile::tempdir().unwrap(), Rig::new());
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        start(&mut rig, &path).unwrap();
        let series = rig.series(&metric::HW_ENERGY, Resource::package(0));
        Self { dir, rig, series, sent: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command on files of the directory.
    fn run(&self, command: &str) {
        let status = Command::new("sh").args(["-ec", command]).current_dir(self.dir.path()).status();
        assert!(status.unwrap().success(), "{command}");
    }

    /// Writes a point `milliseconds` after the last one.
    fn point_after(&mut self, milliseconds: u64) -> Result<(), Error> {
        let time = self.rig.clock.now() + Duration::from_millis(milliseconds);
        self.rig.clock.set(time);
        let window = Window::new(Timestamp(self.sent), Timestamp(self.sent + 1));
        let batch = self.rig.batch(window, &[(self.series, 0)]);
        self.rig.pass(batch)?;
        self.sent += 1;
        Ok(())
    }

    /// The numbers of the points in a file, which begins with the header.
    fn points(&self, name: &str) -> Vec<u64> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        let rows = text.strip_prefix(Plain::HEADER).unwrap_or_else(|| panic!("{name} has no header: {text}"));
        assert!(!rows.contains(Plain::HEADER) && (rows.is_empty() || rows.ends_with('\n')), "{name}: {text}");
        rows.lines().map(|row| row.split_once(' ').unwrap().0.parse().unwrap()).collect()
    }
}

fn start(rig: &mut Rig, path: &Path) -> Result<(), Error> {
    let settings = Settings {
        plugin: "plain",
        path: path.into(),
        append: true,
        flush_interval: Duration::ZERO,
        rotation: Rotation::default(),
    };
    rig.start_with("plain", |setup| add_output::<Plain>(setup, settings))
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn a_renamed_file_is_left_within_a_second() {
    let mut it = Fixture::new();
    it.point_after(1000).unwrap();
    it.run("mv out out.1");
    // Not looked at before the second is over.
    it.point_after(500).unwrap();
    assert_eq!(it.points("out.1"), [1, 2]);
    it.point_after(500).unwrap();
    it.point_after(1).unwrap();
    assert_eq!((it.points("out.1"), it.points("out")), (vec![1, 2], vec![3, 4]));
    let mode = fs::metadata(it.path("out")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_deleted_file_is_left_at_once_and_again() {
    let mut it = Fixture::new();
    for first in [1, 3] {
        it.point_after(1).unwrap();
        it.run("rm out");
        it.point_after(1).unwrap();
        assert_eq!(it.points("out"), [first + 1]);
    }
}

#[test]
fn a_truncated_file_goes_on_at_its_end_with_a_header_and_without_a_torn_line() {
    let mut it = Fixture::new();
    it.point_after(1).unwrap();
    it.run("truncate -s 0 out");
    it.point_after(1).unwrap();
    assert_eq!(it.points("out"), [2]);
    it.point_after(1).unwrap();
    let len = fs::metadata(it.path("out")).unwrap().len();
    it.run(&format!("truncate -s {} out", len - 3));
    it.point_after(1).unwrap();
    assert_eq!(it.points("out"), [2, 4]);
}

#[test]
fn logrotate_that_creates_the_next_file_loses_nothing_with_and_without_a_reload() {
    for reloads in [false, true] {
        let mut it = Fixture::new();
        for rotation in 1..=3 {
            it.point_after(300).unwrap();
            it.run(&format!("mv out out.{rotation}; install -m 644 /dev/null out"));
            if reloads {
                // What the agent does with its outputs at a reload.
                it.rig.outputs[0].1.flush().unwrap();
            }
            (0..4).try_for_each(|_| it.point_after(300)).unwrap();
        }
        let files = ["out.1", "out.2", "out.3", "out"].map(|name| it.points(name));
        assert_eq!(files.concat(), numbers(1..=15));
        assert!(files.iter().all(|points| !points.is_empty()), "{files:?}");
        assert_eq!(files[0] == [1], reloads, "at once after a reload: {files:?}");
    }
}

#[test]
fn logrotate_that_copies_and_truncates_loses_nothing() {
    let mut it = Fixture::new();
    for rotation in 1..=3 {
        (0..5).try_for_each(|_| it.point_after(300)).unwrap();
        it.run(&format!("cp out out.{rotation}; truncate -s 0 out"));
    }
    it.point_after(300).unwrap();
    let files = ["out.1", "out.2", "out.3", "out"].map(|name| it.points(name));
    assert_eq!(files.concat(), numbers(1..=16));
}

#[test]
fn logrotate_itself_loses_nothing() {
    if Command::new("logrotate").arg("--version").output().is_err() {
        return eprintln!("skipped: logrotate is not installed");
    }
    for how in ["create 0640", "copytruncate"] {
        let mut it = Fixture::new();
        let (config, log) = (it.path("logrotate.conf"), it.path("out"));
        fs::write(&config, format!("{} {{\n rotate 9\n {how}\n}}\n", log.display())).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        for _ in 0..3 {
            (0..5).try_for_each(|_| it.point_after(300)).unwrap();
            it.run("logrotate --force --state state logrotate.conf");
        }
        (0..5).try_for_each(|_| it.point_after(300)).unwrap();
        let files = ["out.3", "out.2", "out.1", "out"].map(|name| it.points(name));
        assert_eq!(files.concat(), numbers(1..=20), "{how}");
    }
}

#[test]
fn lines_wait_while_the_path_cannot_be_opened_and_count_as_undelivered() {
    let mut it = Fixture::writing_to("logs/out");
    it.point_after(1000).unwrap();
    it.run("mv logs away");
    it.point_after(1000).unwrap();
    let error = it.point_after(1000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(error.to_string().contains("`mkdir -p "), "{error}");
    let output = &it.rig.outputs[0].1;
    assert_eq!((output.trouble(), output.undelivered()), (Some(&*error.to_string()), 1));
    it.run("mkdir logs; echo notes >logs/out");
    assert!(it.point_after(1000).unwrap_err().to_string().contains("holds something else"));
    it.run("rm logs/out");
    it.point_after(1000).unwrap();
    assert_eq!((it.points("away/out"), it.points("logs/out")), (vec![1], vec![2, 3]));
    assert_eq!(it.rig.outputs[0].1.trouble(), None);
}

#[test]
fn a_link_is_not_followed_where_others_could_have_put_it() {
    let it = Fixture::new();
    it.run("mkdir -m 1777 shared; echo precious >target");
    symlink(it.path("target"), it.path("shared/link")).unwrap();
    let error = start(&mut Rig::new(), &it.path("shared/link")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().contains("symbolic link"), "{error}");
    symlink("link", it.path("shared/new")).unwrap();
    start(&mut Rig::new(), &it.path("shared/new")).unwrap_err();
    assert_eq!(fs::read_to_string(it.path("target")).unwrap(), "precious\n");
}

#[test]
fn a_pipe_that_nobody_reads_is_tried_again_and_does_not_block() {
    let it = Fixture::new();
    it.run("mkfifo pipe");
    let error = start(&mut Rig::new(), &it.path("pipe")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    let reader = fs::OpenOptions::new().read(true).write(true).open(it.path("pipe")).unwrap();
    start(&mut Rig::new(), &it.path("pipe")).unwrap();
    drop(reader);
}
