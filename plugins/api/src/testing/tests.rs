//! The rig with each kind of element.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use super::*;
use crate::element::{Output, Trigger};
use crate::{ErrorKind, metric};

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct NoConfig {}

/// A source that is polled when something is written to its socket, and an output that keeps what it sees.
struct Kinds;

static WRITTEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static SENDER: Mutex<Option<UnixStream>> = Mutex::new(None);

struct Keep;

impl Output for Keep {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let values = batch.segments().flat_map(|s| s.values.iter().map(|v| v.steps()));
        WRITTEN.lock().unwrap().extend(values);
        Ok(())
    }
}

struct Listener(UnixStream, SeriesId);

impl Source for Listener {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        if tick.cause != TickCause::Wakeup {
            return Err(Error::retry("nothing was sent"));
        }
        let mut byte = [0];
        self.0.read_exact(&mut byte).map_err(Error::fatal)?;
        out.push(self.1, Value::of_steps(byte[0].into()));
        Ok(())
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

impl Plugin for Kinds {
    const NAME: &'static str = "kinds";
    const DESCRIPTION: &'static str = "";
    type Config = NoConfig;

    fn start(_: NoConfig, setup: &mut Setup) -> Result<(), Error> {
        let registry = setup.registry();
        setup.source("listener", Trigger::MANUAL, move || {
            let metric = registry.metric(&metric::HW_ENERGY).map_err(Error::fatal)?;
            let series = registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)));
            let (ours, theirs) = UnixStream::pair().map_err(Error::fatal)?;
            *SENDER.lock().unwrap() = Some(theirs);
            Ok(Listener(ours, series))
        });
        setup.output("keep", || Ok(Keep));
        Ok(())
    }
}

#[test]
fn every_kind_of_element_runs_on_the_rig() {
    let mut rig = Rig::new();
    rig.start::<Kinds>(NoConfig {}).unwrap();
    for n in 1..=3 {
        SENDER.lock().unwrap().as_ref().unwrap().write_all(&[n]).unwrap();
        let batch = rig.wake("listener").unwrap();
        assert_eq!(rig.points(&batch)[0].steps, n.into());
    }
    assert_eq!(*WRITTEN.lock().unwrap(), [1, 2, 3]);
    let error = rig.poll("listener", &Tick::at(Timestamp(5))).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Retry, "nothing was sent".to_string()));
    assert_eq!(rig.clock.now(), Timestamp(5));
    let message = rig.wake("nobody").unwrap_err().to_string();
    assert!(message.contains("no such element: nobody"), "{message}");
}
