//! Keys from a stream, one a line, in constant memory.

use std::io::{self, BufRead};

use crate::domain::task::{BadKey, Key, MAX_KEY};

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A key.
    Key(Key),
    /// Nothing between two ends of lines.
    Empty,
    /// What is no key, and why.
    Bad(String),
}

/// Reads the next line; `None` at the end. A line of any length takes the
/// memory of one key.
pub(super) fn next(input: &mut impl BufRead, end: u8) -> io::Result<Option<Line>> {
    let mut text = Vec::new();
    let mut length = 0;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() {
            return Ok((length > 0).then(|| line(text, length)));
        }
        let found = available.iter().position(|byte| *byte == end);
        let part = &available[..found.unwrap_or(available.len())];
        length += part.len();
        text.extend_from_slice(&part[..part.len().min(MAX_KEY + 1 - text.len())]);
        let used = part.len() + usize::from(found.is_some());
        input.consume(used);
        if found.is_some() {
            return Ok(Some(line(text, length)));
        }
    }
}

fn line(text: Vec<u8>, length: usize) -> Line {
    if length == 0 {
        return Line::Empty;
    }
    if length > MAX_KEY {
        return Line::Bad(BadKey::TooLong(length).to_string());
    }
    match String::from_utf8(text) {
        Err(_) => Line::Bad("the key is no UTF-8".to_owned()),
        // It may belong to the name or to the file's line ends; taking the
        // wrong one could remove the wrong video.
        Ok(text) if text.ends_with('\r') => {
            Line::Bad("the key ends with a carriage return; remove those first: tr -d '\\r'".to_owned())
        }
        Ok(text) => Key::new(text).map_or_else(|error| Line::Bad(error.to_string()), Line::Key),
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn all(input: &[u8], end: u8) -> Vec<String> {
        // A buffer this small puts the seams everywhere.
        let mut input = BufReader::with_capacity(3, input);
        let lines = std::iter::from_fn(|| next(&mut input, end).expect("readable"));
        lines
            .map(|line| match line {
                Line::Key(key) => key.into_string(),
                Line::Empty => "(empty)".to_owned(),
                Line::Bad(why) => format!("bad: {why}"),
            })
            .collect()
    }

    #[test]
    fn lines_become_keys() {
        assert_eq!(all(b"", b'\n'), [""; 0]);
        assert_eq!(all("a\n\n影.mp4\n last".as_bytes(), b'\n'), ["a", "(empty)", "影.mp4", " last"]);
        assert_eq!(all(b"a\nb\0c", 0), ["a\nb", "c"]);
        assert_eq!(all(b"\xff\na\0b\n", b'\n'), ["bad: the key is no UTF-8", "bad: the key contains a NUL byte"]);
        assert!(all(b"a\r\n", b'\n')[0].contains("carriage return"));
        let long = [&b"x".repeat(5000)[..], b"\n", &b"y".repeat(MAX_KEY)[..], b"\n"].concat();
        let lines = all(&long, b'\n');
        assert_eq!(lines[0], "bad: the key has 5000 bytes, at most 1024 are allowed");
        assert_eq!(lines[1].len(), MAX_KEY);
    }
}
