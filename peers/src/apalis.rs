//! apalis, with its stores for PostgreSQL and SQLite.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Result, anyhow};
use apalis::prelude::{
    BackendExt, BoxDynError, Data, Monitor, ParallelizeExt, PollSnapshot, PollStrategy, Strategy, TaskSink,
    WorkerBuilder,
};
use apalis_postgres::{PostgresStorage, Pubsub};
use apalis_sqlite::SqliteStorage;
use apalis_sqlite::callback::HookCallbackListener;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::task::JoinHandle;

use crate::measure::{LIMIT, Queue, Witness};
use crate::scratch::{Kind, Scratch, ensure_durable};
use crate::settings::{Settings, Wake};

const QUEUE: &str = "noop";

/// apalis on the database of the run.
pub(crate) struct Apalis {
    store: Store,
    settings: Settings,
    running: Vec<JoinHandle<()>>,
}

enum Store {
    PostgreSql(PostgresStorage<String>),
    Sqlite(SqliteStorage<String>, Option<HookCallbackListener>),
}

async fn nothing(_key: String, witness: Data<Arc<Witness>>) -> Result<(), BoxDynError> {
    witness.runs();
    Ok(())
}

/// Asks a strategy again until it has nothing more to tell, which is when it has left a waker. The worker asks only once,
/// and a strategy that happens to be ready at that moment leaves none: the worker would sleep until its next heartbeat.
#[derive(Clone)]
struct Surely(Strategy);

impl PollStrategy for Surely {
    fn poll_drive(&mut self, context: &mut Context<'_>, snapshot: &PollSnapshot) -> Poll<Option<()>> {
        let mut driven = Poll::Pending;
        while let ready @ Poll::Ready(Some(())) = self.0.poll_drive(context, snapshot) {
            driven = ready;
        }
        driven
    }
}

/// Starts a worker on a backend, under a monitor of its own, so that workers share no task. A macro, as the types of the
/// backends are no business of ours.
macro_rules! work {
    ($name:expr, $backend:expr, $witness:expr) => {{
        let (name, backend, witness) = ($name, $backend, $witness);
        let failed = Arc::clone(&witness);
        let monitor = Monitor::new().register(move |_restarts| {
            WorkerBuilder::new(name.as_str())
                .backend(backend.clone())
                .data(Arc::clone(&witness))
                .parallelize(tokio::spawn)
                .build(nothing)
        });
        tokio::spawn(async move {
            if let Err(error) = monitor.run().await {
                failed.fails(error.to_string());
            }
        })
    }};
}

impl Queue for Apalis {
    async fn open(scratch: &Scratch, settings: &Settings) -> Result<Self> {
        let batch = usize::try_from(settings.batch.unwrap_or(1))?;
        let store = match scratch.kind() {
            Kind::PostgreSql => {
                let pool = PgPoolOptions::new().max_connections(settings.connections);
                let pool = pool.connect_with(scratch.postgres()?).await?;
                PostgresStorage::setup(&pool).await?;
                let config = apalis_postgres::Config::default().queue(QUEUE).batch_size(batch).lock_tasks(false);
                Store::PostgreSql(PostgresStorage::new(&pool).with_config(config))
            }
            Kind::Sqlite => {
                // The setup turns `synchronous` off on the connection that it runs on, which is therefore closed.
                let setup = SqlitePoolOptions::new().max_connections(1).connect_with(scratch.sqlite()?).await?;
                SqliteStorage::setup(&setup).await?;
                setup.close().await;
                let (pool, hook) = if settings.wake == Wake::Hook {
                    let (pool, hook) = SqliteStorage::connect_with_callback(&scratch.sqlite_url()?)?;
                    (pool, Some(hook))
                } else {
                    // A thousand workers that wait their turn for one connection may wait for long.
                    let pool = SqlitePoolOptions::new().max_connections(settings.connections).acquire_timeout(LIMIT);
                    (pool.connect_with(scratch.sqlite()?).await?, None)
                };
                ensure_durable(&pool).await?;
                let config = apalis_sqlite::Config::default().queue(QUEUE).batch_size(batch).lock_tasks(false);
                Store::Sqlite(SqliteStorage::new(&pool).with_config(config), hook)
            }
        };
        Ok(Self { store, settings: settings.clone(), running: Vec::new() })
    }

    fn unfinished(&self) -> &'static str {
        match self.store {
            Store::PostgreSql(_) => "SELECT 1 FROM apalis.jobs WHERE status <> 'Done' LIMIT 1",
            Store::Sqlite(..) => "SELECT 1 FROM Jobs WHERE status <> 'Done' LIMIT 1",
        }
    }

    async fn insert(&mut self, keys: Vec<String>) -> Result<()> {
        match &mut self.store {
            Store::PostgreSql(store) => store.push_bulk(keys).await.map_err(|error| anyhow!("{error}")),
            Store::Sqlite(store, _) => store.push_bulk(keys).await.map_err(|error| anyhow!("{error}")),
        }
    }

    async fn start(&mut self, witness: Arc<Witness>) -> Result<()> {
        for worker in 0..self.settings.workers {
            let name = format!("worker-{worker}");
            let witness = Arc::clone(&witness);
            let poll = self.settings.poll_ms.map(Duration::from_millis);
            let woken = poll.into_iter().fold(Strategy::new(), Strategy::interval);
            let running = match &self.store {
                Store::PostgreSql(store) => {
                    let listen = self.settings.wake == Wake::Listen;
                    let inserts = listen.then(|| Pubsub::new(store.pool().clone(), QUEUE.to_owned()));
                    let woken = Surely(inserts.into_iter().fold(woken, Strategy::stream));
                    work!(name, store.clone().poll_with_strategy(woken), witness)
                }
                Store::Sqlite(store, hook) => {
                    let woken = Surely(hook.iter().cloned().fold(woken, Strategy::stream));
                    work!(name, store.clone().poll_with_strategy(woken), witness)
                }
            };
            self.running.push(running);
        }
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.running.iter().for_each(JoinHandle::abort);
        match self.store {
            Store::PostgreSql(store) => store.pool().close().await,
            Store::Sqlite(store, _) => store.pool().close().await,
        }
        Ok(())
    }
}
