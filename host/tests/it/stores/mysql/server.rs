//! Connections that are cut, few of them, and schemas that no transaction
//! holds.

use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use sweepd::domain::job::JobName;
use sweepd::domain::outcome::Disposition;
use sweepd::domain::task::{Enqueued, NewTask, Payload};
use sweepd::store::mysql::{MySqlOptions, MySqlStore};
use sweepd::store::{At, ClaimDue, Store as _, StoreError, TaskFilter};

use super::{MySqlHarness, server, tell, with_database};
use crate::stores::SharedHarness as _;
use crate::stores::{Desk, StoreHarness as _, due_at, task, with_payload};
use crate::support::PATIENCE;

/// A desk, where there is a server.
async fn desk() -> Option<Desk<MySqlHarness>> {
    if MySqlHarness::ready().await { Some(Desk::open().await) } else { None }
}

async fn incompatible(url: &str) -> String {
    match MySqlStore::open(url, MySqlOptions::default()).await {
        Err(StoreError::Incompatible(told)) => told,
        other => panic!("not incompatible: {other:?}"),
    }
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let Some(desk) = desk().await else { return };
    let url = desk.harness.url();
    tell(&url, "INSERT INTO schema_migrations VALUES (99, '0099_future', x'00', 0)".to_owned()).await;
    let told = incompatible(&url).await;
    assert!(told.contains("version 99") && told.contains("newer sweepd") && told.contains("127.0.0.1"), "{told}");
    tell(&url, "DELETE FROM schema_migrations WHERE version = 99".to_owned()).await;
    tell(&url, "UPDATE schema_migrations SET checksum = x'00' WHERE version = 5".to_owned()).await;
    assert!(incompatible(&url).await.contains("0005_tasks"));
}

#[tokio::test]
async fn other_databases_are_not_taken_for_ours() {
    if !MySqlHarness::ready().await {
        return;
    }
    let harness = MySqlHarness::fresh().await;
    // A table of another name may stand beside ours.
    tell(&harness.url(), "CREATE TABLE video_del_rec (video_id VARCHAR(64) PRIMARY KEY)".to_owned()).await;
    let names = MySqlStore::pending_migrations(&harness.url()).await.expect("it is looked at");
    assert_eq!((names.len(), names[0].as_str()), (17, "0001_sequences"));
    let unmigrated = MySqlOptions { migrate: false, ..MySqlOptions::default() };
    let answer = MySqlStore::open(&harness.url(), unmigrated).await;
    assert!(matches!(&answer, Err(StoreError::Incompatible(told)) if told.contains("sweepd migrate")), "{answer:?}");
    // As another program's record of its schema often is.
    tell(&harness.url(), "CREATE TABLE schema_migrations (version VARCHAR(255) PRIMARY KEY)".to_owned()).await;
    assert!(incompatible(&harness.url()).await.contains("another program's"));
    tell(&harness.url(), "DROP TABLE schema_migrations".to_owned()).await;
    harness.open().await.close().await;
    assert_eq!(MySqlStore::pending_migrations(&harness.url()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_migration_that_was_cut_short_is_gone_on_with() {
    let Some(desk) = desk().await else { return };
    let url = desk.harness.url();
    desk.new_task("a").await;
    // The last steps were done, and the record of them lost.
    tell(&url, "DELETE FROM schema_migrations WHERE version > 4".to_owned()).await;
    assert_eq!(MySqlStore::pending_migrations(&url).await.map(|names| names.len()), Ok(13));
    let again = desk.harness.store(2).await;
    assert_eq!(again.tasks(TaskFilter { limit: 9, ..TaskFilter::default() }).await.map(|tasks| tasks.len()), Ok(1));
    again.close().await;
}

#[tokio::test]
async fn wrong_addresses_say_what_to_do() {
    for url in ["", "queue", "mysql://root:secret@127.0.0.1:3306"] {
        let answer = MySqlStore::open(url, MySqlOptions::default()).await;
        assert!(matches!(&answer, Err(StoreError::Rejected(told)) if !told.contains("secret")), "{url}: {answer:?}");
    }
    let nobody = MySqlStore::open("mysql://root:secret@127.0.0.1:1/queue", MySqlOptions::default()).await;
    let Err(StoreError::Unavailable(told)) = nobody else { panic!("nobody listens there: {nobody:?}") };
    assert!(told.contains("127.0.0.1:1/queue") && !told.contains("secret"), "{told}");
    if MySqlHarness::ready().await {
        let told = incompatible(&with_database(&server(), "it_is_not_there")).await;
        assert!(told.contains("it_is_not_there"), "{told}");
    }
}

/// Ends all connections to the database but this one's.
async fn cut(url: &str) {
    let mut conn = MySqlConnection::connect(url).await.expect("the server is there");
    let others: Vec<i64> = sqlx::query_scalar(
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    )
    .fetch_all(&mut conn)
    .await
    .expect("they are listed");
    for id in others {
        // It may have ended by itself.
        let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut conn).await;
    }
    conn.close().await.expect("it closes");
}

#[tokio::test]
async fn cut_connections_are_made_again() {
    let Some(desk) = desk().await else { return };
    for round in 0..3 {
        cut(&desk.harness.url()).await;
        let id = desk.new_task(&format!("{round}")).await;
        assert_eq!(desk.claim_one().await.id, id, "a write is repeated");
    }
}

#[tokio::test]
async fn few_connections_are_enough_for_many_callers() {
    let Some(desk) = desk().await else { return };
    let store = std::sync::Arc::new(desk.harness.store(2).await);
    desk.enqueue((0..400).map(|number| task(&number.to_string())).collect()).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..40 {
        let (store, job, ask, at) = (store.clone(), desk.job, desk.ask(5), desk.at());
        callers.spawn(async move {
            for number in 0..3 {
                store.enqueue(job, vec![task(&format!("{caller}-{number}"))], at).await.expect("it is queued");
                store.claim_due(ask).await.expect("it is answered");
                store.backlog(job, at).await.expect("it is counted");
            }
        });
    }
    tokio::time::timeout(PATIENCE, callers.join_all()).await.expect("nobody waits for ever");
    store.close().await;
}

#[tokio::test]
async fn what_was_given_up_half_way_leaves_its_connection_usable() {
    let Some(desk) = desk().await else { return };
    desk.enqueue((0..50).map(|number| task(&number.to_string())).collect()).await;
    for pause in 0..60 {
        let filter = TaskFilter { limit: 50, ..TaskFilter::default() };
        let listing = desk.store.tasks(filter);
        // Dropped somewhere between the first statement and the last.
        let _ = tokio::time::timeout(Duration::from_micros(pause * 50), listing).await;
        let claiming = desk.store.claim_due(ClaimDue { limit: 1, ..desk.ask(1) });
        let _ = tokio::time::timeout(Duration::from_micros(pause * 50), claiming).await;
        let jobs = desk.store.jobs().await.expect("jobs are listed");
        assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["video-clear"]);
    }
}

#[tokio::test]
async fn payloads_in_bulk_go_where_they_belong() {
    let Some(desk) = desk().await else { return };
    let texts = |from: u32, text: &str| -> Vec<NewTask> {
        (from..from + 30).map(|number| with_payload(&format!("{number:03}"), &format!("{text} {number}"))).collect()
    };
    // Of 000 to 059 the first thirty run; then all are asked for again.
    desk.enqueue([texts(0, "first"), texts(30, "first")].concat()).await;
    let running = desk.claim(30).await.expect("sixty are due");
    let mut again = [texts(0, "second"), texts(30, "second"), texts(60, "second")].concat();
    again.reverse();
    let answers = desk.enqueue(again).await;
    for (number, answer) in (0..90).rev().zip(&answers) {
        match number {
            0..30 => assert!(matches!(answer, Enqueued::Successor(_)), "{number}"),
            30..60 => assert!(matches!(answer, Enqueued::Pending(_)), "{number}"),
            _ => assert!(matches!(answer, Enqueued::New(_)), "{number}"),
        }
    }
    for task in &running.tasks {
        assert_eq!(desk.view(task.id).await.payload, Some(format!("first {}", number(task.key.as_str()))));
        desk.finish(task, Disposition::Done(None)).await;
    }
    let claim = desk.claim(100).await.expect("ninety are due");
    assert_eq!(claim.tasks.len(), 90);
    for task in claim.tasks {
        let text = task.payload.as_ref().map(Payload::as_str);
        assert_eq!(text, Some(format!("second {}", number(task.key.as_str())).as_str()));
    }
}

fn number(key: &str) -> u32 {
    key.parse().expect("a number")
}

#[tokio::test]
async fn a_call_of_many_large_payloads_fits_its_packets() {
    let Some(desk) = desk().await else { return };
    let payload = "ä".repeat(32 * 1024);
    // 20 MiB, more than the server takes in one packet.
    let answers = desk.enqueue((0..320).map(|number| with_payload(&number.to_string(), &payload)).collect()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::New(_))));
    let claim = desk.claim(320).await.expect("they are due");
    let note = "\"\\\u{1}".repeat(1365);
    let finishes: Vec<_> =
        claim.tasks.iter().map(|task| desk.finish_of(task, Disposition::Done(Some(note.clone())))).collect();
    let write_back = sweepd::store::WriteBack { finishes, closed: vec![claim.fence], effects: Vec::new() };
    desk.store.finish(write_back, desk.at()).await.expect("it is written back");
    assert_eq!(desk.view(claim.tasks[7].id).await.note, Some(note));
}

#[tokio::test]
async fn the_servers_clock_counts_leases() {
    let Some(desk) = desk().await else { return };
    // By the server's clock the desk's life, long ago, has ended.
    desk.add(due_at("a", 1)).await;
    desk.claim_one().await;
    let name = JobName::new("video-clear").expect("a good name");
    assert_eq!(desk.store.reap(At::Server).await.expect("it is reaped").tasks, 1);
    let row = desk.store.register_job(&name).await.expect("it is known");
    assert_eq!(row.id, desk.job);
    assert!(row.scheduled.0 > 1_700_000_000_000);
}
