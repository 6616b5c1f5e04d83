//! Host and guest together: the guest counts what the host attributes to the machine, to the last microjoule,
//! over restarts of both sides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource, SeriesId,
    SeriesSpec, Timestamp, Value, Window, metric,
};
use wattrace_guest::{GuestShare, GuestShareConfig, HostShare, HostShareConfig, ProcessRule};

const SECOND: u64 = 1_000_000_000;

/// A host whose clock is at `second`.
fn host(config: &GuestShareConfig, second: u64) -> Rig {
    let mut rig = Rig::new();
    rig.clock.set(Timestamp(second * SECOND));
    rig.start::<GuestShare>(config.clone()).unwrap();
    rig
}

fn guest(path: PathBuf, second: u64) -> Rig {
    let mut rig = Rig::new();
    rig.clock.set(Timestamp(second * SECOND));
    rig.start::<HostShare>(HostShareConfig { path, ..HostShareConfig::default() }).unwrap();
    rig
}

fn config(directory: &Path) -> GuestShareConfig {
    GuestShareConfig { directory: directory.to_owned(), ..GuestShareConfig::default() }
}

fn consumer(kind: ConsumerKind, id: &str, executable: &str) -> Arc<Consumer> {
    let identity = Identity { kind, id: Cow::Owned(id.to_owned()), start_unix_nano: 1 };
    let attributes = vec![Attribute::new("process.executable.name", executable)];
    Arc::new(Consumer::new(identity, None, attributes))
}

fn energy(rig: &Rig, of: &Arc<Consumer>, resource: Resource, name: &str, within: Option<&str>) -> SeriesId {
    let domain = Domain {
        name: name.to_owned(),
        origin: Origin::Measured,
        follows: Follows::Cpus,
        within: within.map(str::to_owned),
        idle_microwatts: None,
    };
    let metric = rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
    rig.registry.open(SeriesSpec {
        domain: Some(Arc::new(domain)),
        consumer: Some(of.clone()),
        ..SeriesSpec::new(metric, resource, rig.clock.now())
    })
}

/// Writes a window that ends at `second`, half a second later.
fn write(rig: &mut Rig, second: u64, points: &[(SeriesId, u64)]) {
    let window = Window::new(Timestamp((second - 1) * SECOND), Timestamp(second * SECOND));
    rig.clock.set(Timestamp(second * SECOND + SECOND / 2));
    rig.pass(rig.batch(window, points)).unwrap();
}

/// The guest's counter, with the window of its last point, after a reading at `second`.
fn counted(rig: &mut Rig, second: u64) -> Option<(u64, Window)> {
    let batch = rig.tick(Timestamp(second * SECOND)).unwrap();
    let points = rig.points(&batch);
    points.iter().find(|p| p.metric == "hw.energy").map(|p| (p.steps, p.window))
}

/// Pseudo-random numbers below `below`, the same in every run.
fn random() -> impl FnMut(u64) -> u64 {
    let mut seed = 11_u64;
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    }
}

#[test]
fn the_guest_counts_what_the_host_attributes_over_restarts_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let path = dir.path().join("web/share.json");
    let mut random = random();
    let mut second = 10;
    // Microjoules that the host attributed to the machine, that the guest counted, and that came while no
    // guest ran.
    let (mut attributed, mut before_guests, mut counted_by_guests) = (0, 0, 0);
    let mut in_guest: Option<(Rig, u64)> = None;
    for session in 0..4 {
        let mut on_host = host(&config, second);
        let (web, other) =
            (consumer(ConsumerKind::Machine, "web", ""), consumer(ConsumerKind::Container, "web", ""));
        let series = [
            energy(&on_host, &web, Resource::package(0), "package-0", None),
            energy(&on_host, &web, Resource::package(0), "dram-0", None),
        ];
        let aside = [
            energy(&on_host, &web, Resource::package(0), "core-0", Some("package-0")),
            energy(&on_host, &web, Resource::HOST, "bmc", None),
            energy(&on_host, &other, Resource::package(0), "package-0", None),
        ];
        let mut values = [0, 0];
        for tick in 0..50 {
            second += 1;
            for value in &mut values {
                let more = random(5_000_000);
                *value += more;
                attributed += more;
            }
            let parts = [(series[0], values[0]), (series[1], values[1])];
            let points: Vec<_> = parts.into_iter().chain(aside.map(|s| (s, 1_000 * second))).collect();
            write(&mut on_host, second, &points);
            // No guest reads the last messages before the host's agent restarts.
            if tick >= 45 {
                continue;
            }
            // Guests read at times of their own, and restart sometimes.
            if random(10) == 0 {
                in_guest = None;
            }
            match &mut in_guest {
                None => {
                    before_guests = attributed - counted_by_guests;
                    in_guest = Some((guest(path.clone(), second + 1), 0));
                }
                Some((rig, last)) if random(3) > 0 => {
                    let (now, window) = counted(rig, second + 1).unwrap();
                    counted_by_guests += now - *last;
                    *last = now;
                    // Everything that the host has written, in the host's window.
                    assert_eq!(
                        before_guests + counted_by_guests,
                        attributed,
                        "session {session}, second {second}"
                    );
                    assert_eq!(window.end, Timestamp(second * SECOND));
                }
                Some(_) => {}
            }
        }
        // The host's agent is not running for a while. Its new session shows that.
        second += 20;
    }
    assert!(counted_by_guests > attributed / 2, "{counted_by_guests} of {attributed}");
}

#[test]
fn a_batch_that_is_written_again_after_a_failure_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("machines");
    std::fs::write(&blocked, "in the way").unwrap();
    let mut on_host = host(&config(&blocked), 10);
    let web = consumer(ConsumerKind::Machine, "web", "");
    let series = energy(&on_host, &web, Resource::package(0), "package-0", None);
    // Two windows, and the end of the series.
    let mut batch = Batch::default();
    for (second, value) in [(11, 5), (12, 7)] {
        batch.begin(Window::new(Timestamp((second - 1) * SECOND), Timestamp(second * SECOND)));
        batch.push(series, Value::of_steps(value));
    }
    batch.end(series);
    on_host.clock.set(Timestamp(12 * SECOND));
    let error = on_host.pass(batch.clone()).unwrap_err();
    assert!(error.to_string().contains("plugins.guest-share.directory: "), "{error}");
    std::fs::remove_file(&blocked).unwrap();
    on_host.pass(batch).unwrap();
    let text = std::fs::read_to_string(blocked.join("web/share.json")).unwrap();
    assert!(text.contains("\"microjoules\":7}"), "{text}");
}

#[test]
fn a_process_can_be_a_machine_by_its_pid_or_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let rule =
        |machine: &str, pid, name: &str| ProcessRule { machine: machine.into(), pid, name: name.into() };
    let processes = vec![rule("one", 42, ""), rule("two", 0, "firecracker")];
    let mut on_host = host(&GuestShareConfig { processes, ..config(dir.path()) }, 10);
    let by_pid = consumer(ConsumerKind::Process, "42", "qemu");
    let by_name = consumer(ConsumerKind::Process, "43", "sh");
    let neither = consumer(ConsumerKind::Process, "44", "bash");
    // The process counts already: the machine with its name would count its energy twice.
    let twice = consumer(ConsumerKind::Machine, "one", "");
    let of = |rig: &Rig, consumer| energy(rig, consumer, Resource::package(0), "package-0", None);
    let series = [&by_pid, &by_name, &neither, &twice].map(|consumer| of(&on_host, consumer));
    write(&mut on_host, 11, &series.map(|s| (s, 1_000)));
    let read = |machine: &str| {
        let text = std::fs::read_to_string(dir.path().join(machine).join("share.json")).ok()?;
        Some(text.split("\"microjoules\":").nth(1)?.split('}').next()?.parse::<u64>().unwrap())
    };
    assert_eq!((read("one"), read("two")), (Some(1_000), None));
    // The shell becomes a machine: the energy that it uses from now on is that machine's.
    by_name.update(vec![Attribute::new("process.executable.name", "firecracker")]);
    write(&mut on_host, 12, &series.map(|s| (s, 1_500)));
    assert_eq!((read("one"), read("two")), (Some(1_500), Some(500)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn the_file_of_a_machine_that_is_gone_is_kept_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let settings = GuestShareConfig {
        keep: Duration::from_secs(60),
        interval: Duration::from_secs(3600),
        machines: vec!["web".to_owned()],
        ..config(dir.path())
    };
    let mut on_host = host(&settings, 10);
    let [web, db] = ["web", "db"].map(|name| consumer(ConsumerKind::Machine, name, ""));
    let series = energy(&on_host, &web, Resource::package(0), "package-0", None);
    let of_db = energy(&on_host, &db, Resource::package(0), "package-0", None);
    write(&mut on_host, 11, &[(series, 1), (of_db, 1)]);
    let path = dir.path().join("web/share.json");
    let message = || std::fs::read_to_string(&path).unwrap_or_default();
    assert!(message().contains("\"microjoules\":1}"));
    assert!(!dir.path().join("db").exists(), "it is not selected");
    write(&mut on_host, 12, &[(series, 2)]);
    assert!(message().contains("\"microjoules\":1}"), "the interval is not over");
    let mut last = on_host.batch(Window::new(Timestamp(12 * SECOND), Timestamp(13 * SECOND)), &[(series, 3)]);
    last.end(series);
    on_host.pass(last).unwrap();
    assert!(message().contains("\"microjoules\":3}"), "the last message does not wait");
    on_host.clock.set(Timestamp(72 * SECOND));
    on_host.pass(Batch::default()).unwrap();
    assert!(path.exists());
    on_host.clock.set(Timestamp(73 * SECOND));
    on_host.pass(Batch::default()).unwrap();
    assert!(!dir.path().join("web").exists());
    // It comes back with another counter.
    on_host.registry.release(&[series]);
    let again = energy(&on_host, &web, Resource::package(0), "package-0", None);
    write(&mut on_host, 74, &[(again, 4)]);
    assert!(message().contains("\"microjoules\":4}"), "{}", message());
}

#[test]
fn a_link_that_a_machine_puts_into_its_directory_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (web, victim) = (dir.path().join("machines/web"), dir.path().join("victim"));
    std::fs::create_dir_all(&web).unwrap();
    std::fs::write(&victim, "untouched").unwrap();
    std::os::unix::fs::symlink(&victim, web.join(".share.json.new")).unwrap();
    let mut on_host = host(&config(&dir.path().join("machines")), 10);
    let machine = consumer(ConsumerKind::Machine, "web", "");
    let series = energy(&on_host, &machine, Resource::package(0), "package-0", None);
    write(&mut on_host, 11, &[(series, 5_000_000)]);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    let shared = std::fs::read_to_string(web.join("share.json")).unwrap();
    assert!(shared.contains("\"microjoules\":5000000"), "{shared}");
    assert!(!web.join("share.json").is_symlink());
}

#[test]
fn a_machine_is_named_by_its_name_and_a_second_of_that_name_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut on_host = host(&config(dir.path()), 10);
    let machines =
        ["qemu-1-web", "qemu-2-web", "qemu-3-db", ""].map(|id| consumer(ConsumerKind::Machine, id, ""));
    for (machine, name) in machines.iter().zip(["web", "web", "db"]) {
        machine.update(vec![Attribute::new("wattrace.machine.name", name)]);
    }
    let series = machines.each_ref().map(|m| energy(&on_host, m, Resource::package(0), "package-0", None));
    let mut batch = on_host.batch(
        Window::new(Timestamp(10 * SECOND), Timestamp(11 * SECOND)),
        &[(series[0], 1), (series[1], 2), (series[2], 3), (series[3], 4)],
    );
    batch.end(series[2]);
    on_host.clock.set(Timestamp(11 * SECOND));
    on_host.pass(batch).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    // What is in no machine gets no directory.
    assert_eq!(names, ["db", "qemu-2-web", "web"]);
    // The machine restarts with another id: its counter continues.
    let again = consumer(ConsumerKind::Machine, "qemu-4-db", "");
    again.update(vec![Attribute::new("wattrace.machine.name", "db")]);
    let again = energy(&on_host, &again, Resource::package(0), "package-0", None);
    write(&mut on_host, 12, &[(again, 10)]);
    let text = std::fs::read_to_string(dir.path().join("db/share.json")).unwrap();
    assert!(text.contains("\"microjoules\":13}"), "{text}");
}

#[test]
fn a_socket_sends_the_age_of_the_message_at_that_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut on_host = host(&GuestShareConfig { socket: true, ..config(dir.path()) }, 10);
    let web = consumer(ConsumerKind::Machine, "web", "");
    let series = energy(&on_host, &web, Resource::package(0), "package-0", None);
    write(&mut on_host, 11, &[(series, 1_000)]);
    // The guest's clock differs: it is at 5000 s when the host's is at 13 s.
    on_host.clock.set(Timestamp(13 * SECOND));
    let mut in_guest = guest(dir.path().join("web/share.sock"), 5_000);
    write(&mut on_host, 12, &[(series, 3_000)]);
    on_host.clock.set(Timestamp(14 * SECOND));
    let (microjoules, window) = counted(&mut in_guest, 5_001).unwrap();
    assert_eq!(microjoules, 2_000);
    assert_eq!(window, Window::new(Timestamp(4_998 * SECOND), Timestamp(4_999 * SECOND)));
    drop(on_host);
    assert!(!dir.path().join("web/share.sock").exists());
}

#[test]
fn energy_before_the_output_started_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut on_host = host(&config(dir.path()), 10);
    let web = consumer(ConsumerKind::Machine, "web", "");
    // The series is older than the output: it is not known whether its energy so far was this machine's.
    on_host.clock.set(Timestamp(5 * SECOND));
    let old = energy(&on_host, &web, Resource::package(0), "package-0", None);
    let mut batch = Batch::default();
    for (second, value) in [(11, 900), (12, 950)] {
        batch.begin(Window::new(Timestamp((second - 1) * SECOND), Timestamp(second * SECOND)));
        batch.push(old, Value::of_steps(value));
    }
    on_host.clock.set(Timestamp(12 * SECOND));
    on_host.pass(batch).unwrap();
    let text = std::fs::read_to_string(dir.path().join("web/share.json")).unwrap();
    assert!(text.contains("\"microjoules\":50}"), "{text}");
}
