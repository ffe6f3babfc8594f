//! Starts and watches every task and thread of the host: none ends unnoticed.
//!
//! ```text
//!  kept:      up ──panic, or an end too early──▶ down ──backoff──▶ up again
//!  vital:     up ──the same──▶ down, and the process ends with a message
//!  attended:  up ──the same──▶ whoever waits for its answer is told
//! ```
//! This module owns the list of the parts that are down, which `/readyz` and
//! status show, and the only calls that start a task or a thread: `clippy.toml`
//! refuses any other. It does not know what the parts do. Its invariant: a part
//! that should run and does not is in the list.
//!
//! A panic unwinds what it met. A part may be *kept* where that leaves nothing
//! behind that only a new process puts right; the place that starts it says why.

// length: the rules for tasks and for threads stand side by side, to stay the same.

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::domain::status::{LogStatus, PartStatus};
use crate::domain::time::Clock;
use crate::faults;
use crate::stop::told;

/// Before a part is started again; twice as long at each further time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A part that ran for so long is restarted after the first wait again.
const STEADY: Duration = Duration::from_mins(5);
/// How often a test's wish for a panic is looked for, in debug builds.
const LOOK: Duration = Duration::from_millis(10);

const ENDED: &str = "it ended, and nothing had told it to";

/// The parts that ended though they should go on; latest state of each, by name.
pub(crate) fn fallen() -> Vec<PartStatus> {
    HOST.parts().values().cloned().collect()
}

/// What the log lost: the part that writes it says so here, where status finds it.
pub(crate) fn log_status() -> LogStatus {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A line of the log was lost.
pub(crate) fn log_lost(why: &str) {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.lost += 1;
    if log.losing.as_deref() != Some(why) {
        log.losing = Some(why.to_owned());
    }
}

/// The log takes lines again.
pub(crate) fn log_goes_on() {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).losing = None;
}

static LOG: Mutex<LogStatus> = Mutex::new(LogStatus { lost: 0, losing: None });

/// Completes when a vital part has ended, with what to say of it. Cancel safe.
pub(crate) async fn failed() -> String {
    let mut failed = HOST.failed.subscribe();
    let first = failed.wait_for(Option::is_some).await.map(|failed| failed.clone());
    match first {
        Ok(Some(why)) => why,
        // The sender lives as long as the process.
        _ => pending().await,
    }
}

/// The part of this name cannot go on, and the process is to end for it.
pub(crate) fn give_up(name: &str, why: &str) {
    HOST.give_up(name, why);
}

static HOST: LazyLock<Supervisor> = LazyLock::new(Supervisor::default);

/// What is known of the parts of one host.
struct Supervisor {
    parts: Mutex<BTreeMap<String, PartStatus>>,
    /// What the first vital part that ended said.
    failed: watch::Sender<Option<String>>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { parts: Mutex::default(), failed: watch::Sender::new(None) }
    }
}

impl Supervisor {
    fn fell(&self, name: &str, why: &str) {
        let at = Clock::system().now();
        let mut parts = self.parts();
        let restarts = parts.get(name).map_or(0, |part| part.restarts);
        let part = PartStatus { name: name.to_owned(), down: true, restarts, why: why.to_owned(), at };
        parts.insert(name.to_owned(), part);
    }

    fn rose(&self, name: &str) {
        if let Some(part) = self.parts().get_mut(name) {
            part.down = false;
            part.restarts += 1;
        }
    }

    fn give_up(&self, name: &str, why: &str) {
        self.fell(name, why);
        tracing::error!(part = name, "a part of the host ended that it cannot do without: {why}");
        self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert_with(|| format!("`{name}` ended: {why}"));
            is_first
        });
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, PartStatus>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tasks that are waited for together. Dropped, they are aborted.
#[derive(Default)]
pub(crate) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Runs what `make` makes until `stop` is raised, and makes it anew where it
    /// ends before.
    pub(crate) fn keep<F, T>(&mut self, name: impl Into<String>, stop: watch::Receiver<bool>, make: F)
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        self.start(keep(&HOST, name.into(), Some(stop), FIRST_WAIT, make));
    }

    /// Runs it until it has ended by itself, and makes it anew where it panics.
    pub(crate) fn keep_until_done<F, T>(&mut self, name: impl Into<String>, stop: watch::Receiver<bool>, make: F)
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let kept = keep(&HOST, name.into(), None, FIRST_WAIT, make);
        self.start(async move {
            let mut stop = stop;
            tokio::select! {
                () = kept => {}
                () = told(&mut stop) => {}
            }
        });
    }

    /// Runs `task` until `stop` is raised; where it ends before, the process does.
    pub(crate) fn vital(
        &mut self,
        name: impl Into<String>,
        stop: watch::Receiver<bool>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        self.start(async move { vital(&HOST, &name, &stop, task).await });
    }

    /// Runs `task`, which somebody outside waits for: the other end of a
    /// connection hears of its end.
    pub(crate) fn attended(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.start(task);
    }

    /// Forgets those that have ended.
    pub(crate) fn tidy(&mut self) {
        while self.0.try_join_next().is_some() {}
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Waits until all have ended. Cancel safe.
    pub(crate) async fn all(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a part of the host ended badly: {error}");
            }
        }
    }

    /// Ends all, and waits until they have.
    pub(crate) async fn abort(&mut self) {
        self.0.shutdown().await;
    }

    #[allow(clippy::disallowed_methods, reason = "everything that comes here is watched")]
    fn start(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

/// A task that ends by itself, and is made anew where it panics.
pub(crate) fn keep_until_done<F, T>(name: &str, make: F) -> JoinHandle<()>
where
    F: FnMut() -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    start(keep(&HOST, name.to_owned(), None, FIRST_WAIT, make))
}

/// A task whose handle somebody waits for: its panic is the handle's error.
pub(crate) fn attended<T: Send + 'static>(name: &str, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let name = name.to_owned();
    start(async move { unless_killed(&name, task).await })
}

#[allow(clippy::disallowed_methods, reason = "everything that comes here is watched")]
fn start<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// A thread that is started again, where it panics, as the same thread.
pub(crate) fn kept_thread(
    name: impl Into<String>,
    body: impl FnMut() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    let name = name.into();
    start_thread(name.clone(), move || keep_thread(&HOST, &name, FIRST_WAIT, body))
}

/// A thread whose panic ends the process.
pub(crate) fn vital_thread(
    name: impl Into<String>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    let name = name.into();
    start_thread(name.clone(), move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            HOST.give_up(&name, &words(&*panic));
            resume_unwind(panic);
        }
    })
}

/// A thread at the other end of a channel: who waits there hears of its end.
pub(crate) fn attended_thread(
    name: impl Into<String>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    start_thread(name.into(), body)
}

#[allow(clippy::disallowed_methods, reason = "everything that comes here is watched")]
fn start_thread(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body)
}

/// With `stop` the task may end only once that is raised; without, by itself.
async fn keep<F, T>(
    supervisor: &Supervisor,
    name: String,
    mut stop: Option<watch::Receiver<bool>>,
    first_wait: Duration,
    mut make: F,
) where
    F: FnMut() -> T,
    T: Future<Output = ()>,
{
    let mut wait = first_wait;
    loop {
        let began = Instant::now();
        let ended = caught(unless_killed(&name, async { make().await })).await;
        let is_over = stop.as_ref().is_none_or(|stop| *stop.borrow());
        let why = match ended {
            Ok(()) if is_over => return,
            Ok(()) => ENDED.to_owned(),
            Err(panic) => panic,
        };
        supervisor.fell(&name, &why);
        if began.elapsed() >= STEADY {
            wait = first_wait;
        }
        tracing::error!(part = name, "a part of the host ended, it is started again in {wait:?}: {why}");
        match &mut stop {
            None => tokio::time::sleep(wait).await,
            Some(stop) => tokio::select! {
                () = told(stop) => return,
                () = tokio::time::sleep(wait) => {}
            },
        }
        wait = (2 * wait).min(LONGEST_WAIT.max(first_wait));
        supervisor.rose(&name);
    }
}

async fn vital(supervisor: &Supervisor, name: &str, stop: &watch::Receiver<bool>, task: impl Future<Output = ()>) {
    match caught(unless_killed(name, task)).await {
        Ok(()) if *stop.borrow() => {}
        Ok(()) => supervisor.give_up(name, ENDED),
        Err(panic) => supervisor.give_up(name, &panic),
    }
}

fn keep_thread(supervisor: &Supervisor, name: &str, first_wait: Duration, mut body: impl FnMut()) {
    let mut wait = first_wait;
    loop {
        let began = Instant::now();
        let Err(panic) = catch_unwind(AssertUnwindSafe(&mut body)) else { return };
        let why = words(&*panic);
        supervisor.fell(name, &why);
        if began.elapsed() >= STEADY {
            wait = first_wait;
        }
        tracing::error!(part = name, "a thread of the host ended, it is started again in {wait:?}: {why}");
        std::thread::sleep(wait);
        wait = (2 * wait).min(LONGEST_WAIT.max(first_wait));
        supervisor.rose(name);
    }
}

/// What it answers, or the words of its panic.
async fn caught<T>(task: impl Future<Output = T>) -> Result<T, String> {
    let mut task = Some(Box::pin(task));
    poll_fn(move |context| {
        let Some(running) = &mut task else { return Poll::Pending };
        let answer = match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(answer)) => Ok(answer),
            Err(panic) => Err(words(&*panic)),
        };
        // What it held is dropped in here, too: that may panic as well.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(task.take())));
        Poll::Ready(answer.and_then(|answer| dropped.map(|()| answer).map_err(|panic| words(&*panic))))
    })
    .await
}

/// A test of a debug build may ask any task to panic.
async fn unless_killed<T>(name: &str, task: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        never = killed(name) => match never {},
        answer = task => answer,
    }
}

async fn killed(name: &str) -> Infallible {
    if !faults::may_kill() {
        return pending().await;
    }
    loop {
        faults::die_if_asked(name);
        tokio::time::sleep(LOOK).await;
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("nothing is known of why"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const WAIT: Duration = Duration::from_millis(1);

    fn status(supervisor: &Supervisor, name: &str) -> PartStatus {
        supervisor.parts().get(name).cloned().expect("it fell")
    }

    #[tokio::test]
    async fn a_part_that_panics_or_ends_is_started_again_until_it_is_told_to_stop() {
        let (supervisor, rounds) = (Supervisor::default(), AtomicU32::new(0));
        let (stop, stopped) = watch::channel(false);
        let make = || async {
            match rounds.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("the first round"),
                1 => {}
                _ => {
                    let part = status(&supervisor, "loop");
                    assert!(!part.down && part.restarts == 2 && part.why == ENDED, "{part:?}");
                    stop.send_replace(true);
                }
            }
        };
        keep(&supervisor, "loop".to_owned(), Some(stopped), WAIT, make).await;
        assert_eq!(rounds.load(Ordering::SeqCst), 3);
        assert!(supervisor.failed.borrow().is_none());
    }

    #[tokio::test]
    async fn what_is_dropped_by_a_panic_may_panic_as_well() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in its end");
            }
        }
        let task = async {
            let _bad = Bad;
            pending::<()>().await;
        };
        let quick = tokio::time::timeout(WAIT, caught(async { tokio::time::timeout(WAIT, task).await.is_ok() }));
        assert!(quick.await.is_ok_and(|ended| ended.is_err_and(|why| why.contains("in its end"))));
    }

    #[tokio::test]
    async fn a_vital_part_that_ends_ends_the_process() {
        let (_stop, stopped) = watch::channel(false);
        let supervisor = Supervisor::default();
        vital(&supervisor, "a", &stopped, async { panic!("gone") }).await;
        vital(&supervisor, "b", &stopped, async {}).await;
        assert_eq!(supervisor.failed.borrow().as_deref(), Some("`a` ended: it panicked: gone"));
        assert!(status(&supervisor, "a").down && status(&supervisor, "b").down);
        let (stop, stopped) = watch::channel(false);
        stop.send_replace(true);
        let supervisor = Supervisor::default();
        vital(&supervisor, "c", &stopped, async {}).await;
        assert!(supervisor.failed.borrow().is_none() && supervisor.parts().is_empty());
    }

    #[test]
    fn a_thread_is_started_again_and_may_end() {
        let (supervisor, rounds) = (Supervisor::default(), Arc::new(AtomicU32::new(0)));
        keep_thread(&supervisor, "thread", WAIT, || {
            assert!(rounds.fetch_add(1, Ordering::SeqCst) > 0, "the first round");
        });
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
        let part = status(&supervisor, "thread");
        assert!(!part.down && part.restarts == 1 && part.why.contains("the first round"), "{part:?}");
    }
}
