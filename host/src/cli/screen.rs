//! The one way to standard output.
//!
//! What is written is lines: whatever stands within one is escaped by
//! [`printable`], whoever it came from, so that nothing of others can steer the
//! terminal or begin a line. `clippy.toml` refuses any other way to standard
//! output. Standard error is `logging`'s.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write};

use serde::Serialize;

use crate::domain::printable::{printable, printable_json};

/// Where lines for people, or JSON, are written: `writeln!(screen, …)` writes
/// one line. It does not implement [`Write`], so that nothing can get past it.
pub(super) struct Screen<W: Write> {
    out: W,
}

impl Screen<BufWriter<Stdout>> {
    /// Standard output. Flush it: at its end what fails is lost.
    pub(super) fn stdout() -> Self {
        Self::new(BufWriter::new(stdout()))
    }
}

impl<W: Write> Screen<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    /// What `writeln!` calls: one line, always. There are no parts of lines: whose
    /// end a line end at the end of a part is could not be told.
    pub(super) fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        let text = text.to_string();
        debug_assert!(text.ends_with('\n'), "a screen takes whole lines: writeln!, not write!");
        self.line(text.strip_suffix('\n').unwrap_or(&text))
    }

    /// One line. A line end within the text is text.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(printable(text).as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// One object on one line.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.json_text(&serde_json::to_string(value)?)
    }

    /// One object on several lines.
    pub(super) fn pretty_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.json_text(&serde_json::to_string_pretty(value)?)
    }

    fn json_text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(printable_json(text).as_bytes())?;
        self.out.write_all(b"\n")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Screen<Vec<u8>> {
    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// What was written, as text.
    #[cfg(test)]
    pub(super) fn into_text(self) -> String {
        String::from_utf8(self.out).expect("only text is written")
    }
}

/// Prints one line on standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut screen = Screen::stdout();
    screen.line(text)?;
    screen.flush()
}

/// Whether somebody looks at standard output.
pub(super) fn is_terminal() -> bool {
    stdout().is_terminal()
}

#[allow(clippy::disallowed_methods, reason = "what comes here is escaped, or asks who looks")]
fn stdout() -> Stdout {
    io::stdout()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_a_line_whatever_stands_in_it() {
        let mut screen = Screen::new(Vec::new());
        let forged = "x\n\u{1b}[1mok: all is well";
        writeln!(screen, "a {forged} b").expect("written");
        let ended = "its own\n";
        writeln!(screen, "{ended}").expect("written");
        screen.json(&json!({ "key": "\u{9b}2J\n" })).expect("written");
        assert_eq!(screen.into_text(), "a x\\n\\u{1b}[1mok: all is well b\nits own\\n\n{\"key\":\"\\u009b2J\\n\"}\n");
    }
}
