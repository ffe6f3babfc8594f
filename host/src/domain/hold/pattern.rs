//! The pattern of a hold: which paths it means, and nothing else.
//!
//! It knows `*`, `?` and `**`; every other character means itself. A path is
//! compared character by character, a character being a Unicode code point.
//! This module knows neither mounts nor files. Its invariant: a pattern without
//! `*` and `?` matches the path that it spells, whatever is in it.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// Which paths are held: `*` matches any characters but `/`, `?` one of them,
/// and a name `**` any number of folders. It is matched against the path within
/// the mount, or, where it begins with `/`, the path on the machine. What
/// matches a folder holds all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pattern {
    text: String,
    #[serde(skip)]
    parts: Vec<Part>,
}

/// The text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no pattern: {why}")]
pub struct BadPattern {
    text: String,
    why: String,
}

/// What the next characters of a path must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// This character.
    Just(char),
    /// One character but `/`.
    One,
    /// Any number of them.
    Some,
    /// Any number of characters.
    Any,
    /// Any number of names, each with a `/` after it.
    Folders,
}

impl Pattern {
    /// Longest pattern, in bytes.
    pub const MAX: usize = 4096;

    /// Checks `text` and takes it without what means nothing: `.`, and a `/`
    /// that follows another one or ends it.
    pub fn new(text: impl Into<String>) -> Result<Self, BadPattern> {
        let text = text.into();
        let why = if text.len() > Self::MAX {
            Some(format!("it is longer than {} bytes", Self::MAX))
        } else if text.contains('\0') {
            Some("it holds a NUL".to_owned())
        } else if names(&text).any(|name| name == "..") {
            Some("it has a `..`; write the path without it".to_owned())
        } else if names(&text).next().is_none() {
            Some("it is empty; `**` holds everything".to_owned())
        } else {
            None
        };
        match why {
            Some(why) => Err(BadPattern { text, why }),
            None => Ok(Self::stored(&text)),
        }
    }

    /// A pattern that was taken before, perhaps by a version with other rules.
    /// A `..` takes back the name before it.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        let mut kept: Vec<&str> = Vec::new();
        for name in names(text) {
            if name == ".." {
                kept.pop();
            } else {
                kept.push(name);
            }
        }
        let root = if text.starts_with('/') { "/" } else { "" };
        let text = format!("{root}{}", kept.join("/"));
        let parts = parts(&text);
        Self { text, parts }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is matched against the path on the machine.
    #[must_use]
    pub fn is_of_machine(&self) -> bool {
        self.text.starts_with('/')
    }

    /// The folders before the first that has a wildcard; all of it where there
    /// is none.
    #[must_use]
    pub fn fixed_part(&self) -> &Path {
        let text = &self.text;
        let end = text.find(['*', '?']).map_or(text.len(), |wild| text[..wild].rfind('/').unwrap_or(0));
        Path::new(&text[..end])
    }

    /// Whether it matches `path`, or a folder on the way to it. `path` has no
    /// `.`, `..` or empty name, and begins with `/` only for a pattern of the
    /// machine's paths.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        let mut states = States::begin(&self.parts);
        for char in path.chars() {
            if char == '/' && states.is_at_end() {
                return true;
            }
            if !states.step(char) {
                return false;
            }
        }
        states.is_at_end() && !path.is_empty()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// The names of a path that mean something.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('/').filter(|name| !matches!(*name, "" | "."))
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::with_capacity(text.len());
    let mut names = text.split('/').peekable();
    while let Some(name) = names.next() {
        let is_last = names.peek().is_none();
        if name.len() >= 2 && name.bytes().all(|byte| byte == b'*') {
            parts.push(if is_last { Part::Any } else { Part::Folders });
            continue;
        }
        let mut chars = name.chars().peekable();
        while let Some(char) = chars.next() {
            parts.push(match char {
                '?' => Part::One,
                '*' if chars.peek() == Some(&'*') => {
                    while chars.next_if_eq(&'*').is_some() {}
                    Part::Any
                }
                '*' => Part::Some,
                char => Part::Just(char),
            });
        }
        if !is_last {
            parts.push(Part::Just('/'));
        }
    }
    parts
}

/// At which parts of a pattern the next character may be.
struct States<'a> {
    parts: &'a [Part],
    now: Vec<usize>,
    next: Vec<usize>,
    /// In which step a part was last noted, so that none is noted twice.
    noted: Vec<u32>,
    step: u32,
}

impl<'a> States<'a> {
    fn begin(parts: &'a [Part]) -> Self {
        let noted = vec![0; parts.len() + 1];
        let mut states = Self { parts, now: Vec::new(), next: Vec::new(), noted, step: 1 };
        states.reach(0);
        std::mem::swap(&mut states.now, &mut states.next);
        states
    }

    /// Takes the next character of a path; whether any match is left.
    fn step(&mut self, char: char) -> bool {
        self.step += 1;
        for index in 0..self.now.len() {
            let at = self.now[index];
            let Some(part) = self.parts.get(at) else { continue };
            match part {
                Part::Just(wanted) if *wanted == char => self.reach(at + 1),
                Part::One if char != '/' => self.reach(at + 1),
                Part::Some if char != '/' => self.reach(at),
                Part::Any => self.reach(at),
                // In the middle of a name what follows has no place.
                Part::Folders if char == '/' => self.reach(at),
                Part::Folders => drop(self.note(at)),
                Part::Just(_) | Part::One | Part::Some => {}
            }
        }
        self.now.clear();
        std::mem::swap(&mut self.now, &mut self.next);
        !self.now.is_empty()
    }

    /// The whole pattern is matched.
    fn is_at_end(&self) -> bool {
        self.now.contains(&self.parts.len())
    }

    /// The next character may be at this part, or behind it where that may be
    /// nothing.
    fn reach(&mut self, mut at: usize) {
        while self.note(at) && matches!(self.parts.get(at), Some(Part::Some | Part::Any | Part::Folders)) {
            at += 1;
        }
    }

    fn note(&mut self, at: usize) -> bool {
        let is_new = std::mem::replace(&mut self.noted[at], self.step) != self.step;
        if is_new {
            self.next.push(at);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern).expect("a pattern").holds(path)
    }

    #[test]
    fn what_is_documented_is_matched_and_nothing_else() {
        for (pattern, held, free) in [
            ("a.mp4", vec!["a.mp4", "a.mp4/x"], vec!["b.mp4", "x/a.mp4", "a.mp4x", "A.mp4"]),
            ("*.mp4", vec!["a.mp4", ".mp4", "a.mp4/x"], vec!["x/a.mp4", "a.mp4x"]),
            ("**/*.mp4", vec!["a.mp4", "x/y/a.mp4"], vec!["a.ts"]),
            ("2024", vec!["2024", "2024/a", "2024/x/y"], vec!["20245", "x/2024"]),
            ("2024/", vec!["2024/a"], vec!["2025/a"]),
            ("2024/**", vec!["2024/a", "2024/x/y"], vec!["2024", "2025/a"]),
            ("a/**/b", vec!["a/b", "a/x/b", "a/x/y/b/c"], vec!["a/xb", "ab", "a/x"]),
            ("**", vec!["a", "a/b"], vec![]),
            ("**.raw", vec!["a.raw", "x/y/a.raw"], vec!["a.raws"]),
            ("a**z", vec!["az", "abz", "a/b/z"], vec!["a/b"]),
            ("film [HD].mp4", vec!["film [HD].mp4"], vec!["film H.mp4", "film D.mp4"]),
            ("[old]/**", vec!["[old]/a"], vec!["o/a", "old/a"]),
            ("{a,b}", vec!["{a,b}"], vec!["a", "b"]),
            (r"a\*b", vec![r"a\*b", r"a\xb"], vec!["a*b"]),
            ("a[", vec!["a["], vec!["a"]),
            ("!x", vec!["!x"], vec!["a"]),
            ("?.mp4", vec!["é.mp4", "日.mp4", "?.mp4", "*.mp4"], vec!["ab.mp4", ".mp4", "e\u{301}.mp4"]),
            ("a?b", vec!["axb"], vec!["a/b", "ab"]),
        ] {
            for path in held {
                assert!(holds(pattern, path), "{pattern} holds {path}");
            }
            for path in free {
                assert!(!holds(pattern, path), "{pattern} does not hold {path}");
            }
        }
    }

    #[test]
    fn the_machines_paths_begin_with_a_slash() {
        assert!(holds("/srv/v/2024/**", "/srv/v/2024/a"));
        assert!(holds("/srv", "/srv/v/a"));
        assert!(holds("/**/a", "/srv/a"));
        assert!(!holds("/srv", "/srv2/a"));
    }

    #[test]
    fn what_means_nothing_is_left_out() {
        for (text, taken) in [
            ("./a", "a"),
            ("a//b", "a/b"),
            ("a/./b/", "a/b"),
            ("//srv/./v//", "/srv/v"),
            ("a/...", "a/..."),
            ("***/a", "***/a"),
        ] {
            assert_eq!(Pattern::new(text).expect("a pattern").as_str(), taken);
        }
        for bad in ["", "/", ".", "./.", "x/../a", "..", "a\0", &"x".repeat(Pattern::MAX + 1)] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_taken_before_is_read_by_the_same_rules() {
        assert!(Pattern::stored("film [HD].mp4").holds("film [HD].mp4"));
        assert!(Pattern::stored("x/../a").holds("a"));
        assert!(Pattern::stored("./a").holds("a"));
        assert!(!Pattern::stored("").holds("a"));
    }

    #[test]
    fn a_long_pattern_takes_no_more_than_its_time() {
        let pattern = Pattern::new("*a".repeat(Pattern::MAX / 2)).expect("a pattern");
        assert!(!pattern.holds(&"a".repeat(2000)));
    }

    /// The rules once more, as they are told to people, and slowly.
    fn matches(pattern: &[char], path: &[char], begins: bool) -> bool {
        let anywhere = |rest: &[char]| (0..=path.len()).any(|at| matches(rest, &path[at..], false));
        match pattern {
            [] => path.is_empty(),
            ['*', '*', '/', rest @ ..] if begins => {
                let after = |at: &usize| path[*at] == '/';
                matches(rest, path, true)
                    || (0..path.len()).filter(after).any(|at| matches(rest, &path[at + 1..], true))
            }
            ['*', '*', rest @ ..] => anywhere(rest),
            ['*', rest @ ..] => {
                let end = path.iter().position(|char| *char == '/').unwrap_or(path.len());
                (0..=end).any(|at| matches(rest, &path[at..], false))
            }
            ['?', rest @ ..] => path.first().is_some_and(|char| *char != '/') && matches(rest, &path[1..], false),
            [just, rest @ ..] => path.first() == Some(just) && matches(rest, &path[1..], *just == '/'),
        }
    }

    /// A path of a few names.
    fn path() -> impl Strategy<Value = String> {
        proptest::collection::vec("[ab\\[\\]{}\\\\!,é]{1,4}", 1..4).prop_map(|names| names.join("/"))
    }

    proptest! {
        #[test]
        fn it_matches_as_it_is_told(
            pattern in proptest::collection::vec("[ab\\[]|\\*|\\*\\*|\\?|/", 1..8).prop_map(|parts| parts.concat()),
            path in path(),
        ) {
            prop_assume!(!pattern.contains("***"));
            if let Ok(taken) = Pattern::new(pattern) && !taken.is_of_machine() {
                let pattern: Vec<char> = taken.as_str().chars().collect();
                let chars: Vec<char> = path.chars().collect();
                let ends = (1..=chars.len()).filter(|end| *end == chars.len() || chars[*end] == '/');
                let expected = ends.into_iter().any(|end| matches(&pattern, &chars[..end], true));
                prop_assert_eq!(taken.holds(&path), expected, "{} on {}", taken, path);
            }
        }

        #[test]
        fn a_path_without_wildcards_is_held_by_itself(path in path(), below in path()) {
            let pattern = Pattern::new(path.clone()).expect("a pattern");
            prop_assert!(pattern.holds(&path));
            let below = format!("{path}/{below}");
            prop_assert!(pattern.holds(&below));
        }
    }
}
