//! Progress, on standard error while a person watches it.

use std::io;
use std::os::fd::AsFd as _;

use indicatif::{ProgressBar, ProgressStyle};

use super::logging;

/// A bar over what is read from standard input where that is a file, whose end
/// is known; else a count.
pub(super) fn of_input() -> ProgressBar {
    let length = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|input| std::fs::File::from(input).metadata())
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len());
    of(length)
}

/// A bar over so many; a count where that is not known.
pub(super) fn of(length: Option<u64>) -> ProgressBar {
    if !logging::is_watched() {
        return ProgressBar::hidden();
    }
    let (bar, style) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:32} {percent}%  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// A line on standard error beside the bar.
pub(super) fn tell(bar: &ProgressBar, what: &str) {
    bar.suspend(|| logging::say(what));
}
