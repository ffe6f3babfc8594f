//! Errors in words. The system's numbers are WASI's: on the operator's machine
//! they mean something else.

use std::io::{self, ErrorKind};

/// How `std` ends the words of an error that the system gave.
const NUMBER: &str = " (os error ";

/// What an error says, without a number.
///
/// ```
/// let error = std::fs::read("nowhere/at/all").unwrap_err();
/// assert_eq!(sweepd_sdk::words(&error), "No such file or directory");
/// ```
#[must_use]
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        // It may be no file system's doing at all: a plugin that may only look meets it, too.
        ErrorKind::ReadOnlyFilesystem => "nothing may be changed there: it is read-only".to_owned(),
        _ => without_numbers(error.to_string()),
    }
}

/// The text without the numbers of errors that were written into it.
pub(crate) fn without_numbers(text: String) -> String {
    if !text.contains(NUMBER) {
        return text;
    }
    let mut parts = text.split(NUMBER);
    let mut words = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                words.push_str(rest);
            }
            _ => {
                words.push_str(NUMBER);
                words.push_str(part);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        for (text, left) in [
            ("a", "a"),
            ("x: Directory not empty (os error 55)", "x: Directory not empty"),
            ("a (os error 1), b (os error 63); c", "a, b; c"),
            ("a (os error x) (os error 2", "a (os error x) (os error 2"),
            (" (os error 7)", ""),
        ] {
            assert_eq!(without_numbers(text.to_owned()), left);
        }
        assert_eq!(words(&ErrorKind::NotFound.into()), "entity not found");
        assert!(words(&ErrorKind::ReadOnlyFilesystem.into()).contains("read-only"));
    }
}
