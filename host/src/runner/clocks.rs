//! Watches the clocks that a host goes by: its machine's, and its database's.
//!
//! A clock that was set is told once, by a warning and in the status. One that
//! was set back left times in the future, which the store then draws in, again
//! and again until the clock has passed the latest of them: what was under way
//! may still write some. One that was set forward is doubted for a day by what
//! cannot be undone. The decisions are [`domain::clock`](crate::domain::clock)'s.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::domain::clock::{Jump, TOLERANCE, Timeline, Way, is_ahead};
use crate::domain::node::LeaseTerm;
use crate::domain::status::ClockNotice;
use crate::domain::time::{Clock, Timestamp};
use crate::sandbox::BootTime;
use crate::store::{At, DrawnIn, SharedStore, StoreError};

/// What one transaction draws in: a few milliseconds of work.
const AT_ONCE: u32 = 500;
/// Between two such transactions others have their turn.
const REST: Duration = Duration::from_millis(20);
/// How often it is looked for times of the future that are written late.
const AGAIN: Duration = Duration::from_mins(1);

/// The clocks of one host.
pub(super) struct Clocks {
    store: SharedStore,
    clock: Clock,
    lease: LeaseTerm,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    machine: Timeline,
    database: Timeline,
    notice: Option<ClockNotice>,
    /// The last jump that was seen, and when.
    told: Option<(Jump, Instant)>,
    /// A clock was set back, and what that left was not drawn in since.
    due: bool,
    /// Times up to this one may have been written.
    latest: Timestamp,
    drawn_at: Option<Instant>,
    /// Leases look older than they are until then.
    no_reaping_before: Option<BootTime>,
}

/// What a look at the clocks brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// What the database's clock showed; `None` where leases look older than
    /// they are, so that nobody may be taken for dead by them.
    pub(super) reap_at: Option<Timestamp>,
    /// Whether times were drawn in: something may be due.
    pub(super) drawn: bool,
}

impl Clocks {
    /// Nothing is read yet.
    pub(super) fn new(store: SharedStore, clock: Clock, lease: LeaseTerm) -> Self {
        // The host that ran before may have had another clock.
        let state = Mutex::new(State { due: true, ..State::default() });
        Self { store, clock, lease, state }
    }

    /// Looks whether a clock was set since the last look, tells it, and draws in
    /// what a clock that was set back left. Dropped, it does the rest at the next
    /// look.
    pub(super) async fn look(&self) -> Result<Look, StoreError> {
        let now = self.observe().await?;
        let drawn = if self.must_draw_in(now) { !self.draw_in().await?.is_nothing() } else { false };
        let may_reap = self.locked().no_reaping_before.is_none_or(|end| BootTime::now() >= end);
        Ok(Look { reap_at: may_reap.then_some(now), drawn })
    }

    /// Reads both clocks, and tells where one was set. Answers what the
    /// database's shows.
    async fn observe(&self) -> Result<Timestamp, StoreError> {
        self.glance();
        let sent = BootTime::now();
        let now = self.store.now(At::Server).await?;
        let heard = BootTime::now();
        // Of an answer that took long nobody knows which moment it tells.
        if heard.running().saturating_sub(sent.running()) < TOLERANCE / 2 {
            let mut state = self.locked();
            if let Some(jump) = state.database.look(heard.running(), now) {
                self.heed(&mut state, "the database's clock", jump);
                if jump.way == Way::Forward {
                    state.no_reaping_before = Some(heard.after(self.lease.0));
                }
            }
        }
        Ok(now)
    }

    /// Reads the machine's clock, which costs nothing.
    fn glance(&self) {
        let mut state = self.locked();
        let running = BootTime::now().running();
        let now = self.clock.now();
        if let Some(jump) = state.machine.look(running, now) {
            self.heed(&mut state, "the machine's clock", jump);
        }
        self.clock.doubt(now, state.machine.ahead(running));
    }

    fn heed(&self, state: &mut State, whose: &str, jump: Jump) {
        state.due |= jump.way == Way::Back;
        let latest = state.machine.latest().max(state.database.latest());
        state.latest = state.latest.max(latest.unwrap_or_default());
        // The database's clock may be the machine's, and is looked at right after.
        let same = |told: &(Jump, Instant)| {
            told.0.way == jump.way && told.0.by.abs_diff(jump.by) < TOLERANCE && told.1.elapsed() < self.lease.0
        };
        if !state.told.as_ref().is_some_and(same) {
            let notice = ClockNotice::new(whose, jump, self.clock.now(), false);
            tracing::warn!("{}", notice.message);
            state.notice = Some(notice);
        }
        state.told = Some((jump, Instant::now()));
    }

    /// Draws in what lies in the future, a little at a time. Answers what that
    /// was.
    pub(super) async fn draw_in(&self) -> Result<DrawnIn, StoreError> {
        let mut drawn = DrawnIn::default();
        loop {
            drawn = drawn.and(self.store.draw_in(AT_ONCE, At::Server).await?);
            if !drawn.more {
                break;
            }
            sleep(REST).await;
        }
        // Whoever calls this may be the first to see what was set.
        let now = self.observe().await?;
        let mut state = self.locked();
        (state.due, state.drawn_at) = (false, Some(Instant::now()));
        state.latest = state.latest.max(drawn.latest.unwrap_or_default());
        if drawn.is_nothing() {
            return Ok(drawn);
        }
        if state.notice.as_ref().is_none_or(|notice| notice.set == Way::Forward) {
            // Found, not seen: the clock was set back before this host began.
            let by = drawn.latest.map_or(Duration::ZERO, |latest| latest.since(now));
            let notice = ClockNotice::new("the clock", Jump { way: Way::Back, by }, now, true);
            tracing::warn!("{}", notice.message);
            state.notice = Some(notice);
        }
        tracing::warn!(
            tasks = drawn.tasks,
            schedules = drawn.schedules,
            leases = drawn.leases,
            effects = drawn.effects,
            records = drawn.records,
            "times in the future were drawn in, as the clock was set back",
        );
        Ok(drawn)
    }

    /// How far a clock may be ahead: what cannot be undone goes by so much
    /// earlier times.
    pub(super) fn ahead(&self) -> Duration {
        self.glance();
        let (state, running) = (self.locked(), BootTime::now().running());
        state.machine.ahead(running).max(state.database.ahead(running))
    }

    /// The database's time, less what a clock may be ahead: for what forgets and
    /// purges what is old.
    pub(super) async fn careful_now(&self) -> Result<Timestamp, StoreError> {
        let now = self.observe().await?;
        Ok(now.before(self.ahead()))
    }

    /// How far back the times lie that were given within the last `within`.
    pub(super) fn reach(&self, within: Duration) -> Duration {
        let (state, running) = (self.locked(), BootTime::now().running());
        state.machine.reach(running, within).max(state.database.reach(running, within))
    }

    /// How a clock was set last, as far as this host knows.
    pub(super) fn notice(&self) -> Option<ClockNotice> {
        self.locked().notice.clone()
    }

    fn must_draw_in(&self, now: Timestamp) -> bool {
        let state = self.locked();
        let is_long_ago = state.drawn_at.is_none_or(|drawn| drawn.elapsed() >= AGAIN);
        state.due || (is_long_ago && is_ahead(state.latest, now))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::domain::job::JobName;
    use crate::domain::task::{Key, NewTask};
    use crate::store::sqlite::{SqliteOptions, SqliteStore};

    const TEN_HOURS: Duration = Duration::from_hours(10);

    /// A database whose clock is not the machine's.
    fn open(folder: &Path, clock: &Clock) -> SharedStore {
        let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::host() };
        Arc::new(SqliteStore::open(&folder.join("sweepd.db"), options).expect("the store opens"))
    }

    fn watch(store: &SharedStore) -> Clocks {
        Clocks::new(Arc::clone(store), Clock::system(), LeaseTerm(Duration::from_secs(6)))
    }

    #[tokio::test]
    async fn by_a_database_whose_clock_was_set_forward_nobody_is_dead_and_nothing_is_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Clock::manual(Timestamp(1_000_000_000));
        let store = open(folder.path(), &database);
        let clocks = watch(&store);
        let before = database.now();
        assert_eq!(clocks.look().await, Ok(Look { reap_at: Some(before), drawn: false }));
        assert_eq!((clocks.notice(), clocks.ahead()), (None, Duration::ZERO));
        database.advance(TEN_HOURS);
        assert_eq!(clocks.look().await, Ok(Look { reap_at: None, drawn: false }), "living nodes were not heard yet");
        let told = clocks.notice().expect("it is told");
        assert!(told.message.starts_with("the database's clock was set forward by 10h"), "{told:?}");
        let careful = clocks.careful_now().await.expect("it is read");
        assert!(careful.since(before) < TOLERANCE, "{careful} after {before}");
        assert!(clocks.reach(TEN_HOURS) + TOLERANCE > TEN_HOURS * 2, "the hour reaches over the jump");
    }

    #[tokio::test]
    async fn what_a_clock_left_that_was_set_back_before_is_found_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let now = Timestamp(1_000_000_000);
        let ahead = open(folder.path(), &Clock::manual(now.after(TEN_HOURS)));
        let job = ahead.register_job(&JobName::new("clear").expect("a name")).await.expect("a job").id;
        let task = NewTask::now(Key::new("a").expect("a key"));
        ahead.enqueue(job, vec![task], At::Server).await.expect("it is queued");
        ahead.close().await;
        let store = open(folder.path(), &Clock::manual(now));
        let clocks = watch(&store);
        assert_eq!(clocks.look().await, Ok(Look { reap_at: Some(now), drawn: true }));
        let told = clocks.notice().expect("it is told");
        assert_eq!((told.set, told.by_ms), (Way::Back, 36_000_000));
        assert!(told.message.contains("10h or more before this host began"), "{told:?}");
        assert_eq!(store.next_due(job).await, Ok(Some(now)));
        assert_eq!(store.jobs().await.expect("jobs are listed")[0].scheduled, now);
        assert_eq!(clocks.look().await, Ok(Look { reap_at: Some(now), drawn: false }));
    }
}
