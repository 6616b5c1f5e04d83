//! A connection to the database, and the transaction that writes what is staged.

use std::pin::pin;
use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};
use wattrace_api::Series;
use wattrace_text_output::attributes_json;

use crate::config::{Settings, bad};
use crate::failure::Failure;
use crate::schema;
use crate::staged::{Point, Staged};
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
    /// The id of this run of the agent.
    pub(crate) run: i32,
    merge_series: String,
    merge_points: String,
}

impl Session {
    /// Connects, brings the tables up to date, and registers this run of the agent, which is called `key`.
    /// Must be called within the async runtime.
    pub(crate) async fn open(settings: &Settings, key: &str) -> Result<Self, Failure> {
        let connection = settings.connection().map_err(Failure::later)?;
        let tls = settings.tls.config(&[]).map_err(|e| Failure::later(bad("authority", e)))?;
        let (mut client, background) = connection.connect(MakeTls(tls)).await?;
        // It ends with the client.
        tokio::spawn(background);
        let schema = &settings.schema;
        schema::migrate(&mut client, schema).await?;
        client.batch_execute(STAGING).await?;
        // The second part makes it return the row that is there.
        let register = format!(
            "INSERT INTO {schema}.runs (key, host, agent, started) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (key) DO UPDATE SET host = excluded.host RETURNING id"
        );
        let agent = env!("CARGO_PKG_VERSION");
        let row = client.query_one(&register, &[&key, &settings.host, &agent, &SystemTime::now()]).await?;
        let run: i32 = row.get(0);
        let merge_series = format!(
            "INSERT INTO {schema}.series SELECT id, {run}, metric, unit, kind, step, start, resource_type, \
             resource_id, domain, origin, in_totals, consumer_type, consumer_id, consumer_start, \
             attributes::jsonb FROM wattrace_series \
             ON CONFLICT (id) DO UPDATE SET attributes = excluded.attributes"
        );
        let merge_points = format!(
            "INSERT INTO {schema}.points SELECT * FROM wattrace_points \
             ON CONFLICT (series_id, time) DO UPDATE SET steps = excluded.steps, value = excluded.value"
        );
        Ok(Self { client, run, merge_series, merge_points })
    }

    /// Whether it can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Writes all staged series and `points` in one transaction.
    pub(crate) async fn commit(&mut self, staged: &Staged, points: &[Point]) -> Result<(), Failure> {
        let run = self.run;
        let transaction = self.client.transaction().await?;
        if !staged.series.is_empty() {
            copy_series(&transaction, run, staged).await?;
            transaction.execute(&self.merge_series, &[]).await?;
        }
        if !points.is_empty() {
            copy_points(&transaction, run, points).await?;
            transaction.execute(&self.merge_points, &[]).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// A series' key: runs have no series in common.
fn key(run: i32, number: u32) -> i64 {
    i64::from(run) << 32 | i64::from(number)
}

async fn copy_series(transaction: &Transaction<'_>, run: i32, staged: &Staged) -> Result<(), Failure> {
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
    for (&number, series) in &staged.series {
        let (resource, domain) = (&series.resource, series.domain.as_ref());
        let consumer = series.consumer.as_ref().map(|consumer| consumer.identity());
        rows.as_mut()
            .write(&[
                &key(run, number),
                &clean(&series.metric.name),
                &clean(series.metric.unit.ucum()),
                &series.metric.kind.as_str(),
                &series.metric.step,
                &staged.start(series),
                &clean(resource.kind.as_str()),
                &clean(&resource.id),
                &domain.map(|domain| clean(&domain.name)),
                &domain.map(|domain| domain.origin.as_str()),
                &series.counts_in_totals(),
                &consumer.map(|consumer| consumer.kind.as_str()),
                &consumer.map(|consumer| clean(&consumer.id)),
                &consumer.map(|consumer| staged.time(consumer.start_unix_nano)),
                &attributes(series),
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
        rows.as_mut().write(&[&key(run, point.series), &point.time, &point.steps, &point.value]).await?;
    }
    rows.finish().await?;
    Ok(())
}

/// PostgreSQL's texts hold every character but one.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The attributes as a JSON object.
fn attributes(series: &Series) -> String {
    let mut attributes = attributes_json(series);
    if let Value::Object(attributes) = &mut attributes {
        for value in attributes.values_mut() {
            if let Value::String(text) = value {
                *text = clean(text);
            }
        }
    }
    attributes.to_string()
}
