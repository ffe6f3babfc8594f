//! The wall as Landlock puts it up.
//!
//! What the host cannot do without is asked for as a whole: with less, a guest
//! could truncate what it cannot open, or nothing could be moved from folder to
//! folder. What later kernels know besides is taken where it is there.

use std::os::fd::AsFd as _;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use rustix::fs::{Mode, OFlags};

use crate::domain::wall::{Access, Enforced, Opening};

use super::system;

/// The first kernel with all that `required` asks for.
const REQUIRED: &str = "Linux 6.2 or later, with Landlock switched on (`lsm=landlock,…` on the kernel's command line, \
                        and no container profile that forbids it)";

/// Confines this thread and all that it starts. The error says why not, and
/// what to do.
pub(super) fn confine(required: bool, openings: &[Opening]) -> Result<Enforced, String> {
    put_up(required, openings).map_err(|error| {
        let help = if required { "; or set it to \"best-effort\", or to \"off\"" } else { "" };
        format!("{}: it needs {REQUIRED}{help}", chain(&error))
    })
}

fn put_up(required: bool, openings: &[Opening]) -> Result<Enforced, RulesetError> {
    // Before the second version nothing could be moved to another folder, before
    // the third anything could be truncated.
    let least = if required { ABI::V3 } else { ABI::V2 };
    let wanted = AccessFs::from_all(ABI::V5);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(least))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(wanted)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    for opening in openings {
        ruleset = open(ruleset, opening, rights(opening.access))?;
    }
    for (path, rights) in system::openings() {
        ruleset = open(ruleset, &Opening::new(path, Access::Read), rights)?;
    }
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}

/// What is not there needs no opening.
fn open(
    ruleset: RulesetCreated,
    opening: &Opening,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(&opening.path) else { return Ok(ruleset) };
    // By another opening and not by its attributes, for which the disk would be asked.
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let is_folder = rustix::fs::openat(place.as_fd(), ".", folder, Mode::empty()).is_ok();
    let rights = if is_folder { rights } else { rights & AccessFs::from_file(ABI::V5) };
    ruleset.add_rule(PathBeneath::new(place, rights))
}

pub(super) fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Nothing is ever executed there, and no device is made or spoken to.
fn changing() -> BitFlags<AccessFs> {
    reading()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        // Moving one of these, into the trash, is making it there.
        | AccessFs::MakeSym
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::Refer
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    match access {
        Access::Read => reading(),
        Access::Change | Access::Own => changing(),
    }
}

/// An error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
