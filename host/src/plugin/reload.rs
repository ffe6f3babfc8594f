//! Keeps a slot up to date with its plugin's file.
//!
//! ```text
//!  change ─▶ settle ─▶ read ─▶ same digest? nothing
//!                        └─▶ compile ─▶ check ─▶ start once ─▶ swap ─▶ keep
//! ```
//! Whatever fails on the way leaves what serves, and says so in the slot. A
//! newer change drops the work on an older one.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::domain::digest::Digest;
use crate::domain::job::JobSpec;
use crate::domain::outcome::Crash;
use crate::domain::time::Clock;
use crate::sandbox::{Gate, Lease, wall};
use crate::stop::told;

use super::compile::{CompileError, Compiler, MAX_COMPONENT};
use super::generation::Plugin;
use super::instance::StartFailed;
use super::kept::Kept;
use super::slot::Slot;
use super::watch::{Stamp, Watch};

/// After a failure that the machine is to blame for, the file is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// A file that changes while it is read is read again, so often.
const READS: usize = 5;

/// Loads one job's plugin, and again whenever its file changes.
pub struct Reloader {
    job: Arc<JobSpec>,
    slot: Arc<Slot>,
    compiler: Arc<Compiler>,
    kept: Kept,
    clock: Clock,
    watch: Watch,
}

/// Why the file's content was not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("{}: {source}{}", file.display(), wall::hint(source))]
    Read { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Start(StartFailed),
}

impl ReloadError {
    /// Whether the same bytes may be taken later.
    fn may_pass(&self) -> bool {
        match self {
            // It may be written, or brought back, just now: the watch sees that.
            Self::Read { .. } => false,
            Self::Compile(error) => matches!(error, CompileError::Unavailable(_)),
            // A machine that is busy may be so only now.
            Self::Start(error) => matches!(error, StartFailed::Plugin(Crash::Deadline(_))),
        }
    }
}

impl Reloader {
    /// Begins to watch; loads nothing yet.
    #[must_use]
    pub fn new(job: Arc<JobSpec>, slot: Arc<Slot>, compiler: Arc<Compiler>, kept: Kept, clock: Clock) -> Self {
        let watch = Watch::start(slot.file().clone());
        Self { job, slot, compiler, kept, clock, watch }
    }

    /// Loads the file as it is now; where it is unusable, the newest component
    /// that was accepted before. Answers when to try again, where that may help.
    async fn load_first(&mut self) -> Option<Duration> {
        let error = self.load().await.err()?;
        self.refuse(&error);
        self.load_kept().await;
        error.may_pass().then_some(TRY_AGAIN)
    }

    /// Loads the file and follows it until `stop` becomes true.
    pub async fn follow(mut self, mut stop: watch::Receiver<bool>) {
        let mut again = tokio::select! {
            () = told(&mut stop) => return,
            again = self.load_first() => again,
        };
        loop {
            tokio::select! {
                () = told(&mut stop) => return,
                () = self.watch.changed() => {}
                () = after(again) => {}
            }
            again = self.reload_until_settled(&mut stop).await;
        }
    }

    /// Loads the file; where it changes meanwhile, drops that and begins anew.
    /// Answers when to try again, where that may help.
    async fn reload_until_settled(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Duration> {
        loop {
            let Self { job, slot, compiler, kept, clock, watch } = self;
            let load = Load { job, slot, compiler, kept, clock };
            let loaded = tokio::select! {
                () = told(stop) => return None,
                loaded = load.run() => loaded,
                () = watch.changed() => continue,
            };
            return match loaded {
                Ok(()) => None,
                Err(error) => {
                    self.refuse(&error);
                    error.may_pass().then_some(TRY_AGAIN)
                }
            };
        }
    }

    async fn load(&self) -> Result<(), ReloadError> {
        let Self { job, slot, compiler, kept, clock, .. } = self;
        Load { job, slot, compiler, kept, clock }.run().await
    }

    fn refuse(&self, error: &ReloadError) {
        let serving = self.slot.current().map_or_else(
            || "nothing serves".to_owned(),
            |generation| {
                let digest = generation.plugin.digest.short();
                format!("generation {} ({digest}) serves on", generation.number)
            },
        );
        let message = format!("{}: {error}; {serving}", self.slot.file().display());
        tracing::warn!(job = %self.job.name, "plugin not taken: {message}");
        self.slot.set_error(Some(message));
    }

    async fn load_kept(&self) {
        let Ok(digests) = self.kept.newest_first() else { return };
        for digest in digests {
            let Ok(bytes) = self.kept.read(digest) else { continue };
            let Ok(plugin) = self.compiler.compile(Arc::new(bytes), &self.job.limits).await else { continue };
            let generation = self.slot.swap(plugin, true);
            tracing::warn!(
                job = %self.job.name, generation = generation.number, digest = %digest,
                "the last good plugin serves, from the state folder",
            );
            return;
        }
    }
}

async fn after(delay: Option<Duration>) {
    match delay {
        Some(delay) => tokio::time::sleep(delay).await,
        None => std::future::pending().await,
    }
}

/// One try to load the file.
struct Load<'a> {
    job: &'a Arc<JobSpec>,
    slot: &'a Arc<Slot>,
    compiler: &'a Compiler,
    kept: &'a Kept,
    clock: &'a Clock,
}

impl Load<'_> {
    async fn run(&self) -> Result<(), ReloadError> {
        let file = self.slot.file().clone();
        let bytes = blocking(move || read(&file).map_err(|source| ReloadError::Read { file, source })).await?;
        let digest = Digest::of(&bytes);
        if self.slot.current().is_some_and(|current| current.plugin.digest == digest) {
            self.slot.set_error(None);
            return Ok(());
        }
        let bytes = Arc::new(bytes);
        let plugin = self.compiler.compile(Arc::clone(&bytes), &self.job.limits).await?;
        let plugin = self.try_start(plugin).await?;
        let generation = self.slot.swap(plugin, false);
        self.slot.set_error(None);
        tracing::info!(
            job = %self.job.name, generation = generation.number, %digest,
            world = generation.plugin.world().name(), "plugin loaded",
        );
        self.keep(digest, bytes).await;
        Ok(())
    }

    async fn try_start(&self, plugin: Plugin) -> Result<Plugin, ReloadError> {
        let (job, clock) = (Arc::clone(self.job), self.clock.clone());
        blocking(move || {
            plugin.try_start(&job, &Gate::new(Lease::endless()), &clock).map_err(ReloadError::Start)?;
            Ok(plugin)
        })
        .await
    }

    /// After the swap: keeping a component must not hold up its service.
    async fn keep(&self, digest: Digest, bytes: Arc<Vec<u8>>) {
        let kept = self.kept.clone();
        let result = blocking(move || kept.keep(digest, &bytes)).await;
        if let Err(error) = result {
            tracing::error!(
                job = %self.job.name,
                "the plugin serves, but could not be kept for a restart: {error}",
            );
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Reads a file once, whole, and unchanged while it was read.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    for _ in 0..READS {
        // Not waiting for whoever would write into a named pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut open = std::fs::File::from(rustix::fs::open(file, flags, Mode::empty())?);
        let before = open.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("is not a regular file"));
        }
        if before.len() > MAX_COMPONENT {
            return Err(io::Error::other(format!("is larger than {MAX_COMPONENT} bytes")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0) + 1);
        open.by_ref().take(MAX_COMPONENT + 1).read_to_end(&mut bytes)?;
        let after = open.metadata()?;
        if Stamp::of(&before) == Stamp::of(&after) && bytes.len() as u64 == after.len() {
            return Ok(bytes);
        }
    }
    Err(io::Error::other("changes while it is read; it is tried again when it rests"))
}
