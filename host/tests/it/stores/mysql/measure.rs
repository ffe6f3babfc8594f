//! How far the store stands from the server itself: claims and finishes of
//! 500, beside a loop of nothing but the statements that these need. Not a
//! check: it prints. Run it with `--ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use sweepd::domain::job::JobId;
use sweepd::domain::outcome::Disposition;
use sweepd::store::{ClaimDue, WriteBack};

use super::MySqlHarness;
use crate::stores::{Desk, SharedHarness as _, StoreHarness as _, node, task};

/// Tasks in all, and in one claim.
const TASKS: usize = 100_000;
const BATCH: usize = 500;

/// The two are measured by turns, so that both see what else the machine does.
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn claims_and_finishes() {
    if !MySqlHarness::ready().await {
        return;
    }
    for callers in [1, 2] {
        let (mut bare, mut ours) = (Duration::ZERO, Duration::ZERO);
        for round in 0..ROUNDS {
            let desk = filled(TASKS / ROUNDS).await;
            bare += timed(callers, |_| burn_bare(desk.harness.url(), desk.job)).await;
            let desk = filled(TASKS / ROUNDS).await;
            let desk = Arc::new(desk);
            ours += timed(callers, |_| burn(Arc::clone(&desk))).await;
            println!("round {round}, {callers} callers: bare {bare:?}, store {ours:?}");
        }
        let rate = |took: Duration| f64::from(u32::try_from(TASKS).expect("few")) / took.as_secs_f64();
        println!(
            "{callers} callers: bare {:.0} pairs/s, store {:.0} pairs/s, {:.2} of it",
            rate(bare),
            rate(ours),
            bare.as_secs_f64() / ours.as_secs_f64()
        );
    }
}

async fn filled(tasks: usize) -> Desk<MySqlHarness> {
    let desk = Desk::<MySqlHarness>::open().await;
    let began = Instant::now();
    desk.enqueue((0..tasks).map(|number| task(&format!("video-{number:06}"))).collect()).await;
    println!("enqueued {:.0} rows/s", f64::from(u32::try_from(tasks).expect("few")) / began.elapsed().as_secs_f64());
    desk
}

async fn timed<F: Future<Output = ()> + Send + 'static>(callers: usize, work: impl Fn(usize) -> F) -> Duration {
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for caller in 0..callers {
        running.spawn(work(caller));
    }
    running.join_all().await;
    began.elapsed()
}

async fn burn(desk: Arc<Desk<MySqlHarness>>) {
    let begun = desk.store.begin_incarnation(node("burner"), desk.at()).await.expect("a life begins");
    let limit = u32::try_from(BATCH).expect("few");
    let ask = ClaimDue { node: begun.node, limit, ..desk.ask(limit) };
    while let Some(claim) = desk.claim_as(ask).await {
        let finishes = claim.tasks.iter().map(|task| desk.finish_of(task, Disposition::Done(None))).collect();
        let write_back = WriteBack { finishes, closed: vec![claim.fence], effects: Vec::new() };
        desk.store.finish(write_back, desk.at()).await.expect("it is written back");
    }
}

async fn burn_bare(url: String, JobId(job): JobId) {
    let mut conn = MySqlConnection::connect(&url).await.expect("the server is there");
    sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .execute(&mut conn)
        .await
        .expect("it is set");
    loop {
        let mut claim = conn.begin().await.expect("it begins");
        let rows: Vec<(i64, Vec<u8>, Option<String>)> = sqlx::query_as(
            "SELECT id, `key`, payload FROM tasks FORCE INDEX (due)
             WHERE job = ? AND priority = 2 AND run_at <= 9000000 AND state = 0
             ORDER BY run_at, id LIMIT 500 FOR UPDATE SKIP LOCKED",
        )
        .bind(job)
        .fetch_all(&mut *claim)
        .await
        .expect("rows");
        if rows.is_empty() {
            break;
        }
        let ids = rows.iter().map(|(id, ..)| id.to_string()).collect::<Vec<_>>().join(",");
        let run = |sql: String| sqlx::raw_sql(AssertSqlSafe(sql));
        run(format!("UPDATE tasks SET state = 1, fence = 1 WHERE id IN ({ids})"))
            .execute(&mut *claim)
            .await
            .expect("taken");
        claim.commit().await.expect("it commits");
        let mut finish = conn.begin().await.expect("it begins");
        run(format!(
            "INSERT INTO history (id, job, `key`, state, priority, run_at, attempt, losses, fence, enqueued_at,
                                  started_at, ended_at, finished_at, node, outcome, payload)
             SELECT id, job, `key`, 2, priority, run_at, attempt + 1, losses, fence, enqueued_at, 1, 2, 3, 1, 'done', payload
             FROM tasks WHERE id IN ({ids})"
        ))
        .execute(&mut *finish)
        .await
        .expect("recorded");
        run(format!("DELETE FROM tasks WHERE id IN ({ids})")).execute(&mut *finish).await.expect("deleted");
        finish.commit().await.expect("it commits");
    }
    conn.close().await.expect("it closes");
}
