//! What became of an effect whose host was lost between intent and result: asked
//! of the disk.

use std::io;
use std::path::Path;

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::domain::effect::{Effect, EffectResult, Operation};

use super::trash::TrashFolder;

/// The effect with a result, as far as the disk tells.
#[must_use]
pub fn reconcile(mut effect: Effect) -> Effect {
    if effect.result == EffectResult::Unknown {
        effect.result = found(&effect);
        if let (Operation::Write | Operation::Truncate, EffectResult::Unknown) = (effect.operation, &effect.result) {
            effect.written = grown(&effect);
        }
        effect.trashed &= !matches!(effect.result, EffectResult::Failed(_));
    }
    effect
}

fn found(effect: &Effect) -> EffectResult {
    let Ok(here) = look(&effect.full_path()) else { return EffectResult::Unknown };
    let there = effect.to.as_ref().map(|to| {
        let mount = effect.to_mount.as_ref().unwrap_or(&effect.mount);
        look(&Path::new(&**mount).join(to))
    });
    let is_it = |stat: &Option<Stat>| stat.is_some_and(|stat| inode(&stat) == effect.inode);
    let not_made = || EffectResult::Failed("the host was lost before it was made".to_owned());
    match effect.operation {
        Operation::Remove if effect.trashed => match TrashFolder::open(Path::new(&*effect.mount)) {
            Ok(trash) if trash.has(effect.id) => EffectResult::Done,
            Ok(_) if is_it(&here) => not_made(),
            _ => EffectResult::Unknown,
        },
        Operation::Remove | Operation::RemoveFolder if is_it(&here) => not_made(),
        // Where the whole mount is gone, so is what would tell.
        Operation::Remove | Operation::RemoveFolder if Path::new(&*effect.mount).is_dir() => EffectResult::Done,
        Operation::Rename | Operation::Link => match there {
            Some(Ok(there)) if is_it(&there) => EffectResult::Done,
            Some(Ok(_)) if is_it(&here) => not_made(),
            _ => EffectResult::Unknown,
        },
        Operation::Create | Operation::CreateFolder if here.is_some() => EffectResult::Done,
        Operation::Create | Operation::CreateFolder if Path::new(&*effect.mount).is_dir() => not_made(),
        _ => EffectResult::Unknown,
    }
}

/// By how much the file is longer than it was: at least so much was written.
fn grown(effect: &Effect) -> u64 {
    let stat = look(&effect.full_path()).ok().flatten().filter(|stat| inode(stat) == effect.inode);
    stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0).saturating_sub(effect.size))
}

fn look(path: &Path) -> io::Result<Option<Stat>> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[allow(clippy::unnecessary_cast, reason = "an inode has another width elsewhere")]
fn inode(stat: &Stat) -> u64 {
    stat.st_ino as u64
}
