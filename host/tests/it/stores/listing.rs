//! What people see: lists, single tasks, how much waits.

use sweepd::domain::outcome::Disposition;
use sweepd::domain::status::Backlog;
use sweepd::domain::task::{NewTask, Priority, TaskId, TaskState, TaskView};
use sweepd::domain::time::Timestamp;
use sweepd::store::{ClaimDue, TaskFilter};

use super::{Desk, StoreHarness, due_at, register, retry_in, task};

async fn list<H: StoreHarness>(desk: &Desk<H>, filter: TaskFilter) -> Vec<TaskView> {
    desk.store.tasks(filter).await.expect("tasks are listed")
}

fn all() -> TaskFilter {
    TaskFilter { limit: 100, ..TaskFilter::default() }
}

fn keys_of(views: &[TaskView]) -> Vec<&str> {
    views.iter().map(|view| view.key.as_str()).collect()
}

/// One task in each state, and a second job with one pending task.
async fn one_of_each<H: StoreHarness>(desk: &Desk<H>) {
    for (key, end) in [
        ("done", Disposition::Done(None)),
        ("dead", Disposition::Bury("never".to_owned())),
        ("cancelled", Disposition::Cancel("not wanted".to_owned())),
    ] {
        desk.new_task(key).await;
        let claimed = desk.claim_one().await;
        desk.finish(&claimed, end).await;
    }
    desk.new_task("running").await;
    desk.claim_one().await;
    desk.new_task("pending").await;
    let other = register(&desk.store, "other").await;
    desk.try_enqueue(other, vec![task("theirs")]).await.expect("it is queued");
}

pub(super) async fn pages_ascend(desk: Desk<impl StoreHarness>) {
    one_of_each(&desk).await;
    let whole = list(&desk, all()).await;
    assert_eq!(keys_of(&whole), ["done", "dead", "cancelled", "running", "pending", "theirs"]);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = list(&desk, TaskFilter { after, limit: 2, ..TaskFilter::default() }).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.id);
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    for view in whole {
        assert_eq!(desk.view(view.id).await, view, "listed as it is shown");
    }
}

pub(super) async fn states_are_told_apart(desk: Desk<impl StoreHarness>) {
    one_of_each(&desk).await;
    for state in TaskState::ALL {
        let listed = list(&desk, TaskFilter { state: Some(state), job: Some(desk.job), ..all() }).await;
        assert_eq!(keys_of(&listed), [state.as_str()]);
        assert_eq!(listed[0].state, state);
        let after = Some(listed[0].id);
        let rest = list(&desk, TaskFilter { state: Some(state), job: Some(desk.job), after, ..all() }).await;
        assert_eq!(rest, []);
    }
}

pub(super) async fn jobs_are_told_apart(desk: Desk<impl StoreHarness>) {
    one_of_each(&desk).await;
    let other = register(&desk.store, "other").await;
    let listed = list(&desk, TaskFilter { job: Some(other), ..all() }).await;
    assert_eq!((keys_of(&listed), listed[0].job.as_str()), (vec!["theirs"], "other"));
    assert_eq!(list(&desk, TaskFilter { job: Some(desk.job), ..all() }).await.len(), 5);
    let pending = list(&desk, TaskFilter { state: Some(TaskState::Pending), ..all() }).await;
    assert_eq!(keys_of(&pending), ["pending", "theirs"]);
    desk.claim_as(ClaimDue { job: other, ..desk.ask(1) }).await.expect("it is due");
    let running = list(&desk, TaskFilter { state: Some(TaskState::Running), ..all() }).await;
    assert_eq!(keys_of(&running), ["running", "theirs"]);
}

pub(super) async fn a_large_job_is_paged(desk: Desk<impl StoreHarness>) {
    let name = |number| format!("{number:05}");
    desk.enqueue((0..10_100).map(|number| task(&name(number))).collect()).await;
    let pending = TaskFilter { state: Some(TaskState::Pending), job: Some(desk.job), ..all() };
    let page = list(&desk, pending.clone()).await;
    assert_eq!(page.len(), 100);
    let after = page.last().map(|view| view.id);
    let next = list(&desk, TaskFilter { after, limit: 2, ..pending }).await;
    assert_eq!(keys_of(&next), [name(100), name(101)]);
}

pub(super) async fn the_backlog_counts(mut desk: Desk<impl StoreHarness>) {
    let backlog = desk.store.backlog(desk.job, desk.at()).await.expect("it is counted");
    assert_eq!(backlog, Backlog::default());
    one_of_each(&desk).await;
    desk.enqueue(vec![due_at("old", 900_000), due_at("later", 9_000_000)]).await;
    desk.advance(1000);
    let backlog = desk.store.backlog(desk.job, desk.at()).await.expect("it is counted");
    assert_eq!((backlog.pending, backlog.running, backlog.dead), (3, 1, 1));
    assert_eq!((backlog.more, backlog.oldest_due), (false, Some(Timestamp(900_000))));
    assert_eq!(Some(backlog.age_ms), desk.now.0.checked_sub(900_000));
    desk.claim(10).await.expect("two are due");
    let backlog = desk.store.backlog(desk.job, desk.at()).await.expect("it is counted");
    assert_eq!((backlog.pending, backlog.running, backlog.oldest_due), (1, 3, None));
    assert_eq!(backlog.age_ms, 0);
}

pub(super) async fn the_next_due_is_the_first(desk: Desk<impl StoreHarness>) {
    assert_eq!(desk.store.next_due(desk.job).await, Ok(None));
    desk.add(NewTask { priority: Priority::Urgent, ..due_at("urgent", 3_000_000) }).await;
    desk.add(due_at("first", 2_000_000)).await;
    assert_eq!(desk.store.next_due(desk.job).await, Ok(Some(Timestamp(2_000_000))));
    desk.new_task("now").await;
    let claimed = desk.claim_one().await;
    assert_eq!(desk.store.next_due(desk.job).await, Ok(Some(Timestamp(2_000_000))), "what runs does not count");
    desk.finish(&claimed, retry_in(1)).await;
    assert_eq!(desk.store.next_due(desk.job).await, Ok(Some(Timestamp(desk.now.0 + 1000))));
}

pub(super) async fn an_unknown_task_is_none(desk: Desk<impl StoreHarness>) {
    assert_eq!(desk.store.task(TaskId(1)).await, Ok(None));
    assert_eq!(desk.store.task(TaskId(u64::MAX)).await, Ok(None));
    assert_eq!(list(&desk, all()).await, []);
}
