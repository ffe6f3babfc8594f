//! Hand-written traces: what is in order, and one for each kind of violation,
//! among them the signature of each mutant.

use super::{Checker, Queue, Violation};

const CALM: Queue = Queue { pending: 0, running: 0, dead: 0 };

/// What the checker says of these lines once all is calm.
fn judged(lines: &[&str]) -> Vec<Violation> {
    settled(lines, CALM)
}

fn settled(lines: &[&str], queue: Queue) -> Vec<Violation> {
    let mut checker = Checker::default();
    for line in lines {
        checker.read(&format!("{line}\n"));
    }
    checker.settle(queue);
    checker.violations
}

fn lost(key: &str, number: u64) -> Violation {
    Violation::Lost { key: key.to_owned(), number }
}

#[test]
fn an_orderly_trace_is_in_order() {
    let mut checker = Checker::default();
    checker.read(
        "sent hot-1 1\nstart hot-1 5 9 100 1 1 1\nacked hot-1 1 live\nwork hot-1 5 9 110\nsent hot-1 2\nacked hot-1 2 live\n\
         end hot-1 5 9 120 1 done\nsent hot-1 3\nacked hot-1 3 live\nstart hot-1 6 9 130 2 1 3\nend hot-1 6 9 140 2 failed\n\
         start hot-1 7 9 150 2 2 3\nwork hot-1 7 9 155\n",
    );
    assert!(checker.is_owed(), "the last execution has not ended");
    checker.read("end hot-1 7 9 160 2 done\n");
    assert!(!checker.is_owed());
    checker.settle(CALM);
    assert_eq!(checker.violations, []);
    let seen = &checker.seen;
    assert_eq!((seen.sent, seen.sent_hot, seen.acked, seen.started, seen.failed, seen.charged), (3, 3, 3, 3, 1, 0));
}

/// Acknowledged before its commit, which a kill prevented.
#[test]
fn what_was_acknowledged_and_never_executed_is_lost() {
    assert_eq!(judged(&["sent a 1", "acked a 1 live", "kill 9"]), [lost("a", 1)]);
}

/// Whatever comes after a successor that was dropped is a new task.
#[test]
fn a_new_task_says_that_all_before_was_executed() {
    let run =
        ["sent a 1", "acked a 1 new", "start a 5 9 100 1 1 1", "sent a 2", "acked a 2 live", "end a 5 9 110 1 done"];
    let next = ["sent a 3", "acked a 3 new", "start a 6 9 120 3 1 3", "end a 6 9 130 3 done"];
    assert_eq!(judged(&[&run[..], &next[..]].concat()), [lost("a", 2)]);
    let promoted = ["start a 6 9 111 2 1 2", "end a 6 9 112 2 done"];
    let later = next.map(|line| line.replace(" 6 ", " 7 "));
    let later: Vec<_> = later.iter().map(String::as_str).collect();
    assert_eq!(judged(&[&run[..], &promoted[..], &later].concat()), []);
}

/// An execution that was claimed before the commit does not count, though its
/// lines stand after `acked`; so a successor that was dropped is found.
#[test]
fn an_execution_of_what_was_there_before_does_not_count() {
    let before =
        ["sent a 1", "acked a 1 live", "sent a 2", "acked a 2 live", "start a 5 9 100 1 1 1", "end a 5 9 110 1 done"];
    assert_eq!(judged(&before), [lost("a", 2)]);
}

/// One that ended before the answer arrived does count.
#[test]
fn an_execution_between_commit_and_answer_counts() {
    assert_eq!(judged(&["sent a 1", "start a 5 9 100 1 1 1", "end a 5 9 110 1 done", "acked a 1 live"]), []);
}

#[test]
fn an_execution_that_does_not_end_well_does_not_count() {
    for outcome in ["failed", "crashed", "stopped"] {
        let end = format!("end a 5 9 110 1 {outcome}");
        assert_eq!(judged(&["sent a 1", "acked a 1 live", "start a 5 9 100 1 1 1", &end]), [lost("a", 1)]);
    }
}

/// What was given up unanswered may be committed late, in the place of a
/// higher number.
#[test]
fn a_late_commit_may_hide_a_higher_number() {
    let late = ["sent a 1", "sent a 2", "acked a 2 live", "start a 5 9 100 1 1 1", "end a 5 9 110 1 done"];
    assert_eq!(judged(&late), []);
    let early = ["sent a 1", "start a 5 9 100 1 1 1", "sent a 2", "acked a 2 live", "end a 5 9 110 1 done"];
    assert_eq!(judged(&early), [lost("a", 2)]);
}

/// An unknown commit that was treated as lost.
#[test]
fn what_was_refused_is_not_executed() {
    let refused = [Violation::Refused { key: "a".to_owned(), number: 1 }];
    assert_eq!(judged(&["sent a 1", "refused a 1", "start a 5 9 100 1 1 1"]), refused);
    assert_eq!(judged(&["sent a 1", "start a 5 9 100 1 1 1", "refused a 1"]), refused);
    assert_eq!(judged(&["sent a 1", "refused a 1", "sent a 2", "start a 5 9 100 1 1 2"]), []);
}

/// A finish without a check of its fence ends another's claim: the key is
/// claimed again while that one works.
#[test]
fn a_lower_fence_after_a_higher_one() {
    let lines = ["start a 5 9 100 1 1 -", "start a 6 8 200 2 1 -", "work a 5 9 210", "lost 9"];
    assert_eq!(judged(&lines), [Violation::OldFence { line: "work a 5 9 210".to_owned(), highest: 6 }]);
    let lines = ["start a 6 8 200 2 1 -", "start a 5 9 200 1 1 -"];
    assert_eq!(judged(&lines), [Violation::OldFence { line: "start a 5 9 200 1 1 -".to_owned(), highest: 6 }]);
}

/// What a stopped node had been allowed to, it does when it goes on.
#[test]
fn what_was_allowed_in_time_may_come_late() {
    let lines = ["start a 5 9 100 1 1 -", "stop 9", "start a 6 8 200 2 1 -", "continue 9", "work a 5 9 150", "lost 9"];
    assert_eq!(judged(&lines), []);
    // How a fenced execution ended, and when, is of no interest.
    assert_eq!(judged(&["start a 5 9 100 1 1 -", "start a 6 8 200 2 1 -", "end a 5 9 300 1 stopped", "lost 9"]), []);
    let mut checker = Checker::default();
    checker.read("start a 5 9 100 1 1 -\n");
    checker.settle(CALM);
    checker.read("end a 5 9 300 1 stopped\n");
    assert_eq!(checker.violations, [], "even after all was calm");
}

#[test]
fn a_lock_that_is_held() {
    let held = "held a 6 8 210 5 9 205";
    let lines = ["start a 5 9 100 1 1 -", "start a 6 8 200 2 1 -", held, "lost 9"];
    assert_eq!(judged(&lines), [Violation::LockHeld { line: held.to_owned() }]);
    let held = "held a 5 9 150 5 8 120";
    let lines = ["start a 5 9 100 1 1 -", held];
    assert_eq!(judged(&lines), [Violation::LockHeld { line: held.to_owned() }], "one claim on two nodes");
}

#[test]
fn a_lock_that_a_stopped_node_holds() {
    let stopped = ["start a 5 9 100 1 1 -", "start a 6 8 200 2 1 -", "held a 6 8 210 5 9 150", "lost 9"];
    assert_eq!(judged(&stopped), []);
    let continued = ["start a 5 9 100 1 1 -", "start a 6 8 200 2 1 -", "held a 5 9 150 6 8 210", "lost 9"];
    assert_eq!(judged(&continued), [], "the same, seen from the other side");
}

#[test]
fn a_claim_that_is_executed_twice() {
    let twice = "start a 5 8 120 1 1 -";
    assert_eq!(judged(&["start a 5 9 100 1 1 -", twice]), [Violation::Twice { line: twice.to_owned() }]);
}

/// Another node's write-back was applied to a claim that was none of its own.
#[test]
fn what_is_executed_again_without_a_loss() {
    let again = "start a 6 8 200 1 1 -";
    let violation = [Violation::Again { line: again.to_owned() }];
    let done = ["start a 5 9 100 1 1 -", "end a 5 9 110 1 done"];
    assert_eq!(judged(&[&done[..], &[again]].concat()), violation, "it was done");
    assert_eq!(judged(&[done[0], again]), violation, "it has not ended");
    assert_eq!(judged(&[&["kill 9"], &done[..], &[again]].concat()), violation, "the loss was before");
    for loss in ["kill 9", "lost 9"] {
        assert_eq!(judged(&[&done[..], &[again, loss]].concat()), [], "its end was not written");
        assert_eq!(judged(&[done[0], loss, again]), []);
    }
    assert_eq!(judged(&[&done[..], &["start a 6 8 200 2 1 -"]].concat()), [], "another task");
    assert_eq!(judged(&[done[0], "end a 5 9 110 1 stopped", again]), [], "it was not done");
}

/// A loss that is counted as an attempt costs all tasks that a node held.
#[test]
fn a_lost_node_costs_one_task_an_attempt_at_most() {
    let one = ["start a 5 9 100 1 1 -", "kill 9", "start a 6 8 200 1 2 -"];
    assert_eq!(judged(&one), []);
    let leases = ["start a 5 9 100 1 1 -", "lost 9", "start a 6 8 200 1 2 -"];
    assert_eq!(judged(&leases), []);
    let two = ["start a 5 9 100 1 1 -", "kill 9", "start a 6 8 200 1 2 -", "start b 7 8 210 2 2 -"];
    let last = "start b 7 8 210 2 2 -".to_owned();
    assert_eq!(judged(&two), [Violation::Charged { charged: 2, losses: 1, last }]);
    let failed = ["start a 5 9 100 1 1 -", "end a 5 9 110 1 failed", "start a 6 9 200 1 2 -"];
    assert_eq!(judged(&failed), [], "a failure is an attempt");
}

#[test]
fn a_queue_that_is_not_in_order_when_all_is_calm() {
    let queue = |pending, running, dead| settled(&[], Queue { pending, running, dead });
    assert_eq!(queue(1, 0, 0), [Violation::Stuck { pending: 1, running: 0 }]);
    assert_eq!(queue(0, 2, 0), [Violation::Stuck { pending: 0, running: 2 }]);
    assert_eq!(queue(0, 0, 3), [Violation::Buried { tasks: 3 }]);
}

#[test]
fn a_line_that_nobody_writes() {
    for line in ["", "start a", "work a 5 9 1x", "sent a 1start b 5 9 100 1 1 -", "end a 5 9 110 1 done"] {
        assert!(matches!(&judged(&[line])[..], [Violation::Unreadable { .. }]), "{line}");
    }
}
