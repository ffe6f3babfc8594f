//! A folder seen through a file system that fails as it is told to: a pass-through
//! FUSE with faults by operation and path, before the change is made, after it, or
//! late. For what a network's file system does when it loses an answer, is slow,
//! or is gone.
//!
//! ```text
//!  test ─faults─▶ Faulty ◀─/dev/fuse─▶ kernel ◀─ the host under test
//!                   └─▶ the folder behind it
//! ```
//! It speaks to the kernel itself (`wire`) and mounts as root, without a library:
//! those there are ask for features of `libc` with which wasmtime would be built
//! anew. It caches nothing. The mount goes with the value, also when the test
//! fails.

mod serve;
mod wire;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use self::serve::Server;

/// What is asked of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "it is the list of what can fail, and not every test wants each")]
pub(crate) enum Op {
    /// Looking at something, by name or open.
    Look,
    /// Listing a folder.
    List,
    /// Opening a file.
    Open,
    Read,
    Write,
    /// Making a file.
    Create,
    MakeFolder,
    Unlink,
    RemoveFolder,
    /// Of the old path.
    Rename,
    Link,
    /// Setting size or times.
    Set,
    /// How much space there is.
    Space,
}

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "as above")]
pub(crate) enum When {
    /// Nothing is done, and this is answered.
    Before(Errno),
    /// It is done, and this is answered.
    After(Errno),
    /// It is done, and from then on that is answered to whatever is asked about it.
    AndGone(Errno),
    /// Nothing is done, this is answered, and from then on to whatever lists or removes
    /// anything: the disk is dead.
    AndBroken(Errno),
    /// It is done so much later.
    Late(Duration),
    /// It is not answered until [`Faulty::heal`].
    Never,
}

/// One thing that goes wrong, until [`Faulty::heal`].
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// With this operation.
    pub(crate) op: Op,
    /// At paths in the mount that begin with this: `""` is all of them.
    pub(crate) path: String,
    /// When.
    pub(crate) when: When,
}

/// What goes wrong now; shared with the server.
#[derive(Debug, Default)]
struct Faults {
    all: Mutex<Vec<Fault>>,
    healed: Condvar,
    /// How many requests are not answered.
    waiting: AtomicUsize,
}

impl Faults {
    fn add(&self, fault: Fault) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    fn of(&self, op: Op, path: &Path) -> Option<When> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.to_string_lossy();
        all.iter().find(|fault| fault.op == op && path.starts_with(&fault.path)).map(|fault| fault.when)
    }

    /// Waits until the operation is no longer told never to be answered.
    fn wait(&self, op: Op, path: &Path) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.to_string_lossy();
        let hangs = |fault: &Fault| fault.op == op && fault.when == When::Never && path.starts_with(&fault.path);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while all.iter().any(hangs) {
            all = self.healed.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The mounted file system.
pub(crate) struct Faulty {
    at: PathBuf,
    faults: Arc<Faults>,
}

impl Faulty {
    /// Shows the folder `behind` at the folder `at`.
    pub(crate) fn mount(behind: &Path, at: &Path) -> Self {
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse opens");
        let kernels = device.try_clone().expect("a descriptor");
        // The command passes its standard input on to the kernel.
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other", "faulty"])
            .arg(at)
            .stdin(Stdio::from(kernels))
            .status()
            .expect("mount starts");
        assert!(mounted.success(), "the tests mount as root");
        let faulty = Self { at: at.to_owned(), faults: Arc::default() };
        let server = Server::new(device, behind, Arc::clone(&faulty.faults));
        std::thread::spawn(move || server.run());
        faulty
    }

    /// From now on this goes wrong, too.
    pub(crate) fn fail(&self, op: Op, path: &str, when: When) {
        self.faults.add(Fault { op, path: path.to_owned(), when });
    }

    /// Whether something waits for an answer that never comes.
    pub(crate) fn waits(&self) -> bool {
        self.waiting() > 0
    }

    /// Nothing goes wrong any more; what hangs is answered.
    pub(crate) fn heal(&self) {
        self.faults.all.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.faults.healed.notify_all();
    }

    /// How many calls hang now.
    pub(crate) fn waiting(&self) -> usize {
        self.faults.waiting.load(Ordering::SeqCst)
    }

    /// Ends the connection: from now on every call fails with `ENOTCONN`.
    pub(crate) fn die(&self) {
        let _ = Command::new("umount").arg("-f").arg(&self.at).stderr(Stdio::null()).status();
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.heal();
        self.die();
        let _ = Command::new("umount").arg("-l").arg(&self.at).stderr(Stdio::null()).status();
    }
}
