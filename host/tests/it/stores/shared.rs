//! What only a database of many nodes has to stand.

use std::collections::HashSet;
use std::time::Duration;

use sweepd::domain::node::{LeaseTerm, NewNode, NodeId};
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::TaskState;
use sweepd::domain::time::Clock;
use sweepd::store::{At, ClaimDue, Heartbeat, Reaped, ScanLease, SharedStore, StoreError, TakeScan};

use super::clock::AHEAD;
use super::{Desk, LEASE, SharedHarness, node, register, task};
use crate::support::PATIENCE;

impl<H: SharedHarness> Desk<H> {
    /// Another node, with the database opened a second time.
    async fn join(&self, name: &str) -> (SharedStore, NodeId) {
        let store = self.harness.open().await;
        let begun = store.begin_incarnation(node(name), self.at()).await.expect("a life begins");
        (store, begun.node)
    }
}

pub(super) async fn an_ended_lease_is_reaped_once(mut desk: Desk<impl SharedHarness>) {
    let id = desk.new_task("a").await;
    desk.claim_one().await;
    let dead = desk.node;
    let take = TakeScan { job: desk.job, node: dead, scheduled: None };
    assert_eq!(desk.store.take_scan(take, desk.at()).await, Ok(ScanLease::Taken));
    desk.advance(3000);
    let (other, alive) = desk.join("b").await;
    let take = TakeScan { node: alive, ..take };
    assert_eq!(other.take_scan(take, desk.at()).await, Ok(ScanLease::Anothers));
    desk.advance(3000);
    assert_eq!(other.reap(desk.at()).await, Ok(Reaped { nodes: 1, tasks: 1 }));
    assert_eq!(other.reap(desk.at()).await, Ok(Reaped::default()));
    assert_eq!(other.take_scan(take, desk.at()).await, Ok(ScanLease::Taken), "the scan went with its life");
    let view = desk.view(id).await;
    assert_eq!((view.state, view.losses, view.attempts), (TaskState::Pending, 1, 0));
    assert_eq!(desk.store.heartbeat(dead, LEASE, desk.at()).await, Ok(Heartbeat::Lost), "it learns of it");
    other.close().await;
}

/// A server with an earlier clock took over: who is dead is found in time.
pub(super) async fn a_lease_is_no_longer_than_it_is(mut desk: Desk<impl SharedHarness>) {
    desk.draw_in().await;
    desk.advance(AHEAD);
    let (other, dead) = desk.join("b").await;
    let lease = LeaseTerm(LEASE.0 * 10);
    let long = other.begin_incarnation(NewNode { lease, ..node("c") }, desk.at()).await.expect("a life begins").node;
    other.close().await;
    desk.set_back(AHEAD);
    desk.store.heartbeat(desk.node, LEASE, desk.at()).await.expect("it is held");
    let drawn = desk.draw_in().await;
    assert_eq!(drawn.leases, 2, "{drawn:?}");
    desk.advance(5999);
    assert_eq!(desk.store.reap(desk.at()).await, Ok(Reaped::default()));
    desk.store.heartbeat(desk.node, LEASE, desk.at()).await.expect("it is held");
    desk.advance(1);
    assert_eq!(desk.store.reap(desk.at()).await, Ok(Reaped { nodes: 1, tasks: 0 }), "one has the longer lease");
    let living: Vec<_> =
        desk.store.nodes(desk.at()).await.expect("nodes are listed").iter().map(|node| node.id).collect();
    assert!(living.contains(&long) && !living.contains(&dead), "{living:?}");
}

pub(super) async fn a_held_lease_is_not(mut desk: Desk<impl SharedHarness>) {
    desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let (other, _) = desk.join("b").await;
    for _ in 0..5 {
        desk.advance(5999);
        assert_eq!(other.reap(desk.at()).await.expect("it is answered").tasks, 0);
        assert_eq!(desk.store.heartbeat(desk.node, LEASE, desk.at()).await, Ok(Heartbeat::Held { asked: 0 }));
    }
    assert_eq!(desk.finish(&claimed, Disposition::Done(None)).await, Finished::Applied);
    other.close().await;
}

pub(super) async fn a_dead_node_cannot_claim(mut desk: Desk<impl SharedHarness>) {
    desk.new_task("a").await;
    let ask = desk.ask(10);
    desk.advance(6000);
    desk.store.reap(desk.at()).await.expect("it is answered");
    let answer = desk.store.claim_due(ask).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
}

pub(super) async fn what_a_late_node_writes_is_refused(mut desk: Desk<impl SharedHarness>) {
    desk.new_task("a").await;
    let late = desk.claim_one().await;
    desk.advance(6000);
    let (other, node) = desk.join("b").await;
    other.reap(desk.at()).await.expect("it is answered");
    assert_eq!(desk.finish(&late, Disposition::Done(None)).await, Finished::Fenced);
    let claim = other.claim_due(ClaimDue { node, ..desk.ask(10) }).await.expect("it is answered");
    let claim = claim.expect("it is due again");
    assert!(claim.fence > late.fence);
    assert_eq!(desk.finish(&late, Disposition::Bury("late".to_owned())).await, Finished::Fenced);
    assert_eq!(desk.finish(&claim.tasks[0], Disposition::Done(None)).await, Finished::Applied);
    other.close().await;
}

pub(super) async fn nodes_share_the_work(desk: Desk<impl SharedHarness>) {
    desk.enqueue((0..100).map(|number| task(&format!("{number:03}"))).collect()).await;
    let (other, node) = desk.join("b").await;
    let mine = desk.claim(30).await.expect("they are due");
    let theirs =
        other.claim_due(ClaimDue { node, ..desk.ask(30) }).await.expect("it is answered").expect("they are due");
    let ids: HashSet<_> = mine.tasks.iter().chain(&theirs.tasks).map(|task| task.id).collect();
    assert_eq!(ids.len(), 60);
    let nodes = desk.store.nodes(desk.at()).await.expect("nodes are listed");
    let holds: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.holds[0].tasks)).collect();
    assert_eq!(holds, [("a", 30), ("b", 30)]);
    assert_eq!(nodes[1].lease_until, Some(LEASE.ends(desk.now)));
    assert_eq!(desk.view(theirs.tasks[0].id).await.node.as_deref(), Some("b"));
    other.close().await;
}

pub(super) async fn many_claimers_take_each_task_once(desk: Desk<impl SharedHarness>) {
    desk.enqueue((0..1000).map(|number| task(&format!("{number:04}"))).collect()).await;
    let (other, node) = desk.join("b").await;
    let mut claimers = tokio::task::JoinSet::new();
    for claimer in 0..8 {
        let (store, ask) = match claimer % 2 {
            0 => (desk.store.clone(), desk.ask(20)),
            _ => (other.clone(), ClaimDue { node, ..desk.ask(20) }),
        };
        let at = desk.at();
        claimers.spawn(async move {
            let mut ids = Vec::new();
            while let Some(claim) = store.claim_due(ask).await.expect("it is answered") {
                ids.extend(claim.tasks.iter().map(|task| task.id));
                store.now(at).await.expect("it is answered");
            }
            ids
        });
    }
    let mut ids = Vec::new();
    while let Some(claimed) = claimers.join_next().await {
        ids.extend(claimed.expect("no panic"));
    }
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (1000, 1000));
    other.close().await;
}

pub(super) async fn opened_at_once<H: SharedHarness>(_: Desk<H>) {
    let fresh = H::fresh().await;
    let opened = open_four(&fresh).await;
    for store in &opened {
        register(store, "video-clear").await;
    }
    let jobs = opened[0].jobs().await.expect("jobs are listed");
    assert_eq!(jobs.len(), 1, "migrated once, whole");
    for store in opened {
        store.close().await;
    }
}

/// Opens an empty database four times at the same time.
async fn open_four<H: SharedHarness>(harness: &H) -> [SharedStore; 4] {
    let (a, b, c, d) = tokio::join!(harness.open(), harness.open(), harness.open(), harness.open());
    [a, b, c, d]
}

pub(super) async fn one_wakes_the_other<H: SharedHarness>(desk: Desk<H>) {
    let (other, _) = desk.join("b").await;
    if H::TELLS {
        // The enqueue is repeated: a listener that is still connecting misses one.
        let add = async {
            loop {
                desk.add(task("a")).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = other.woken() => {}
            () = add => {}
            () = tokio::time::sleep(PATIENCE) => panic!("it was never woken"),
        }
    } else {
        let woken = tokio::time::timeout(Duration::from_millis(200), other.woken()).await;
        assert!(woken.is_err(), "a store that cannot tell must not claim to");
    }
    other.close().await;
}

pub(super) async fn the_clock_is_the_databases(desk: Desk<impl SharedHarness>) {
    let ours = Clock::system().now();
    let theirs = desk.store.now(At::Server).await.expect("it is answered");
    let apart = theirs.0.abs_diff(ours.0);
    assert!(apart < 60_000, "the servers of the tests run on this machine: {apart} ms");
}
