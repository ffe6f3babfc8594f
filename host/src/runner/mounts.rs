//! Whether what stands at the path of a mount is the directory that the job
//! works in, and how a person says that it is.
//!
//! A disk that is not mounted, or an empty folder in its place, would look as if
//! all files were gone already. The invariant: nothing is changed in a directory
//! that the database does not know by what is in it.

// length: a fifth of it is the tests of what counts as the right directory.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::domain::effect::Fate;
use crate::domain::job::{JobId, JobSpec, Mount};
use crate::domain::rights::Rights;
use crate::sandbox::{self, Found, MountError};
use crate::store::{EffectFilter, Store, StoreError};
use crate::supervise;

use super::answers::answered;
use super::files::FilesNotReady;
use super::job::Job;

/// Before the path of a mount, which begins with a slash, and the number of a
/// host's journal: the mark that this host is about to give it.
const ABOUT_TO: &str = "new";

/// What stands at the path of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The directory that the job works in.
    Right,
    /// One that the job has not worked in yet, and may.
    New,
    /// One without the marker that the job knows its directory by.
    Unmarked,
    /// Another one than the job knows.
    Another,
    /// One with a marker that no job of this database knows.
    Foreign,
    /// Nothing that can be used.
    Unusable,
}

impl Standing {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::New => "new: the next sweep gets to know it",
            Self::Unmarked => "its marker .sweepd-mount is missing",
            Self::Another => "it is another one than before",
            Self::Foreign => "it carries the marker of another database",
            Self::Unusable => "it cannot be used",
        }
    }

    /// Whether the job may not work there before somebody accepts it.
    #[must_use]
    pub fn needs_somebody(self) -> bool {
        matches!(self, Self::Unmarked | Self::Another | Self::Foreign)
    }
}

/// A mount, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountView {
    /// Its directory on this machine.
    pub path: PathBuf,
    /// Where the plugin sees it.
    pub at: String,
    /// What the executor may do there.
    pub rights: Rights,
    /// By what the database knows it.
    pub known_by: Option<String>,
    /// By what that which stands there now could be known.
    pub found: Option<String>,
    /// Whether those are the same.
    pub state: Standing,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why a mount was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// It cannot be used, or not be marked.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The mounts of a job, as they are now.
pub async fn look_at_mounts(store: &dyn Store, job: JobId, spec: &JobSpec) -> Result<Vec<MountView>, StoreError> {
    let mut views = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        let known_by = store.mount_id(job, &mount.guest).await?;
        let (found, state, error) = match look(mount).await {
            Ok(found) => {
                let state = standing(store, mount, &found, known_by.as_deref()).await?;
                (found_as(mount, &found), state, None)
            }
            Err(error) => (None, Standing::Unusable, Some(error.why)),
        };
        let (path, at) = (mount.host.clone(), mount.guest.clone());
        views.push(MountView { path, at, rights: mount.rights, known_by, found, state, error });
    }
    Ok(views)
}

/// Makes what stands at the mount now the directory that the job works in; it
/// is marked where it has no marker.
pub async fn accept_mount(store: &dyn Store, job: JobId, mount: &Mount) -> Result<(), NotAccepted> {
    let found = look(mount).await?;
    let id = match found_as(mount, &found) {
        Some(id) => id,
        None => mark(mount, sandbox::new_mark()).await?,
    };
    Ok(store.set_mount_id(job, &mount.guest, &id).await?)
}

/// Whether it is the known one, without getting to know it.
pub(super) async fn is_known(store: &dyn Store, job: JobId, mount: &Mount) -> Result<Result<(), String>, StoreError> {
    Ok(match stands(store, job, mount, || look(mount)).await {
        Err(FilesNotReady::Store(error)) => return Err(error),
        Err(FilesNotReady::Mount(error)) => Err(error.to_string()),
        Err(FilesNotReady::Another(why)) => Err(why),
        Err(FilesNotReady::Counting) | Ok((_, Standing::Right)) => Ok(()),
        Ok((_, other)) => Err(format!(
            "{} is not the directory in which this job worked: {}; see: sweepd mount list",
            mount.host.display(),
            other.words()
        )),
    })
}

/// What stands at a mount, and whether it is what the database knows: looked at,
/// read, and, where somebody would have to say so, looked at again. Another node
/// may have marked the directory and put that on record between the two; it marks
/// first, so that whoever reads the mark finds it there.
async fn stands<L: Future<Output = Result<Found, MountError>>>(
    store: &dyn Store,
    job: JobId,
    mount: &Mount,
    look: impl Fn() -> L,
) -> Result<(Found, Standing), FilesNotReady> {
    let mut found = look().await.map_err(FilesNotReady::Mount)?;
    let known = store.mount_id(job, &mount.guest).await?;
    let mut state = standing(store, mount, &found, known.as_deref()).await?;
    if state.needs_somebody() {
        found = look().await.map_err(FilesNotReady::Mount)?;
        state = standing(store, mount, &found, known.as_deref()).await?;
    }
    Ok((found, state))
}

/// Whether that is the directory that the database knows by `known`. One proof is
/// enough, whatever the rights are by now: the marker, or the root by which it was
/// known before it had one.
async fn standing(
    store: &dyn Store,
    mount: &Mount,
    found: &Found,
    known: Option<&str>,
) -> Result<Standing, StoreError> {
    let is_foreign = match &found.marker {
        // Who only looks may do so beside the hosts of another database.
        Some(mark) if known != Some(mark.as_str()) && !mount.rights.only_look() => !store.knows_mount(mark).await?,
        _ => false,
    };
    Ok(match (&found.marker, known) {
        // Also where it was known by its root before: it is another host's by now.
        (_, Some(known)) if is_foreign && found.root == known => Standing::Foreign,
        (_, Some(known)) if found.marker.as_deref() == Some(known) || found.root == known => Standing::Right,
        (None, Some(known)) if !sandbox::is_root_id(known) => Standing::Unmarked,
        (_, Some(_)) => Standing::Another,
        // A second job over the same directory meets the marker of the first.
        (Some(_), None) if is_foreign => Standing::Foreign,
        (_, None) => Standing::New,
    })
}

/// By what it is to be known: by its marker, or, where none is to be made, by its
/// root.
fn found_as(mount: &Mount, found: &Found) -> Option<String> {
    found.marker.clone().or_else(|| mount.rights.only_look().then(|| found.root.clone()))
}

/// By what the mounts of a job are known, as far as this node has asked since
/// its last heartbeat: somebody may have accepted another one meanwhile.
#[derive(Debug, Default)]
pub(super) struct Marks {
    known: Mutex<HashMap<String, String>>,
    /// Where it was cleared up what a lost host left.
    cleared: Mutex<HashSet<String>>,
}

impl Marks {
    /// A marker counts before the root, unless nothing is to be changed there.
    fn is(&self, mount: &Mount, found: &Found) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let by_root = found.marker.is_none() || mount.rights.only_look();
        let is_it = |known: &String| found.marker.as_ref() == Some(known) || (by_root && found.root == *known);
        known.get(&mount.guest).is_some_and(is_it)
    }

    fn set(&self, at: &str, mark: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(at.to_owned(), mark.to_owned());
    }

    /// The database is asked again.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn is_first_look(&self, at: &str) -> bool {
        self.cleared.lock().unwrap_or_else(PoisonError::into_inner).insert(at.to_owned())
    }
}

impl Job {
    /// Refuses a directory that is not the one in which the job worked before:
    /// what is missing in it would be taken for already gone. Answers what stands
    /// there.
    pub(super) async fn must_be_known(&self, mount: &Mount) -> Result<Found, FilesNotReady> {
        let found = look(mount).await.map_err(FilesNotReady::Mount)?;
        if self.marks.is(mount, &found) {
            return Ok(found);
        }
        let (found, state) = stands(&*self.store, self.id, mount, || look(mount)).await?;
        let mark = match state {
            Standing::Right => {
                // It may have been configured since the mount was marked. One that
                // is away with files in it is not made anew: they would be taken
                // for purged.
                if self.lacks_trash(mount).await && !self.has_trashed(mount).await? {
                    self.prepare_trash(mount).await;
                }
                self.know_better(mount, &found).await?
            }
            Standing::New => self.get_to_know(mount, &found).await?,
            other => return Err(self.another(mount, other)),
        };
        self.marks.set(&mount.guest, &mark);
        if !mount.rights.only_look() && self.marks.is_first_look(&mount.guest) {
            let mount = mount.clone();
            // Nobody waits for it: a large folder takes a while to list.
            let clear = move || sandbox::clear_left_over(&mount);
            if let Err(error) = supervise::attended_thread("sweepd-look", clear) {
                tracing::debug!(job = %self.spec.name, "{error}");
            }
        }
        Ok(found)
    }

    /// One that was known by its root, for nothing was to be changed there, is
    /// known by its marker from now on, where it has one or may get one: that goes
    /// along with the disk.
    async fn know_better(&self, mount: &Mount, found: &Found) -> Result<String, FilesNotReady> {
        let known = self.store.mount_id(self.id, &mount.guest).await?;
        let mark = self.id_of(mount, found).await?;
        match known {
            Some(known) if mark.as_ref() == Some(&known) => Ok(known),
            _ => self.get_to_know(mount, found).await,
        }
    }

    /// By what it is to be known; `None` where it is to be marked first. A marker
    /// that no job of this database knows is another host's: who only looks takes
    /// no notice of it, so that a job that changes something still does.
    async fn id_of(&self, mount: &Mount, found: &Found) -> Result<Option<String>, FilesNotReady> {
        Ok(match &found.marker {
            Some(mark) if mount.rights.only_look() && !self.store.knows_mount(mark).await? => Some(found.root.clone()),
            _ => found_as(mount, found),
        })
    }

    async fn get_to_know(&self, mount: &Mount, found: &Found) -> Result<String, FilesNotReady> {
        let mark = if let Some(mark) = self.id_of(mount, found).await? {
            mark
        } else {
            // A host that is lost before it could say that this is the directory
            // must not leave a mark in it that nobody knows.
            self.prepare_trash(mount).await;
            let mark = sandbox::new_mark();
            let about_to = format!("{ABOUT_TO} {:x} {}", self.journal, mount.guest);
            self.store.set_mount_id(self.id, &about_to, &mark).await?;
            let mark = self::mark(mount, mark).await.map_err(FilesNotReady::Mount)?;
            let (job, mount) = (&self.spec.name, mount.host.display());
            tracing::info!(%job, %mount, "marked the mount, to know it again");
            mark
        };
        self.store.set_mount_id(self.id, &mount.guest, &mark).await?;
        Ok(mark)
    }

    /// Whether the mount is to have a folder of removed files, and has none.
    async fn lacks_trash(&self, mount: &Mount) -> bool {
        if self.spec.trash.is_none() || mount.rights.only_look() {
            return false;
        }
        let trash = mount.host.join(sandbox::TRASH);
        answered(&mount.host, move || !trash.exists()).await.unwrap_or(false)
    }

    /// Whether files are in the trash of this mount, by the records of all jobs.
    async fn has_trashed(&self, mount: &Mount) -> Result<bool, FilesNotReady> {
        let within = format!("{}/", mount.host.to_string_lossy().trim_end_matches('/'));
        let filter =
            EffectFilter { path_prefix: Some(within), fate: Some(Fate::Kept), limit: 1, ..EffectFilter::default() };
        Ok(!self.store.effects(filter).await?.is_empty())
    }

    /// The folder of removed files is made together with the marker. Where that
    /// fails, whoever needs the folder says so.
    async fn prepare_trash(&self, mount: &Mount) {
        if self.spec.trash.is_none() || mount.rights.only_look() {
            return;
        }
        let asked = mount.clone();
        let made = answered(&mount.host, move || sandbox::prepare_trash(&asked)).await;
        if let Err(error) = made.and_then(|made| made) {
            tracing::debug!(job = %self.spec.name, "{error}");
        }
    }

    fn another(&self, mount: &Mount, standing: Standing) -> FilesNotReady {
        let job = &self.spec.name;
        FilesNotReady::Another(format!(
            "{} is not the directory in which this job worked: {}. Is the right disk mounted, and is this the right \
             database? Where it is right as it is: sweepd mount accept {job}, then sweepd resume {job}",
            mount.host.display(),
            standing.words()
        ))
    }
}

async fn look(mount: &Mount) -> Result<Found, MountError> {
    let asked = mount.clone();
    answered(&mount.host, move || sandbox::look(&asked)).await?
}

async fn mark(mount: &Mount, id: String) -> Result<String, MountError> {
    let asked = mount.clone();
    answered(&mount.host, move || sandbox::mark(&asked, &id)).await?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::domain::job::JobName;
    use crate::store::sqlite::{SqliteOptions, SqliteStore};

    async fn store() -> (tempfile::TempDir, SqliteStore, JobId) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db"), SqliteOptions::host()).unwrap();
        let job = store.register_job(&JobName::new("job").unwrap()).await.unwrap().id;
        (folder, store, job)
    }

    fn mount(rights: Rights) -> Mount {
        Mount { host: "/m".into(), guest: "/".to_owned(), was_there: true, rights, cross_mounts: false }
    }

    fn found(marker: Option<&str>) -> Found {
        Found { marker: marker.map(str::to_owned), root: "filesystem 1 inode 2".to_owned(), is_read_only: false }
    }

    /// Another node marks the directory and puts that on record after this one has
    /// looked and before it reads.
    #[tokio::test]
    async fn a_mark_that_another_node_makes_meanwhile_is_no_missing_marker() {
        let (_folder, store, job) = store().await;
        let mount = mount(Rights::RW);
        let looks = AtomicUsize::new(0);
        let look = async || {
            if looks.fetch_add(1, Ordering::SeqCst) > 0 {
                return Ok(found(Some("mark")));
            }
            store.set_mount_id(job, "/", "mark").await.unwrap();
            Ok(found(None))
        };
        let (seen, state) = stands(&store, job, &mount, look).await.ok().unwrap();
        assert_eq!((state, seen), (Standing::Right, found(Some("mark"))));
        // One that is really missing still is.
        let (_, state) = stands(&store, job, &mount, async || Ok(found(None))).await.ok().unwrap();
        assert_eq!(state, Standing::Unmarked);
        store.close().await;
    }

    #[tokio::test]
    async fn one_proof_is_enough_whatever_the_rights_are() {
        let (_folder, store, job) = store().await;
        let root = found(None).root;
        for (rights, marker, known, state) in [
            (Rights::RW, Some("mark"), Some("mark"), Standing::Right),
            (Rights::RO, Some("mark"), Some("mark"), Standing::Right),
            (Rights::RO, None, Some(&*root), Standing::Right),
            (Rights::RO, Some("another's"), Some(&*root), Standing::Right),
            (Rights::RW, None, Some(&*root), Standing::Right),
            (Rights::RW, Some("another's"), Some(&*root), Standing::Foreign),
            (Rights::RW, None, Some("mark"), Standing::Unmarked),
            (Rights::RO, None, Some("mark"), Standing::Unmarked),
            (Rights::RW, None, Some("filesystem 1 inode 3"), Standing::Another),
            (Rights::RO, None, Some("filesystem 1 inode 3"), Standing::Another),
            (Rights::RW, Some("another"), Some("mark"), Standing::Another),
            (Rights::RW, Some("another's"), None, Standing::Foreign),
            (Rights::RO, Some("another's"), None, Standing::New),
            (Rights::RW, None, None, Standing::New),
        ] {
            let stands = standing(&store, &mount(rights), &found(marker), known).await.unwrap();
            assert_eq!(stands, state, "{rights:?} {marker:?} {known:?}");
        }
        store.set_mount_id(job, "/", "known").await.unwrap();
        let stands = standing(&store, &mount(Rights::RW), &found(Some("known")), None).await.unwrap();
        assert_eq!(stands, Standing::New, "a second job of this database");
        store.close().await;
    }
}
