//! The tables and views: created in an empty schema, and brought up to date by the migrations that it lacks.

use tokio_postgres::{Client, Transaction};
use tracing::{info, warn};
use wattrace_http::chain;

use crate::failure::Failure;

/// What each version adds to the one before. A migration that was released does not change any more.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];

/// Brings `schema` to the version of this agent. `schema` is a plain name.
///
/// # Errors
/// The database's; fatal: a version that this agent does not know.
pub(crate) async fn migrate(client: &mut Client, schema: &str) -> Result<(), Failure> {
    if version(client, schema).await? == Some(MIGRATIONS.len()) {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    // Another agent may do the same at the same time.
    let lock = "SELECT pg_advisory_xact_lock(hashtext($1))";
    transaction.execute(lock, &[&format!("wattrace schema {schema}")]).await?;
    let exists = "SELECT to_regnamespace($1) IS NOT NULL";
    if !transaction.query_one(exists, &[&schema]).await?.get::<_, bool>(0) {
        transaction.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    let table = format!("CREATE TABLE IF NOT EXISTS {schema}.schema_version (version integer NOT NULL)");
    transaction.batch_execute(&table).await?;
    let known = MIGRATIONS.len();
    let now = version(&transaction, schema).await?.unwrap_or(0);
    if now > known {
        return Err(Failure::Fatal(format!(
            "the schema {schema} has version {now}, and this Wattrace knows versions up to {known}: update \
             the agent, or choose another plugins.postgres.schema"
        )));
    }
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(now) {
        transaction.batch_execute(&migration.replace("{schema}", schema)).await?;
        if number == 0 {
            make_hypertable(&transaction, schema).await?;
        }
    }
    let set =
        format!("DELETE FROM {schema}.schema_version; INSERT INTO {schema}.schema_version VALUES ({known})");
    transaction.batch_execute(&set).await?;
    transaction.commit().await?;
    if now < known {
        info!("plugins.postgres: the schema {schema} has version {known} now (it had {now})");
    }
    Ok(())
}

/// The version of a schema; `None`: it has no tables of ours.
async fn version(
    client: &impl tokio_postgres::GenericClient,
    schema: &str,
) -> Result<Option<usize>, Failure> {
    let table = format!("{schema}.schema_version");
    let exists = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    if !exists.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client.query_opt(&format!("SELECT version FROM {table}"), &[]).await?;
    Ok(row.and_then(|row| usize::try_from(row.get::<_, i32>(0)).ok()))
}

/// Makes the table of points a hypertable if the database has TimescaleDB. Without it, or if it does not
/// want to, the table stays a plain one.
async fn make_hypertable(transaction: &Transaction<'_>, schema: &str) -> Result<(), Failure> {
    let installed = "SELECT quote_ident(nspname) FROM pg_extension \
                     JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'timescaledb'";
    let Some(row) = transaction.query_opt(installed, &[]).await? else { return Ok(()) };
    let make = format!(
        "SAVEPOINT hypertable; SELECT {}.create_hypertable('{schema}.points', 'time')",
        row.get::<_, String>(0)
    );
    if let Err(e) = transaction.batch_execute(&make).await {
        warn!("plugins.postgres: {schema}.points stays a plain table: {}", chain(&e));
        transaction.batch_execute("ROLLBACK TO SAVEPOINT hypertable").await?;
    }
    Ok(())
}
