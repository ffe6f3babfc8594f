//! Commands on their way to the writer, and the transaction that a group of
//! them shares.
//!
//! ```text
//!  wait for one ─▶ take all that wait ─▶ BEGIN ─▶ apply each ─▶ COMMIT ─▶ answer all
//!       ▲                                            │ one is at fault
//!       │                                            ▼
//!       │                            ROLLBACK, BEGIN, a savepoint each
//!       └──────── what arrives meanwhile is the next group ◀──┘
//! ```

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::writing::{Command, Writing};
use crate::faults::{self, Mutant};
use crate::store::StoreError;

/// A command that waits for its group, whatever it answers.
pub(super) trait Entry: Send {
    /// About how many rows it writes.
    fn rows(&self) -> usize;
    /// Whether it brings in new tasks.
    fn is_intake(&self) -> bool;
    /// Applies the command and keeps the answer.
    fn apply(&mut self, writing: &mut Writing<'_>) -> Result<(), Fault>;
    /// Keeps an error in place of an answer.
    fn fail(&mut self, error: StoreError);
    /// Tells the caller, if it still waits; once.
    fn answer(&mut self);
}

/// A command and whoever asked for it.
pub(super) struct Asked<C: Command> {
    command: C,
    answer: Option<Result<C::Answer, StoreError>>,
    reply: Option<oneshot::Sender<Result<C::Answer, StoreError>>>,
}

impl<C: Command> Asked<C> {
    pub(super) fn new(command: C, reply: oneshot::Sender<Result<C::Answer, StoreError>>) -> Self {
        Self { command, answer: None, reply: Some(reply) }
    }
}

impl<C: Command> Entry for Asked<C> {
    fn rows(&self) -> usize {
        self.command.rows()
    }

    fn is_intake(&self) -> bool {
        self.command.is_intake()
    }

    fn apply(&mut self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        self.answer = Some(Ok(self.command.apply(writing)?));
        Ok(())
    }

    fn fail(&mut self, error: StoreError) {
        self.answer = Some(Err(error));
    }

    fn answer(&mut self) {
        if let (Some(answer), Some(reply)) = (self.answer.take(), self.reply.take()) {
            // Nobody listens any more when the caller's future was dropped.
            let _ = reply.send(answer);
        }
    }
}

/// Entries that share a transaction.
pub(super) type Group = Vec<Box<dyn Entry>>;

/// Why a group was not committed.
#[derive(Debug)]
pub(super) enum Undone {
    /// It was rolled back: nothing is written.
    RolledBack(Fault),
    /// The commit failed half way: what it wrote may turn up after a crash.
    Unconfirmed(Fault),
}

/// Applies and commits the group; a command that is itself at fault falls out
/// of it alone and keeps its error.
///
/// `writing` begins the view of a transaction that the commands get.
pub(super) fn commit<'c>(
    conn: &'c Connection,
    writing: impl Fn() -> Writing<'c>,
    group: &mut Group,
    refusal: impl Fn(&Fault) -> StoreError,
) -> Result<(), Undone> {
    match transaction(conn, || together(writing(), group)) {
        Err(Undone::RolledBack(fault)) if fault.is_the_commands() => {
            transaction(conn, || each(conn, writing(), group, refusal))
        }
        done => done,
    }
}

fn together(mut writing: Writing<'_>, group: &mut Group) -> Result<(), Fault> {
    group.iter_mut().try_for_each(|entry| entry.apply(&mut writing))?;
    writing.finish()?;
    if faults::is(Mutant::AcknowledgeBeforeCommit) {
        for entry in group.iter_mut() {
            entry.answer();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

fn each(
    conn: &Connection,
    mut writing: Writing<'_>,
    group: &mut Group,
    refusal: impl Fn(&Fault) -> StoreError,
) -> Result<(), Fault> {
    for entry in group.iter_mut() {
        conn.execute_batch("SAVEPOINT entry")?;
        match entry.apply(&mut writing) {
            Ok(()) => {}
            Err(fault) if fault.is_the_commands() => {
                conn.execute_batch("ROLLBACK TO entry")?;
                entry.fail(refusal(&fault));
            }
            Err(fault) => return Err(fault),
        }
        conn.execute_batch("RELEASE entry")?;
    }
    writing.finish()
}

fn transaction(conn: &Connection, apply: impl FnOnce() -> Result<(), Fault>) -> Result<(), Undone> {
    let begun = conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([]));
    begun.map_err(|error| Undone::RolledBack(Fault::from(error).on(conn)))?;
    if let Err(fault) = apply() {
        let fault = fault.on(conn);
        roll_back(conn);
        return Err(Undone::RolledBack(fault));
    }
    let committed = conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
    committed.map(drop).map_err(|error| {
        let fault = Fault::from(error).on(conn);
        roll_back(conn);
        match fault.code() {
            // The last page, which makes it a commit, did not fit.
            Some(rusqlite::ErrorCode::DiskFull) => Undone::RolledBack(fault),
            _ => Undone::Unconfirmed(fault),
        }
    })
}

/// Some errors have rolled back already; after any other failure of a rollback
/// the next BEGIN fails and says so.
fn roll_back(conn: &Connection) {
    if !conn.is_autocommit() {
        let _ = conn.execute_batch("ROLLBACK");
    }
}
