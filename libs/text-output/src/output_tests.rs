//! A disk that fills at any byte, and when lines become visible.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::*;
use crate::output_path::OutputPath;
use crate::template::RowTemplate;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, ErrorKind, Identity, Resource, Series, SeriesId, SeriesSpec,
    Timestamp, Window, metric,
};

/// `name@start time value name`, where the name is that of the consumer's executable.
struct Plain;

impl Format for Plain {
    const OPENING: &'static str = "";
    const HEADER: &'static str = "header\n";
    const BETWEEN: &'static str = " ";
    const NO_NUMBER: &'static str = "-";

    fn row(series: &Series, start_unix_nano: u64) -> RowTemplate {
        let name = series.consumer.as_ref().and_then(|c| c.attribute("process.executable.name"));
        let name = name.map_or_else(|| series.resource.id.to_string(), |n| n.to_string());
        RowTemplate { head: format!("{name}@{start_unix_nano} "), tail: format!(" {name}\n") }
    }
}

/// A disk with limited room, which takes at most seven bytes at a time.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

impl Disk {
    fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), room))))
    }
    fn grow(&self, room: usize) {
        self.0.lock().unwrap().1 += room;
    }
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (content, room) = &mut *self.0.lock().unwrap();
        let taken = bytes.len().min(*room).min(7);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.extend_from_slice(&bytes[..taken]);
        *room -= taken;
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Disk {
    fn follow(&mut self, _: bool) -> Result<Option<bool>, Error> {
        Ok(None)
    }
}

fn output(rig: &Rig, disk: Disk, flush_interval: Duration) -> LineOutput<Plain, Disk> {
    let path = OutputPath { plugin: "plain", path: "/full/disk".into() };
    let buffer = LineBuffer::new(disk, path, Plain::HEADER, true);
    let templates = TemplateCache::new(rig.registry.clone(), rig.clock.clone());
    LineOutput::new(buffer, templates, rig.clock.clone(), flush_interval, None)
}

fn window(n: u64) -> Window {
    Window::new(Timestamp(n), Timestamp(n + 1))
}

fn batches(rig: &mut Rig) -> Vec<Batch> {
    let a = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let b = rig.series(&metric::HW_ENERGY, Resource::package(1));
    (0..3).map(|n| rig.batch(window(n), &[(a, n * 1_000_001), (b, n)])).collect()
}

const ALL: &str = "header\n\
    0@0 1 0.000000 0\n1@0 1 0.000000 1\n\
    0@0 2 1.000001 0\n1@0 2 0.000001 1\n\
    0@0 3 2.000002 0\n1@0 3 0.000002 1\n";

#[test]
fn when_the_disk_fills_at_any_byte_nothing_is_torn_doubled_or_lost() {
    for room in 0..=ALL.len() {
        let mut rig = Rig::new();
        let disk = Disk::with_room(room);
        let mut output = output(&rig, disk.clone(), Duration::ZERO);
        let mut refused = 0;
        for batch in batches(&mut rig) {
            while let Err(error) = output.write(&batch) {
                assert_eq!(error.kind(), ErrorKind::Retry);
                assert!(error.to_string().contains("plugins.plain.path: /full/disk"), "{error}");
                refused += 1;
                disk.grow(10);
            }
        }
        while output.flush().is_err() {
            refused += 1;
            disk.grow(10);
        }
        assert_eq!(disk.text(), ALL, "with room for {room}");
        assert_eq!(refused > 0, room < ALL.len());
    }
}

#[test]
fn nothing_of_a_refused_batch_is_written_and_the_waiting_lines_are_counted() {
    let mut rig = Rig::new();
    let disk = Disk::with_room(12);
    let mut output = output(&rig, disk.clone(), Duration::ZERO);
    let batches = batches(&mut rig);
    output.write(&batches[0]).unwrap();
    let error = output.write(&batches[1]).unwrap_err().to_string();
    assert!(error.contains("file ends: 2;"), "{error}");
    assert_eq!((output.trouble(), output.undelivered()), (Some(&*error), 2));
    disk.grow(1000);
    output.flush().unwrap();
    assert_eq!(disk.text(), "header\n0@0 1 0.000000 0\n1@0 1 0.000000 1\n");
}

#[test]
fn lines_are_written_when_the_interval_is_over_on_flush_and_on_drop() {
    let mut rig = Rig::new();
    let disk = Disk::with_room(usize::MAX);
    let mut output = output(&rig, disk.clone(), Duration::from_secs(1));
    let batches = batches(&mut rig);
    let lines = || disk.text().lines().count();
    rig.clock.set(Timestamp(999_999_999));
    output.write(&batches[0]).unwrap();
    assert_eq!(lines(), 0);
    rig.clock.set(Timestamp(1_000_000_000));
    output.write(&batches[1]).unwrap();
    assert_eq!(lines(), 5);
    output.write(&batches[2]).unwrap();
    assert_eq!(lines(), 5);
    output.flush().unwrap();
    assert_eq!(lines(), 7);
    output.write(&batches[2]).unwrap();
    drop(output);
    assert_eq!(lines(), 9);
}

fn process_series(rig: &Rig, consumer: &Arc<Consumer>) -> SeriesId {
    let metric = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
    rig.registry.open(SeriesSpec {
        metric,
        resource: Resource::package(0),
        domain: None,
        consumer: Some(consumer.clone()),
        attributes: Vec::new(),
        start: Timestamp(0),
    })
}

fn named(name: &str) -> Arc<Consumer> {
    let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 1 };
    Arc::new(Consumer::new(identity, None, vec![Attribute::new("process.executable.name", name)]))
}

#[test]
fn an_exec_and_a_reused_series_id_render_the_row_again() {
    let rig = Rig::new();
    let disk = Disk::with_room(usize::MAX);
    let mut output = output(&rig, disk.clone(), Duration::ZERO);
    let shell = named("sh");
    let id = process_series(&rig, &shell);
    output.write(&rig.batch(window(0), &[(id, 1)])).unwrap();
    shell.update(vec![Attribute::new("process.executable.name", "ls")]);
    let mut last = rig.batch(window(1), &[(id, 2)]);
    last.end(id);
    output.write(&last).unwrap();
    rig.registry.release(last.ended());
    assert_eq!(process_series(&rig, &named("cat")), id);
    output.write(&rig.batch(window(2), &[(id, 3)])).unwrap();
    assert_eq!(
        disk.text(),
        "header\nsh@0 1 0.000000001 sh\nls@0 2 0.000000002 ls\ncat@0 3 0.000000003 cat\n"
    );
}

#[test]
fn a_point_of_an_unknown_series_is_counted() {
    let mut rig = Rig::new();
    let id = rig.series(&metric::HW_ENERGY, Resource::package(0));
    rig.registry.release(&[id]);
    let mut output = output(&rig, Disk::with_room(usize::MAX), Duration::ZERO);
    output.write(&rig.batch(window(0), &[(id, 1), (id, 2)])).unwrap();
    assert_eq!(output.take_losses(), [("their series was unknown", 2)]);
    assert_eq!(output.take_losses(), []);
}

#[test]
fn after_a_failed_write_the_output_is_in_trouble_and_its_points_undelivered_without_the_header() {
    let mut rig = Rig::new();
    let mut output = output(&rig, Disk::default(), Duration::ZERO);
    assert_eq!((output.trouble(), output.undelivered()), (None, 0));
    output.write(&batches(&mut rig)[0]).unwrap();
    assert!(output.trouble().is_some_and(|why| why.contains("free some space")), "{:?}", output.trouble());
    assert_eq!(output.undelivered(), 2);
}

/// A disk, and the one that is found at its path when that is looked at.
struct Rotated(Disk, Arc<Mutex<Option<Disk>>>);

impl Write for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Rotated {
    fn follow(&mut self, _: bool) -> Result<Option<bool>, Error> {
        let next = self.1.lock().unwrap().take();
        Ok(next.map(|next| {
            self.0 = next;
            self.0.text().is_empty()
        }))
    }
}

#[test]
fn another_file_begins_with_the_header_and_a_whole_line_wherever_the_last_write_stopped() {
    let all = "header\none\ntwo\n";
    let cases = [("", "header\n"), ("header\nold\n", "header\nold\n")];
    for (room, (there, begun)) in (0..all.len()).flat_map(|room| cases.map(|case| (room, case))) {
        let (old, next) = (Disk::with_room(room), Arc::<Mutex<_>>::default());
        let path = OutputPath { plugin: "plain", path: "/rotated".into() };
        let mut buffer = LineBuffer::new(Rotated(old.clone(), next.clone()), path, "header\n", true);
        crate::template::LineSink::bytes(&mut buffer).extend_from_slice(b"one\ntwo\n");
        buffer.drain(true).unwrap_err();
        let new = Disk::default();
        new.0.lock().unwrap().0.extend_from_slice(there.as_bytes());
        new.grow(1000);
        *next.lock().unwrap() = Some(new.clone());
        buffer.drain(true).unwrap();
        let whole = old.text().rfind('\n').map_or(0, |at| at + 1).max("header\n".len());
        assert_eq!(new.text(), format!("{begun}{}", &all[whole..]), "with room for {room}");
    }
}
