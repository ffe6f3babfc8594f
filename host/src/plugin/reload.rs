//! Keeps a slot up to date with its plugin's file, and with what people and
//! the breaker say of its components.
//!
//! ```text
//!  change ─▶ settle ─▶ pinned? that one
//!                        └─▶ read the file ─▶ set aside? not taken
//!                              └─▶ same digest? nothing
//!                                    └─▶ compile ─▶ check ─▶ start once ─▶ swap ─▶ keep
//! ```
//! Whatever fails on the way leaves what serves, unless that is set aside, and
//! says so in the slot. A newer change drops the work on an older one. Its
//! invariant: what is set aside is never put into the slot.

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
use crate::domain::plugin_history::{Accepted, PluginHistory, SetAside};
use crate::domain::time::Clock;
use crate::sandbox::{Gate, Lease, wall};
use crate::stop::told;

use super::compile::{CompileError, Compiler, MAX_COMPONENT};
use super::generation::Plugin;
use super::instance::StartFailed;
use super::kept::Kept;
use super::slot::{News, Slot};
use super::watch::{Stamp, Watch};

/// After a failure that the machine is to blame for, the file is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// A file that changes while it is read is read again, so often.
const READS: usize = 5;

/// Loads one job's plugin, and again whenever its file changes or something
/// else is to serve.
pub struct Reloader {
    loader: Loader,
    /// Of the plugin's file.
    file: Watch,
    /// Of the history, which commands change.
    history: Watch,
    /// What broke and could not be noted in the state folder (yet).
    unsaved: Option<(Digest, SetAside)>,
}

/// Why what is wanted does not serve.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("{}: {source}{}", file.display(), wall::hint(source))]
    Read { file: PathBuf, source: io::Error },
    #[error("{}: {source}", file.display())]
    Compile { file: PathBuf, source: CompileError },
    #[error("{}: {source}", file.display())]
    Start { file: PathBuf, source: StartFailed },
    #[error(
        "{}: its content {} was set aside at {}: {}; to let it serve all the same: sweepd plugin pin {job} {}",
        file.display(), digest.short(), mark.at, mark.why, digest.short()
    )]
    SetAside { job: String, file: PathBuf, digest: Digest, mark: SetAside },
    #[error("{} is pinned and cannot serve: {source}; sweepd plugin unpin {job} lets the plugin file serve", digest.short())]
    Pinned { job: String, digest: Digest, source: Box<ReloadError> },
    #[error("what is set aside or pinned is not known: {0}")]
    History(io::Error),
}

impl ReloadError {
    /// Whether the same bytes may be taken later.
    fn may_pass(&self) -> bool {
        match self {
            // It may be written, or brought back, just now: the watch sees that.
            Self::Read { .. } | Self::SetAside { .. } => false,
            Self::Compile { source, .. } => matches!(source, CompileError::Unavailable(_)),
            // A machine that is busy may be so only now.
            Self::Start { source, .. } => matches!(source, StartFailed::Plugin(Crash::Deadline(_))),
            Self::Pinned { source, .. } => source.may_pass(),
            Self::History(_) => true,
        }
    }
}

impl Reloader {
    /// Begins to watch; loads nothing yet.
    #[must_use]
    pub fn new(job: Arc<JobSpec>, slot: Arc<Slot>, compiler: Arc<Compiler>, kept: Kept, clock: Clock) -> Self {
        let file = Watch::start(slot.file().clone());
        let history = Watch::start(kept.history_file());
        Self { loader: Loader { job, slot, compiler, kept, clock }, file, history, unsaved: None }
    }

    /// Loads what is to serve, and follows every change of that until `stop`
    /// becomes true.
    pub async fn follow(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let again = self.settle(&mut stop).await;
            tokio::select! {
                () = told(&mut stop) => return,
                () = self.file.changed() => {}
                () = self.history.changed() => {}
                () = self.loader.slot.news() => {}
                () = after(again) => {}
            }
        }
    }

    /// Lets serve what is to serve now; where that changes meanwhile, drops the
    /// work and begins anew. Answers when to try again, where that may help.
    async fn settle(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Duration> {
        loop {
            let broke = self.take_in_news().await;
            let Self { loader, file, history, unsaved } = self;
            let slot = Arc::clone(&loader.slot);
            let asked = slot.asked();
            // While nothing serves, what is under way may be all that there is.
            let serves = slot.current().is_some();
            let (loaded, error) = tokio::select! {
                () = told(stop) => return None,
                settled = loader.run(unsaved.as_ref()) => settled,
                () = file.changed(), if serves => continue,
                () = history.changed(), if serves => continue,
                () = slot.news(), if serves => {
                    // It is taken in at the beginning; nothing else would wake it up.
                    continue;
                }
            };
            if let Some((component, bytes)) = loaded {
                loader.keep(component, bytes).await;
            }
            match &error {
                Some(error) => loader.refuse(error),
                None => drop(slot.set_error(None)),
            }
            if let Some(broke) = broke.filter(|_| slot.current().is_none()) {
                slot.strand(broke);
            }
            slot.settle(asked);
            return error.filter(ReloadError::may_pass).map(|_| TRY_AGAIN);
        }
    }

    /// Writes down what the runner saw. Answers what to say where nothing can
    /// serve any more.
    async fn take_in_news(&mut self) -> Option<String> {
        let News { answered, broke } = self.loader.slot.take_news();
        let stranded = broke.as_ref().map(|(digest, mark)| {
            let help = "no other component ever answered: put another plugin file in place, \
                        or name a component by sweepd plugin pin, and resume the job";
            format!("the plugin {} is set aside: {}; {help}", digest.short(), mark.why)
        });
        self.unsaved = broke.or(self.unsaved.take());
        if answered.is_none() && self.unsaved.is_none() {
            return stranded;
        }
        let (kept, unsaved) = (self.loader.kept.clone(), self.unsaved.clone());
        let noted = blocking(move || {
            kept.change(|history| {
                if let Some(digest) = answered {
                    history.answered(digest);
                }
                if let Some((digest, mark)) = unsaved {
                    history.set_aside(digest, mark);
                }
                Ok::<_, io::Error>(())
            })
        });
        match noted.await {
            Ok(()) => self.unsaved = None,
            Err(error) => {
                tracing::error!(job = %self.loader.job.name, "how the plugin fares could not be noted for a restart: {error}");
            }
        }
        stranded
    }
}

async fn after(delay: Option<Duration>) {
    match delay {
        Some(delay) => tokio::time::sleep(delay).await,
        None => std::future::pending().await,
    }
}

/// What was put into the slot and is to be kept.
type Loaded = Option<(Accepted, Arc<Vec<u8>>)>;

/// Finds what is to serve, and puts it into the slot.
struct Loader {
    job: Arc<JobSpec>,
    slot: Arc<Slot>,
    compiler: Arc<Compiler>,
    kept: Kept,
    clock: Clock,
}

impl Loader {
    /// Answers what it put into the slot, and why that, or nothing, is not what
    /// was wanted. Dropped, it has not swapped.
    async fn run(&self, unsaved: Option<&(Digest, SetAside)>) -> (Loaded, Option<ReloadError>) {
        let kept = self.kept.clone();
        let mut history = match blocking(move || kept.history()).await {
            Ok(history) => history,
            Err(error) => return (None, Some(ReloadError::History(error))),
        };
        if let Some((digest, mark)) = unsaved {
            history.set_aside(*digest, mark.clone());
        }
        self.slot.note(&self.job.name, &history);
        let wanted = match history.pinned {
            Some(pinned) => self.load_pinned(pinned).await,
            None => self.load_file(&history).await,
        };
        match wanted {
            Ok(loaded) => (loaded, None),
            // Nobody asked for anything else than the pinned one.
            Err(error @ ReloadError::Pinned { .. }) => (None, Some(error)),
            Err(error) => (self.load_instead(&history, &error).await, Some(error)),
        }
    }

    async fn load_file(&self, history: &PluginHistory) -> Result<Loaded, ReloadError> {
        let file = self.slot.file().clone();
        let path = file.clone();
        let bytes = blocking(move || read(&path).map_err(|source| ReloadError::Read { file: path, source })).await?;
        let digest = Digest::of(&bytes);
        if let Some(mark) = history.mark_of(digest) {
            let job = self.job.name.to_string();
            return Err(ReloadError::SetAside { job, file, digest, mark: mark.clone() });
        }
        if self.serves(digest) {
            return Ok(None);
        }
        let bytes = Arc::new(bytes);
        let plugin = self.checked(&file, &bytes).await?;
        Ok(Some(self.swap(plugin, false, bytes)))
    }

    async fn load_pinned(&self, digest: Digest) -> Result<Loaded, ReloadError> {
        if self.serves(digest) {
            return Ok(None);
        }
        let (kept, file) = (self.kept.clone(), PathBuf::from("the kept component"));
        let load = async {
            let bytes = blocking(move || kept.read(digest)).await;
            let bytes = bytes.map_err(|source| ReloadError::Read { file: file.clone(), source })?;
            let bytes = Arc::new(bytes);
            Ok((self.checked(&file, &bytes).await?, bytes))
        };
        match load.await {
            Ok((plugin, bytes)) => Ok(Some(self.swap(plugin, true, bytes))),
            Err(source) => {
                let job = self.job.name.to_string();
                Err(ReloadError::Pinned { job, digest, source: Box::new(source) })
            }
        }
    }

    /// The file cannot serve: what serves goes on, unless it is set aside, or
    /// there is nothing; then an earlier one does.
    async fn load_instead(&self, history: &PluginHistory, why: &ReloadError) -> Loaded {
        let serving = self.slot.current().map(|generation| generation.plugin.digest);
        if serving.is_some_and(|digest| history.mark_of(digest).is_none()) {
            return None;
        }
        for digest in history.instead() {
            let kept = self.kept.clone();
            let Ok(bytes) = blocking(move || kept.read(digest)).await else { continue };
            let bytes = Arc::new(bytes);
            let Ok(plugin) = self.compiler.compile(Arc::clone(&bytes), self.job.limits.fuel.is_some()).await else {
                continue;
            };
            // Before the swap: whoever sees an earlier one serve also sees why.
            self.slot.set_error(Some(why.to_string()));
            return Some(self.swap(plugin, true, bytes));
        }
        self.slot.vacate();
        None
    }

    fn serves(&self, digest: Digest) -> bool {
        self.slot.current().is_some_and(|current| current.plugin.digest == digest)
    }

    async fn checked(&self, file: &Path, bytes: &Arc<Vec<u8>>) -> Result<Plugin, ReloadError> {
        let compiled = self.compiler.compile(Arc::clone(bytes), self.job.limits.fuel.is_some()).await;
        let plugin = compiled.map_err(|source| ReloadError::Compile { file: file.to_owned(), source })?;
        let (job, clock, file) = (Arc::clone(&self.job), self.clock.clone(), file.to_owned());
        blocking(move || {
            plugin
                .try_start(&job, &Gate::new(Lease::endless()), &clock)
                .map_err(|source| ReloadError::Start { file, source })?;
            Ok(plugin)
        })
        .await
    }

    fn swap(&self, plugin: Plugin, kept: bool, bytes: Arc<Vec<u8>>) -> (Accepted, Arc<Vec<u8>>) {
        let generation = self.slot.swap(plugin, kept);
        let plugin = &generation.plugin;
        let (job, number, digest, world) = (&self.job.name, generation.number, plugin.digest, plugin.world().name());
        if kept {
            tracing::warn!(%job, generation = number, %digest, world, "an earlier plugin serves, from the state folder");
        } else {
            tracing::info!(%job, generation = number, %digest, world, "plugin loaded");
        }
        let component = Accepted {
            digest,
            size: plugin.size,
            accepted_at: generation.loaded_at,
            world: Some(world.to_owned()),
            answered: false,
            set_aside: None,
        };
        (component, bytes)
    }

    /// After the swap: keeping a component must not hold up its service.
    async fn keep(&self, component: Accepted, bytes: Arc<Vec<u8>>) {
        let kept = self.kept.clone();
        let result = blocking(move || kept.keep(component, &bytes)).await;
        if let Err(error) = result {
            tracing::error!(
                job = %self.job.name,
                "the plugin serves, but could not be kept for a restart: {error}",
            );
        }
    }

    fn refuse(&self, error: &ReloadError) {
        let serving = self.slot.current().map_or_else(
            || "nothing serves".to_owned(),
            |generation| format!("generation {} ({}) serves", generation.number, generation.plugin.digest.short()),
        );
        let message = format!("{error}; {serving}");
        if self.slot.set_error(Some(message.clone())) {
            tracing::warn!(job = %self.job.name, "plugin not taken: {message}");
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
