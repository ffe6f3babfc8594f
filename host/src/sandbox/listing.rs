//! Reading a folder from the kernel, in the order in which it gives the entries.
//!
//! ```text
//!  by the guest's thread ──look_ahead()──▶ by a thread of its own, with stats
//! ```
//! A policy that scans asks for an entry, then what that is, a million times.
//! From where that shows on, a second thread lists and looks, a bounded number
//! of entries ahead, so that the kernel and the guest work side by side. It owns
//! no rule: what a guest may see of this, `entries` knows.

use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::call::Interrupt;
use super::deeds::NotDone;
use crate::supervise;

/// So many entries are handed over at once.
const LOT: usize = 512;

/// So many lots may wait for the guest; with as many, the thread that reads
/// waits for it.
const LOTS: usize = 4;

/// How often somebody who waits for the kernel looks whether it may still.
const LOOK: Duration = Duration::from_millis(5);

/// What was looked up ahead is good for so long.
const FRESH: Duration = Duration::from_secs(1);

/// An entry as the kernel lists it.
#[derive(Debug)]
pub(super) struct Listed {
    /// `None` where it is not UTF-8.
    pub(super) name: Option<String>,
    pub(super) kind: FileType,
    pub(super) seen: Option<Seen>,
}

/// What stood at a name when it was listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    stat: Stat,
    at: Instant,
}

impl Seen {
    /// What stood there, unless that was long ago.
    pub(super) fn stat(&self) -> Option<Stat> {
        (self.at.elapsed() < FRESH).then_some(self.stat)
    }
}

/// What was read in one go.
pub(super) struct Lot {
    entries: Vec<Result<Listed, Errno>>,
    is_last: bool,
}

/// The threads that read ahead for one instance. A thread outlives its listing
/// until it notices: it is counted until it is gone.
#[derive(Default)]
pub(super) struct Readers(Vec<JoinHandle<()>>);

impl Readers {
    /// How many threads there are. Waits for those that only have to exit.
    pub(super) fn count(&mut self) -> usize {
        for ended in self.0.extract_if(.., |reader| reader.is_finished()) {
            // A thread that panicked left its listing without an end: that is an error.
            let _ = ended.join();
        }
        self.0.len()
    }
}

/// Held by a listing for as long as somebody may read it.
pub(super) struct Listener;

/// The entries of one folder.
pub(super) enum Listing {
    /// Read when they are asked for.
    Direct(Dir),
    /// Read before; `more` is `None` when nothing comes after this lot.
    Ahead { lot: std::vec::IntoIter<Result<Listed, Errno>>, more: Option<Receiver<Lot>>, _listener: Arc<Listener> },
    /// It cannot be read any further.
    Broken(Errno),
}

impl Listing {
    /// The next entry; `None` at the end. `check` says whether the call may go on
    /// while it waits.
    pub(super) fn next(&mut self, check: impl Fn() -> Result<(), Interrupt>) -> Result<Option<Listed>, NotDone> {
        match self {
            Self::Broken(error) => Err((*error).into()),
            Self::Direct(folder) => Ok(read(folder).transpose()?),
            Self::Ahead { lot, more, .. } => loop {
                if let Some(listed) = lot.next() {
                    return Ok(Some(listed?));
                }
                let Some(receiver) = more else { return Ok(None) };
                match receiver.recv_timeout(LOOK) {
                    Ok(Lot { entries, is_last }) => {
                        *lot = entries.into_iter();
                        more.take_if(|_| is_last);
                    }
                    // Whoever reads always says which lot is the last.
                    Err(RecvTimeoutError::Disconnected) => return Err(Errno::IO.into()),
                    Err(RecvTimeoutError::Timeout) => check().map_err(NotDone::Interrupted)?,
                }
            },
        }
    }

    /// From here on another thread reads, and looks what the entries are: one more
    /// of these `readers`.
    pub(super) fn look_ahead(self, readers: &mut Readers) -> Self {
        let Self::Direct(folder) = self else { return self };
        let (sender, more) = sync_channel(LOTS);
        let listener = Arc::new(Listener);
        let listens = Arc::downgrade(&listener);
        // Without its last lot the guest's listing ends in an error.
        match supervise::attended_thread("sweepd-ahead", move || read_ahead(folder, &sender, &listens)) {
            Ok(reader) => {
                readers.0.push(reader);
                Self::Ahead { lot: Vec::new().into_iter(), more: Some(more), _listener: listener }
            }
            Err(error) => Self::Broken(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
}

/// Reads to the end, or until nobody listens any more, which it notices before
/// each look at the disk.
fn read_ahead(mut folder: Dir, sender: &SyncSender<Lot>, listener: &Weak<Listener>) {
    let is_heard = || listener.strong_count() > 0;
    loop {
        let at = Instant::now();
        let entries: Vec<_> = std::iter::from_fn(|| read(&mut folder).filter(|_| is_heard())).take(LOT).collect();
        let is_last = entries.len() < LOT;
        let look = |listed: Listed| {
            let stat = listed.name.as_deref().and_then(|name| stat_at(folder.fd().ok()?, name));
            Listed { seen: stat.map(|stat| Seen { stat, at }), ..listed }
        };
        let entries = entries.into_iter().take_while(|_| is_heard()).map(|listed| listed.map(look)).collect();
        // A lot that was cut short is for nobody.
        if sender.send(Lot { entries, is_last }).is_err() || is_last {
            return;
        }
    }
}

fn read(folder: &mut Dir) -> Option<Result<Listed, Errno>> {
    let entry = match folder.read()? {
        Ok(entry) => entry,
        Err(error) => return Some(Err(error)),
    };
    let name = entry.file_name().to_str().ok().map(str::to_owned);
    let kind = match (entry.file_type(), &name) {
        // Some file systems do not say in the listing what an entry is.
        (FileType::Unknown, Some(name)) => folder.fd().map_or(FileType::Unknown, |folder| kind_at(folder, name)),
        (kind, _) => kind,
    };
    Some(Ok(Listed { name, kind, seen: None }))
}

/// What kind of file an entry is, itself rather than where a link leads.
pub(super) fn kind_at(folder: BorrowedFd<'_>, name: &str) -> FileType {
    stat_at(folder, name).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}

fn stat_at(folder: BorrowedFd<'_>, name: &str) -> Option<Stat> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    use crate::sandbox::view::identity;

    fn all(listing: &mut Listing, into: &mut BTreeMap<String, Option<Stat>>) {
        while let Some(listed) = listing.next(|| Ok(())).unwrap() {
            let stat = listed.seen.map(|seen| seen.stat);
            assert!(into.insert(listed.name.unwrap(), stat).is_none(), "each once");
        }
    }

    #[test]
    fn a_listing_goes_on_where_it_was_when_it_looks_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let files = 3 * LOT + 7;
        for number in 0..files {
            fs::write(folder.path().join(number.to_string()), vec![0; number % 5]).unwrap();
        }
        let mut listing = Listing::Direct(Dir::new(fs::File::open(folder.path()).unwrap()).unwrap());
        let mut found = BTreeMap::new();
        for _ in 0..100 {
            let listed = listing.next(|| Ok(())).unwrap().unwrap();
            assert!(listed.seen.is_none());
            found.insert(listed.name.unwrap(), None);
        }
        let mut listing = listing.look_ahead(&mut Readers::default());
        all(&mut listing, &mut found);
        assert_eq!(found.len(), files + 2, "with itself and its parent");
        assert_eq!(found.values().flatten().count(), files + 2 - 100);
        for (name, stat) in found.iter().filter_map(|(name, stat)| Some((name, stat.as_ref()?))) {
            let there = rustix::fs::lstat(folder.path().join(name)).unwrap();
            assert_eq!((identity(stat), stat.st_size), (identity(&there), there.st_size), "{name}");
        }
    }

    /// A guest that opens and closes folders in a row had a thread for each.
    #[test]
    fn a_thread_counts_from_its_start_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..(LOTS + 2) * LOT {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }
        let mut readers = Readers::default();
        let mut open = || {
            let folder = Dir::new(fs::File::open(folder.path()).unwrap()).unwrap();
            let listing = Listing::Direct(folder).look_ahead(&mut readers);
            (listing, readers.count())
        };
        // They wait for somebody who reads.
        let ((first, one), (mut second, two)) = (open(), open());
        assert_eq!((one, two), (1, 2));
        let until = |readers: &mut Readers, count| {
            let began = Instant::now();
            while readers.count() != count {
                assert!(began.elapsed() < Duration::from_mins(2), "waited in vain for {count} threads");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        // Closed, or read to its end.
        drop(first);
        until(&mut readers, 1);
        while second.next(|| Ok(())).unwrap().is_some() {}
        until(&mut readers, 0);
    }

    #[test]
    fn what_was_seen_long_ago_is_not_answered() {
        let stat = rustix::fs::stat("/").unwrap();
        let now = Instant::now();
        assert!(Seen { stat, at: now }.stat().is_some());
        assert!(Seen { stat, at: now.checked_sub(2 * FRESH).unwrap() }.stat().is_none());
    }

    #[test]
    fn who_waits_is_interrupted() {
        let (sender, more) = sync_channel(1);
        let mut listing =
            Listing::Ahead { lot: Vec::new().into_iter(), more: Some(more), _listener: Arc::new(Listener) };
        let next = listing.next(|| Err(Interrupt::Stopped));
        assert!(matches!(next, Err(NotDone::Interrupted(Interrupt::Stopped))));
        drop(sender);
        let next = listing.next(|| Ok(()));
        assert!(matches!(next, Err(NotDone::Refused(Errno::IO))), "a listing without its end is not whole");
    }
}
