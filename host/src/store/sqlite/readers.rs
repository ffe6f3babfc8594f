//! Reading apart from the writer: a few connections, opened when they are
//! needed, each call a read transaction of its own on a blocking thread.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use super::fault::Fault;
use super::index::Index;
use super::place::Place;
use crate::store::StoreError;

pub(super) use traces::Traces;

mod traces;

/// Reads at a time; more wait for their turn.
const READERS: usize = 3;

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    place: Place,
    turns: Arc<Semaphore>,
    /// Held for reading while a query runs; the writer takes it to change the
    /// file below, when no query may be under way.
    open: RwLock<bool>,
    idle: Mutex<Vec<Connection>>,
    /// Those of the writer, where there is one.
    index: Mutex<Option<Arc<Index>>>,
    /// Where nothing may be left behind. Last: it is dropped when no connection is
    /// left.
    traces: Mutex<Option<Traces>>,
}

impl Readers {
    pub(super) fn new(place: Place) -> Self {
        let (turns, open) = (Arc::new(Semaphore::new(READERS)), RwLock::new(true));
        Self { place, turns, open, idle: Mutex::default(), index: Mutex::default(), traces: Mutex::default() }
    }

    /// The same, which leaves nothing beside the database at their end.
    pub(super) fn without_traces(place: Place) -> Self {
        let traces = Traces::beside(place.database());
        Self { traces: Mutex::new(Some(traces)), ..Self::new(place) }
    }

    /// Runs `query` in a read transaction.
    pub(super) async fn read<T, F>(self: &Arc<Self>, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
        let readers = Arc::clone(self);
        let run = move || {
            // A dropped future does not end the query, nor its turn.
            let _turn = turn;
            readers.read_now(query)
        };
        tokio::task::spawn_blocking(run)
            .await
            .map_err(|error| StoreError::Unavailable(format!("a read of the database ended early: {error}")))?
    }

    fn read_now<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(closed());
        }
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Err(cut)) = index.map(|index| index.check()) {
            return Err(cut.about(self.place.database()));
        }
        let idle = self.idle().pop();
        self.query(idle, query).map_err(|fault| fault.about(self.place.database()))
    }

    /// A connection that failed is not used again, nor one whose pages crowd out
    /// the writer's.
    fn query<T>(
        &self,
        idle: Option<Connection>,
        query: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let conn = match idle {
            Some(conn) => conn,
            None => connection::reading(&self.place)?,
        };
        let found = (|| {
            let reading = conn.unchecked_transaction()?;
            let found = query(&reading)?;
            reading.commit()?;
            Ok(found)
        })();
        let found = found.map_err(|fault: Fault| fault.on(&conn))?;
        if !connection::shares_pages(&conn)? {
            self.idle().push(conn);
        }
        Ok(found)
    }

    /// The files of the log that a reader looks at before it begins; `None` as
    /// soon as the writer's connection to them is closed.
    pub(super) fn watch(&self, index: Option<Arc<Index>>) {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// Runs `change` while nothing reads and no reader has the file open.
    pub(super) fn paused<T>(&self, change: impl FnOnce() -> T) -> T {
        let _open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        self.idle().clear();
        change()
    }

    /// Ends reading for good.
    pub(super) fn close(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = false;
        self.turns.close();
        self.idle().clear();
        self.watch(None);
        drop(self.traces.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is answered after [`close`](super::SqliteStore).
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}
