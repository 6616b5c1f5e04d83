//! The history in a database of the plugin `sqlite`. It is read again for every request, so that a page shows
//! what a running agent has written meanwhile.

use std::collections::HashMap;
use std::path::PathBuf;

use wattrace_page::{About, ConsumerInfo, Document, History, Source, Window, summarise};
use wattrace_sqlite::{EnergySeries, EnergySink, EnergyUser, ReadError, Reader, Span};

use crate::cli::failure::Failure;

/// A database.
pub(super) struct Database {
    path: PathBuf,
}

/// How much of it is shown at first: its last day.
const FIRST_LOOK: u64 = 86_400_000_000_000;

impl Database {
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        match Reader::open(&path) {
            Ok(_) => Ok(Self { path }),
            Err(error @ ReadError::Missing(_)) => Err(Failure::new(format!(
                "{error}: name a database; `wattrace run --set plugins.sqlite.path=FILE` writes one"
            ))),
            Err(error) => Err(Failure::new(error)),
        }
    }
}

impl Source for Database {
    fn document(&self, span: Option<[u64; 2]>) -> Result<Document, String> {
        let reader = Reader::open(&self.path).map_err(|e| e.to_string())?;
        let extent = reader.extent().map_err(|e| e.to_string())?;
        let extent = extent.ok_or_else(|| format!("{}: has no points yet", self.path.display()))?;
        let [from, to] = span.unwrap_or([extent.to.saturating_sub(FIRST_LOOK), extent.to]);
        let span = Span { from: from.max(extent.from), to: to.min(extent.to) };
        let mut collector = Collector::default();
        reader.energy_increments(span, &mut collector).map_err(|e| e.to_string())?;
        let about = About {
            title: self.path.display().to_string(),
            extent: Some([extent.from, extent.to]),
            ..About::default()
        };
        Ok(summarise(&collector.finish(), &about))
    }
}

/// Collects increments into a history.
#[derive(Default)]
struct Collector {
    history: History,
    /// The domain of each series, and its consumer; `None`: it is a meter.
    series: Vec<(usize, Option<usize>)>,
    consumers: HashMap<(String, String, u64), usize>,
    /// By their ids.
    user_names: HashMap<String, String>,
}

impl EnergySink for Collector {
    fn series(&mut self, series: EnergySeries) -> Option<usize> {
        let domain = self.history.domain(&series.domain, &series.origin, series.is_counted);
        let consumer = match series.user {
            None => None,
            // What is in no group is what its groups leave over, which the page computes.
            Some(user) if user.id.is_empty() && is_group(&user.kind) => return None,
            Some(user) => Some(self.consumer(user)),
        };
        self.series.push((domain, consumer));
        Some(self.series.len() - 1)
    }

    fn increment(&mut self, key: usize, span: Span, microjoules: u64) {
        let window = Window { begin: span.from, end: span.to };
        match self.series.get(key) {
            Some(&(domain, None)) => self.history.measured(domain, window, microjoules),
            Some(&(domain, Some(consumer))) => self.history.used(consumer, domain, window, microjoules),
            None => {}
        }
    }
}

fn is_group(kind: &str) -> bool {
    ["unit", "container", "pod", "job", "machine", "user"].contains(&kind)
}

impl Collector {
    fn consumer(&mut self, user: EnergyUser) -> usize {
        if let Some((id, name)) = user.owner {
            self.user_names.insert(id, name);
        }
        let key = (user.kind.clone(), user.id.clone(), user.start_unix_nano);
        *self.consumers.entry(key).or_insert_with(|| {
            self.history.consumer(ConsumerInfo {
                kind: user.kind,
                id: user.id,
                name: user.name,
                start_unix_nano: user.start_unix_nano,
                end_unix_nano: user.end_unix_nano,
                parent: user.parent,
            })
        })
    }

    fn finish(mut self) -> History {
        for ((kind, id, _), &consumer) in &self.consumers {
            let name = self.user_names.get(id).filter(|_| kind == "user");
            if let Some((name, info)) = name.zip(self.history.info_mut(consumer)) {
                info.name.clone_from(name);
            }
        }
        self.history
    }
}
