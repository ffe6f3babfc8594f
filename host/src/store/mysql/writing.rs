//! Transactions: what a command sees of one, and how often it is tried.

use async_trait::async_trait;
use sqlx::{MySqlConnection, Row as _};

use super::Shared;
use super::fault::Fault;
use super::numbers::Numbers;
use super::server::{LONGEST, Lease};
use super::sql::{self, server_now};
use crate::domain::time::Timestamp;
use crate::store::group::{Tries, Undone, reason};
use crate::store::{At, StoreError};

/// One method of the store, as a transaction applies it.
///
/// It may be applied more than once, after a rollback each time, so it keeps
/// nothing from a try that failed.
#[async_trait]
pub(super) trait Command: Send + Sync {
    /// What the caller learns.
    type Answer: Send;

    /// Whether it may be done again when it was committed already and nobody
    /// heard of it.
    const REPEATABLE: bool = true;

    /// How many numbers for tasks are to be there before it begins.
    fn numbers(&self) -> usize {
        0
    }

    /// Does it, within a transaction.
    async fn apply(&self, work: &mut Work<'_>) -> Result<Self::Answer, Fault>;
}

/// An open transaction. Dropped before its end, it is rolled back.
pub(super) struct Work<'s> {
    lease: Lease,
    numbers: &'s Numbers,
    now: Timestamp,
}

impl<'s> Work<'s> {
    /// Begins one, and reads the server's clock with it.
    async fn begin(shared: &'s Shared, numbers: usize) -> Result<Self, Fault> {
        let mut lease = shared.server.lease().await?;
        shared.numbers.fill(lease.conn(), numbers).await?;
        let begin = concat!("START TRANSACTION; SELECT ", server_now!());
        let rows = sqlx::raw_sql(begin).fetch_all(lease.conn()).await?;
        let clock = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Self { now: sql::time(clock.try_get(0)?), lease, numbers: &shared.numbers })
    }

    /// The connection.
    pub(super) fn conn(&mut self) -> &mut MySqlConnection {
        self.lease.conn()
    }

    /// The connection, and where numbers for new tasks come from.
    pub(super) fn conn_and_numbers(&mut self) -> (&mut MySqlConnection, &'s Numbers) {
        (self.lease.conn(), self.numbers)
    }

    /// The time that the caller goes by.
    pub(super) fn now(&self, at: At) -> Timestamp {
        match at {
            At::Server => self.now,
            At::Fixed(time) => time,
        }
    }

    async fn end(mut self, how: &'static str) -> Result<(), Fault> {
        sqlx::raw_sql(how).execute(self.lease.conn()).await?;
        self.lease.give_back();
        Ok(())
    }
}

impl Shared {
    /// Applies `command` in a transaction of its own, again where that helps.
    /// A dropped future leaves it written whole or not at all.
    pub(super) async fn write<C: Command>(&self, command: &C) -> Result<C::Answer, StoreError> {
        let mut tries = Tries::default();
        loop {
            match self.attempt(command).await {
                Ok(answer) => return Ok(answer),
                Err(Undone::Unconfirmed(error)) if !C::REPEATABLE => {
                    return Err(StoreError::Unknown(reason(error)));
                }
                Err(undone) => tries.again(undone).await?,
            }
        }
    }

    /// Applies `command` in a transaction, once.
    pub(super) async fn attempt<C: Command>(&self, command: &C) -> Result<C::Answer, Undone> {
        // The server would refuse it, too.
        if self.server.read_only() {
            return Err(Undone::Failed(crate::store::read_only(&self.server.place())));
        }
        let applied = async {
            let mut work = Work::begin(self, command.numbers()).await?;
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
        let (answer, work) = applied.map_err(|fault| self.server.undone(&fault, false))?;
        let committed = tokio::time::timeout(LONGEST, work.end("COMMIT")).await.unwrap_or(Err(Fault::Silent(LONGEST)));
        committed.map_err(|fault| self.server.undone(&fault, true))?;
        Ok(answer)
    }
}
