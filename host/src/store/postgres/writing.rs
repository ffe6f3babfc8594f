//! Transactions: what a command sees of one, and how often it is tried.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Row as _};

use super::Shared;
use super::fault::Fault;
use super::pool::LONGEST;
use super::sql::{self, server_now};
use crate::domain::time::Timestamp;
use crate::store::group::{Tries, Undone};
use crate::store::{At, StoreError};

/// One method of the store, as a transaction applies it.
///
/// It may be applied more than once, after a rollback each time, so it keeps
/// nothing from a try that failed.
#[async_trait]
pub(super) trait Command: Send + Sync {
    /// What the caller learns.
    type Answer: Send;

    /// Does it, within a transaction.
    async fn apply(&self, work: &mut Work) -> Result<Self::Answer, Fault>;
}

/// An open transaction. Dropped before its end, it takes its connection along,
/// and the server rolls it back.
pub(super) struct Work {
    conn: PoolConnection<Postgres>,
    pub(super) shared: Arc<Shared>,
    now: Timestamp,
    ended: bool,
}

impl Work {
    /// Begins one, and reads the server's clock with it.
    async fn begin(shared: &Arc<Shared>) -> Result<Self, Fault> {
        let conn = shared.server.connection().await?;
        let mut work = Self { conn, shared: Arc::clone(shared), now: Timestamp(0), ended: false };
        let rows = sqlx::raw_sql(concat!("BEGIN; SELECT ", server_now!())).fetch_all(&mut *work.conn).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        work.now = sql::time(row.try_get(0)?);
        Ok(work)
    }

    /// The connection.
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// The time that the caller goes by.
    pub(super) fn now(&self, at: At) -> Timestamp {
        match at {
            At::Server => self.now,
            At::Fixed(time) => time,
        }
    }

    async fn end(mut self, how: &'static str) -> Result<(), Fault> {
        sqlx::raw_sql(how).execute(&mut *self.conn).await?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.ended {
            self.conn.close_on_drop();
        }
    }
}

/// Applies `command` in a transaction of its own, again where that helps. A
/// dropped future leaves it written whole or not at all.
pub(super) async fn write<C: Command>(shared: &Arc<Shared>, command: &C) -> Result<C::Answer, StoreError> {
    let mut tries = Tries::default();
    loop {
        match attempt(shared, command).await {
            Ok(answer) => return Ok(answer),
            Err(undone) => tries.again(undone).await?,
        }
    }
}

/// Applies `command` in a transaction, once.
pub(super) async fn attempt<C: Command>(shared: &Arc<Shared>, command: &C) -> Result<C::Answer, Undone> {
    shared.must_write().map_err(Undone::Failed)?;
    let server = &shared.server;
    let applied = async {
        let mut work = Work::begin(shared).await?;
        match command.apply(&mut work).await {
            Ok(answer) => Ok((answer, work)),
            Err(fault) => {
                // If that fails, too, the connection goes.
                let _ = work.end("ROLLBACK").await;
                Err(fault)
            }
        }
    };
    let applied = tokio::time::timeout(LONGEST, applied).await.unwrap_or(Err(Fault::Silent(LONGEST)));
    let (answer, work) = applied.map_err(|fault| server.undone(&fault, false))?;
    let committed = tokio::time::timeout(LONGEST, work.end("COMMIT")).await.unwrap_or(Err(Fault::Silent(LONGEST)));
    committed.map_err(|fault| server.undone(&fault, true))?;
    Ok(answer)
}
