//! Nodes: a running host, its lives, and what people see of them.
//!
//! A life (an incarnation) has one lease. The arithmetic of leases is here, so
//! that every store and the node itself go by the same rules.

use std::fmt;
use std::time::Duration;

use super::time::Timestamp;

/// The store's number for a node incarnation; it rises with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct NodeId(pub i64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a node says of itself when it begins a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its name, for people; two nodes may share one.
    pub name: String,
    /// What it is labelled with; jobs may be bound to nodes by label.
    pub labels: Vec<String>,
    /// The version of sweepd that it runs.
    pub version: String,
    /// How long its tasks stay its own without a heartbeat.
    pub lease: LeaseTerm,
}

/// How long a node's tasks stay its own after its last heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerm(pub Duration);

impl LeaseTerm {
    /// When the store gives the node up, if it hears nothing after `heard`.
    #[must_use]
    pub fn ends(self, heard: Timestamp) -> Timestamp {
        heard.after(self.0)
    }

    /// Whether a lease that ends then has ended.
    #[must_use]
    pub fn has_ended(end: Timestamp, now: Timestamp) -> bool {
        end <= now
    }

    /// How often the node is heard: three times in the lease, so that one lost
    /// heartbeat is not the end.
    #[must_use]
    pub fn heartbeat(self) -> Duration {
        self.0 / 3
    }

    /// What the node itself uses of it, counted from when a heartbeat was
    /// *sent*: the store counts from when it arrived. The rest is margin for
    /// clocks that run at other speeds.
    #[must_use]
    pub fn own_part(self) -> Duration {
        self.0.mul_f64(0.9)
    }
}

/// A life as people see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeView {
    /// Its number.
    pub id: NodeId,
    /// Its node's name.
    pub name: String,
    /// What the node is labelled with.
    pub labels: Vec<String>,
    /// The version of sweepd that it runs.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it is given up, if nothing more is heard; absent where the file's
    /// lock is the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// What it holds, by job; jobs of which it holds nothing are left out.
    pub holds: Vec<Holding>,
}

/// Tasks of a job that a node claimed and has not written back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Holding {
    /// The job's name.
    pub job: String,
    /// How many.
    pub tasks: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gives_up_before_it_is_given_up() {
        let (lease, sent) = (LeaseTerm(Duration::from_secs(6)), Timestamp(1000));
        // However late it arrives, the store's end is after the node's own.
        for delay in 0..10_000 {
            let arrived = Timestamp(sent.0 + delay);
            assert!(sent.after(lease.own_part()) < lease.ends(arrived));
        }
        assert!(LeaseTerm::has_ended(lease.ends(sent), Timestamp(7000)));
        assert!(!LeaseTerm::has_ended(lease.ends(sent), Timestamp(6999)));
        assert_eq!(lease.heartbeat(), Duration::from_secs(2));
    }
}
