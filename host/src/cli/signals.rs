//! Signals: which stop the host, and which must not end a process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, ctrl-c and SIGHUP: each asks the host to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where whoever started the host wants it to outlive a terminal.
    hangup: Option<Signal>,
}

impl Signals {
    /// From now on none of them ends the process by itself. `outlives_terminal`:
    /// SIGHUP stays ignored.
    pub(super) fn new(outlives_terminal: bool) -> io::Result<Self> {
        let hangup = if outlives_terminal { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// Waits for the first one; answers its name. Cancel safe.
    pub(super) async fn next(&mut self) -> &'static str {
        let Self { terminate, interrupt, hangup } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hung_up => "SIGHUP",
        }
    }

    /// Waits for one that ends a host at once that is stopping. A terminal that
    /// goes sends SIGHUP more than once and means it once. Cancel safe.
    pub(super) async fn again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Whether SIGHUP was ignored when this process began, as under `nohup`. To be
/// asked before the wall stands.
pub(super) fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, SignalKind::hangup().as_raw_value())
}

/// Whether a process of this `/proc/…/status` ignores the signal.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A write beyond `ulimit -f` is an error from now on, and not the end of the
/// process by SIGXFSZ: whoever writes can say which file it was. It holds for
/// the whole life of the process, and starts no thread.
pub(super) fn outlive_file_size() {
    let caught = || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _entered = runtime.enter();
        // What catches it stays when the receiver is dropped.
        signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
    };
    if let Err(error) = caught() {
        tracing::debug!("SIGXFSZ cannot be caught: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_off_the_mask() {
        let status = |mask: &str| format!("Name:\tsweepd\nSigBlk:\tffffffffffffffff\nSigIgn:\t{mask}\n");
        assert!(ignores(&status("0000000000000001"), 1));
        assert!(ignores(&status("0000000000001001"), 13) && ignores(&status("0000000000001001"), 1));
        assert!(!ignores(&status("0000000000001000"), 1));
        assert!(!ignores("", 1) && !ignores(&status("x"), 1));
    }
}
