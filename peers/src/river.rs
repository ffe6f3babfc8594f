//! River for Rust.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use riverqueue::migrate::{PostgresMigrator, SqliteMigrator};
use riverqueue::{
    Client, FETCH_COOLDOWN_MIN, Job, JobArgs, QUEUE_DEFAULT, QueueConfig, RunHandle, WorkContext, WorkOutcome, Worker,
    Workers,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;

use crate::measure::{Queue, Witness};
use crate::scratch::{Kind, Scratch, ensure_durable};
use crate::settings::Settings;

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "noop")]
struct Noop {
    key: String,
}

struct Nothing(Arc<Witness>);

impl Worker<Noop> for Nothing {
    type Error = Infallible;

    async fn work(&self, _context: WorkContext, _job: Job<Noop>) -> Result<WorkOutcome, Infallible> {
        self.0.runs();
        Ok(WorkOutcome::Complete)
    }
}

/// River on the database of the run.
pub(crate) struct River {
    pool: Pool,
    settings: Settings,
    inserter: Client,
    running: Option<(Client, RunHandle)>,
}

#[derive(Clone)]
enum Pool {
    PostgreSql(sqlx::PgPool),
    Sqlite(sqlx::SqlitePool),
}

fn builder(pool: &Pool) -> riverqueue::ClientBuilder {
    match pool.clone() {
        Pool::PostgreSql(pool) => Client::builder(pool),
        Pool::Sqlite(pool) => Client::builder(pool),
    }
}

impl Queue for River {
    async fn open(scratch: &Scratch, settings: &Settings) -> Result<Self> {
        let pool = match scratch.kind() {
            Kind::PostgreSql => {
                let pool = PgPoolOptions::new().max_connections(settings.connections);
                let pool = pool.connect_with(scratch.postgres()?).await?;
                PostgresMigrator::new(pool.clone()).migrate_up().await?;
                Pool::PostgreSql(pool)
            }
            Kind::Sqlite => {
                let pool = SqlitePoolOptions::new().max_connections(settings.connections);
                let pool = pool.connect_with(scratch.sqlite()?).await?;
                SqliteMigrator::new(pool.clone()).migrate_up().await?;
                ensure_durable(&pool).await?;
                Pool::Sqlite(pool)
            }
        };
        let inserter = builder(&pool).build()?;
        Ok(Self { pool, settings: settings.clone(), inserter, running: None })
    }

    fn unfinished(&self) -> &'static str {
        "SELECT 1 FROM river_job WHERE state IN ('available', 'running', 'retryable', 'scheduled') LIMIT 1"
    }

    async fn insert(&mut self, keys: Vec<String>) -> Result<()> {
        let client = self.running.as_ref().map_or(&self.inserter, |(client, _)| client);
        let mut jobs: Vec<Noop> = keys.into_iter().map(|key| Noop { key }).collect();
        if jobs.len() == 1 {
            client.insert(jobs.remove(0)).await?;
        } else {
            client.insert_many(jobs).await?;
        }
        Ok(())
    }

    async fn start(&mut self, witness: Arc<Witness>) -> Result<()> {
        let mut workers = Workers::new();
        workers.add(Nothing(witness))?;
        let poll = Duration::from_millis(self.settings.poll_ms.unwrap_or(1));
        let concurrency = usize::try_from(self.settings.concurrency.unwrap_or(1))?;
        let client = builder(&self.pool)
            .workers(workers)
            .fetch_cooldown(FETCH_COOLDOWN_MIN)
            .queue(QUEUE_DEFAULT, QueueConfig::new(concurrency).with_fetch_poll_interval(poll))
            .without_job_timeout()
            .build()?;
        let mut handle = client.start()?;
        handle.wait_ready().await?;
        self.running = Some((client, handle));
        Ok(())
    }

    async fn close(self) -> Result<()> {
        if let Some((_client, mut handle)) = self.running {
            handle.stop_and_cancel().await?;
        }
        match self.pool {
            Pool::PostgreSql(pool) => pool.close().await,
            Pool::Sqlite(pool) => pool.close().await,
        }
        Ok(())
    }
}
