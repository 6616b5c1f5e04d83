//! What a scrape gets. It is made at most once a second, whoever asks: that bounds what scrapes cost, and
//! nobody sees energy at a finer grain, which would show what other users' programs compute.

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use wattrace_api::{Batch, Clock, Timestamp};

use crate::table::Table;
use crate::text::{self, Format};

/// How long a text is served before a new one is made.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A text in one format.
#[derive(Debug)]
pub(crate) struct Exposition {
    format: Format,
    made: Timestamp,
    /// The number of the last ended series in it.
    last_ended: u64,
    body: Bytes,
    gzipped: OnceLock<Bytes>,
}

impl Exposition {
    /// The text.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The text, compressed.
    pub(crate) fn gzipped(&self) -> Bytes {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            // Writing to memory cannot fail.
            _ = encoder.write_all(&self.body);
            Bytes::from(encoder.finish().unwrap_or_default())
        };
        self.gzipped.get_or_init(compress).clone()
    }
}

/// The table, shared by the output and the server.
#[derive(Debug)]
pub(crate) struct Exhibit {
    clock: Clock,
    keep_ended: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Table,
    latest: Vec<Arc<Exposition>>,
    duplicates: u64,
}

impl Exhibit {
    /// What `table` holds.
    pub(crate) fn new(table: Table, clock: Clock, keep_ended: Duration) -> Self {
        let inner = Mutex::new(Inner { table, latest: Vec::new(), duplicates: 0 });
        Self { clock, keep_ended, inner }
    }

    /// Takes a batch.
    pub(crate) fn write(&self, batch: &Batch) {
        self.lock().table.write(batch);
    }

    /// The text for a request. `is_scrape`: it comes from a server that keeps what it gets, so ended series
    /// need not be served to it again.
    pub(crate) fn expose(&self, format: Format, is_scrape: bool) -> Arc<Exposition> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let Inner { table, latest, duplicates } = &mut *inner;
        latest.retain(|exposition| now.since(exposition.made) < MAX_AGE);
        let exposition = match latest.iter().find(|exposition| exposition.format == format) {
            Some(exposition) => exposition.clone(),
            None => {
                table.ended.forget(now, self.keep_ended);
                let text = text::write(table, &self.clock, format);
                *duplicates += text.duplicates;
                let (body, gzipped) = (Bytes::from(text.text), OnceLock::new());
                let last_ended = table.ended.last();
                let exposition = Arc::new(Exposition { format, made: now, last_ended, body, gzipped });
                latest.push(exposition.clone());
                exposition
            }
        };
        if is_scrape {
            table.ended.scraped(exposition.last_ended, now);
        }
        exposition
    }

    /// Ended series that no scrape had yet.
    pub(crate) fn unscraped(&self) -> u64 {
        self.lock().table.ended.unscraped()
    }

    /// Points that were lost since the last call, by reason.
    pub(crate) fn take_losses(&self) -> Vec<(&'static str, u64)> {
        let mut inner = self.lock();
        let duplicates = std::mem::take(&mut inner.duplicates);
        let dropped = inner.table.ended.take_dropped();
        let mut losses = vec![("duplicate_labels", duplicates), ("overflow", dropped)];
        losses.extend(inner.table.take_losses());
        losses.retain(|(_, count)| *count > 0);
        losses
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
