//! Whether what stands at the path of a mount is the directory that the job
//! works in, and how a person says that it is.
//!
//! A disk that is not mounted, or an empty folder in its place, would look as if
//! all files were gone already. The invariant: nothing is changed in a directory
//! that the database does not know by what is in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::domain::effect::Fate;
use crate::domain::job::{JobId, JobSpec, Mount};
use crate::domain::rights::Rights;
use crate::sandbox::{self, Known, MountError};
use crate::store::{EffectFilter, Store, StoreError};

use super::answers::answered;
use super::files::NotReady;
use super::job::Job;

/// Before the path of a mount, which begins with a slash: the mark that it is
/// about to get.
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
                let state = standing(store, &found, known_by.as_deref()).await?;
                (mark_in(&found).map(str::to_owned), state, None)
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
    let id = match look(mount).await? {
        Known::Marked(id) | Known::Root(id) => id,
        Known::Unmarked => mark(mount, sandbox::new_mark()).await?,
    };
    Ok(store.set_mount_id(job, &mount.guest, &id).await?)
}

/// Whether it is the known one, without getting to know it.
pub(super) async fn is_known(store: &dyn Store, job: JobId, mount: &Mount) -> Result<Result<(), String>, StoreError> {
    let found = match look(mount).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let known = store.mount_id(job, &mount.guest).await?;
    Ok(match standing(store, &found, known.as_deref()).await? {
        Standing::Right => Ok(()),
        other => Err(format!(
            "{} is not the directory in which this job worked: {}; see: sweepd mount list",
            mount.host.display(),
            other.words()
        )),
    })
}

async fn standing(store: &dyn Store, found: &Known, known: Option<&str>) -> Result<Standing, StoreError> {
    Ok(match (found, known) {
        (Known::Unmarked, Some(_)) => Standing::Unmarked,
        (Known::Marked(mark) | Known::Root(mark), Some(known)) if mark == known => Standing::Right,
        (_, Some(_)) => Standing::Another,
        // A second job over the same directory meets the marker of the first.
        (Known::Marked(mark), None) if !store.knows_mount(mark).await? => Standing::Foreign,
        (_, None) => Standing::New,
    })
}

fn mark_in(found: &Known) -> Option<&str> {
    match found {
        Known::Marked(mark) | Known::Root(mark) => Some(mark),
        Known::Unmarked => None,
    }
}

/// By what the mounts of a job are known, as far as this node has asked since
/// its last heartbeat: somebody may have accepted another one meanwhile.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<String, String>>);

impl Marks {
    fn is(&self, at: &str, mark: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(at).is_some_and(|known| known == mark)
    }

    fn set(&self, at: &str, mark: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(at.to_owned(), mark.to_owned());
    }

    /// The database is asked again.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Job {
    /// Refuses a directory that is not the one in which the job worked before:
    /// what is missing in it would be taken for already gone.
    pub(super) async fn must_be_known(&self, mount: &Mount) -> Result<(), NotReady> {
        let found = look(mount).await.map_err(NotReady::Mount)?;
        if mark_in(&found).is_some_and(|mark| self.marks.is(&mount.guest, mark)) {
            return Ok(());
        }
        let known = self.store.mount_id(self.id, &mount.guest).await?;
        let mark = match standing(&*self.store, &found, known.as_deref()).await? {
            Standing::Right => {
                // It may have been configured since the mount was marked. One that
                // is away with files in it is not made anew: they would be taken
                // for purged.
                if self.lacks_trash(mount).await && !self.has_trashed(mount).await? {
                    self.prepare_trash(mount).await;
                }
                mark_in(&found).map(str::to_owned)
            }
            Standing::New => Some(self.get_to_know(mount, found).await?),
            other => return Err(self.another(mount, other)),
        };
        if let Some(mark) = mark {
            self.marks.set(&mount.guest, &mark);
        }
        Ok(())
    }

    async fn get_to_know(&self, mount: &Mount, found: Known) -> Result<String, NotReady> {
        let mark = match found {
            Known::Marked(mark) | Known::Root(mark) => mark,
            Known::Unmarked => {
                // A host that is lost before it could say that this is the directory
                // must not leave a mark in it that nobody knows.
                self.prepare_trash(mount).await;
                let mark = sandbox::new_mark();
                self.store.set_mount_id(self.id, &format!("{ABOUT_TO} {}", mount.guest), &mark).await?;
                let mark = self::mark(mount, mark).await.map_err(NotReady::Mount)?;
                let (job, mount) = (&self.spec.name, mount.host.display());
                tracing::info!(%job, %mount, "marked the mount, to know it again");
                mark
            }
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
    async fn has_trashed(&self, mount: &Mount) -> Result<bool, NotReady> {
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

    fn another(&self, mount: &Mount, standing: Standing) -> NotReady {
        let job = &self.spec.name;
        NotReady::Another(format!(
            "{} is not the directory in which this job worked: {}. Is the right disk mounted, and is this the right \
             database? Where it is right as it is: sweepd mount accept {job}, then sweepd resume {job}",
            mount.host.display(),
            standing.words()
        ))
    }
}

async fn look(mount: &Mount) -> Result<Known, MountError> {
    let asked = mount.clone();
    answered(&mount.host, move || sandbox::look(&asked)).await?
}

async fn mark(mount: &Mount, id: String) -> Result<String, MountError> {
    let asked = mount.clone();
    answered(&mount.host, move || sandbox::mark(&asked, &id)).await?
}
