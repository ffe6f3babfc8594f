//! Text of others as people may see it: keys, paths, reasons, messages of
//! plugins, databases and kernels.
//!
//! Such text could steer a terminal, begin a line of its own, or show something
//! in another order than it stands there. Every way to a person ends in one of
//! the two functions here: lines for people in [`printable`], JSON in
//! [`printable_json`]. Both may be applied twice.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is not seen as itself: it steers what shows it, ends a
/// line, reorders what stands beside it, or has no width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero width, marks of direction, ends of lines and paragraphs, embeddings and overrides.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            // Invisible operators, isolates, what formatting was once.
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tags.
            | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text on one line, with everything that is not seen as itself escaped:
/// `\n`, `\u{1b}`, `\u{202e}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, |shown, c| {
        let _ = write!(shown, "{}", c.escape_default());
    })
}

/// JSON that means the same, with everything that is not seen as itself
/// escaped. Line ends stay: in JSON they are never within a text.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    escaped(
        json,
        |c| c != '\n' && is_hidden(c),
        |shown, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        },
    )
}

fn escaped(text: &str, is_hidden: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let Some(first) = text.find(&is_hidden) else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_hidden(c) {
            escape(&mut shown, c);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_of_others_is_only_text() {
        for (text, shown) in [
            ("影 a\\b é", "影 a\\b é"),
            ("a\u{1b}[2Jb\nc\rd\te", "a\\u{1b}[2Jb\\nc\\rd\\te"),
            ("\u{9b}2J\u{85}\u{7f}", "\\u{9b}2J\\u{85}\\u{7f}"),
            ("exe.\u{202e}gpj", "exe.\\u{202e}gpj"),
            ("\u{2066}a\u{2069}\u{200b}\u{feff}\u{2028}", "\\u{2066}a\\u{2069}\\u{200b}\\u{feff}\\u{2028}"),
            ("שלום", "שלום"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn json_is_escaped_and_means_the_same() {
        let text = "a\u{9b}2J\u{202e}\u{7f}\u{e0041}影";
        let json = serde_json::to_string_pretty(&[text]).expect("it is written");
        let shown = printable_json(&json);
        assert_eq!(shown, "[\n  \"a\\u009b2J\\u202e\\u007f\\udb40\\udc41影\"\n]");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).expect("it is read")[0], text);
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_and_twice_is_once(chars in proptest::collection::vec(any::<char>(), 0..40)) {
            let text: String = chars.into_iter().collect();
            let shown = printable(&text).into_owned();
            prop_assert!(!shown.contains(is_hidden));
            prop_assert_eq!(printable(&shown).into_owned(), shown);
            let json = serde_json::to_string(&text).expect("it is written");
            let shown = printable_json(&json);
            prop_assert!(!shown.contains(is_hidden));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).expect("it is read"), text);
        }
    }
}
