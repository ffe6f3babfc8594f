//! The one thread that writes: it owns the connection, and commits what waits
//! in groups.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::SqliteOptions;
use super::fault::{Fault, at_limit, full, full_from_the_start};
use super::group::{self, Asked, Entry, Group, Undone};
use super::lock::HostLock;
use super::place::{Opened, Place, Standing};
use super::readers::{Readers, closed};
use super::reserve::Reserve;
use super::writing::{Command, Writing};
use super::{connection, migrate};
use crate::domain::time::Clock;
use crate::faults::{self, Mutant};
use crate::store::StoreError;
use crate::supervise;

/// Commands that may wait; a caller beyond them waits before its own is handed
/// over, and if it gives up then, nothing is written.
const WAITING: usize = 1024;

/// Rows after which a group takes no further command.
const GROUP_ROWS: usize = 10_000;

/// How often callers of the last group are let run before the next leaves.
const YIELDS: u32 = 32;

/// After this long without a write, cached pages are given back.
const IDLE: Duration = Duration::from_secs(2);

/// What the writer is told.
enum Message {
    Apply(Box<dyn Entry>),
    Close(oneshot::Sender<()>),
}

/// The way to the writer. Dropping it lets the writer finish what waits, and
/// waits for that.
#[derive(Debug)]
pub(super) struct Commands {
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Commands {
    /// Applies `command` in the next group. Once it is handed over, dropping
    /// the future does not take it back.
    pub(super) async fn ask<C: Command>(&self, command: C) -> Result<C::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let asked = Message::Apply(Box::new(Asked::new(command, reply)));
        self.queue().send(asked).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Commits what waits, closes the database and lets go of its lock.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue().send(Message::Close(reply)).await.is_ok() {
            // An error is the end of the thread, which is what we wait for.
            let _ = closed.await;
        }
    }

    fn queue(&self) -> &mpsc::Sender<Message> {
        self.queue.as_ref().expect("the queue is only taken when this is dropped")
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own hook.
            let _ = thread.join();
        }
    }
}

/// Why a group is not committed.
struct NotCommitted {
    error: StoreError,
    /// Whether that is for want of room.
    is_full: bool,
}

impl From<StoreError> for NotCommitted {
    fn from(error: StoreError) -> Self {
        Self { error, is_full: false }
    }
}

/// What makes room on a full disk, in order; after each it is tried again.
const MAKE_ROOM: [fn(&mut Writer, &mut Group, &StoreError); 4] = [
    |writer, _, _| writer.keep_log_small(true),
    |writer, _, _| {
        writer.reserve.give_second();
    },
    |writer, group, error| {
        refuse_intake(group, error);
        if !group.is_empty() {
            writer.reserve.give_first();
        }
    },
    // With the room that was given, more of the log may be copied.
    |writer, _, _| writer.keep_log_small(true),
];

/// Answers those that bring in new tasks with this error, and takes them out.
fn refuse_intake(group: &mut Group, error: &StoreError) {
    let (intake, others): (Group, Group) = std::mem::take(group).into_iter().partition(|entry| entry.is_intake());
    *group = others;
    for mut entry in intake {
        entry.fail(error.clone());
        entry.answer();
    }
}

/// The owner of the database file.
pub(super) struct Writer {
    pub(super) place: Place,
    /// None after the file changed below and could not be opened again.
    pub(super) file: Option<(Connection, Opened)>,
    /// The right to be the one host; a tool beside a host has none.
    pub(super) lock: Option<HostLock>,
    pub(super) readers: Arc<Readers>,
    clock: Clock,
    max_pages: Option<u32>,
    /// Room for the time when the disk is full.
    reserve: Reserve,
    /// Whether the log is kept small.
    tight: bool,
    /// When the last write was, until its pages are given back.
    wrote: Option<Instant>,
    /// Whether the last group failed.
    in_doubt: bool,
}

impl Writer {
    /// Opens and migrates the database, and takes its lock if it is to be the
    /// host's.
    pub(super) fn open(place: Place, readers: Arc<Readers>, options: SqliteOptions) -> Result<Self, StoreError> {
        let lock = options.exclusive.then(|| HostLock::take(place.database())).transpose()?;
        let reserve = Reserve::of(place.database(), lock.is_some());
        let mut writer = Self {
            place,
            file: None,
            lock,
            readers,
            clock: options.clock,
            max_pages: options.max_pages,
            reserve,
            tight: false,
            wrote: None,
            in_doubt: false,
        };
        writer.open_file().map_err(|error| match error {
            StoreError::Full(_) => full_from_the_start(writer.place.database()),
            error => error,
        })?;
        writer.reserve.regain();
        Ok(writer)
    }

    /// Opens what stands at the place. On a full disk the reserve makes room for
    /// the log and its index.
    pub(super) fn open_file(&mut self) -> Result<(), StoreError> {
        loop {
            match self.try_open() {
                Err(StoreError::Full(_)) if self.reserve.give_second() || self.reserve.give_first() => {}
                opened => return opened,
            }
        }
    }

    fn try_open(&mut self) -> Result<(), StoreError> {
        let conn = connection::writing(&self.place, self.max_pages)?;
        migrate::migrate(&conn, self.place.database(), self.clock.now())?;
        let opened = self
            .place
            .opened()
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.place.database().display())))?;
        self.readers.watch(Some(Arc::clone(&opened.index)));
        self.file = Some((conn, opened));
        self.tight = false;
        Ok(())
    }

    /// Starts the thread.
    pub(super) fn start(self) -> Result<Commands, StoreError> {
        let (queue, commands) = mpsc::channel(WAITING);
        // Vital: a panic may have left the connection in the middle of a transaction.
        let thread = supervise::vital_thread("sweepd-store", move || self.run(commands))
            .map_err(|error| StoreError::Unavailable(format!("no thread for the database: {error}")))?;
        Ok(Commands { queue: Some(queue), thread: Some(thread) })
    }

    fn run(mut self, mut commands: mpsc::Receiver<Message>) {
        let mut asked_to_close = None;
        let mut last = 0;
        while asked_to_close.is_none()
            && let Some(first) = commands.blocking_recv()
        {
            faults::die_here_if_asked();
            let group;
            (group, asked_to_close) = gather(first, &mut commands, last);
            last = group.len();
            self.serve(group);
        }
        self.close(asked_to_close.is_some());
        drop(commands);
        if let Some(reply) = asked_to_close {
            let _ = reply.send(());
        }
    }

    /// Commits the group and answers.
    fn serve(&mut self, mut group: Group) {
        if group.is_empty() {
            return;
        }
        let asked = group.len();
        let committed = self.commit(&mut group);
        self.in_doubt = committed.is_err() || group.len() < asked;
        if let Err(error) = committed {
            for entry in &mut group {
                entry.fail(error.clone());
            }
        }
        for entry in &mut group {
            entry.answer();
        }
    }

    /// Commits the group. On a full disk it makes room for what it can.
    fn commit(&mut self, group: &mut Group) -> Result<(), StoreError> {
        self.stand()?;
        self.reserve.regain();
        if self.reserve.is_whole() {
            self.keep_log_small(false);
        } else if self.reserve.is_low() {
            refuse_intake(group, &full(self.place.database()));
        }
        if let Some(most) = self.file.as_ref().and_then(|(conn, _)| connection::limit_reached(conn)) {
            refuse_intake(group, &at_limit(self.place.database(), most));
        }
        for step in MAKE_ROOM {
            match self.try_commit(group) {
                Err(NotCommitted { is_full: true, error }) => step(self, group, &error),
                committed => return committed.map_err(|not| not.error),
            }
        }
        self.try_commit(group).map_err(|not| not.error)
    }

    /// Copies the log into the database and keeps it small; or lets it grow again.
    fn keep_log_small(&mut self, small: bool) {
        let Some((conn, _)) = &self.file else { return };
        let done = match small {
            true => connection::tighten(conn),
            false if self.tight => connection::loosen(conn),
            false => return,
        };
        self.tight = small;
        if let Err(error) = done {
            tracing::debug!(%error, "the database's log could not be copied into it");
        }
    }

    fn try_commit(&mut self, group: &mut Group) -> Result<(), NotCommitted> {
        if group.is_empty() {
            return Ok(());
        }
        let Some((conn, opened)) = &self.file else {
            return Err(closed().into());
        };
        let path = self.place.database();
        let before = conn.total_changes();
        let writing = || Writing::new(conn, &self.clock, self.in_doubt);
        group::commit(conn, writing, group, |fault| fault.about(path)).map_err(|undone| {
            let (Undone::RolledBack(fault) | Undone::Unconfirmed(fault)) = &undone;
            let (is_full, error) = (fault.is_full(path), fault.about(path));
            let error = match undone {
                Undone::Unconfirmed(_) if !faults::is(Mutant::UnknownIsLost) => StoreError::Unknown(error.to_string()),
                _ => error,
            };
            NotCommitted { error, is_full }
        })?;
        let wrote = conn.total_changes() != before;
        if wrote && self.place.standing(opened) != Standing::Ours {
            // Committed into a file that lost its name meanwhile.
            self.stand().map_err(|error| StoreError::Unknown(error.to_string()))?;
        }
        self.rest(wrote);
        Ok(())
    }

    /// Gives cached pages back when writing has paused.
    fn rest(&mut self, wrote: bool) {
        if wrote {
            self.wrote = Some(Instant::now());
        } else if self.wrote.is_some_and(|last| last.elapsed() > IDLE)
            && let Some((conn, _)) = &self.file
        {
            // It only frees memory; a failure costs nothing.
            let _ = conn.execute_batch("PRAGMA shrink_memory");
            self.wrote = None;
        }
    }

    /// Closes the file and lets go of the lock. In good order its log is
    /// copied into it and removed; without being asked to (the store was
    /// dropped), the log stays for the next one to read.
    fn close(mut self, in_order: bool) {
        self.readers.close();
        if let Some((conn, opened)) = self.file.take() {
            let whole = opened.index.check().and_then(|()| opened.index.check_database(self.place.database()));
            let ours = self.place.standing(&opened) == Standing::Ours && whole.is_ok();
            if !(in_order && ours) {
                keep_log(&conn);
            }
            if let Err((_, error)) = conn.close() {
                let error = Fault::from(error).about(self.place.database());
                tracing::warn!(%error, "the database was not closed cleanly; its log is read at the next start");
            }
        }
    }
}

/// Takes what waits, and who asked to close, if somebody did.
///
/// The callers of a large group that was just answered are about to ask again:
/// they are let run before the next group leaves, or it would leave with the
/// first of them alone, and every second commit would be spent on one.
fn gather(first: Message, commands: &mut mpsc::Receiver<Message>, last: usize) -> (Group, Option<oneshot::Sender<()>>) {
    let (mut group, mut rows, mut yields) = (Group::new(), 0, YIELDS);
    let mut next = Some(first);
    loop {
        match next.take() {
            Some(Message::Apply(entry)) => {
                rows += entry.rows();
                group.push(entry);
                if rows >= GROUP_ROWS {
                    return (group, None);
                }
            }
            Some(Message::Close(reply)) => return (group, Some(reply)),
            None if yields > 0 && group.len() < last => {
                yields -= 1;
                std::thread::yield_now();
            }
            None => return (group, None),
        }
        next = commands.try_recv().ok();
    }
}

/// Lets the connection go without touching files by their names.
pub(super) fn keep_log(conn: &Connection) {
    let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    if let Err(error) = conn.set_db_config(keep, true) {
        tracing::warn!(%error, "the database's log may be removed");
    }
}
