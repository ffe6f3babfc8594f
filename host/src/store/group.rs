//! Group commit and patience, for the stores whose database is a server.
//!
//! ```text
//!  wait for one ─▶ take all that wait ─▶ one transaction ─▶ answer all
//!       ▲                                     │ one is at fault
//!       │                                     ▼
//!       └── what arrives meanwhile is    each alone
//!           the next group
//! ```
//! No timer: an idle store commits at once. The committer is a task of its
//! own, so that a caller who gives up cancels no commit. What it knows of a
//! database is [`Commit`]; how long it goes on trying is [`Tries`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::StoreError;
use crate::faults::{self, Mutant};
use crate::supervise;

/// Asks that may wait; a caller beyond them waits before its own is handed
/// over, and if it gives up then, nothing is written.
const WAITING: usize = 1024;

/// Rows and bytes after which a group takes no further ask. One ask alone may
/// be larger.
const GROUP: Size = Size { rows: 10_000, bytes: 4 << 20 };

/// How often callers of the last group are let run before the next leaves.
const YIELDS: u32 = 32;

/// Why a transaction did not end in an answer.
#[derive(Debug)]
pub(super) enum Undone {
    /// Rolled back because of others (a deadlock): it may succeed at once.
    Again(StoreError),
    /// The session was in a state in which it refuses: nothing is written, and
    /// a new session may do it.
    Stale(StoreError),
    /// The connection was lost before the commit: nothing is written.
    Lost(StoreError),
    /// The commit was sent and not answered: it may be written.
    Unconfirmed(StoreError),
    /// Nothing is written, and another try would end the same.
    Failed(StoreError),
}

/// How often one write is tried: everything that is written so may be
/// repeated.
#[derive(Debug, Default)]
pub(super) struct Tries {
    deadlocks: u32,
    stale: u32,
    losses: u32,
    /// An earlier try may be written.
    doubtful: bool,
}

impl Tries {
    const DEADLOCKS: u32 = 10;
    /// A new session that refuses, too, tells of the server.
    const STALE: u32 = 1;
    const LOSSES: u32 = 3;
    /// Before the second loss is repaired; twice that before the third.
    const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });

    /// Waits until the next try, or answers why there is none. Cancel safe.
    pub(super) async fn again(&mut self, undone: Undone) -> Result<(), StoreError> {
        let (error, wait) = match undone {
            Undone::Again(error) => {
                self.deadlocks += 1;
                let wait = Duration::from_millis(fastrand::u64(0..=u64::from(4 * self.deadlocks)));
                (error, (self.deadlocks <= Self::DEADLOCKS).then_some(wait))
            }
            Undone::Stale(error) => {
                self.stale += 1;
                (error, (self.stale <= Self::STALE).then_some(Duration::ZERO))
            }
            Undone::Lost(error) => (error, self.lost()),
            Undone::Unconfirmed(error) if faults::is(Mutant::UnknownIsLost) => (error, None),
            Undone::Unconfirmed(error) => {
                self.doubtful = true;
                (error, self.lost())
            }
            Undone::Failed(error) => (error, None),
        };
        match wait {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None if self.doubtful => Err(StoreError::Unknown(reason(error))),
            None => Err(error),
        }
    }

    fn lost(&mut self) -> Option<Duration> {
        self.losses += 1;
        // At once, for a single connection may have been cut; then more slowly.
        (self.losses <= Self::LOSSES).then(|| Self::PAUSE * (self.losses - 1))
    }
}

/// What an error says, without its kind.
pub(super) fn reason(error: StoreError) -> String {
    let (StoreError::Unavailable(reason)
    | StoreError::Busy(reason)
    | StoreError::Full(reason)
    | StoreError::Unknown(reason)
    | StoreError::Rejected(reason)
    | StoreError::Incompatible(reason)) = error;
    reason
}

/// How much an ask writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// About how many rows.
    pub(super) rows: usize,
    /// About how many bytes.
    pub(super) bytes: usize,
}

impl Size {
    fn with(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }

    fn fits(self) -> bool {
        self.rows <= GROUP.rows && self.bytes <= GROUP.bytes
    }
}

/// A database's side of the group commit.
#[async_trait]
pub(super) trait Commit: Send + Sync + 'static {
    /// What a caller asks for.
    type Ask: Send + Sync + 'static;
    /// What it is answered.
    type Answer: Send + 'static;

    /// How much that writes.
    fn size(ask: &Self::Ask) -> Size;

    /// Writes all in one transaction, once; an answer each, in order.
    /// [`Undone::Failed`] with [`StoreError::Rejected`] means that one of them
    /// is at fault.
    async fn commit(&self, asks: &[Self::Ask]) -> Result<Vec<Result<Self::Answer, StoreError>>, Undone>;
}

type Reply<C> = oneshot::Sender<Result<<C as Commit>::Answer, StoreError>>;
type Waiting<C> = (<C as Commit>::Ask, Reply<C>);

/// The way to the committer. Dropping it lets the committer finish what waits.
pub(super) struct Group<C: Commit> {
    queue: Mutex<Option<mpsc::Sender<Waiting<C>>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl<C: Commit> Group<C> {
    /// Starts the committer on the present runtime.
    pub(super) fn start(commit: C) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        // Kept: whoever waits for a group that panicked is told that it may be
        // written, and all that wait behind go into the next.
        let shared = Arc::new((commit, tokio::sync::Mutex::new(waiting)));
        let committer = supervise::keep_until_done("committer", move || {
            let shared = Arc::clone(&shared);
            async move { run(&shared.0, &mut *shared.1.lock().await).await }
        });
        Self { queue: Mutex::new(Some(queue)), committer: Mutex::new(Some(committer)) }
    }

    /// Writes `ask` in the next group. Once it is handed over, dropping the
    /// future does not take it back.
    pub(super) async fn ask(&self, ask: C::Ask) -> Result<C::Answer, StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        queue.send((ask, reply)).await.map_err(|_| closed())?;
        drop(queue);
        // Only a panic of the committer leaves an ask unanswered.
        let unanswered = |_| StoreError::Unknown("the committer panicked before it answered".to_owned());
        answer.await.map_err(unanswered)?
    }

    /// Commits what waits; later asks are refused.
    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer {
            // A panic there was reported by its own hook.
            let _ = committer.await;
        }
    }
}

/// What is answered after [`Group::close`].
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

async fn run<C: Commit>(commit: &C, waiting: &mut mpsc::Receiver<Waiting<C>>) {
    let (mut held_back, mut last) = (None, 0);
    loop {
        let first = match held_back.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let group;
        (group, held_back) = gather::<C>(first, waiting, last).await;
        last = group.len();
        serve(commit, group).await;
    }
}

/// Takes what waits, and perhaps one that did not fit.
///
/// The callers of a large group that was just answered are about to ask again:
/// they are let run before the next group leaves, or it would leave with the
/// first of them alone, and every second commit would be spent on one.
async fn gather<C: Commit>(
    first: Waiting<C>,
    waiting: &mut mpsc::Receiver<Waiting<C>>,
    last: usize,
) -> (Vec<Waiting<C>>, Option<Waiting<C>>) {
    let (mut size, mut yields) = (C::size(&first.0), YIELDS);
    let mut group = vec![first];
    while size.fits() {
        match waiting.try_recv() {
            Ok(next) => {
                size = size.with(C::size(&next.0));
                if !size.fits() {
                    return (group, Some(next));
                }
                group.push(next);
            }
            Err(_) if yields > 0 && group.len() < last => {
                yields -= 1;
                tokio::task::yield_now().await;
            }
            Err(_) => break,
        }
    }
    (group, None)
}

/// Commits the group and answers. One that is at fault falls out alone.
async fn serve<C: Commit>(commit: &C, group: Vec<Waiting<C>>) {
    let (asks, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    let answers = match persist(commit, &asks).await {
        Err(StoreError::Rejected(_)) if asks.len() > 1 => {
            let mut answers = Vec::with_capacity(asks.len());
            for ask in &asks {
                let alone = persist(commit, std::slice::from_ref(ask)).await;
                answers.extend(spread(alone, 1));
            }
            answers
        }
        done => spread(done, asks.len()),
    };
    for (reply, answer) in replies.into_iter().zip(answers) {
        // Nobody listens any more when the caller's future was dropped.
        let _ = reply.send(answer);
    }
}

type Answers<T> = Vec<Result<T, StoreError>>;

/// Tries until the group is written or cannot be.
async fn persist<C: Commit>(commit: &C, asks: &[C::Ask]) -> Result<Answers<C::Answer>, StoreError> {
    let mut tries = Tries::default();
    loop {
        match commit.commit(asks).await {
            Ok(answers) => return Ok(answers),
            Err(undone) => tries.again(undone).await?,
        }
    }
}

/// One error is the answer of all.
fn spread<T>(done: Result<Answers<T>, StoreError>, count: usize) -> Answers<T> {
    done.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A database that answers by script, then succeeds.
    #[derive(Clone, Default)]
    struct Scripted {
        script: Arc<Mutex<VecDeque<Undone>>>,
        groups: Arc<Mutex<Vec<Vec<u32>>>>,
    }

    fn unavailable() -> StoreError {
        StoreError::Unavailable("gone".to_owned())
    }

    #[async_trait]
    impl Commit for Scripted {
        type Ask = u32;
        type Answer = u32;

        fn size(ask: &u32) -> Size {
            Size { rows: *ask as usize, bytes: 0 }
        }

        async fn commit(&self, asks: &[u32]) -> Result<Answers<u32>, Undone> {
            self.groups.lock().unwrap().push(asks.to_vec());
            assert!(!asks.contains(&666), "the committer panics");
            if let Some(undone) = self.script.lock().unwrap().pop_front() {
                return Err(undone);
            }
            if asks.contains(&13) {
                return Err(Undone::Failed(StoreError::Rejected("unlucky".to_owned())));
            }
            Ok(asks.iter().map(|ask| Ok(*ask)).collect())
        }
    }

    async fn ask_all(group: &Arc<Group<Scripted>>, asks: &[u32]) -> Answers<u32> {
        let calls: Vec<_> = asks
            .iter()
            .map(|ask| {
                let (group, ask) = (Arc::clone(group), *ask);
                tokio::spawn(async move { group.ask(ask).await })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        answers
    }

    #[tokio::test]
    async fn who_is_at_fault_falls_out_alone() {
        let database = Scripted::default();
        let group = Arc::new(Group::start(database.clone()));
        let answers = ask_all(&group, &[1, 13, 2]).await;
        assert_eq!((&answers[0], &answers[2]), (&Ok(1), &Ok(2)));
        assert!(matches!(answers[1], Err(StoreError::Rejected(_))));
        assert_eq!(*database.groups.lock().unwrap(), [vec![1, 13, 2], vec![1], vec![13], vec![2]]);
        group.close().await;
        assert_eq!(group.ask(1).await, Err(closed()));
    }

    #[tokio::test]
    async fn a_committer_that_panicked_commits_again() {
        let group = Arc::new(Group::start(Scripted::default()));
        assert!(matches!(group.ask(666).await, Err(StoreError::Unknown(_))), "it may be written");
        assert_eq!(group.ask(7).await, Ok(7));
        group.close().await;
    }

    #[tokio::test]
    async fn a_group_is_bounded() {
        let database = Scripted::default();
        let group = Arc::new(Group::start(database.clone()));
        let answers = ask_all(&group, &[9000, 1000, 1, 20_000]).await;
        assert_eq!(answers, [Ok(9000), Ok(1000), Ok(1), Ok(20_000)]);
        assert_eq!(*database.groups.lock().unwrap(), [vec![9000, 1000], vec![1], vec![20_000]]);
    }

    #[tokio::test]
    async fn a_lost_answer_is_asked_for_again() {
        let database = Scripted::default();
        let script = |undone: Vec<Undone>| *database.script.lock().unwrap() = undone.into();
        let group = Arc::new(Group::start(database.clone()));

        script(vec![Undone::Unconfirmed(unavailable()), Undone::Lost(unavailable()), Undone::Again(unavailable())]);
        assert_eq!(group.ask(7).await, Ok(7));
        script((0..4).map(|_| Undone::Lost(unavailable())).collect());
        assert_eq!(group.ask(7).await, Err(unavailable()), "nothing was written");
        script(vec![Undone::Stale(unavailable())]);
        assert_eq!(group.ask(7).await, Ok(7), "a new session does it");
        script(vec![Undone::Stale(unavailable()), Undone::Stale(unavailable())]);
        assert_eq!(group.ask(7).await, Err(unavailable()), "the new session refuses, too");
        script(vec![Undone::Unconfirmed(unavailable()), Undone::Stale(unavailable()), Undone::Stale(unavailable())]);
        let answer = group.ask(7).await;
        assert_eq!(answer, Err(StoreError::Unknown("gone".to_owned())), "the first may be written");
        script(vec![Undone::Unconfirmed(unavailable()), Undone::Failed(unavailable())]);
        let answer = group.ask(7).await;
        assert_eq!(answer, Err(StoreError::Unknown("gone".to_owned())), "the first may be written");
    }
}
