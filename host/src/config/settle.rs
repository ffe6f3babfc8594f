//! The mounts and plugin files of a configuration as they stand on this machine:
//! the second step of reading it, for whoever works with files.
//!
//! [`Config::load`] looks at none of them, so that a command that needs none does
//! not wait for one. Here links are resolved, and it is checked that no mount reaches
//! what decides about it. That holds for a mount that is not there, too, as far
//! as its path can be followed; how it is kept for a mount that comes later,
//! `sandbox::mounts` knows.

use std::path::Path;

use super::database::Backend;
use super::error::{ConfigError, Place, Problem};
use super::mounts::{Protected, nested, overlap};
use super::paths::{Followed, follow};
use super::resolved::Config;
use super::standing::{self, Found, Look};
use crate::domain::job::{JobName, JobSpec, Mount};

/// A mount that cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Whose it is.
    pub job: JobName,
    /// What is wrong, and what to do.
    pub problem: Problem,
}

/// Where a mount was written, and how a message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) place: Place,
    pub(super) key: String,
}

impl Written {
    fn problem(&self, message: String, help: Option<&str>) -> Problem {
        Problem { place: self.place.clone(), key: self.key.clone(), message, help: help.map(str::to_owned) }
    }
}

impl Config {
    /// The paths of all mounts and then of all plugin files, in order, for
    /// [`Self::settle`].
    #[must_use]
    pub fn paths(&self) -> Vec<std::path::PathBuf> {
        let mounts = self.jobs.iter().flat_map(|job| job.mounts.iter().map(|mount| mount.host.clone()));
        mounts.chain(self.jobs.iter().map(|job| job.plugin.clone())).collect()
    }

    /// Looks at the mounts of these jobs, in this process: their paths are without
    /// links then. Whether they may be used by a guest is not checked.
    pub fn look(&mut self, wanted: impl Fn(&JobSpec) -> bool) {
        let jobs = self.jobs.iter_mut().filter(|job| wanted(job));
        let mut mounts: Vec<_> = jobs.flat_map(|job| job.mounts.iter_mut()).collect();
        let paths: Vec<_> = mounts.iter().map(|mount| mount.host.clone()).collect();
        for (mount, look) in mounts.iter_mut().zip(standing::look_at(&paths, standing::PATIENCE)) {
            // One that is not there is met again where it is used.
            let _ = stand(mount, &look.found);
        }
    }

    /// Takes in what stands at each of [`Self::paths`]. Answers which mounts cannot
    /// be used now; an error where one must not be used at all.
    pub fn settle(&mut self, looks: &[Look]) -> Result<Vec<Absent>, ConfigError> {
        let (absent, problems) = self.settled(looks);
        if problems.is_empty() { Ok(absent) } else { Err(ConfigError::Invalid { problems }) }
    }

    pub(super) fn settled(&mut self, looks: &[Look]) -> (Vec<Absent>, Vec<Problem>) {
        let mounts = self.jobs.iter().map(|job| job.mounts.len()).sum::<usize>().min(looks.len());
        let (mounts, plugins) = looks.split_at(mounts);
        self.plugins = plugins.to_vec();
        let protected = self.protected();
        let mut found = mounts.iter().map(|look| &look.found);
        let (mut absent, mut problems) = (Vec::new(), Vec::new());
        let written = std::mem::take(&mut self.written);
        for (job, written) in self.jobs.iter_mut().zip(&written) {
            for (mount, written) in job.mounts.iter_mut().zip(written) {
                let silent = Found::Silent;
                if let Err(missing) = stand(mount, found.next().unwrap_or(&silent)) {
                    let problem = written.problem(missing.0, missing.1.as_deref());
                    absent.push(Absent { job: job.name.clone(), problem });
                }
                problems.extend(out_of_bounds(mount, written, &protected));
            }
        }
        problems.extend(self.overlaps(&written));
        self.written = written;
        (absent, problems)
    }

    /// What no mount may reach.
    fn protected(&self) -> Vec<Protected> {
        let mut protected = Protected::file("the configuration", &self.file);
        protected.extend(Protected::folder("the state folder", &self.state));
        protected.extend(Protected::folder("the cache", &self.cache));
        if let Backend::Sqlite(path) = &self.database.backend {
            protected.extend(Protected::file("the database", path));
        }
        for (index, job) in self.jobs.iter().enumerate() {
            protected.extend(Protected::followed(&format!("the plugin of job `{}`", job.name), self.followed(index)));
        }
        protected
    }

    /// What was found at the plugin file of this job, counted from the first one;
    /// `None` before it was looked at.
    #[must_use]
    pub fn plugin_found(&self, job: usize) -> Option<&Found> {
        self.plugins.get(job).map(|look| &look.found)
    }

    /// Where the plugin's path of this job leads, as it was found.
    pub(super) fn followed(&self, job: usize) -> Followed {
        self.plugins.get(job).map_or_else(|| follow(&self.jobs[job].plugin), |look| look.followed.clone())
    }

    fn overlaps(&self, written: &[Vec<Written>]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (number, (job, written)) in self.jobs.iter().zip(written).enumerate() {
            for (index, (mount, written)) in job.mounts.iter().zip(written).enumerate() {
                if let Some(other) = job.mounts[..index].iter().find(|other| overlap(&other.host, &mount.host)) {
                    let message = format!("{} and {} overlap", other.host.display(), mount.host.display());
                    let help = "mount the outer one alone, or two folders side by side";
                    problems.push(written.problem(message, Some(help)));
                }
                let mut others = self.jobs[..number].iter().flat_map(|job| job.mounts.iter().map(move |at| (job, at)));
                if let Some((job, other)) = others.find(|(_, other)| nested(&other.host, &mount.host)) {
                    let (here, there) = (mount.host.display(), other.host.display());
                    let message = format!("{here} and {there} of job `{}` lie one in the other", job.name);
                    let help = "a plugin of the outer one could remove the trash and the marker of the inner one: mount \
                                folders side by side, or the very same one in both";
                    problems.push(written.problem(message, Some(help)));
                }
            }
        }
        problems
    }
}

/// Puts into the mount what stands there, or answers what is wrong and what to do.
fn stand(mount: &mut Mount, found: &Found) -> Result<(), (String, Option<String>)> {
    let path = mount.host.display().to_string();
    mount.was_there = false;
    let (end, message, help) = match found {
        Found::Directory(real) => {
            (mount.host, mount.was_there) = (real.clone(), true);
            return Ok(());
        }
        Found::Other(real) => (Some(real), format!("{path} is no directory"), None),
        Found::Nothing(end) => {
            let help = format!("is its disk mounted? Where it is to be a new folder: mkdir -p {path}");
            (Some(end), format!("{path} does not exist"), Some(help))
        }
        Found::Silent => {
            let help = "is the disk or the server behind it up? Mount it again, or unmount it".to_owned();
            (None, format!("{path} does not answer"), Some(help))
        }
        Found::Unusable(why) => (None, format!("{path} cannot be used: {why}"), None),
    };
    if let Some(end) = end {
        mount.host.clone_from(end);
    }
    Err((message, help))
}

/// What is wrong with a mount for good.
fn out_of_bounds(mount: &Mount, written: &Written, protected: &[Protected]) -> Option<Problem> {
    if mount.host == Path::new("/") {
        let help = "a plugin gets one directory of data, never the machine";
        return Some(written.problem("the root directory cannot be mounted".to_owned(), Some(help)));
    }
    let reached = protected.iter().find(|protected| protected.reached_by(&mount.host))?;
    let message = format!("{} reaches {reached}", mount.host.display());
    let help = "a plugin could rewrite what decides about it; keep the data in a directory of its own";
    Some(written.problem(message, Some(help)))
}
