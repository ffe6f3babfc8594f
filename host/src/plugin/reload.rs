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
//! says so in the slot. A newer content of the file drops the work on an older
//! one; the same content, touched or written again, does not. Its invariant: what
//! is set aside is never put into the slot.

// length: what is to serve, and what ends the work on it, share the loader's state.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::Instant;

use crate::domain::digest::Digest;
use crate::domain::job::JobSpec;
use crate::domain::outcome::Crash;
use crate::domain::plugin_history::{Accepted, CopyState, Listed, PluginHistory, SetAside};
use crate::domain::time::Clock;
use crate::sandbox::{Gate, Lease};
use crate::stop::told;

use super::blame;
use super::compile::{CompileError, Compiler};
use super::file::{Unreadable, read_component, read_only};
use super::generation::{Generation, Plugin};
use super::instance::StartFailed;
use super::keeping::{Keeping, Unkept, blocking};
use super::kept::Kept;
use super::slot::{News, Slot};
use super::watch::Watch;

mod compiling;

/// After a failure that the machine is to blame for, the file is tried again:
/// after this time, then after twice that, and so on.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// It is tried again at least so often.
const AT_LEAST: Duration = Duration::from_mins(2);

/// Loads one job's plugin, and again whenever its file changes or something
/// else is to serve.
pub struct Reloader {
    loader: Loader,
    /// Of the plugin's file.
    file: Watch,
    /// Of the history, which commands change.
    history: Watch,
    keeping: OwnedMutexGuard<Keeping>,
    /// How often in a row the machine was to blame.
    failures: u32,
}

/// Why what is wanted does not serve.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("{}: {source}", file.display())]
    Read { file: PathBuf, source: Unreadable },
    #[error("the kept component: {0}")]
    Copy(io::Error),
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
            Self::Read { source, .. } => source.may_pass,
            Self::Copy(source) => blame::is_the_machines(source),
            Self::SetAside { .. } => false,
            Self::Compile { source, .. } => matches!(source, CompileError::Unavailable(_)),
            // A machine that is busy may be so only now.
            Self::Start { source, .. } => {
                matches!(source, StartFailed::Plugin(Crash::Deadline(_)) | StartFailed::Machine(_))
            }
            Self::Pinned { source, .. } => source.may_pass(),
            Self::History(_) => true,
        }
    }
}

impl Reloader {
    /// Looks at nothing and loads nothing yet. Waits until no other has `unkept`.
    pub async fn new(
        job: Arc<JobSpec>,
        slot: Arc<Slot>,
        compiler: Arc<Compiler>,
        (kept, unkept): (Kept, Unkept),
        clock: Clock,
    ) -> Self {
        let (name, told) = (job.name.clone(), Arc::clone(&slot));
        let file = Watch::new(slot.file().clone(), move |unseen| {
            let file = told.file().display();
            match (told.set_unseen(unseen.clone()), unseen) {
                (false, _) => {}
                (true, Some(why)) => tracing::warn!(job = %name, "the plugin file {file} is not followed: {why}"),
                (true, None) => tracing::info!(job = %name, "the plugin file {file} is followed again"),
            }
        });
        // In the state folder: what is wrong with that is told elsewhere.
        let history = Watch::new(kept.history_file(), drop);
        let keeping = unkept.take().await;
        let loader = Loader { job, slot, compiler, kept, clock, passed_over: Vec::new(), taking: Arc::default() };
        Self { loader, file, history, keeping, failures: 0 }
    }

    /// Loads what is to serve, and follows every change of that until `stop`
    /// becomes true.
    pub async fn follow(mut self, mut stop: watch::Receiver<bool>) {
        // Before anything is loaded: what changes from now on is seen.
        tokio::join!(self.file.begin(), self.history.begin());
        // A reloader that panicked may have left something.
        if self.keeping.has_waiting() {
            self.keeping.try_now().await;
        }
        let mut again = self.settle(&mut stop).await;
        self.loader.look_through().await;
        while !self.has_stopped(again, &mut stop).await {
            again = self.settle(&mut stop).await;
        }
        if self.keeping.has_waiting() {
            self.keeping.try_now().await;
        }
    }

    /// Waits until there is something to look at, and keeps meanwhile what could
    /// not be kept. True where the host stops.
    async fn has_stopped(&mut self, again: Option<Duration>, stop: &mut watch::Receiver<bool>) -> bool {
        let again = again.map(|delay| Instant::now() + delay);
        loop {
            tokio::select! {
                () = told(stop) => return true,
                () = self.file.changed() => return false,
                () = self.history.changed() => return false,
                () = self.loader.slot.news() => return false,
                () = at(again) => return false,
                () = self.keeping.due() => self.keeping.try_now().await,
            }
        }
    }

    /// Lets serve what is to serve now; where that changes meanwhile, drops the
    /// work and begins anew. Answers when to try again, where that may help.
    async fn settle(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Duration> {
        loop {
            let stranded = self.take_in_news().await;
            let Self { loader, file, history, keeping, .. } = self;
            let (slot, taking) = (Arc::clone(&loader.slot), Arc::clone(&loader.taking));
            let asked = slot.asked();
            // While nothing serves, what is under way may be all that there is.
            let serves = slot.current().is_some();
            let mut is_outdated = false;
            let settled = {
                let mut run = pin!(loader.run(keeping.broken()));
                loop {
                    tokio::select! {
                        () = told(stop) => return None,
                        settled = &mut run => break Some(settled),
                        () = file.changed() => match taking.compare(slot.file()).await {
                            Content::Same => {}
                            Content::Other => break None,
                            Content::Unknown => is_outdated = true,
                        },
                        () = history.changed(), if serves => break None,
                        // It is taken in at the beginning; nothing else would wake it up.
                        () = slot.news(), if serves => break None,
                    }
                }
            };
            let Some((loaded, error)) = settled else { continue };
            // After the swap: keeping a component must not hold up its service.
            if let Some((component, bytes)) = loaded {
                keeping.component(component, bytes);
                keeping.try_now().await;
            }
            match &error {
                Some(error) => loader.refuse(error),
                None => drop(slot.set_error(None)),
            }
            if is_outdated {
                continue;
            }
            if let Some(stranded) = stranded.filter(|_| slot.current().is_none()) {
                slot.strand(stranded);
            }
            slot.settle(asked);
            return self.again(error.as_ref());
        }
    }

    /// After what time to try again, where that may help.
    fn again(&mut self, error: Option<&ReloadError>) -> Option<Duration> {
        if !error.is_some_and(ReloadError::may_pass) {
            self.failures = 0;
            return None;
        }
        let wait = TRY_AGAIN.saturating_mul(1 << self.failures.min(8)).min(AT_LEAST);
        self.failures += 1;
        Some(wait)
    }

    /// Writes down what the runner saw. Answers what to say where nothing can
    /// serve any more.
    async fn take_in_news(&mut self) -> Option<String> {
        let news = self.loader.slot.take_news();
        let stranded = news.broke.as_ref().map(|(digest, mark)| {
            let help = "no other component ever answered: put another plugin file in place, \
                        or name a component by sweepd plugin pin, and resume the job";
            format!("the plugin {} is set aside: {}; {help}", digest.short(), mark.why)
        });
        if news != News::default() {
            self.keeping.news(news);
            self.keeping.try_now().await;
        }
        stranded
    }
}

/// What of the plugin file is being taken now, where something is.
#[derive(Default)]
struct Taking(Mutex<Option<Digest>>);

/// What the file has beside what is being taken of it.
enum Content {
    Same,
    Other,
    /// It cannot be read, or nothing was read of it yet.
    Unknown,
}

impl Taking {
    fn set(&self, digest: Option<Digest>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = digest;
    }

    async fn compare(&self, file: &Path) -> Content {
        let taking = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(taking) = taking else { return Content::Unknown };
        match read_component(file).await {
            Ok(bytes) if Digest::of(&bytes) == taking => Content::Same,
            Ok(_) => Content::Other,
            Err(_) => Content::Unknown,
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What is in the slot and is to be kept.
type Loaded = Option<(Accepted, Arc<Vec<u8>>)>;

/// Finds what is to serve, and puts it into the slot.
struct Loader {
    job: Arc<JobSpec>,
    slot: Arc<Slot>,
    compiler: Arc<Compiler>,
    kept: Kept,
    clock: Clock,
    /// What was tried in the place of the present one, and why it does not serve.
    passed_over: Vec<String>,
    taking: Arc<Taking>,
}

impl Loader {
    /// At the start: what an earlier life left half-written goes, and what could
    /// not serve from its copy is told.
    async fn look_through(&self) {
        let (kept, job) = (self.kept.clone(), &self.job.name);
        match blocking(move || kept.look_through()).await {
            Ok(spoiled) => {
                // What was never kept was told when it was not.
                for Listed { accepted, copy } in spoiled.iter().filter(|listed| listed.accepted.size > 0) {
                    let (digest, copy) = (accepted.digest, copy.name());
                    tracing::warn!(%job, %digest, "its copy is {copy}: it could not serve without its plugin file, which mends it");
                }
            }
            Err(error) => tracing::warn!(%job, "the kept components could not be looked through: {error}"),
        }
    }

    /// Answers what it put into the slot, and why that, or nothing, is not what
    /// was wanted. `broken` is what must not serve, though the history may not
    /// say so yet. Dropped, it has not swapped.
    async fn run(&mut self, broken: &[(Digest, SetAside)]) -> (Loaded, Option<ReloadError>) {
        self.mend_history().await;
        let kept = self.kept.clone();
        let mut history = match blocking(move || kept.history()).await {
            Ok(history) => history,
            Err(error) => return (None, Some(ReloadError::History(error))),
        };
        for (digest, mark) in broken {
            history.set_aside(*digest, mark.clone());
        }
        self.slot.note(&self.job.name, &history);
        self.taking.set(None);
        let wanted = match history.pinned {
            Some(pinned) => self.load_pinned(pinned).await,
            None => self.load_file(&history).await,
        };
        match wanted {
            Ok(loaded) => {
                self.passed_over.clear();
                (loaded, None)
            }
            // Nobody asked for anything else than the pinned one.
            Err(error @ ReloadError::Pinned { .. }) => (None, Some(error)),
            Err(error) => (self.load_instead(&history, &error).await, Some(error)),
        }
    }

    async fn mend_history(&self) {
        let (kept, job) = (self.kept.clone(), &self.job.name);
        let file = self.kept.history_file();
        match blocking(move || kept.mend()).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(%job, "{} could not be understood: it is made anew from its copy", file.display());
            }
            // Where it matters whoever reads it says so.
            Err(error) => tracing::debug!(%job, "{}: {error}", file.display()),
        }
    }

    async fn load_file(&self, history: &PluginHistory) -> Result<Loaded, ReloadError> {
        let file = self.slot.file().clone();
        let read = read_component(&file).await;
        let bytes = read.map_err(|source| ReloadError::Read { file: file.clone(), source })?;
        let digest = Digest::of(&bytes);
        self.taking.set(Some(digest));
        if let Some(mark) = history.mark_of(digest) {
            let job = self.job.name.to_string();
            return Err(ReloadError::SetAside { job, file, digest, mark: mark.clone() });
        }
        let bytes = Arc::new(bytes);
        if let Some(generation) = self.slot.current().filter(|current| current.plugin.digest == digest) {
            let kept = self.kept.clone();
            let copy = blocking(move || kept.copy(digest)).await;
            // It may have been lost or spoiled since.
            let is_lost = copy != CopyState::Intact || history.get(digest).is_none();
            return Ok(is_lost.then(|| (accepted(&generation), bytes)));
        }
        let plugin = self.checked(&file, &bytes).await?;
        Ok(Some(self.swap(plugin, false, bytes)))
    }

    async fn load_pinned(&self, digest: Digest) -> Result<Loaded, ReloadError> {
        if self.serves(digest) {
            return Ok(None);
        }
        let (kept, file) = (self.kept.clone(), PathBuf::from("the kept component"));
        let load = async {
            let bytes = match blocking(move || kept.read(digest)).await {
                Ok(bytes) => bytes,
                Err(error) => read_only(self.slot.file(), digest).await.ok_or(ReloadError::Copy(error))?,
            };
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
    async fn load_instead(&mut self, history: &PluginHistory, why: &ReloadError) -> Loaded {
        let serving = self.slot.current().map(|generation| generation.plugin.digest);
        if serving.is_some_and(|digest| history.mark_of(digest).is_none()) {
            return None;
        }
        self.passed_over.clear();
        for digest in history.instead() {
            match self.load_kept(digest).await {
                Ok((plugin, bytes)) => {
                    // Before the swap: whoever sees an earlier one serve also sees why.
                    self.slot.set_error(Some(self.with_passed_over(why)));
                    return Some(self.swap(plugin, true, bytes));
                }
                Err(error) => {
                    tracing::warn!(job = %self.job.name, %digest, "passed over, it could have served instead: {error}");
                    self.passed_over.push(format!("{} ({error})", digest.short()));
                }
            }
        }
        self.slot.vacate();
        None
    }

    async fn load_kept(&self, digest: Digest) -> Result<(Plugin, Arc<Vec<u8>>), String> {
        let kept = self.kept.clone();
        let bytes = blocking(move || kept.read(digest)).await.map_err(|error| error.to_string())?;
        let bytes = Arc::new(bytes);
        let compiled = self.compiled(digest, &bytes).await;
        Ok((compiled.map_err(|error| error.to_string())?, bytes))
    }

    fn with_passed_over(&self, why: &ReloadError) -> String {
        match &self.passed_over[..] {
            [] => why.to_string(),
            passed_over => format!("{why}; passed over: {}", passed_over.join(", ")),
        }
    }

    fn serves(&self, digest: Digest) -> bool {
        self.slot.current().is_some_and(|current| current.plugin.digest == digest)
    }

    async fn checked(&self, file: &Path, bytes: &Arc<Vec<u8>>) -> Result<Plugin, ReloadError> {
        let compiled = self.compiled(Digest::of(bytes), bytes).await;
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
        (accepted(&generation), bytes)
    }

    fn refuse(&self, error: &ReloadError) {
        let serving = self.slot.current().map_or_else(
            || "nothing serves".to_owned(),
            |generation| format!("generation {} ({}) serves", generation.number, generation.plugin.digest.short()),
        );
        let message = format!("{}; {serving}", self.with_passed_over(error));
        if self.slot.set_error(Some(message.clone())) {
            tracing::warn!(job = %self.job.name, "plugin not taken: {message}");
        }
    }
}

fn accepted(generation: &Generation) -> Accepted {
    let plugin = &generation.plugin;
    Accepted {
        digest: plugin.digest,
        size: plugin.size,
        accepted_at: generation.loaded_at,
        world: Some(plugin.world().name().to_owned()),
        answered: generation.has_answered(),
        set_aside: None,
    }
}
