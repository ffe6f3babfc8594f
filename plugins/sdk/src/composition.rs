//! Whether two names differ only in how their characters are composed: `é` is one
//! character or an `e` with a mark. Other systems write names in the one way or
//! the other, Linux compares bytes.
//!
//! It is a hint for a person, and does without Unicode's tables, which are larger
//! than a plugin: a letter with marks is taken for whichever single character
//! stands at its place. Only Hangul is computed.

use std::iter::Peekable;
use std::str::Chars;

/// Whether the names differ, and in nothing but composition as far as that can be
/// told.
pub(crate) fn differs_only(one: &str, other: &str) -> bool {
    one != other && is_same(one, other)
}

/// The name with what is not ASCII spelled out: both look alike otherwise.
pub(crate) fn spelled(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

fn is_same(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.chars().peekable(), other.chars().peekable());
    loop {
        match (next(&mut one), next(&mut other)) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || a.is_composed_of(&b) || b.is_composed_of(&a) => {}
            _ => return false,
        }
    }
}

/// A character with the marks behind it.
#[derive(PartialEq, Eq)]
struct Letter {
    base: char,
    marks: Vec<char>,
}

impl Letter {
    /// Whether this one character may be what `other` is made of.
    fn is_composed_of(&self, other: &Self) -> bool {
        let adds_marks = other.marks.len() > self.marks.len();
        if let Some(parts) = jamo(self.base) {
            return other.base == parts[0] && self.marks.is_empty() && other.marks == parts[1..];
        }
        !self.base.is_ascii() && adds_marks && self.base != other.base
    }
}

fn next(chars: &mut Peekable<Chars<'_>>) -> Option<Letter> {
    let base = chars.next()?;
    let mut marks = Vec::new();
    while let Some(mark) = chars.next_if(|c| is_mark(*c)) {
        marks.push(mark);
    }
    Some(Letter { base, marks })
}

/// Marks that a letter is composed with, and the second and third parts of Hangul
/// syllables.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{65f}' | '\u{93c}' | '\u{1161}'..='\u{1175}' | '\u{11a8}'..='\u{11c2}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{3099}' | '\u{309a}')
}

/// The parts of a Hangul syllable, by Unicode's rule.
fn jamo(syllable: char) -> Option<Vec<char>> {
    let index = u32::from(syllable).checked_sub(0xac00).filter(|index| *index < 11_172)?;
    let part = |base: u32, index: u32| char::from_u32(base + index);
    let last = part(0x11a7, index % 28).filter(|_| index % 28 > 0);
    [part(0x1100, index / 588), part(0x1161, index % 588 / 28)].into_iter().chain(last.map(Some)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_one_form_and_the_other() {
        for (composed, apart) in [
            ("caf\u{e9}.mp4", "cafe\u{301}.mp4"),
            ("\u{1ebf}", "\u{ea}\u{301}"),
            ("\u{1ebf}", "e\u{302}\u{301}"),
            ("\u{c5}ngstr\u{f6}m", "A\u{30a}ngstro\u{308}m"),
            ("\u{304c}", "\u{304b}\u{3099}"),
            ("\u{d55c}\u{ae00}", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"),
        ] {
            assert!(differs_only(composed, apart) && differs_only(apart, composed), "{composed} {apart}");
        }
        for (one, other) in [
            ("a", "a"),
            ("caf\u{e9}", "cafe"),
            ("caf\u{e9}", "caf\u{e8}"),
            ("caf\u{e9}", "cafe\u{301}s"),
            ("caf\u{e9}s", "cafe\u{301}"),
            ("cafe", "cafe\u{301}"),
            ("\u{d55c}", "\u{1112}\u{1161}"),
            ("\u{e9}", ""),
            ("", ""),
        ] {
            assert!(!differs_only(one, other), "{one} {other}");
        }
        assert_eq!(spelled("cafe\u{301}"), "cafe\\u{301}");
    }
}
