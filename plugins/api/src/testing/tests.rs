//! The rig with each kind of element.

use std::sync::Mutex;

use super::*;
use crate::element::{AsyncOutput, Trigger};
use crate::{ErrorKind, metric};

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct NoConfig {}

/// An autonomous source that sends 1, 2, 3 and, told to stop, 99; an async output that keeps what it sees;
/// and a source that adds another one when it is polled.
struct Kinds;

static WRITTEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());

struct Keep;

impl AsyncOutput for Keep {
    async fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        tokio::time::sleep(Duration::from_micros(1)).await;
        let values = batch.segments().flat_map(|s| s.values.iter().map(|v| v.steps()));
        WRITTEN.lock().unwrap().extend(values);
        Ok(())
    }
}

struct Finder(crate::Elements);

impl Source for Finder {
    fn poll(&mut self, tick: &Tick, _: &mut Batch) -> Result<(), Error> {
        if tick.last {
            self.0.remove(ElementKind::Source, "found");
        } else {
            let elements = self.0.clone();
            self.0.add(Added::source("found", Trigger::MANUAL, move || Ok(Finder(elements.clone()))));
        }
        Ok(())
    }
}

impl Plugin for Kinds {
    const NAME: &'static str = "kinds";
    const DESCRIPTION: &'static str = "";
    type Config = NoConfig;

    fn start(_: NoConfig, setup: &mut Setup) -> Result<(), Error> {
        let registry = setup.registry();
        setup.autonomous("counting", move |feed| {
            let registry = registry.clone();
            async move {
                let metric = registry.metric(&metric::HW_ENERGY).map_err(Error::fatal)?;
                let series = registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)));
                let send = async |n| {
                    let mut batch = feed.batch();
                    batch.push(series, Value::of_steps(n));
                    feed.send(batch).await;
                };
                for n in 1..=3 {
                    send(n).await;
                }
                feed.stopping().await;
                send(99).await;
                Err(Error::retry("the end"))
            }
        });
        setup.async_output("keep", || Ok(Keep));
        let elements = setup.elements();
        setup.source("finder", Trigger::MANUAL, move || Ok(Finder(elements.clone())));
        Ok(())
    }
}

#[test]
fn every_kind_of_element_runs_on_the_rig() {
    let mut rig = Rig::new();
    rig.start::<Kinds>(NoConfig {}).unwrap();
    for n in 1..=3 {
        let batch = rig.receive("counting").unwrap();
        assert_eq!(rig.points(&batch)[0].steps, n);
    }
    assert_eq!(*WRITTEN.lock().unwrap(), [1, 2, 3]);
    let error = rig.stop("counting").unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Retry, "the end".to_string()));
    assert_eq!(rig.receive("counting").unwrap_err().kind(), ErrorKind::Fatal, "it is no longer there");

    let tick = Tick { scheduled: Timestamp(5), missed: 0, last: false };
    rig.poll("finder", &tick).unwrap();
    assert_eq!((rig.clock.now(), rig.sources.len()), (Timestamp(5), 1));
    rig.settle().unwrap();
    assert_eq!(rig.sources.len(), 2);
    rig.poll("finder", &Tick { last: true, ..tick }).unwrap();
    rig.settle().unwrap();
    assert_eq!(rig.sources.len(), 1);
    let message = rig.poll("found", &tick).unwrap_err().to_string();
    assert!(message.contains("no such element: found"), "{message}");
}
