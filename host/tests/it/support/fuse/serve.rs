//! Answers the kernel: every request is made of the folder behind, unless a fault
//! is set for it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps};
use rustix::fs::{UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::wire::{Answer, MOST, Request, message};
use super::{Fault, Faults, Op, When};

/// The number of the top folder's node.
const TOP: u64 = 1;

/// Bits of what is to be set.
const SIZE: u32 = 1 << 3;
const ACCESSED: u32 = 1 << 4;
const MODIFIED: u32 = 1 << 5;
const ACCESSED_NOW: u32 = 1 << 7;
const MODIFIED_NOW: u32 = 1 << 8;

pub(super) struct Server(Arc<Shared>);

struct Shared {
    device: File,
    behind: PathBuf,
    faults: Arc<Faults>,
    open: Mutex<Opened>,
}

/// The entries of a folder: node, kind, name.
type Listed = Vec<(u64, u32, std::ffi::OsString)>;

#[derive(Default)]
struct Opened {
    /// Where the nodes are that the kernel was told of, relative to the top.
    paths: HashMap<u64, PathBuf>,
    files: HashMap<u64, Arc<File>>,
    /// What open folders held when they were opened.
    folders: HashMap<u64, Arc<Listed>>,
    last: u64,
}

/// What is asked for, with all that it names.
struct Asked {
    op: Op,
    /// What it is about.
    path: PathBuf,
    act: Act,
}

enum Act {
    Look(Option<u64>),
    Lookup,
    Set { handle: Option<u64>, size: Option<u64>, times: Timestamps },
    ReadLink,
    MakeFolder(u32),
    Unlink,
    RemoveFolder,
    Rename { to: PathBuf, flags: RenameFlags },
    Link { to: PathBuf },
    Open(u32),
    Create { flags: u32, mode: u32 },
    Read { handle: u64, offset: u64, size: u32 },
    Write { handle: u64, offset: u64, bytes: Vec<u8> },
    Space,
    OpenFolder,
    List { handle: u64, from: u64, size: u32 },
    Sync(u64),
}

impl Server {
    pub(super) fn new(device: File, behind: &Path, faults: Arc<Faults>) -> Self {
        let open = Opened { paths: HashMap::from([(TOP, PathBuf::new())]), ..Opened::default() };
        Self(Arc::new(Shared { device, behind: behind.to_owned(), faults, open: Mutex::new(open) }))
    }

    /// Answers until the connection ends.
    pub(super) fn run(self) {
        let mut buffer = vec![0; MOST + 4096];
        loop {
            match (&self.0.device).read(&mut buffer) {
                Ok(length) => self.take(Request::new(buffer[..length].to_vec())),
                Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return,
                // Interrupted, or the request is gone before it was read.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => return,
            }
        }
    }

    fn take(&self, mut request: Request) {
        let (unique, shared) = (request.unique, &self.0);
        let asked = match shared.read(&mut request) {
            Ok(Some(asked)) => asked,
            // Forgotten nodes and interruptions want no answer.
            Ok(None) => return,
            Err(answer) => return shared.answer(unique, answer),
        };
        match shared.faults.of(asked.op, &asked.path) {
            Some(When::Before(error)) => shared.answer(unique, Err(error)),
            Some(When::After(error)) => {
                let done = shared.act(&asked);
                shared.answer(unique, done.and(Err(error)));
            }
            Some(When::AndGone(error)) => {
                let done = shared.act(&asked);
                let to = if let Act::Rename { to, .. } = &asked.act { Some(to) } else { None };
                for path in [Some(&asked.path), to].into_iter().flatten() {
                    let path = path.to_string_lossy().into_owned();
                    shared.faults.add(Fault { op: Op::Look, path, when: When::Before(error) });
                }
                shared.answer(unique, done.and(Err(error)));
            }
            Some(When::AndBroken(error)) => {
                for op in [Op::List, Op::Unlink] {
                    shared.faults.add(Fault { op, path: String::new(), when: When::Before(error) });
                }
                shared.answer(unique, Err(error));
            }
            Some(when @ (When::Late(_) | When::Never)) => {
                let shared = Arc::clone(shared);
                std::thread::spawn(move || {
                    match when {
                        When::Late(time) => std::thread::sleep(time),
                        _ => shared.faults.wait(asked.op, &asked.path),
                    }
                    shared.answer(unique, shared.act(&asked));
                });
            }
            None => shared.answer(unique, shared.act(&asked)),
        }
    }
}

impl Shared {
    fn answer(&self, unique: u64, answer: Result<Answer, Errno>) {
        // Nobody may be waiting for it any more.
        let _ = (&self.device).write(&message(unique, answer));
    }

    fn open(&self) -> MutexGuard<'_, Opened> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, node: u64) -> PathBuf {
        self.open().paths.get(&node).cloned().unwrap_or_else(|| PathBuf::from("forgotten"))
    }

    fn stat(&self, path: &Path) -> Result<Stat, Errno> {
        rustix::fs::lstat(self.behind.join(path))
    }

    /// Takes a request apart; what needs no file is answered at once.
    fn read(&self, request: &mut Request) -> Result<Option<Asked>, Result<Answer, Errno>> {
        let here = self.path(request.node);
        let of = |op, path, act| Ok(Some(Asked { op, path, act }));
        match request.opcode {
            1 => of(Op::Look, here.join(request.name()), Act::Lookup),
            2 | 36 | 42 => Ok(None),
            3 => {
                let has_handle = request.u32() & 1 != 0;
                request.skip(4);
                let handle = request.u64();
                of(Op::Look, here, Act::Look(has_handle.then_some(handle)))
            }
            4 => of(Op::Set, here, set(request)),
            5 => of(Op::Look, here, Act::ReadLink),
            9 => {
                let mode = request.u32();
                request.skip(4);
                of(Op::MakeFolder, here.join(request.name()), Act::MakeFolder(mode))
            }
            10 => of(Op::Unlink, here.join(request.name()), Act::Unlink),
            11 => of(Op::RemoveFolder, here.join(request.name()), Act::RemoveFolder),
            12 | 45 => {
                let new = self.path(request.u64());
                let mut flags = RenameFlags::empty();
                if request.opcode == 45 {
                    flags = RenameFlags::from_bits_retain(request.u32());
                    request.skip(4);
                }
                let (from, to) = (here.join(request.name()), new.join(request.name()));
                of(Op::Rename, from, Act::Rename { to, flags })
            }
            13 => {
                let from = self.path(request.u64());
                of(Op::Link, from, Act::Link { to: here.join(request.name()) })
            }
            14 => of(Op::Open, here, Act::Open(request.u32())),
            15 => {
                let (handle, offset, size) = (request.u64(), request.u64(), request.u32());
                of(Op::Read, here, Act::Read { handle, offset, size })
            }
            16 => {
                let (handle, offset) = (request.u64(), request.u64());
                request.skip(24);
                let bytes = request.rest().to_vec();
                of(Op::Write, here, Act::Write { handle, offset, bytes })
            }
            17 => of(Op::Space, here, Act::Space),
            18 => {
                self.open().files.remove(&request.u64());
                Err(Ok(Answer::default()))
            }
            20 => of(Op::Write, here, Act::Sync(request.u64())),
            25 | 30 | 38 => Err(Ok(Answer::default())),
            26 => {
                let (major, _, readahead) = (request.u32(), request.u32(), request.u32());
                let most = u32::try_from(MOST).expect("small");
                // No flags; sixteen requests in the background.
                let answer = Answer::default().u32(major).u32(31).u32(readahead).u32(0).u32(16 | 12 << 16).u32(most);
                Err(Ok((0..9).fold(answer.u32(1), |answer, _| answer.u32(0))))
            }
            27 => of(Op::List, here, Act::OpenFolder),
            28 => {
                let (handle, from, size) = (request.u64(), request.u64(), request.u32());
                of(Op::List, here, Act::List { handle, from, size })
            }
            29 => {
                self.open().folders.remove(&request.u64());
                Err(Ok(Answer::default()))
            }
            35 => {
                let (flags, mode) = (request.u32(), request.u32());
                request.skip(8);
                of(Op::Create, here.join(request.name()), Act::Create { flags, mode })
            }
            _ => Err(Err(Errno::NOSYS)),
        }
    }

    fn act(&self, asked: &Asked) -> Result<Answer, Errno> {
        let (path, real) = (&asked.path, self.behind.join(&asked.path));
        let empty = |()| Answer::default();
        match &asked.act {
            Act::Lookup => self.found(path),
            Act::Look(handle) => {
                let open = handle.and_then(|handle| self.open().files.get(&handle).cloned());
                let stat = open.map_or_else(|| self.stat(path), rustix::fs::fstat)?;
                Ok(attributes(&stat))
            }
            Act::Set { handle, size, times } => {
                if let Some(size) = size {
                    let open = handle.and_then(|handle| self.open().files.get(&handle).cloned());
                    match open {
                        Some(file) => file.set_len(*size),
                        None => File::options().write(true).open(&real).and_then(|file| file.set_len(*size)),
                    }
                    .map_err(errno)?;
                }
                rustix::fs::utimensat(CWD, &real, times, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(attributes(&self.stat(path)?))
            }
            Act::ReadLink => fs::read_link(&real).map_err(errno).map(|to| Answer(to.as_os_str().as_bytes().to_vec())),
            Act::MakeFolder(mode) => {
                rustix::fs::mkdir(&real, Mode::from_raw_mode(*mode))?;
                self.found(path)
            }
            Act::Unlink => fs::remove_file(&real).map_err(errno).map(empty),
            Act::RemoveFolder => fs::remove_dir(&real).map_err(errno).map(empty),
            Act::Rename { to, flags } => {
                rustix::fs::renameat_with(CWD, &real, CWD, self.behind.join(to), *flags)?;
                for known in self.open().paths.values_mut() {
                    if let Ok(rest) = known.strip_prefix(path) {
                        *known = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                    }
                }
                Ok(Answer::default())
            }
            Act::Link { to } => {
                fs::hard_link(&real, self.behind.join(to)).map_err(errno)?;
                self.found(to)
            }
            Act::Open(flags) => {
                let handle = self.opened(&real, *flags, Mode::empty())?;
                Ok(Answer::default().handle(handle))
            }
            Act::Create { flags, mode } => {
                let flags = *flags | OFlags::CREATE.bits();
                let handle = self.opened(&real, flags, Mode::from_raw_mode(*mode))?;
                Ok(self.found(path)?.handle(handle))
            }
            Act::Read { handle, offset, size } => {
                let file = self.file(*handle)?;
                let mut bytes = vec![0; *size as usize];
                let length = file.read_at(&mut bytes, *offset).map_err(errno)?;
                bytes.truncate(length);
                Ok(Answer(bytes))
            }
            Act::Write { handle, offset, bytes } => {
                let written = self.file(*handle)?.write_at(bytes, *offset).map_err(errno)?;
                Ok(Answer::default().u32(u32::try_from(written).expect("small")).u32(0))
            }
            Act::Space => {
                let space = rustix::fs::statvfs(&self.behind)?;
                let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
                let of = Answer::default().u64(space.f_blocks).u64(space.f_bfree).u64(space.f_bavail);
                let of = of.u64(space.f_files).u64(space.f_ffree).u32(small(space.f_bsize)).u32(255);
                Ok((0..7).fold(of.u32(small(space.f_frsize)), |of, _| of.u32(0)))
            }
            Act::OpenFolder => self.listed(&real).map(|handle| Answer::default().handle(handle)),
            Act::List { handle, from, size } => {
                let all = self.open().folders.get(handle).cloned().ok_or(Errno::BADF)?;
                let mut listed = Answer::default();
                for (at, (node, kind, name)) in (1..).zip(all.iter()).skip(usize::try_from(*from).unwrap_or(usize::MAX))
                {
                    // As much as an entry takes, with the longest padding.
                    if listed.0.len() + 24 + name.len() + 8 > *size as usize {
                        break;
                    }
                    listed = listed.listed(*node, at, *kind, name);
                }
                Ok(listed)
            }
            Act::Sync(handle) => self.file(*handle)?.sync_all().map_err(errno).map(empty),
        }
    }

    /// What stands at a path; the kernel knows its node from now on.
    fn found(&self, path: &Path) -> Result<Answer, Errno> {
        let stat = self.stat(path)?;
        self.open().paths.insert(stat.st_ino, path.to_owned());
        Ok(Answer::default().entry(&stat))
    }

    fn opened(&self, real: &Path, flags: u32, mode: Mode) -> Result<u64, Errno> {
        let flags = OFlags::from_bits_retain(flags) - OFlags::NOFOLLOW - OFlags::APPEND;
        let file = File::from(rustix::fs::open(real, flags | OFlags::CLOEXEC, mode)?);
        let mut open = self.open();
        open.last += 1;
        let handle = open.last;
        open.files.insert(handle, Arc::new(file));
        Ok(handle)
    }

    fn listed(&self, real: &Path) -> Result<u64, Errno> {
        let mut all = Vec::new();
        for entry in fs::read_dir(real).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            // It may be gone by now.
            let Ok(about) = entry.path().symlink_metadata() else { continue };
            all.push((about.ino(), about.mode() >> 12, entry.file_name()));
        }
        let mut open = self.open();
        open.last += 1;
        let handle = open.last;
        open.folders.insert(handle, Arc::new(all));
        Ok(handle)
    }

    fn file(&self, handle: u64) -> Result<Arc<File>, Errno> {
        self.open().files.get(&handle).cloned().ok_or(Errno::BADF)
    }
}

fn set(request: &mut Request) -> Act {
    let valid = request.u32();
    request.skip(4);
    let (handle, size) = (request.u64(), request.u64());
    request.skip(8);
    let (accessed, modified) = (request.u64(), request.u64());
    request.skip(8);
    let (accessed_part, modified_part) = (request.u32(), request.u32());
    let time = |given: u32, now: u32, seconds: u64, part: u32| match valid {
        valid if valid & now != 0 => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        valid if valid & given != 0 => {
            Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: part.into() }
        }
        _ => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    let times = Timestamps {
        last_access: time(ACCESSED, ACCESSED_NOW, accessed, accessed_part),
        last_modification: time(MODIFIED, MODIFIED_NOW, modified, modified_part),
    };
    let has_handle = valid & (1 << 6) != 0;
    Act::Set { handle: has_handle.then_some(handle), size: (valid & SIZE != 0).then_some(size), times }
}

fn attributes(stat: &Stat) -> Answer {
    Answer::default().u64(0).u64(0).attributes(stat)
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
