//! How a command beside the host tells it that something was queued: a socket
//! beside the database, on which any datagram is a ring.
//!
//! It only saves waiting for the next tick: a ring that is lost, or a file
//! system without sockets, costs no task.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;

/// The host's end.
#[derive(Debug)]
pub(super) struct Bell {
    path: PathBuf,
    unused: std::sync::Mutex<Option<UnixDatagram>>,
    socket: OnceCell<Option<tokio::net::UnixDatagram>>,
}

impl Bell {
    /// Hangs it beside `database`, in the place of one that a dead host left.
    /// Whoever calls holds the host's lock.
    pub(super) fn hang(database: &Path) -> Self {
        let path = beside(database);
        let bound = bind(&path);
        if let Err(error) = &bound {
            tracing::warn!(%error, "{}: commands cannot wake this host, it finds their tasks at its next tick", path.display());
        }
        Self { path, unused: std::sync::Mutex::new(bound.ok()), socket: OnceCell::new() }
    }

    /// Completes at the next ring; never where there is no socket. Cancel safe.
    pub(super) async fn rung(&self) {
        let socket = self.socket.get_or_init(async || {
            let unused = self.unused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            unused.and_then(|socket| tokio::net::UnixDatagram::from_std(socket).ok())
        });
        let mut ring = [0; 1];
        match socket.await {
            Some(socket) if socket.recv(&mut ring).await.is_ok() => while socket.try_recv(&mut ring).is_ok() {},
            // A socket that fails once fails for ever.
            _ => std::future::pending().await,
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // The next host replaces it anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Rings, if a host is there to hear it.
pub(super) fn ring(database: &Path) {
    let rung = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        short(&beside(database), |path| socket.send_to(&[1], path))
    });
    if let Err(error) = rung {
        tracing::debug!(%error, "no host was woken");
    }
}

fn bind(path: &Path) -> io::Result<UnixDatagram> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = short(path, |path| UnixDatagram::bind(path))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The name of a socket may have 107 bytes; a longer path is named through a
/// descriptor of its folder.
fn short<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    const LONGEST: usize = 100;
    if path.as_os_str().len() <= LONGEST || !cfg!(target_os = "linux") {
        return call(path);
    }
    let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    call(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

fn beside(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".wake");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_is_heard_also_in_a_deep_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).expect("a folder");
        for folder in [folder.path(), &deep] {
            let database = folder.join("q.db");
            ring(&database);
            // A dead host's socket is in the way.
            std::mem::forget(Bell::hang(&database));
            let bell = Bell::hang(&database);
            ring(&database);
            ring(&database);
            bell.rung().await;
            drop(bell);
            assert!(!beside(&database).exists());
        }
    }
}
