//! The pipeline element that reports what each cgroup has received and sent over the network. `traffic.rs`
//! counts it; here cgroups get their names, and series that end with them. The plugin `groups` sums them into
//! containers, pods, units and jobs.

#[cfg(test)]
mod testing;
mod traffic;

use std::io;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use wattrace_api::network::{ALL, COUNT};
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Error, Finding, Identity, MetricId, Registry, Resource,
    ResultExt, SeriesId, SeriesSpec, Source, Tick, Timestamp, Value, Verdict, Window,
};
use wattrace_cgroup::CgroupIds;

use traffic::{Bytes, OTHERS, Traffic};

/// What is needed, and the remedy.
const REMEDY: &str = "plugins.context.network needs cgroup v2, Linux 5.8 with CONFIG_CGROUP_BPF, and the \
                      capabilities CAP_BPF and CAP_NET_ADMIN: run as root";

/// Whether packets can be counted here.
pub(crate) fn diagnose() -> Finding {
    let what = "network bytes by cgroup".to_owned();
    match CgroupIds::find().and_then(|_| Traffic::load()) {
        Ok(_) => Finding { what, verdict: Verdict::Ok, found: "can be counted".into(), remedy: "".into() },
        Err(e) => {
            Finding { what, verdict: Verdict::Optional, found: e.to_string(), remedy: REMEDY.to_owned() }
        }
    }
}

/// The source.
pub(crate) struct NetworkSource {
    traffic: Traffic,
    ids: CgroupIds,
    metrics: [MetricId; COUNT],
    registry: Arc<Registry>,
    clock: Clock,
    cgroups: FxHashMap<u64, Reported>,
    /// Of cgroups that were removed before they had a name.
    removed: Bytes,
    read_at: Timestamp,
    /// What was read, between calls empty; kept for its memory.
    read: Vec<(u64, Bytes)>,
}

/// A cgroup that has received or sent something.
struct Reported {
    consumer: Arc<Consumer>,
    /// Opened with the first byte.
    series: [Option<SeriesId>; COUNT],
    now: Bytes,
    /// As far as it is reported.
    last: Bytes,
}

impl NetworkSource {
    /// Begins to count.
    ///
    /// # Errors
    /// There is no cgroup v2, no permission, or the kernel cannot do it. The message has the remedy.
    pub(crate) fn open(registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let refused = |e: io::Error| {
            let message = format!("network bytes are not counted: {e}; {REMEDY}");
            match e.kind() {
                io::ErrorKind::PermissionDenied => Error::denied(message),
                _ => Error::gone(message),
            }
        };
        let ids = CgroupIds::find().map_err(refused)?;
        let mut traffic = Traffic::load().map_err(refused)?;
        traffic.count(ids.root()).map_err(refused)?;
        let [received, sent] = ALL.each_ref().map(|metric| registry.metric(metric).or_fatal());
        let (metrics, read_at) = ([received?, sent?], clock.now());
        let (cgroups, removed, read) = (FxHashMap::default(), [0; COUNT], Vec::new());
        Ok(Self { traffic, ids, metrics, registry, clock, cgroups, removed, read_at, read })
    }

    /// What the cgroup that `id` stands for has received and sent. One that has neither a name nor a place in
    /// the table counts as `other`.
    fn take(&mut self, id: u64, bytes: Bytes, start: Timestamp) {
        let known = self.cgroups.get_mut(&id);
        if let Some(reported) = known {
            reported.now = bytes;
            return;
        }
        let path = if id == OTHERS { None } else { self.ids.path(id) };
        let consumer = match path {
            Some(path) => of_path(path, self.clock.unix_nanos(start)),
            None if id == OTHERS => Consumer::closing(ConsumerKind::Other),
            None => {
                // It was removed within its first window.
                self.removed = add(self.removed, bytes);
                self.traffic.forget(id);
                return;
            }
        };
        let (consumer, series) = (Arc::new(consumer), [None; COUNT]);
        self.cgroups.insert(id, Reported { consumer, series, now: bytes, last: [0; COUNT] });
    }

    /// Pushes what has changed, and ends the series of cgroups that were removed and have sent and received
    /// nothing since the last call.
    fn push(&mut self, start: Timestamp, out: &mut Batch) {
        let Self { traffic, ids, metrics, registry, cgroups, removed, .. } = self;
        cgroups.retain(|&id, reported| {
            if id == OTHERS {
                reported.now = add(reported.now, *removed);
            } else if reported.now == reported.last && !ids.exists(id) {
                traffic.forget(id);
                reported.series.iter().flatten().for_each(|&series| out.end(series));
                return false;
            }
            for (which, &bytes) in reported.now.iter().enumerate() {
                if bytes != reported.last[which] {
                    let series = *reported.series[which].get_or_insert_with(|| {
                        let spec = SeriesSpec::new(metrics[which], Resource::HOST, start);
                        registry.open(SeriesSpec { consumer: Some(reported.consumer.clone()), ..spec })
                    });
                    out.push(series, Value::of_steps(bytes));
                }
            }
            reported.last = reported.now;
            true
        });
    }
}

/// The consumer that stands for the cgroup at `path`, first seen at `unix_nano`.
fn of_path(path: String, unix_nano: u64) -> Consumer {
    let attributes = vec![Attribute::new("process.linux.cgroup", path.as_str())];
    let identity = Identity { kind: ConsumerKind::Cgroup, id: path.into(), start_unix_nano: unix_nano };
    Consumer::new(identity, None, attributes)
}

fn add(bytes: Bytes, more: Bytes) -> Bytes {
    [bytes[0] + more[0], bytes[1] + more[1]]
}

impl Source for NetworkSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        let start = std::mem::replace(&mut self.read_at, now);
        out.begin(Window::new(start, now));
        let mut read = std::mem::take(&mut self.read);
        read.extend(self.traffic.read().or_retry()?);
        for (id, bytes) in read.drain(..) {
            self.take(id, bytes, start);
        }
        self.read = read;
        self.push(start, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::testing::Rig;

    use super::testing::{HEADERS, Scene};
    use super::*;
    use crate::{Context, ContextConfig, Frequency};

    #[test]
    fn a_cgroup_has_series_with_its_first_byte_until_it_is_removed() {
        let Some(scene) = Scene::new("network") else {
            return eprintln!("skipped: no cgroup may be created here");
        };
        let mut rig = Rig::new();
        let config = ContextConfig {
            network: true,
            temperature: false,
            frequency: Frequency::Off,
            ..ContextConfig::default()
        };
        if let Err(e) = rig.start::<Context>(config) {
            return eprintln!("skipped: {e}");
        }
        let path = scene.path();
        let mut second = 0;
        let mut ids = Vec::new();
        // What the cgroup has sent, and how many of its series have ended. Others come and go beside it.
        let mut tick = |rig: &mut Rig| {
            second += 1;
            let batch = rig.tick(Timestamp(second * 1_000_000_000)).unwrap();
            let points = rig.points(&batch);
            let of_it = points.iter().filter(|p| {
                p.series.consumer.as_ref().is_some_and(|consumer| consumer.identity().id == path)
            });
            let of_it: Vec<_> = of_it.inspect(|p| ids.push(p.id)).collect();
            let ended = batch.ended().iter().filter(|id| ids.contains(id)).count();
            (of_it.into_iter().map(|p| (p.metric.clone(), p.steps)).collect::<Vec<_>>(), ended)
        };
        assert_eq!(tick(&mut rig), (Vec::new(), 0));
        let sent = |bytes| ("wattrace.consumer.network.sent".to_owned(), bytes);
        scene.send(&[1000]);
        assert_eq!(tick(&mut rig).0, [sent(1000 + HEADERS)]);
        assert_eq!(tick(&mut rig).0, []);
        scene.send(&[10, 20]);
        assert_eq!(tick(&mut rig).0, [sent(1030 + 3 * HEADERS)]);
        drop(scene);
        assert_eq!(tick(&mut rig), (Vec::new(), 1));
    }
}
