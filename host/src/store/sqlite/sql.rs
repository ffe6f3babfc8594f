//! How the domain's values stand in SQLite's columns.

use rusqlite::types::Type;

use crate::domain::digest::Digest;
use crate::domain::task::{Fence, Priority, TaskId, TaskState};
use crate::domain::time::Timestamp;

/// The most that a column holds; what is later is as good as never.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn millis(time: Timestamp) -> i64 {
    integer(time.0)
}

pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp(millis.try_into().unwrap_or_default())
}

pub(super) fn id(id: TaskId) -> i64 {
    integer(id.0)
}

pub(super) fn task_id(id: i64) -> TaskId {
    TaskId(id.try_into().unwrap_or_default())
}

pub(super) fn fence(fence: Fence) -> i64 {
    integer(fence.0)
}

pub(super) fn count(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

pub(super) const PENDING: i64 = 0;
pub(super) const RUNNING: i64 = 1;
pub(super) const DONE: i64 = 2;
pub(super) const DEAD: i64 = 3;
pub(super) const CANCELLED: i64 = 4;

pub(super) fn state(state: TaskState) -> i64 {
    match state {
        TaskState::Pending => PENDING,
        TaskState::Running => RUNNING,
        TaskState::Done => DONE,
        TaskState::Dead => DEAD,
        TaskState::Cancelled => CANCELLED,
    }
}

pub(super) fn task_state(number: i64) -> rusqlite::Result<TaskState> {
    TaskState::ALL
        .into_iter()
        .find(|known| state(*known) == number)
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))
}

pub(super) fn priority(priority: Priority) -> i64 {
    match priority {
        Priority::Urgent => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

pub(super) fn task_priority(number: i64) -> rusqlite::Result<Priority> {
    Priority::ALL
        .into_iter()
        .find(|known| priority(*known) == number)
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// Keys are stored as bytes, so that no collation ever compares them.
pub(super) fn key(bytes: Vec<u8>) -> rusqlite::Result<String> {
    String::from_utf8(bytes).map_err(|error| unreadable(Type::Blob, error))
}

pub(super) fn digest(bytes: Option<&[u8]>) -> Option<Digest> {
    bytes.and_then(Digest::from_bytes)
}

pub(super) fn unreadable(kind: Type, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(error))
}
