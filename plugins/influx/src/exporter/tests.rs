use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use hyper::body::Bytes;
use wattrace_api::testing::Rig;
use wattrace_api::{ErrorKind, Resource, SeriesId, Window, metric};

use super::*;
use crate::config::InfluxConfig;

/// Answers as scripted, then accepts; keeps what it accepted.
#[derive(Clone, Default)]
struct FakeServer {
    answers: Arc<Mutex<VecDeque<Outcome>>>,
    taken: Arc<Mutex<Vec<String>>>,
    /// Requests with more bytes are too large.
    limit: usize,
}

impl Post for FakeServer {
    fn post(&self, body: Bytes, _: Duration) -> Outcome {
        if self.limit > 0 && body.len() > self.limit {
            return Outcome::TooLarge { cause: "413".to_owned() };
        }
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Outcome::Accepted);
        if answer == Outcome::Accepted {
            self.taken.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
        }
        answer
    }
}

struct Fixture {
    rig: Rig,
    server: FakeServer,
    exporter: Exporter,
    id: SeriesId,
}

fn fixture(server: FakeServer, buffer_bytes: usize) -> Fixture {
    let mut rig = Rig::new();
    let id = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let config = InfluxConfig { database: "d".to_owned(), spool: "none".into(), ..InfluxConfig::default() };
    let settings = Settings {
        interval: Duration::from_secs(1),
        gzip: false,
        buffer_bytes,
        tags: [("host.name".to_owned(), String::new())].into(),
        ..Settings::resolve(config).unwrap()
    };
    let lines = Lines::new(&settings, rig.registry.clone(), rig.clock.clone());
    let exporter = Exporter::new(&settings, Box::new(server.clone()), lines, rig.clock.clone());
    Fixture { rig, server, exporter, id }
}

impl Fixture {
    /// Writes a point at `seconds`.
    fn write(&mut self, seconds: u64) -> Result<(), Error> {
        let end = Timestamp(seconds * 1_000_000_000);
        self.rig.clock.set(end);
        let batch = self.rig.batch(Window::new(Timestamp(end.0 - 1), end), &[(self.id, seconds)]);
        self.exporter.write(&batch)
    }

    fn answer(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.server.answers.lock().unwrap().extend(outcomes);
    }

    /// Seconds of all lines that the server took, without the zero at the start.
    fn taken(&self) -> Vec<u64> {
        let taken = self.server.taken.lock().unwrap();
        let nanos = taken.iter().flat_map(|body| body.lines()).map(|line| line.rsplit_once(' ').unwrap().1);
        nanos.map(|n| n.parse::<u64>().unwrap() / 1_000_000_000).filter(|second| *second > 0).collect()
    }
}

fn later(seconds: Option<u64>) -> Outcome {
    Outcome::Later { cause: "busy".to_owned(), after: seconds.map(Duration::from_secs) }
}

#[test]
fn what_a_server_did_not_take_is_sent_again_in_order_and_once() {
    let mut f = fixture(FakeServer::default(), 1 << 20);
    f.answer([later(None), later(Some(30))]);
    f.write(1).unwrap();
    assert_eq!((f.exporter.undelivered(), f.exporter.trouble().is_some()), (2, true));
    // The wait is at most a second, and the next answer asks for thirty.
    f.write(3).unwrap();
    f.write(20).unwrap();
    f.write(32).unwrap();
    assert_eq!(f.taken(), [0u64; 0], "the server asked for no request before 33 s");
    f.write(34).unwrap();
    assert_eq!(f.taken(), [1, 3, 20, 32, 34]);
    assert_eq!((f.exporter.undelivered(), f.exporter.trouble()), (0, None));
    assert_eq!(f.exporter.take_losses(), []);
}

#[test]
fn a_server_cannot_ask_for_more_than_a_minute() {
    let mut f = fixture(FakeServer::default(), 1 << 20);
    f.answer([later(Some(86_400))]);
    f.write(1).unwrap();
    f.write(62).unwrap();
    assert_eq!(f.taken(), [1, 62]);
}

#[test]
fn what_is_refused_is_counted_and_does_not_hold_up_the_rest() {
    let mut f = fixture(FakeServer::default(), 1 << 20);
    f.answer([Outcome::Refused { cause: "no".to_owned(), lines: None }]);
    f.write(1).unwrap();
    f.answer([Outcome::Refused { cause: "partial".to_owned(), lines: Some(1) }]);
    f.write(2).unwrap();
    f.write(3).unwrap();
    assert_eq!((f.taken(), f.exporter.undelivered()), (vec![3], 0));
    assert_eq!(f.exporter.take_losses(), [("refused", 3)]);
}

#[test]
fn what_is_too_large_is_split_down_to_a_line() {
    let mut f = fixture(FakeServer { limit: 60, ..FakeServer::default() }, 1 << 20);
    f.answer([later(None)]);
    (1..=5).for_each(|second| f.write(second).unwrap());
    f.exporter.flush().unwrap();
    assert_eq!((f.taken(), f.exporter.take_losses()), (vec![1, 2, 3, 4, 5], Vec::new()));
    let mut f = fixture(FakeServer { limit: 1, ..FakeServer::default() }, 1 << 20);
    f.write(1).unwrap();
    assert_eq!((f.exporter.undelivered(), f.exporter.take_losses()), (0, vec![("too_large", 2)]));
}

#[test]
fn a_full_buffer_takes_no_batch_until_there_is_room() {
    let mut f = fixture(FakeServer::default(), 50);
    f.answer([later(None), later(None)]);
    f.write(1).unwrap();
    let error = f.write(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(error.to_string().contains("buffer_mib is full"), "{error}");
    // The same batch comes again.
    f.write(3).unwrap_err();
    f.write(6).unwrap();
    assert_eq!((f.taken(), f.exporter.undelivered()), (vec![1, 6], 0));
}
