//! Who looks for work of its own: one node, and a time of the schedule once.

use sweepd::domain::node::NodeId;
use sweepd::domain::time::Timestamp;
use sweepd::store::{ApplyPlan, ScanLease, StoreError, TakeScan};

use super::{Desk, StoreHarness, task};

impl<H: StoreHarness> Desk<H> {
    async fn take_scan(&self, node: NodeId, scheduled: Option<u64>) -> ScanLease {
        let take = TakeScan { job: self.job, node, scheduled: scheduled.map(Timestamp) };
        self.store.take_scan(take, self.at()).await.expect("it is answered")
    }
}

pub(super) async fn one_node_scans(mut desk: Desk<impl StoreHarness>) {
    assert_eq!(desk.take_scan(desk.node, None).await, ScanLease::Taken);
    assert_eq!(desk.take_scan(desk.node, None).await, ScanLease::Taken, "it stays its own");
    let before = desk.node;
    desk.crash().await;
    assert_eq!(desk.take_scan(desk.node, None).await, ScanLease::Taken, "a dead node scans no more");
    let dead = TakeScan { job: desk.job, node: before, scheduled: None };
    let answer = desk.store.take_scan(dead, desk.at()).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    desk.store.give_up_scan(desk.job, desk.node).await.expect("it is given up");
    assert_eq!(desk.take_scan(desk.node, None).await, ScanLease::Taken);
}

pub(super) async fn a_time_is_scanned_once(desk: Desk<impl StoreHarness>) {
    let row = desk.store.jobs().await.expect("jobs are listed").remove(0);
    let registered = row.scheduled.0;
    assert!(registered > 0, "what was before the job is none of its times");
    assert_eq!(desk.take_scan(desk.node, Some(registered)).await, ScanLease::Past);
    assert_eq!(desk.take_scan(desk.node, Some(registered + 60_000)).await, ScanLease::Taken);
    assert_eq!(desk.take_scan(desk.node, Some(registered + 60_000)).await, ScanLease::Past);
    assert_eq!(desk.take_scan(desk.node, Some(registered + 120_000)).await, ScanLease::Taken);
    let row = desk.store.jobs().await.expect("jobs are listed").remove(0);
    assert_eq!(row.scheduled, Timestamp(registered + 120_000));
    assert_eq!(desk.take_scan(desk.node, None).await, ScanLease::Taken, "by hand at any time");
}

pub(super) async fn only_who_scans_discovers(desk: Desk<impl StoreHarness>) {
    let plan = ApplyPlan {
        job: desk.job,
        node: desk.node,
        finishes: Vec::new(),
        discoveries: vec![task("found")],
        cursor: None,
    };
    let answer = desk.store.apply_plan(plan.clone(), desk.at()).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    assert_eq!(desk.claim(10).await, None);
    let desk = desk.scanning().await;
    desk.store.apply_plan(plan, desk.at()).await.expect("it is applied");
    assert_eq!(desk.claim_keys(10).await, ["found"]);
}
