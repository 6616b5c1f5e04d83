//! A connection to the database, and the transaction that writes what is staged.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use crate::config::{Settings, bad};
use crate::failure::Failure;
use crate::portion::{Point, Run, SeriesRow};
use crate::schema;
use crate::tls::MakeTls;

/// Where rows are copied to before they are merged into the tables.
const STAGING: &str = "\
    CREATE TEMPORARY TABLE wattrace_points (\
        series_id bigint, time timestamptz, steps bigint, value double precision) ON COMMIT DELETE ROWS;\
    CREATE TEMPORARY TABLE wattrace_series (\
        id bigint, metric text, unit text, kind text, step double precision, start timestamptz, \
        resource_type text, resource_id text, domain text, origin text, in_totals boolean, \
        consumer_type text, consumer_id text, consumer_start timestamptz, attributes text) \
        ON COMMIT DELETE ROWS";

const COPY_POINTS: &str = "COPY wattrace_points FROM STDIN (FORMAT binary)";
const COPY_SERIES: &str = "COPY wattrace_series FROM STDIN (FORMAT binary)";

/// An open connection to a database with our tables.
pub(crate) struct Session {
    client: Client,
    schema: String,
    /// The ids of runs, by their keys.
    runs: HashMap<String, i32>,
}

impl Session {
    /// Connects, and brings the tables up to date. Must be called within the async runtime.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let connection = settings.connection().map_err(Failure::later)?;
        let tls = settings.tls.config(&[]).map_err(|e| Failure::later(bad("authority", e)))?;
        let (mut client, background) = connection.connect(MakeTls(tls)).await?;
        // It ends with the client.
        tokio::spawn(background);
        schema::migrate(&mut client, &settings.schema).await?;
        client.batch_execute(STAGING).await?;
        Ok(Self { client, schema: settings.schema.clone(), runs: HashMap::new() })
    }

    /// Whether it can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// The id of a run of an agent, which is registered if it is not known yet.
    pub(crate) async fn register(&mut self, run: &Run) -> Result<i32, Failure> {
        if let Some(id) = self.runs.get(&run.key) {
            return Ok(*id);
        }
        // The second part makes it return the row that is there.
        let register = format!(
            "INSERT INTO {}.runs (key, host, agent, started) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (key) DO UPDATE SET host = excluded.host RETURNING id",
            self.schema
        );
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&run.key, &run.host, &run.agent, &time(run.started)];
        let id: i32 = self.client.query_one(&register, &values).await?.get(0);
        self.runs.insert(run.key.clone(), id);
        Ok(id)
    }

    /// Writes series and points of the run `run` in one transaction.
    pub(crate) async fn commit(
        &mut self,
        run: i32,
        series: &[SeriesRow],
        points: &[Point],
    ) -> Result<(), Failure> {
        let schema = &self.schema;
        let transaction = self.client.transaction().await?;
        if !series.is_empty() {
            copy_series(&transaction, run, series).await?;
            let merge = format!(
                "INSERT INTO {schema}.series SELECT id, {run}, metric, unit, kind, step, start, \
                 resource_type, resource_id, domain, origin, in_totals, consumer_type, consumer_id, \
                 consumer_start, attributes::jsonb FROM wattrace_series \
                 ON CONFLICT (id) DO UPDATE SET attributes = excluded.attributes"
            );
            transaction.execute(&merge, &[]).await?;
        }
        if !points.is_empty() {
            copy_points(&transaction, run, points).await?;
            let merge = format!(
                "INSERT INTO {schema}.points SELECT * FROM wattrace_points \
                 ON CONFLICT (series_id, time) DO UPDATE SET steps = excluded.steps, value = excluded.value"
            );
            transaction.execute(&merge, &[]).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// A series' key: runs have no series in common.
fn key(run: i32, number: u32) -> i64 {
    i64::from(run) << 32 | i64::from(number)
}

/// A time in microseconds since the Unix epoch.
fn time(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

async fn copy_series(transaction: &Transaction<'_>, run: i32, series: &[SeriesRow]) -> Result<(), Failure> {
    let text = Type::TEXT;
    let types = [
        Type::INT8,
        text.clone(),
        text.clone(),
        text.clone(),
        Type::FLOAT8,
        Type::TIMESTAMPTZ,
        text.clone(),
        text.clone(),
        text.clone(),
        text.clone(),
        Type::BOOL,
        text.clone(),
        text.clone(),
        Type::TIMESTAMPTZ,
        text,
    ];
    let sink = transaction.copy_in(COPY_SERIES).await?;
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in series {
        rows.as_mut()
            .write(&[
                &key(run, row.number),
                &row.metric,
                &row.unit,
                &row.kind,
                &row.step,
                &time(row.start),
                &row.resource_type,
                &row.resource_id,
                &row.domain,
                &row.origin,
                &row.in_totals,
                &row.consumer_type,
                &row.consumer_id,
                &row.consumer_start.map(time),
                &row.attributes,
            ])
            .await?;
    }
    rows.finish().await?;
    Ok(())
}

async fn copy_points(transaction: &Transaction<'_>, run: i32, points: &[Point]) -> Result<(), Failure> {
    let types = [Type::INT8, Type::TIMESTAMPTZ, Type::INT8, Type::FLOAT8];
    let sink = transaction.copy_in(COPY_POINTS).await?;
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &types));
    for point in points {
        let value = point.value.map(f64::from_bits);
        rows.as_mut().write(&[&key(run, point.series), &time(point.time), &point.steps, &value]).await?;
    }
    rows.finish().await?;
    Ok(())
}
