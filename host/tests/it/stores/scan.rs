//! Who looks for work of its own: one node, and a time of the schedule until its
//! scan went to its end.

use sweepd::domain::node::NodeId;
use sweepd::domain::time::Timestamp;
use sweepd::store::{ApplyPlan, EndScan, ScanEnded, ScanLease, StoreError, TakeScan};

use super::{Desk, StoreHarness, task};

impl<H: StoreHarness> Desk<H> {
    async fn take_scan(&self, node: NodeId, scheduled: Option<u64>) -> ScanLease {
        let take = TakeScan { job: self.job, node, scheduled: scheduled.map(Timestamp) };
        self.store.take_scan(take, self.at()).await.expect("it is answered")
    }

    async fn end_scan(&self, node: NodeId, scheduled: u64) -> ScanEnded {
        let end = EndScan { job: self.job, node, scheduled: Timestamp(scheduled) };
        self.store.end_scan(end).await.expect("it is answered")
    }

    async fn scheduled(&self) -> u64 {
        self.store.jobs().await.expect("jobs are listed").remove(0).scheduled.0
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

pub(super) async fn a_time_is_scanned_until_its_scan_ended(mut desk: Desk<impl StoreHarness>) {
    let registered = desk.scheduled().await;
    assert!(registered > 0, "what was before the job is none of its times");
    assert_eq!(desk.take_scan(desk.node, Some(registered)).await, ScanLease::Past);
    let (first, second) = (registered + 60_000, registered + 120_000);
    assert_eq!(desk.take_scan(desk.node, Some(first)).await, ScanLease::Taken);
    // The sweep failed, or the answer was lost: it is tried again.
    assert_eq!(desk.take_scan(desk.node, Some(first)).await, ScanLease::Taken);
    assert_eq!(desk.scheduled().await, registered);
    // The node is lost with it: another one tries.
    let lost = desk.node;
    desk.crash().await;
    assert_eq!(desk.end_scan(desk.node, first).await, ScanEnded::Fenced, "it does not hold the scan");
    assert_eq!(desk.take_scan(desk.node, Some(first)).await, ScanLease::Taken);
    assert_eq!(desk.end_scan(lost, first).await, ScanEnded::Fenced, "another one holds it by now");
    assert_eq!(desk.end_scan(desk.node, first).await, ScanEnded::Recorded);
    assert_eq!(desk.end_scan(desk.node, first).await, ScanEnded::Recorded, "asked again, it answers the same");
    assert_eq!(desk.take_scan(desk.node, Some(first)).await, ScanLease::Past);
    assert_eq!(desk.take_scan(desk.node, Some(second)).await, ScanLease::Taken);
    assert_eq!(desk.end_scan(desk.node, second).await, ScanEnded::Recorded);
    assert_eq!(desk.end_scan(desk.node, first).await, ScanEnded::Recorded);
    assert_eq!(desk.scheduled().await, second, "it never goes back");
    desk.store.give_up_scan(desk.job, desk.node).await.expect("it is given up");
    assert_eq!(desk.end_scan(desk.node, second + 1).await, ScanEnded::Fenced);
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
