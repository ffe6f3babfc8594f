//! The table of the service that sweepd replaces: one column,
//! `video_id VARCHAR(64) PRIMARY KEY`, in MySQL or MariaDB.
//!
//! It is read page by page in the order of its primary key, and rows are
//! removed by their exact bytes. The old service compared ids by the table's
//! collation, for which `A1` and `a1` may be one: here that order only serves
//! to find rows, and never to tell two ids apart. This module knows nothing of
//! queues; whoever uses it removes a row only once its task is durable.

mod address;
mod table;

pub use address::{LegacyUrl, TableName};
pub use table::LegacyTable;

/// Why the old table was not read or changed. No message has the URL's
/// password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegacyError {
    /// The URL names no database.
    #[error("the URL of the old database cannot be used: {0}")]
    Url(&'static str),
    /// The server cannot be reached or used now; the same call may succeed
    /// later.
    #[error("{server}: the old database cannot be used now: {why}")]
    Unavailable {
        /// Which server and database.
        server: String,
        /// What it or the network said.
        why: String,
    },
    /// The server refuses the call, and will again.
    #[error("{server}: the old database refuses: {why}")]
    Refused {
        /// Which server and database.
        server: String,
        /// What it said.
        why: String,
    },
    /// The table is not the old service's.
    #[error("{server}: {why}")]
    NotTheTable {
        /// Which server and database.
        server: String,
        /// What differs.
        why: String,
    },
}
