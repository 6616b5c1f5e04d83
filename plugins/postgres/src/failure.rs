//! What an error of the database means: whether what is staged may be taken later.

use std::fmt;

use tokio_postgres::error::SqlState;
use wattrace_http::chain;

/// Why nothing was committed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may be taken later: there is no connection, or an operator has to put something right.
    Later(String),
    /// The database never takes these rows.
    Refused(String),
    /// It never takes any.
    Fatal(String),
}

impl Failure {
    /// There is no answer, or not in time.
    pub(crate) fn later(cause: impl fmt::Display) -> Self {
        Failure::Later(cause.to_string())
    }

    /// The same of what is not about certain rows: none are lost by it.
    pub(crate) fn or_later(self) -> Self {
        match self {
            Failure::Refused(cause) => Failure::Later(cause),
            other => other,
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else { return Failure::Later(chain(&error)) };
        let said = error
            .as_db_error()
            .map_or_else(|| chain(&error), |e| format!("{} ({})", e.message(), state.code()));
        let with = |remedy: &str| Failure::Later(format!("{said}; {remedy}"));
        match state {
            &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                with("check the user and the password of plugins.postgres")
            }
            &SqlState::INVALID_CATALOG_NAME => with("create the database that plugins.postgres.url names"),
            &SqlState::INSUFFICIENT_PRIVILEGE => {
                with("let the user create a schema in the database, or grant it the one that is there")
            }
            // Data exceptions and violated constraints: the same rows fail in the same way again.
            state if state.code().starts_with("22") || state.code().starts_with("23") => {
                Failure::Refused(said)
            }
            _ => Failure::Later(said),
        }
    }
}
