//! Whether the store can be read and written.

use rusqlite::Connection;

use super::fault::Fault;
use super::writing::{Command, Writing};

/// [`Store::check`](crate::store::Store::check): takes the write lock and
/// reads. After a failed write it also writes, or a full disk would pass. It is
/// refused as new tasks are: whoever asks wants to know whether those are taken.
pub(super) struct Check;

impl Command for Check {
    type Answer = ();

    fn is_intake(&self) -> bool {
        true
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        let mut read = writing.statement("SELECT value FROM sequences")?;
        let mut rows = read.query([])?;
        while rows.next()?.is_some() {}
        if writing.in_doubt() {
            // A gap in the fences hurts nobody.
            writing.fresh_fence()?;
        }
        Ok(())
    }
}

/// Whether the store can be read, where nothing may be written.
pub(super) fn readable(conn: &Connection) -> Result<(), Fault> {
    Ok(conn.query_row("SELECT count(*) FROM sequences", [], |_| Ok(()))?)
}
