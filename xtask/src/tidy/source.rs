//! Reads what a Rust file imports, closely enough for the rules: words, not
//! syntax. Comments and text in quotes are no imports.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The first name of a path that leads out of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// A module of our crate's root, or another crate.
    pub(super) name: String,
    /// Which of the two.
    pub(super) is_ours: bool,
    /// From 1.
    pub(super) line: usize,
}

/// A file's text, as [`plain`] makes it.
pub(super) fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(plain(&text))
}

/// The text with blanks for comments and literals; lines stay lines.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let skipped = skip(rest, out.chars().next_back());
        if skipped == 0 {
            out.push(char);
            rest = &rest[char.len_utf8()..];
        } else {
            let (gone, left) = rest.split_at(skipped);
            out.extend(gone.chars().map(|char| if char == '\n' { '\n' } else { ' ' }));
            rest = left;
        }
    }
    out
}

/// How many bytes at the start are a comment or a literal.
fn skip(rest: &str, before: Option<char>) -> usize {
    let until = |end: &str| rest.find(end).unwrap_or(rest.len());
    let in_word = before.is_some_and(is_word);
    if rest.starts_with("//") {
        return until("\n");
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if !in_word && (rest.starts_with('r') || rest.starts_with("br")) {
        let open = rest.trim_start_matches(['b', 'r']);
        let hashes = open.len() - open.trim_start_matches('#').len();
        if open[hashes..].starts_with('"') {
            let start = rest.len() - open.len() + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            return rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len());
        }
    }
    // A character, unless it is a lifetime.
    let mut chars = rest.chars();
    if chars.next() == Some('\'') {
        let first = chars.next();
        if first == Some('\\') || (first.is_some() && chars.next() == Some('\'')) {
            return quoted(rest, '\'');
        }
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == end => return at + char.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// All paths that lead out of a file of which `depth` times `super` is the
/// crate's root. `text` is as [`plain`] makes it.
pub(super) fn imports(text: &str, depth: usize) -> Vec<Import> {
    let words = words(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let (word, line) = words[at];
        let starts_path = at == 0 || words[at - 1].0 != "::" || !follows_name(&words, at - 1);
        let leads_on = words.get(at + 1).is_some_and(|next| next.0 == "::");
        if !starts_path || !word.starts_with(is_word) {
            at += 1;
        } else if word == "crate" && leads_on {
            at = members(&words, at + 2, true, &mut found);
        } else if word == "super" && leads_on {
            let mut supers = 0;
            while words.get(at).is_some_and(|word| word.0 == "super")
                && words.get(at + 1).is_some_and(|next| next.0 == "::")
            {
                supers += 1;
                at += 2;
            }
            if supers >= depth {
                at = members(&words, at, true, &mut found);
            }
        } else {
            let is_used = at > 0 && words[at - 1].0 == "use";
            if leads_on || is_used {
                found.push(Import { name: word.to_owned(), is_ours: false, line });
            }
            at += 1;
        }
    }
    found
}

/// Whether the `::` at a place goes on from a name, rather than starting a path.
fn follows_name(words: &[(&str, usize)], at: usize) -> bool {
    at > 0 && words[at - 1].0.starts_with(|char| is_word(char) || char == '>') && words[at - 1].0 != "use"
}

/// The name, or the group of names, at a place; gives the place after it.
fn members(words: &[(&str, usize)], at: usize, is_ours: bool, found: &mut Vec<Import>) -> usize {
    let mut push = |word: &str, line| {
        found.push(Import { name: word.to_owned(), is_ours, line });
    };
    let Some(&(first, line)) = words.get(at) else {
        return at;
    };
    if first != "{" {
        push(first, line);
        return at + 1;
    }
    let mut depth = 0_usize;
    for (offset, &(word, line)) in words[at..].iter().enumerate() {
        match word {
            "{" => depth += 1,
            "}" if depth == 1 => return at + offset + 1,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(words[at + offset - 1].0, "{" | ",") => push(word, line),
            _ => {}
        }
    }
    words.len()
}

/// Names, `::` and single other characters, with their lines.
fn words(text: &str) -> Vec<(&str, usize)> {
    let mut words = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(char) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = if is_word(char) {
            rest.find(|char| !is_word(char)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            char.len_utf8()
        };
        if char == '\n' {
            line += 1;
        } else if !char.is_whitespace() {
            words.push((&rest[..length], line));
        }
        at += length;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanks() {
        for (text, names) in [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("a \"b\\\"c\" d", "a d"),
            ("a r#\"b\"c\"# d", "a d"),
            ("a '\"' b", "a b"),
            ("a<'b> \"c\" d", "a<'b> d"),
            ("'\\'' a", "a"),
        ] {
            let found = plain(text);
            let words: Vec<_> = found.split_whitespace().collect();
            assert_eq!(words.join(" "), names, "{text}");
            assert_eq!(found.chars().count(), text.chars().count(), "{text}");
            assert_eq!(found.lines().count(), text.lines().count(), "{text}");
        }
    }

    #[test]
    fn a_group_has_many_imports_each_in_its_line() {
        let found = imports("use crate::{\n    a::{b, c},\n    d,\n};\nuse e;", 1);
        let found: Vec<_> = found.iter().map(|import| (import.name.as_str(), import.is_ours, import.line)).collect();
        assert_eq!(found, [("a", true, 2), ("d", true, 3), ("e", false, 5)]);
    }
}
