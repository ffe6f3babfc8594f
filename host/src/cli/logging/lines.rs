//! Lines on their way to a descriptor, which a thread of their own writes.
//!
//! ```text
//!  whoever logs ──send, never waits──▶ bounded queue ──▶ thread ──write──▶ descriptor
//!                      └─ full: dropped and counted; the count is a line of its own,
//!                         as soon as there is room again
//! ```
//! A descriptor may fail for a while (a full disk, a pipe that nobody reads) or
//! never answer (a reader that stalls). The thread tries the same line until it
//! is written, so that no line is cut and few are lost. It knows nothing of logs.
//! Its invariant: nobody but the thread ever waits for the descriptor.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::faults;
use crate::supervise;

/// Lines and bytes that may wait; what comes beyond them is lost.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 1 << 20;

/// A write that failed is tried again after this time, then after twice.
const AGAIN: Duration = Duration::from_millis(10);
const AGAIN_AT_MOST: Duration = Duration::from_millis(500);

/// One write of a part of a line: how many bytes were taken.
pub(super) type Write = Box<dyn FnMut(&[u8]) -> Result<usize, Errno> + Send>;

/// The line that tells of lost ones: how many, and why.
pub(super) type Notice = fn(u64, &str) -> Vec<u8>;

/// The way to one descriptor. A clone is another handle.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// The queue has another line, or one less.
    changed: Condvar,
    notice: Notice,
}

struct Queue {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line is with the thread.
    is_writing: bool,
    /// Why the last write failed; none once one succeeded.
    failing: Option<Errno>,
    lost: u64,
    /// Why the lines that are lost are, as far as that is known.
    why: Option<Errno>,
    /// Who else hears of each lost line, and of the end of that.
    losses: Losses,
}

/// Hears of a lost line and why, and with `None` that lines are taken again.
pub(super) type Losses = fn(Option<&str>);

impl Lines {
    pub(super) fn new(notice: Notice, losses: Losses) -> Self {
        let waiting = VecDeque::new();
        let queue = Queue { waiting, bytes: 0, is_writing: false, failing: None, lost: 0, why: None, losses };
        Self(Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new(), notice }))
    }

    /// Starts the thread, called `name`; until then lines wait.
    pub(super) fn start(&self, name: &str, mut write: Write) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        // Kept: the line that it had in hand is lost, and nothing else.
        supervise::kept_thread(name, move || {
            shared.begin();
            loop {
                let line = shared.next();
                faults::die_here_if_asked();
                shared.write(&line, &mut write);
                shared.done();
            }
        })
        .map(drop)
    }

    /// Hands over a line, with its end. Never waits; where there is no room the
    /// line is lost, and counted.
    pub(super) fn send(&self, line: Vec<u8>) {
        let mut queue = self.0.locked();
        if queue.lost > 0 {
            let notice = self.0.told(&queue);
            if !queue.has_room(notice.len() + line.len()) {
                queue.lose();
                return;
            }
            queue.tell(notice);
        }
        if queue.has_room(line.len()) {
            queue.push(line);
        } else {
            queue.lose();
        }
        drop(queue);
        self.0.changed.notify_all();
    }

    /// Waits until there is room for another line: at most `patience`, and not at
    /// all while writing fails. Answers whether there is.
    pub(super) fn wait_for_room(&self, patience: Duration) -> bool {
        self.wait(patience, |queue| queue.has_room(0))
    }

    /// Waits until all is written: at most `patience`, and not at all while
    /// writing fails.
    pub(super) fn flush(&self, patience: Duration) {
        // What was lost is told by a line of its own, which the thread has yet to make.
        self.wait(patience, |queue| queue.is_empty() && queue.lost == 0);
    }

    /// Whether all is written.
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.0.locked();
        queue.is_empty() && queue.lost == 0
    }

    fn wait(&self, patience: Duration, done: impl Fn(&Queue) -> bool) -> bool {
        let end = Instant::now() + patience;
        let mut queue = self.0.locked();
        while !done(&queue) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || queue.failing.is_some() {
                return false;
            }
            queue = self.0.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Queue {
    /// One line fits always, so that a long one is not lost for ever.
    fn has_room(&self, more: usize) -> bool {
        self.waiting.is_empty() || (self.waiting.len() + 1 < MOST && self.bytes + more <= MOST_BYTES)
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.is_writing
    }

    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.waiting.push_back(line);
    }

    fn lose(&mut self) {
        self.lost += 1;
        self.why = self.failing.or(self.why);
        (self.losses)(Some(&self.reason()));
    }

    fn reason(&self) -> String {
        self.why.map_or_else(|| "its reader does not keep up".to_owned(), |why| io::Error::from(why).to_string())
    }

    fn tell(&mut self, notice: Vec<u8>) {
        (self.lost, self.why) = (0, None);
        (self.losses)(None);
        self.push(notice);
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, queue: &Queue) -> Vec<u8> {
        (self.notice)(queue.lost, &queue.reason())
    }

    /// The thread begins, perhaps again: the line that one before it had in hand is
    /// lost, and nobody waits for that any more.
    fn begin(&self) {
        let mut queue = self.locked();
        if std::mem::take(&mut queue.is_writing) {
            queue.lose();
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// The line is written.
    fn done(&self) {
        self.locked().is_writing = false;
        self.changed.notify_all();
    }

    /// The next line, once there is one.
    fn next(&self) -> Vec<u8> {
        let mut queue = self.locked();
        loop {
            // Nobody else may come to tell of what was lost.
            if queue.waiting.is_empty() && queue.lost > 0 {
                let notice = self.told(&queue);
                queue.tell(notice);
            }
            if let Some(line) = queue.waiting.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a line, however long that takes.
    fn write(&self, line: &[u8], write: &mut Write) {
        let (mut at, mut wait) = (0, AGAIN);
        while at < line.len() {
            match write(&line[at..]) {
                Ok(taken) if taken > 0 => {
                    at += taken;
                    wait = AGAIN;
                    self.locked().failing = None;
                    continue;
                }
                // A pipe that is full and read by somebody is no failure.
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => {
                    // The next reader of a pipe begins with a whole line.
                    if error == Errno::PIPE {
                        at = 0;
                    }
                    self.locked().failing = Some(error);
                    self.changed.notify_all();
                }
            }
            std::thread::sleep(wait);
            wait = (2 * wait).min(AGAIN_AT_MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn notice(lost: u64, why: &str) -> Vec<u8> {
        format!("{lost} lost: {why}\n").into_bytes()
    }

    /// A descriptor that answers what it is told, one answer a write, and what was
    /// written to it.
    fn scripted(answers: Receiver<Result<usize, Errno>>) -> (Write, Receiver<Vec<u8>>) {
        let (written, seen) = channel();
        let write = move |bytes: &[u8]| {
            let taken = answers.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            written.send(bytes[..taken].to_vec()).unwrap();
            Ok(taken)
        };
        (Box::new(write), seen)
    }

    fn started(answers: &[Result<usize, Errno>]) -> (Lines, Sender<Result<usize, Errno>>, Receiver<Vec<u8>>) {
        let (sender, receiver) = channel();
        for answer in answers {
            sender.send(*answer).unwrap();
        }
        let (write, seen) = scripted(receiver);
        let lines = Lines::new(notice, |_| {});
        lines.start("lines", write).unwrap();
        (lines, sender, seen)
    }

    fn all(seen: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(seen.try_iter().flatten().collect()).unwrap()
    }

    #[test]
    fn a_line_is_written_whole_through_every_failure() {
        let script = [Ok(2), Err(Errno::NOSPC), Err(Errno::INTR), Err(Errno::AGAIN), Ok(0), Ok(3), Ok(9)];
        let (lines, answers, seen) = started(&script);
        drop(answers);
        lines.send(b"one line\n".to_vec());
        lines.send(b"another\n".to_vec());
        while !lines.0.locked().waiting.is_empty() || lines.0.locked().is_writing {
            lines.flush(PATIENCE);
        }
        assert_eq!(all(&seen), "one line\nanother\n");
    }

    #[test]
    fn a_new_reader_of_a_pipe_begins_with_a_whole_line() {
        let (lines, answers, seen) = started(&[Ok(4), Err(Errno::PIPE)]);
        drop(answers);
        lines.send(b"one line\n".to_vec());
        let read: Vec<_> = seen.iter().take(2).collect();
        assert_eq!(read, [b"one ".to_vec(), b"one line\n".to_vec()]);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_when_there_is_room() {
        let (lines, answers, seen) = started(&[]);
        for number in 0..MOST + 7 {
            lines.send(format!("{number}\n").into_bytes());
        }
        let lost = lines.0.locked().lost;
        assert!(lost >= 7, "{lost}");
        lines.flush(Duration::ZERO);
        drop(answers);
        lines.flush(PATIENCE);
        let read = all(&seen);
        assert!(read.ends_with(&format!("{lost} lost: its reader does not keep up\n")), "{}", read.len());
        assert_eq!(read.lines().count() as u64, (MOST + 7) as u64 - lost + 1);
        lines.send(b"after\n".to_vec());
        lines.flush(PATIENCE);
        assert_eq!(all(&seen), "after\n");
    }

    #[test]
    fn a_thread_that_panics_loses_the_line_in_its_hand_and_no_other() {
        let (written, seen) = channel();
        let mut panicked = false;
        let write = move |bytes: &[u8]| {
            assert!(std::mem::replace(&mut panicked, true), "the first write");
            written.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        };
        let lines = Lines::new(notice, |_| {});
        lines.start("lines that panic", Box::new(write)).unwrap();
        lines.send(b"one\n".to_vec());
        lines.send(b"two\n".to_vec());
        let read: Vec<_> = seen.iter().take(2).flatten().collect();
        assert_eq!(String::from_utf8(read).unwrap(), "two\n1 lost: its reader does not keep up\n");
        lines.flush(PATIENCE);
        assert!(lines.is_idle(), "nobody waits for a line that is gone");
    }

    #[test]
    fn nobody_waits_for_what_fails() {
        let (lines, _answers, _seen) = started(&[Err(Errno::NOSPC)]);
        lines.send(b"one\n".to_vec());
        lines.flush(PATIENCE);
        assert!(lines.0.locked().failing.is_some());
    }
}
