//! How the domain's values stand in PostgreSQL's columns.

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::fault::Fault;
use crate::domain::digest::Digest;
use crate::domain::task::{Fence, Priority, TaskId, TaskState};
use crate::domain::time::Timestamp;

/// The server's clock in milliseconds.
macro_rules! server_now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::int8"
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

pub(super) fn to_fence(fence: i64) -> Fence {
    Fence(fence.unsigned_abs())
}

pub(super) fn count(count: i32) -> u32 {
    u32::try_from(count).unwrap_or_default()
}

pub(super) const PENDING: i16 = 0;
pub(super) const RUNNING: i16 = 1;
pub(super) const DEAD: i16 = 3;

pub(super) fn state(state: TaskState) -> i16 {
    match state {
        TaskState::Pending => PENDING,
        TaskState::Running => RUNNING,
        TaskState::Done => 2,
        TaskState::Dead => DEAD,
        TaskState::Cancelled => 4,
    }
}

pub(super) fn task_state(number: i16) -> Result<TaskState, Fault> {
    let known = TaskState::ALL.into_iter().find(|known| state(*known) == number);
    known.ok_or_else(|| Fault::Refused(format!("the database has a task in state {number}")))
}

pub(super) fn priority(priority: Priority) -> i16 {
    match priority {
        Priority::Urgent => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

pub(super) fn task_priority(number: i16) -> Result<Priority, Fault> {
    let known = Priority::ALL.into_iter().find(|known| priority(*known) == number);
    known.ok_or_else(|| Fault::Refused(format!("the database has a task of priority {number}")))
}

/// Keys are stored as bytes, so that no collation ever compares them.
pub(super) fn key(bytes: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(|error| Fault::Refused(format!("a key in the database cannot be read: {error}")))
}

pub(super) fn digest(row: &PgRow, column: usize) -> Result<Option<Digest>, Fault> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    Ok(bytes.and_then(Digest::from_bytes))
}

/// The server's clock.
pub(super) async fn server_clock(conn: &mut PgConnection) -> Result<Timestamp, Fault> {
    let now = sqlx::query_scalar(concat!("SELECT ", server_now!())).fetch_one(conn).await?;
    Ok(time(now))
}

/// Whether a transaction may write; reads from the queue with it.
pub(super) async fn takes_writes(conn: &mut PgConnection) -> Result<bool, Fault> {
    let sql = "SELECT current_setting('transaction_read_only') = 'off', (SELECT min(id) FROM jobs)";
    Ok(sqlx::query(sql).fetch_one(conn).await?.try_get(0)?)
}
