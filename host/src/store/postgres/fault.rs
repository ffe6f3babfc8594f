//! From PostgreSQL's errors to the store's: sorted by what the caller can do,
//! and told with the server's name, never with a password. Which errors cost
//! the session that answered them is decided here and nowhere else.

use std::time::Duration;

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
    /// The server did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// No connection could be made in time, and this is why.
    #[error("no connection: {0}")]
    Unreached(String),
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
    /// A disk of the server, or a quota on it, is full.
    Full,
    /// Anything else that may pass.
    Server,
}

impl Fault {
    fn kind(&self) -> Kind {
        let error = match self {
            Self::Refused(_) => return Kind::Data,
            Self::Contended => return Kind::Conflict,
            Self::ReadOnly | Self::Silent(_) | Self::Unreached(_) => return Kind::Server,
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
            code if is_of_room(code, error.message()) => Kind::Full,
            "40001" | "40P01" | "55P03" => Kind::Conflict,
            "25P03" | "25P04" | "57P01" | "57P02" | "57P03" | "57P05" => Kind::Gone,
            "3D000" | "42P01" | "42703" => Kind::Schema,
            code if code.starts_with("08") => Kind::Gone,
            code if code.starts_with("22") || code.starts_with("23") => Kind::Data,
            _ => Kind::Server,
        }
    }

    /// Whether the session that answered so is not to be used again: it is
    /// gone, or it is in a state in which another session may not be.
    pub(super) fn costs_session(&self) -> bool {
        match self {
            Self::ReadOnly | Self::Silent(_) => true,
            Self::Refused(_) | Self::Contended | Self::Unreached(_) => false,
            Self::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                match self.kind() {
                    Kind::Gone => true,
                    // Another session would meet the same disk.
                    Kind::Full => false,
                    _ => is_of_session(&code),
                }
            }
            Self::Sql(_) => matches!(self.kind(), Kind::Gone),
        }
    }

    /// Whether the server answered that it did not do it, so that no doubt is
    /// left.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(_))) && !matches!(self.kind(), Kind::Gone)
    }

    /// Whether a disk of the server is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.kind(), Kind::Full)
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
            Kind::Gone => StoreError::Unavailable(format!("{place}: the connection is lost: {self}")),
            Kind::Full => {
                StoreError::Full(format!("{place}: {self}; free space on the server's disk or raise its quota"))
            }
            Kind::Server => self.unavailable(place),
        }
    }

    fn unavailable(&self, place: &str) -> StoreError {
        let code = match self {
            Self::Sql(sqlx::Error::PoolClosed) => return closed(),
            Self::Sql(sqlx::Error::PoolTimedOut) => {
                return StoreError::Unavailable(format!(
                    "{place}: all connections of this process were in use for {} s; raise `database.max_connections`",
                    super::pool::PATIENCE.as_secs()
                ));
            }
            Self::Sql(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
            Self::ReadOnly => "25006".to_owned(),
            Self::Silent(_) | Self::Unreached(_) => return StoreError::Unavailable(format!("{place}: {self}")),
            _ => String::new(),
        };
        let what_to_do = match code.as_str() {
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
            // After so long nobody waits for another try.
            _ if matches!(self, Self::Silent(_)) && !committing => Undone::Failed(error),
            _ if self.costs_session() && committing => Undone::Unconfirmed(error),
            _ if self.costs_session() => Undone::Stale(error),
            Kind::Data | Kind::Schema | Kind::Full | Kind::Server => Undone::Failed(error),
        }
    }
}

/// Whether an error of this code, with this text, tells of a full disk. The
/// server has a code for a disk that is full, and takes a quota that is used up
/// for an error of its own.
fn is_of_room(code: &str, text: &str) -> bool {
    let says = || text.contains("No space left on device") || text.contains("Disk quota exceeded");
    code == "53100" || ((code.starts_with("58") || code.starts_with("XX")) && says())
}

/// Whether an error of this code tells of the session that answered, not of
/// the statement or the server alone: the statement may succeed in another
/// session.
fn is_of_session(code: &str) -> bool {
    match code {
        // A read-only transaction: the session began when that was the
        // default, or its server is a standby by now.
        "25006"
        // A conflict that only a stricter isolation than ours has.
        | "40001"
        // A transaction that somebody left open, or that is none.
        | "25001" | "25P01" | "25P02"
        // "cached plan must not change result type".
        | "0A000"
        // A prepared statement that is gone, or is there already.
        | "26000" | "42P05"
        // Another search path: no such schema, table, column or function.
        | "3F000" | "42P01" | "42703" | "42883"
        // A state that this session alone lacks.
        | "55000" => true,
        // The session's process found itself in a state that should not be.
        code => code.starts_with("XX"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_in_a_wrong_state_is_told_from_a_wrong_statement() {
        for code in ["25006", "25P02", "40001", "0A000", "26000", "42P05", "3F000", "42P01", "XX000"] {
            assert!(is_of_session(code), "{code}");
        }
        for code in ["22001", "23505", "40P01", "42601", "53100", "55P03", "57014"] {
            assert!(!is_of_session(code), "{code}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        assert!(is_of_room("53100", "could not extend file"));
        let quota = "could not extend file \"base/5/16384\": Disk quota exceeded";
        assert!(is_of_room("XX000", quota) && is_of_room("58030", "x: No space left on device"));
        assert!(!is_of_room("XX001", "invalid page in block 7") && !is_of_room("58030", "Input/output error"));
        assert!(!is_of_room("22023", quota), "a caller's own words");
    }

    #[test]
    fn what_costs_a_session_and_how_it_is_undone() {
        assert!(matches!(Fault::ReadOnly.undone("there", false), Undone::Stale(_)));
        assert!(matches!(Fault::ReadOnly.undone("there", true), Undone::Unconfirmed(_)));
        let silent = || Fault::Silent(Duration::from_secs(20));
        assert!(silent().costs_session());
        assert!(matches!(silent().undone("there", false), Undone::Failed(_)));
        assert!(matches!(silent().undone("there", true), Undone::Unconfirmed(_)));
        let cut = || Fault::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(cut().costs_session());
        assert!(matches!(cut().undone("there", false), Undone::Lost(_)));
        let full = Fault::from(sqlx::Error::PoolTimedOut);
        assert!(!full.costs_session() && !Fault::Contended.costs_session());
        assert!(!Fault::Refused("no".to_owned()).costs_session());
    }
}
