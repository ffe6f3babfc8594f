//! How an event of the log looks to people: one line, in which nothing but the
//! colours steers the terminal, whatever its message and fields hold.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::domain::printable::printable;

/// Writes time, level, message and fields.
pub(super) struct ForPeople;

impl<S, N> FormatEvent<S, N> for ForPeople
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut said = Said::default();
        event.record(&mut said);
        let level = *event.metadata().level();
        let Said { message, fields } = said;
        let text = printable(&message);
        let fields = printable(&fields);
        if out.has_ansi_escapes() {
            let colour = colour(level);
            writeln!(out, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m {text}\x1b[2m{fields}\x1b[0m")
        } else {
            writeln!(out, "{time} {level:>5} {text}{fields}")
        }
    }
}

/// The usual ones.
fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// What an event says, as it came.
#[derive(Default)]
struct Said {
    message: String,
    /// Each after a space.
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // What the crate `log` says of its own place.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {}={value:?}", name.trim_start_matches("r#")),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(colours: bool, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(colours)
            .event_format(ForPeople)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(sink.0.lock().expect("no panic").clone()).expect("text")
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let forged = "x\n2026-01-01T00:00:00.000000Z  INFO all is well\u{1b}[2J\u{9b}1m\r\u{202e}";
        let text = written(false, || {
            tracing::warn!(key = %forged, why = forged, "cannot remove {forged}");
        });
        let (_, rest) = text.split_once("  WARN ").expect("a level");
        let shown = "x\\n2026-01-01T00:00:00.000000Z  INFO all is well\\u{1b}[2J\\u{9b}1m\\r\\u{202e}";
        // What is quoted is escaped by the quotes.
        assert_eq!(rest, format!("cannot remove {shown} key={shown} why=\"{shown}\"\n"));
    }

    #[test]
    fn colours_are_the_only_escapes() {
        let text = written(true, || tracing::error!(key = %"\u{1b}[31m", "no"));
        assert!(text.contains("\x1b[31mERROR\x1b[0m no\x1b[2m key=\\u{1b}[31m\x1b[0m\n"), "{text:?}");
    }
}
