//! How our tables are made, and which version of them is there.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PostgresError;
use super::connect::{Link, within};
use super::error::{Cause, Trouble};
use super::settings::PostgresSettings;
use super::tables::{Schema, VERSION, lock_number, schema_sql};

/// Makes the tables if they aren't there; two that start at once make them
/// once.
pub(super) async fn prepare(link: &Link, settings: &PostgresSettings) -> Result<(), PostgresError> {
    let time = settings.answer_within;
    let refused = |doing| move |trouble| of_trouble(trouble, doing);
    let looking = "looking for our tables";
    let there = within(time, version(link, &settings.schema)).await.and_then(|found| found);
    if let Some(found) = there.map_err(refused(looking))? {
        return check_version(settings, found);
    }
    if !settings.make {
        let error = Arc::new(Cause::new("nobody has made them"));
        return Err(PostgresError::Missing { schema: settings.schema.to_string(), error });
    }
    let making = within(time, make(link, settings)).await.and_then(|made| made);
    match making {
        Ok(found) => check_version(settings, found),
        Err(trouble) => match of_trouble(trouble, "making our tables") {
            PostgresError::Refused { error, .. } => {
                Err(PostgresError::Missing { schema: settings.schema.to_string(), error })
            }
            other => Err(other),
        },
    }
}

fn check_version(settings: &PostgresSettings, found: i32) -> Result<(), PostgresError> {
    if found == VERSION {
        return Ok(());
    }
    let schema = settings.schema.to_string();
    Err(PostgresError::Newer { schema, found, known: VERSION })
}

/// The version of our tables; none if there are none.
async fn version(link: &Link, schema: &Schema) -> Result<Option<i32>, Trouble> {
    // Not to_regclass: that would remember what it found before the lock.
    const THERE: &str = "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                         where n.nspname = $1 and c.relname = 'meta'";
    let name = schema.to_string();
    if link.client.query_typed(THERE, &[(&name, Type::TEXT)]).await?.is_empty() {
        return Ok(None);
    }
    let name = format!("{schema}.meta");
    let rows = link.client.query_typed(&format!("select schema from {name}"), &[]).await?;
    let row = rows.first().ok_or_else(|| Trouble::Wrong(Cause::new(format!("{name} is empty"))))?;
    Ok(Some(row.try_get(0)?))
}

/// Makes the tables under a lock, unless somebody has by then.
async fn make(link: &Link, settings: &PostgresSettings) -> Result<i32, Trouble> {
    let schema = &settings.schema;
    let lock = lock_number(schema, "commit");
    link.client.batch_execute(&format!("begin; select pg_advisory_xact_lock({lock})")).await?;
    if let Some(found) = version(link, schema).await? {
        link.client.batch_execute("rollback").await?;
        return Ok(found);
    }
    let name = schema.to_string();
    let there = "select 1 from pg_namespace where nspname = $1";
    let there = !link.client.query_typed(there, &[(&name, Type::TEXT)]).await?.is_empty();
    let all = schema_sql(schema);
    // Who may not make schemas may not even ask for one that is there.
    let first = all.find(';').map_or(0, |end| end + 1);
    let statements = if there { all.get(first..).unwrap_or_default() } else { &all };
    link.client.batch_execute(statements).await?;
    link.client.batch_execute("commit").await?;
    Ok(VERSION)
}

pub(super) fn of_trouble(trouble: Trouble, doing: &'static str) -> PostgresError {
    let error: Arc<dyn std::error::Error + Send + Sync> = match trouble {
        Trouble::Again(cause) | Trouble::Wrong(cause) => Arc::new(cause),
        Trouble::Store(error) => Arc::new(error),
    };
    PostgresError::Refused { doing, error }
}
