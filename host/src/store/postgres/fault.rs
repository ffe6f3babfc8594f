//! From PostgreSQL's errors to the store's: sorted by what the caller can do,
//! and told with the server's name, never with a password.

use crate::store::StoreError;
use crate::store::group::{Undone, closed};

/// Why a command was not applied, before anybody knows which server it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server or the way to it said no.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The command makes no sense, whatever the state of the server.
    #[error("{0}")]
    Refused(String),
    /// Others changed the same tasks again and again.
    #[error("other callers change the same tasks all the time")]
    Contended,
    /// The server is a standby, or set to read only.
    #[error("the server takes no writes")]
    ReadOnly,
}

/// What an error says about the connection and the transaction.
enum Kind {
    /// The transaction was in others' way.
    Conflict,
    /// The connection is gone or about to be.
    Gone,
    /// The statement's values are at fault.
    Data,
    /// The schema is not the one that this version made.
    Schema,
    /// Anything else that may pass.
    Server,
}

impl Fault {
    fn kind(&self) -> Kind {
        let error = match self {
            Self::Refused(_) => return Kind::Data,
            Self::Contended => return Kind::Conflict,
            Self::ReadOnly => return Kind::Server,
            Self::Sql(error) => error,
        };
        let sqlx::Error::Database(error) = error else {
            return match error {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Kind::Gone,
                sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Kind::Server,
                _ => Kind::Data,
            };
        };
        let code = error.code().unwrap_or_default();
        match code.as_ref() {
            "40001" | "40P01" | "55P03" => Kind::Conflict,
            "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => Kind::Gone,
            "3D000" | "42P01" | "42703" => Kind::Schema,
            code if code.starts_with("08") => Kind::Gone,
            code if code.starts_with("22") || code.starts_with("23") => Kind::Data,
            _ => Kind::Server,
        }
    }

    /// As the store's error about the server at `place`, where nothing was
    /// written.
    pub(super) fn about(&self, place: &str) -> StoreError {
        match self.kind() {
            Kind::Data => StoreError::Rejected(self.to_string()),
            Kind::Schema => StoreError::Incompatible(format!(
                "{place}: {self}; check that `database.url` names sweepd's own database, and run `sweepd migrate`"
            )),
            Kind::Conflict => StoreError::Unavailable(format!("{place}: {self}; it may be tried again")),
            Kind::Gone => StoreError::Unavailable(format!(
                "{place}: the connection was lost ({self}); sweepd connects again by itself"
            )),
            Kind::Server => self.unavailable(place),
        }
    }

    fn unavailable(&self, place: &str) -> StoreError {
        let code = match self {
            Self::Sql(sqlx::Error::PoolClosed) => return closed(),
            Self::Sql(sqlx::Error::PoolTimedOut) => {
                return StoreError::Unavailable(format!(
                    "{place}: no connection within {} s; the server is down or overloaded, or its \
                     `max_connections` is reached",
                    super::pool::PATIENCE.as_secs()
                ));
            }
            Self::Sql(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
            Self::ReadOnly => "25006".to_owned(),
            _ => String::new(),
        };
        let what_to_do = match code.as_str() {
            "53100" => "free space on the server's disk, sweepd goes on by itself",
            "53300" => "raise the server's `max_connections`, or lower `database.max_connections`",
            "25006" => "it is a standby or read-only; name the primary",
            "28P01" | "28000" | "42501" => "check the user's password and rights",
            _ => "check the server's log",
        };
        StoreError::Unavailable(format!("{place}: {self}; {what_to_do}"))
    }

    /// As the reason why a transaction did not end in an answer.
    /// `committing`: the commit was sent.
    pub(super) fn undone(&self, place: &str, committing: bool) -> Undone {
        let error = self.about(place);
        match self.kind() {
            Kind::Conflict => Undone::Again(error),
            Kind::Gone if committing => Undone::Unconfirmed(error),
            Kind::Gone => Undone::Lost(error),
            Kind::Data | Kind::Schema | Kind::Server => Undone::Failed(error),
        }
    }
}
