//! Where removed files go first, and how they leave it.

use std::time::Duration;

/// A job's trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trash {
    /// How long removed files stay.
    pub keep: Duration,
    /// Where the file system has less space left than this, the oldest go
    /// before their time.
    pub min_free: Option<u64>,
    /// How fast they go.
    pub rate: PurgeRate,
}

/// The most that is purged in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeRate {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}
