//! Whether the jobs of a host have the room that changing files takes.

use std::io::ErrorKind;

use tokio::task::spawn_blocking;

use super::files::joined;
use super::host::{Host, Seat};

impl Host {
    /// `Ok` where changes of files can be made; else what is in the way, such as a
    /// full disk. Cancel safe.
    pub(super) async fn can_change_files(&self) -> Result<(), String> {
        let journal = self.journal.clone();
        if let Err(error) = joined(spawn_blocking(move || journal.check()).await) {
            tracing::warn!("not ready: the journal cannot be written: {error}");
            // The text may name files: it is for the log.
            let why = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk of the state folder is full",
                _ => "the journal in the state folder cannot be written",
            };
            return Err(format!("no change of a file can be written down: {why}"));
        }
        let hindered = |seat: &Seat| {
            let view = seat.job.view();
            let why = view.hindered.filter(|_| view.paused.is_none())?;
            Some(format!("{}: {why}", seat.job.spec.name))
        };
        let hindered: Vec<_> = self.jobs.iter().filter_map(hindered).collect();
        if !hindered.is_empty() {
            return Err(hindered.join("; "));
        }
        Ok(())
    }
}
