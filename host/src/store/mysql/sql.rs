//! How the domain's values stand in MariaDB's columns, and lists of them in
//! one parameter: a JSON array, which `JSON_TABLE` takes apart.

use serde::Serialize;
use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row as _};

use super::fault::Fault;
use crate::domain::digest::Digest;
use crate::domain::task::{Fence, Priority, TaskId, TaskState};
use crate::domain::time::Timestamp;

/// Numbers from a JSON array, as the table `given`.
macro_rules! given {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS given"
    };
}
pub(super) use given;

/// The numbers of the batch in the row `batches`, as the table `held`.
macro_rules! held {
    () => {
        "JSON_TABLE(batches.ids, '$[*]' COLUMNS (id BIGINT PATH '$')) AS held"
    };
}
pub(super) use held;

/// The server's clock, as a column.
macro_rules! server_now {
    () => {
        "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
    };
}
pub(super) use server_now;

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

pub(super) fn task_fence(fence: i64) -> Fence {
    Fence(fence.try_into().unwrap_or_default())
}

pub(super) fn count(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

pub(super) const PENDING: i64 = 0;
pub(super) const RUNNING: i64 = 1;

pub(super) fn state(state: TaskState) -> i64 {
    match state {
        TaskState::Pending => PENDING,
        TaskState::Running => RUNNING,
        TaskState::Done => 2,
        TaskState::Dead => 3,
        TaskState::Cancelled => 4,
    }
}

pub(super) fn task_state(number: i64) -> Result<TaskState, Fault> {
    let found = TaskState::ALL.into_iter().find(|known| state(*known) == number);
    found.ok_or_else(|| unreadable(format!("{number} is no state")))
}

pub(super) fn priority(priority: Priority) -> i64 {
    match priority {
        Priority::Urgent => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

pub(super) fn task_priority(number: i64) -> Result<Priority, Fault> {
    let found = Priority::ALL.into_iter().find(|known| priority(*known) == number);
    found.ok_or_else(|| unreadable(format!("{number} is no priority")))
}

/// Keys are stored as bytes, so that no collation ever compares them.
pub(super) fn key(bytes: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(unreadable)
}

pub(super) fn digest(bytes: Option<Vec<u8>>) -> Option<Digest> {
    bytes.and_then(|bytes| Digest::from_bytes(&bytes))
}

/// The row holds what no sweepd writes.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Fault {
    Fault::Refused(format!("a row cannot be read: {error}"))
}

/// A list as one parameter.
pub(super) fn json(list: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(list).map_err(|error| Fault::Refused(format!("the values cannot be sent: {error}")))
}

/// Hexadecimal digits, for `UNHEX`.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

/// A number that is never null.
pub(super) fn int(row: &MySqlRow, column: usize) -> Result<i64, Fault> {
    Ok(row.try_get(column)?)
}

/// The server's clock.
pub(super) async fn server_clock(conn: &mut MySqlConnection) -> Result<Timestamp, Fault> {
    Ok(time(sqlx::query_scalar(concat!("SELECT ", server_now!())).fetch_one(conn).await?))
}
