//! Tasks from a stream of JSON, one a line, in constant memory.
//!
//! A line is a task as `POST /v1/jobs/{job}/tasks` takes it. Empty lines count
//! but say nothing. What is wrong with a line is told with its number, and the
//! next one is read.

use crate::domain::task::{MAX_KEY, MAX_PAYLOAD, NewTask};

use super::new_tasks;

/// Longest line, in bytes: the longest key and payload with every byte written
/// as an escape, and room for the rest.
pub const LONGEST: usize = 6 * (MAX_KEY + MAX_PAYLOAD) + 4096;

/// A line that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// The task, or what is wrong with it.
    pub task: Result<NewTask, String>,
}

/// Lines put together from the parts of a stream as they arrive.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of the line that is not complete yet; never longer than
    /// [`LONGEST`] and a byte.
    begun: Vec<u8>,
    number: u64,
}

impl Lines {
    /// The next line that is complete with `bytes`, and takes it from them;
    /// `None` once all of them are taken.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Line> {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            *bytes = rest.get(1..).unwrap_or_default();
            if end.is_some() && self.begun.is_empty() {
                // The common case: nothing is copied.
                if let Some(line) = self.line(part) {
                    return Some(line);
                }
                continue;
            }
            let room = LONGEST + 1 - self.begun.len();
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            if end.is_some()
                && let Some(line) = self.end()
            {
                return Some(line);
            }
        }
        None
    }

    /// The last line, where the stream did not end with the end of one.
    pub fn end(&mut self) -> Option<Line> {
        let begun = std::mem::take(&mut self.begun);
        if begun.is_empty() { None } else { self.line(&begun) }
    }

    fn line(&mut self, text: &[u8]) -> Option<Line> {
        self.number += 1;
        let text = text.trim_ascii();
        if text.is_empty() {
            return None;
        }
        let task = if text.len() > LONGEST {
            Err(format!("the line is longer than {LONGEST} bytes, and no task is"))
        } else {
            new_tasks::parse_line(text)
        };
        Some(Line { number: self.number, task })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines, where the stream arrives in parts of this size.
    fn read(text: &[u8], part: usize) -> Vec<(u64, Result<String, String>)> {
        let (mut lines, mut read) = (Lines::default(), Vec::new());
        for mut bytes in text.chunks(part) {
            while let Some(line) = lines.next(&mut bytes) {
                read.push(line);
            }
        }
        read.extend(lines.end());
        read.into_iter().map(|line| (line.number, line.task.map(|task| task.key.into_string()))).collect()
    }

    #[test]
    fn lines_are_put_together_wherever_the_stream_is_cut() {
        let text = "{\"key\":\"a\"}\n\n  \r\n{\"key\":\"影\",\"payload\":\"p\"}\r\nno\n[{\"key\":\"b\"}]\n{\"kye\":1}\n{\"key\":\"last\"}\n{\"key\":\"a\",\"key\":\"b\"}\n[\"a\",null,null,null]";
        let whole = read(text.as_bytes(), usize::MAX);
        let numbers: Vec<_> = whole.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(whole[0].1, Ok("a".to_owned()));
        assert_eq!(whole[1].1, Ok("影".to_owned()));
        assert_eq!(whole[2].1, Err("no JSON: expected ident at column 2".to_owned()));
        assert_eq!(whole[3].1, Err("a task is an object with a `key`".to_owned()));
        assert_eq!(whole[4].1, Err("`key` is missing; `kye`: unknown field; did you mean `key`?".to_owned()));
        assert_eq!(whole[5].1, Ok("last".to_owned()));
        assert_eq!(whole[6].1, Err("duplicate field `key` at column 16".to_owned()));
        assert_eq!(whole[7].1, Err("a task is an object with a `key`".to_owned()));
        for part in 1..text.len() {
            assert_eq!(read(text.as_bytes(), part), whole, "{part}");
        }
        assert!(read(b"", 1).is_empty());
    }

    #[test]
    fn every_task_fits_into_a_line_and_no_line_into_more_memory() {
        let escaped = |bytes: usize| "\\u0001".repeat(bytes);
        let task = format!("{{\"key\":\"{}\",\"payload\":\"{}\"}}\n", escaped(MAX_KEY), escaped(MAX_PAYLOAD));
        assert!(read(task.as_bytes(), 1 << 14)[0].1.is_ok());
        let long = [&b"x".repeat(3 * LONGEST)[..], b"\n{\"key\":\"next\"}\n"].concat();
        let (mut lines, mut answers) = (Lines::default(), Vec::new());
        for mut bytes in long.chunks(1 << 14) {
            while let Some(line) = lines.next(&mut bytes) {
                answers.push(line);
            }
            assert!(lines.begun.len() <= LONGEST + 1);
        }
        assert!(answers[0].task.as_ref().is_err_and(|why| why.contains("longer than")), "{answers:?}");
        assert_eq!((answers[1].number, answers[1].task.is_ok()), (2, true));
    }
}
