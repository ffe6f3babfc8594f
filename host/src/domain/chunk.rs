//! Tasks on their way into a store, some at a time: however many there are,
//! the memory they take and the transaction they make stay small.

use super::task::{NewTask, Payload};

/// Tasks that are queued together: at most [`Chunk::TASKS`] with at most
/// [`Chunk::BYTES`] of keys and payloads.
#[derive(Debug, Default)]
pub struct Chunk {
    tasks: Vec<NewTask>,
    bytes: usize,
}

impl Chunk {
    /// Most tasks.
    pub const TASKS: usize = 1000;
    /// Most bytes of their keys and payloads.
    pub const BYTES: usize = 1 << 20;

    /// Takes one more task. Answers with tasks that are to be queued now: all
    /// that it has once they are as many as may be, or those before this one
    /// where it no longer fits in beside them.
    #[must_use]
    pub fn push(&mut self, task: NewTask) -> Option<Vec<NewTask>> {
        let bytes = task.key.as_str().len() + task.payload.as_ref().map_or(0, |payload| Payload::as_str(payload).len());
        let full = (self.bytes + bytes > Self::BYTES).then(|| self.take()).filter(|tasks| !tasks.is_empty());
        self.tasks.push(task);
        self.bytes += bytes;
        // After the first, one is in it: never both.
        full.or_else(|| (self.tasks.len() >= Self::TASKS).then(|| self.take()))
    }

    /// What is left, to be queued at the end.
    #[must_use]
    pub fn take(&mut self) -> Vec<NewTask> {
        self.bytes = 0;
        std::mem::take(&mut self.tasks)
    }

    /// How many tasks wait in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether none waits in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::task::{Key, MAX_PAYLOAD};

    fn task(number: usize, payload: usize) -> NewTask {
        let key = Key::new(format!("{number:04}")).expect("a key");
        let payload = (payload > 0).then(|| Payload::new("x".repeat(payload)).expect("a payload"));
        NewTask { payload, ..NewTask::now(key) }
    }

    #[test]
    fn chunks_are_bounded_by_count_and_bytes() {
        for (payload, each) in [(0, Chunk::TASKS), (MAX_PAYLOAD, 15), (1 << 10, 1020)] {
            let each = each.min(Chunk::TASKS);
            let (mut chunk, mut chunks) = (Chunk::default(), Vec::new());
            (0..2500).for_each(|number| chunks.extend(chunk.push(task(number, payload))));
            chunks.extend(Some(chunk.take()).filter(|tasks| !tasks.is_empty()));
            assert!(chunk.is_empty());
            let (last, full) = chunks.split_last().expect("some chunks");
            assert!(full.iter().all(|tasks| tasks.len() == each), "{payload}");
            assert!((1..=each).contains(&last.len()));
            let keys: Vec<_> = chunks.iter().flatten().map(|task| task.key.as_str().to_owned()).collect();
            assert_eq!(keys, (0..2500).map(|number| format!("{number:04}")).collect::<Vec<_>>(), "each once, in order");
        }
    }
}
