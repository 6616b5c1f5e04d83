//! What waits in a spool's file, read with SQLite, gzip and OTLP's messages alone: what an agent that was
//! killed has made safe, and so owes to the collector.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use rusqlite::Connection;

use super::conduct::Fate;
use super::ledger::{Key, Value};
use super::seen::Seen;

/// The newest value of each stream in `file`: nothing, if there is no such file. The file and its log stay as
/// they are, since a copy is read. `None`: they changed meanwhile.
pub(crate) fn spooled(file: &Path) -> Option<HashMap<Key, Value>> {
    if !file.exists() {
        return Some(HashMap::new());
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("spool.db");
    // Without a log all is in the file.
    _ = std::fs::copy(file.with_extension("db-wal"), copy.with_extension("db-wal"));
    std::fs::copy(file, &copy).ok()?;
    let mut seen = Seen::default();
    let connection = Connection::open(copy).ok()?;
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'payloads'";
    if connection.query_row(sql, [], |row| row.get::<_, i64>(0)).ok()? == 0 {
        // It was being created.
        return Some(HashMap::new());
    }
    let mut select = connection.prepare("SELECT payload FROM payloads ORDER BY id").ok()?;
    let mut rows = select.query([]).ok()?;
    while let Some(row) = rows.next().ok()? {
        let mut request = Vec::new();
        GzDecoder::new(row.get_ref(0).ok()?.as_blob().ok()?).read_to_end(&mut request).ok()?;
        seen.settle(&ExportMetricsServiceRequest::decode(&*request).ok()?, Fate::Taken, false);
    }
    Some(seen.newest)
}
