//! What an output sees behind transforms of its own, and when the ids of their series are free again.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::metric::{HW_ENERGY, Value};
use crate::series::SeriesSpec;
use crate::subject::Resource;
use crate::time::Timestamp;

fn open_series(registry: &Registry) -> SeriesId {
    let metric = registry.metric(&HW_ENERGY).unwrap();
    registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)))
}

/// Puts a series of its own in the place of all others, and ends it when a batch ends something.
struct Replace {
    registry: Arc<Registry>,
    own: Option<SeriesId>,
    error: Option<Error>,
}

impl Transform for Replace {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let points = batch.retain(|_, _| false);
        let own = *self.own.get_or_insert_with(|| open_series(&self.registry));
        batch.push(own, Value::of_steps(points as u64));
        if !batch.ended().is_empty() {
            batch.end(own);
            self.own = None;
        }
        self.error.take().map_or(Ok(()), Err)
    }

    fn finish(&mut self, out: &mut Batch) -> Result<(), Error> {
        self.own.iter().for_each(|&own| out.push(own, Value::of_steps(99)));
        Ok(())
    }

    fn take_left_out(&mut self) -> u64 {
        1
    }
}

/// The points and ends of the batches that an output was given.
type Written = Arc<Mutex<Vec<(Vec<(SeriesId, u64)>, Vec<SeriesId>)>>>;

struct Keep(Written, VecDeque<Result<(), Error>>);

impl Output for Keep {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let values = batch.segments().flat_map(|segment| segment.values.iter().map(|v| v.steps()));
        let points = batch.series().iter().copied().zip(values).collect();
        self.0.lock().unwrap().push((points, batch.ended().to_vec()));
        self.1.pop_front().unwrap_or(Ok(()))
    }
}

struct Scene {
    registry: Arc<Registry>,
    common: SeriesId,
    written: Written,
    chain: OutputChain,
}

impl Scene {
    fn new(replace: bool, error: Option<Error>, results: Vec<Result<(), Error>>) -> Self {
        let (registry, written) = (Registry::new(), Written::default());
        let common = open_series(&registry);
        let transform = Replace { registry: registry.clone(), own: None, error };
        let mut transform = Some(Box::new(transform) as Box<dyn Transform>);
        let mut output = Some(Box::new(Keep(written.clone(), results.into())) as Box<dyn Output>);
        let mut transforms: Vec<Open<dyn Transform>> =
            vec![Box::new(move || transform.take().ok_or_else(|| Error::gone("opened once")))];
        transforms.truncate(usize::from(replace));
        let mut output: Open<dyn Output> =
            Box::new(move || output.take().ok_or_else(|| Error::gone("opened once")));
        let chain = OutputChain::open(&registry, &mut transforms, &mut output).unwrap();
        Self { registry, common, written, chain }
    }

    fn batch(&self, ends: bool) -> Batch {
        let mut batch = Batch::default();
        batch.push(self.common, Value::of_steps(7));
        if ends {
            batch.end(self.common);
        }
        batch
    }

    fn is_open(&self, id: SeriesId) -> bool {
        self.registry.get(id).is_some()
    }
}

#[test]
fn without_transforms_the_batch_is_written_as_it_is() {
    let mut s = Scene::new(false, None, Vec::new());
    s.chain.write(&s.batch(true)).unwrap();
    s.chain.finish().unwrap();
    assert_eq!(*s.written.lock().unwrap(), [(vec![(s.common, 7)], vec![s.common])]);
    assert!(s.is_open(s.common), "its id is not the chain's to give back");
}

#[test]
fn the_output_sees_what_its_transforms_make_and_the_batch_stays_as_it_was() {
    let mut s = Scene::new(true, None, Vec::new());
    let batch = s.batch(false);
    s.chain.write(&batch).unwrap();
    assert_eq!((batch.series(), s.chain.take_left_out(), s.chain.take_left_out()), (&[s.common][..], 1, 0));
    let (points, ended) = s.written.lock().unwrap()[0].clone();
    assert!(points.len() == 1 && points[0].0 != s.common && points[0].1 == 1 && ended.is_empty());
}

#[test]
fn the_id_of_a_transforms_series_is_free_after_the_batch_that_ends_it() {
    let mut s = Scene::new(true, None, Vec::new());
    s.chain.write(&s.batch(true)).unwrap();
    let own = s.written.lock().unwrap()[0].0[0].0;
    assert!(s.is_open(own), "the output may look it up until the next batch comes");
    s.chain.write(&Batch::default()).unwrap();
    assert_eq!(s.written.lock().unwrap()[1].0, [(own, 0)], "the next series got its id");
    assert!(s.is_open(s.common));
}

#[test]
fn what_is_held_back_is_written_at_the_end_and_then_the_ids_are_free() {
    let mut s = Scene::new(true, None, Vec::new());
    s.chain.write(&s.batch(false)).unwrap();
    s.chain.finish().unwrap();
    let (own, value) = s.written.lock().unwrap()[1].0[0];
    assert!(value == 99 && s.is_open(own));
    let registry = s.registry.clone();
    drop(s.chain);
    assert!(registry.get(own).is_none() && registry.get(s.common).is_some());
}

#[test]
fn a_retry_writes_the_prepared_batch_again() {
    let mut s = Scene::new(true, None, vec![Err(Error::retry("busy"))]);
    let batch = s.batch(false);
    s.chain.prepare(&batch).unwrap();
    assert!(s.chain.write_prepared(&batch).is_err() && s.chain.write_prepared(&batch).is_ok());
    let written = s.written.lock().unwrap();
    assert!(written.len() == 2 && written[0] == written[1]);
}

#[test]
fn a_transform_that_asks_for_a_retry_fails_for_good_since_no_batch_comes_twice() {
    let mut s = Scene::new(true, Some(Error::retry("later")), Vec::new());
    assert_eq!(s.chain.write(&s.batch(false)).unwrap_err().kind(), ErrorKind::Fatal);
    assert!(s.written.lock().unwrap().is_empty());
}
