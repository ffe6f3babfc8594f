//! Stands in for the host in native tests of a policy: what [`run`](crate::run)
//! answers, for one thread and one closure. Not there in a component.
//!
//! ```
//! use sweepd_sdk::{run, testing::Run};
//!
//! Run::new().config("path", "videos/{key}").enter(|| {
//!     assert_eq!(run::config("path").as_deref(), Some("videos/{key}"));
//! });
//! assert_eq!(run::config("path"), None);
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;

use crate::Timestamp;

thread_local! {
    static CURRENT: RefCell<Run> = RefCell::new(Run::new());
}

/// What `run` answers in a test.
#[derive(Clone, Debug)]
pub struct Run {
    job: String,
    config: BTreeMap<String, String>,
    deadline: Timestamp,
    removed_before: u64,
    simulated: bool,
}

impl Run {
    /// A job named `test`, without configuration or deadline, changing for real.
    #[must_use]
    pub fn new() -> Self {
        Self {
            job: "test".to_owned(),
            config: BTreeMap::new(),
            deadline: Timestamp::MAX,
            removed_before: 0,
            simulated: false,
        }
    }

    /// Names the job.
    #[must_use]
    pub fn job(mut self, name: impl Into<String>) -> Self {
        self.job = name.into();
        self
    }

    /// Sets a value of `[job.config]`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = deadline;
        self
    }

    /// Says how many files earlier calls for the task removed.
    #[must_use]
    pub fn removed_before(mut self, files: u64) -> Self {
        self.removed_before = files;
        self
    }

    /// Says that changes are simulated.
    #[must_use]
    pub fn simulated(mut self, simulated: bool) -> Self {
        self.simulated = simulated;
        self
    }

    /// Calls `policy` under this host, on this thread; then the former one is back,
    /// also after a panic.
    pub fn enter<T>(self, policy: impl FnOnce() -> T) -> T {
        struct Restore(Option<Run>);
        impl Drop for Restore {
            fn drop(&mut self) {
                if let Some(former) = self.0.take() {
                    CURRENT.with_borrow_mut(|current| *current = former);
                }
            }
        }
        let former = CURRENT.with_borrow_mut(|current| mem::replace(current, self));
        let _restore = Restore(Some(former));
        policy()
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) fn job() -> String {
    CURRENT.with_borrow(|run| run.job.clone())
}

pub(crate) fn config(key: &str) -> Option<String> {
    CURRENT.with_borrow(|run| run.config.get(key).cloned())
}

pub(crate) fn deadline() -> Timestamp {
    CURRENT.with_borrow(|run| run.deadline)
}

pub(crate) fn removed_before() -> u64 {
    CURRENT.with_borrow(|run| run.removed_before)
}

pub(crate) fn simulated() -> bool {
    CURRENT.with_borrow(|run| run.simulated)
}
