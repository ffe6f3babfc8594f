//! Reading what dead hosts left behind.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::record::{self, Record, Sum};
use super::{segment, spare};
use crate::domain::effect::{Effect, EffectId, EffectResult};

/// What dead hosts left in `folder`.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Their effects, each once, in the order of each journal. Without a result
    /// they are `Unknown`.
    pub effects: Vec<Effect>,
    /// The files that they stand in.
    files: Vec<(PathBuf, File)>,
}

impl Leftovers {
    /// The database has them all. The first of their files stay as spare ones for
    /// the next journal: on a full disk another program may take what is given
    /// back.
    pub fn settle(self) {
        for (number, (path, _)) in self.files.iter().enumerate() {
            let kept = number < spare::KEPT_AT_REST && fs::rename(path, path.with_extension(spare::SUFFIX)).is_ok();
            if !kept {
                spare::remove(path);
            }
        }
    }
}

/// Reads what dead hosts left. Files of living ones are passed over.
pub fn leftovers(folder: &Path) -> io::Result<Leftovers> {
    let mut names = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|suffix| suffix == segment::SUFFIX) {
                    names.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    names.sort();
    let mut left = Leftovers::default();
    for path in names {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if file.try_lock().is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        read(&path, &bytes, &mut left.effects);
        left.files.push((path, file));
    }
    Ok(left)
}

/// Reads a segment to its end. What cannot be read is passed over and told: a
/// file that somebody cut has zeros in it, and whole records behind them.
pub(super) fn read(path: &Path, mut bytes: &[u8], effects: &mut Vec<Effect>) {
    loop {
        match record::decode(bytes) {
            Some((record, rest)) => {
                bytes = rest;
                take(record, effects);
            }
            None if is_end(bytes) => return,
            None => {
                let lost = record::next(bytes).unwrap_or(bytes.len());
                tracing::error!("{}: {lost} bytes cannot be read: what they tell of a file is lost", path.display());
                bytes = &bytes[lost..];
            }
        }
    }
}

fn take(record: Record, effects: &mut Vec<Effect>) {
    let (id, result, written) = match record {
        // Of an earlier version, whose budget went by sizes, or as large as that.
        Record::Intent(effect) => return effects.push(Effect { allocated: effect.size, ..effect }),
        Record::Allocated(effect, allocated) => return effects.push(Effect { allocated, ..effect }),
        Record::Result(id, result) => (id, result, 0),
        Record::Wrote(id, result, written) => (id, result, written),
        Record::Folded(id, result, sum) => return fold(effects, id, result, &sum),
    };
    // The result follows its intent closely; where the database had both already,
    // the intent's segment may be gone.
    if let Some(effect) = effects.iter_mut().rev().find(|effect| effect.id == id) {
        (effect.result, effect.written) = (result, written);
    }
}

/// The effect `id` is a part of `sum`, which may be in the database already: then
/// it stands here again, with all that was added since.
fn fold(effects: &mut Vec<Effect>, id: EffectId, result: EffectResult, sum: &Sum) {
    let gone = effects.iter().rposition(|effect| effect.id == id).map(|at| effects.remove(at));
    let Sum { id, at, times, size, written } = *sum;
    if let Some(known) = effects.iter_mut().rev().find(|effect| effect.id == id) {
        (known.result, known.times, known.size, known.written) = (result, times, size, written);
        // What they took of the disk together is not written down: no more than this counts.
        known.allocated = known.allocated.max(size);
    } else if let Some(gone) = gone {
        effects.push(Effect { id, size, allocated: size, at, result, times, written, ..gone });
    }
}

/// Whether nothing follows: behind the last record are zeros.
fn is_end(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
