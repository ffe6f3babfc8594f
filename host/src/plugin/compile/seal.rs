//! The key by which a host knows again what it wrote into a folder that others
//! may delete, restore or share.
//!
//! The key is a file of the state folder, readable by its owner alone, and never
//! leaves the machine. Its invariant: a seal fits only the bytes, and the name
//! for them, that it was made for under the same key.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};

/// Bytes of a key.
const KEY: usize = 32;
/// Bytes of a seal: an HMAC with SHA-256.
pub(super) const SEAL: usize = 32;
/// Makes the key's name of the key.
const NAME: &[u8] = b"sweepd: the name of this key";

/// A host's key.
pub(super) struct Key {
    hmac: hmac::Key,
    name: String,
}

impl Key {
    fn of(secret: &[u8; KEY]) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let name = hmac::sign(&hmac, NAME).as_ref().iter().take(8).fold(String::new(), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        });
        Self { hmac, name }
    }

    /// Reads the key, or makes one where there is none, or none that can be
    /// trusted: what it sealed is then refused.
    pub(super) fn read_or_make(file: &Path) -> io::Result<Self> {
        match read(file) {
            Ok(Ok(secret)) => return Ok(Self::of(&secret)),
            Ok(Err(why)) => {
                tracing::warn!("{} {why}: another key is made, and components are compiled anew", file.display());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut secret = [0; KEY];
        SystemRandom::new().fill(&mut secret).map_err(|_| io::Error::other("the system has no random numbers"))?;
        write(file, &secret)?;
        Ok(Self::of(&secret))
    }

    /// Sixteen hexadecimal digits that tell one host's files from another's, and
    /// nothing of the key.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The seal of `bytes` under this name.
    pub(super) fn seal(&self, name: &[u8], bytes: &[u8]) -> [u8; SEAL] {
        let mut seal = [0; SEAL];
        seal.copy_from_slice(hmac::sign(&self.hmac, &what_is_sealed(name, bytes)).as_ref());
        seal
    }

    /// Whether `seal` was made of these bytes, under this name.
    pub(super) fn fits(&self, seal: &[u8], name: &[u8], bytes: &[u8]) -> bool {
        hmac::verify(&self.hmac, &what_is_sealed(name, bytes), seal).is_ok()
    }
}

/// The name and the bytes, parted without doubt.
fn what_is_sealed(name: &[u8], bytes: &[u8]) -> Vec<u8> {
    let digest = digest::digest(&digest::SHA256, bytes);
    [&(name.len() as u64).to_le_bytes(), name, digest.as_ref()].concat()
}

/// The key in the file, or why what is there is none.
fn read(file: &Path) -> io::Result<Result<[u8; KEY], &'static str>> {
    let open = OpenOptions::new().read(true).custom_flags(nonblocking()).open(file)?;
    let metadata = open.metadata()?;
    if !metadata.is_file() {
        return Ok(Err("is not a regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Ok(Err("was open to others"));
    }
    let mut bytes = Vec::with_capacity(KEY + 1);
    open.take(KEY as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.try_into().map_err(|_| "is not of the length of a key"))
}

/// Not waiting for whoever would write into a named pipe.
fn nonblocking() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().cast_signed()
}

/// Puts a key in place, on the disk.
fn write(file: &Path, secret: &[u8; KEY]) -> io::Result<()> {
    let new = file.with_extension("new");
    let _ = fs::remove_file(&new);
    let written = write_new(&new, secret).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_new(new: &Path, secret: &[u8; KEY]) -> io::Result<()> {
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    open.write_all(secret)?;
    open.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let made = Key::read_or_make(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let read = Key::read_or_make(&file).unwrap();
        assert_eq!(read.name(), made.name());
        assert!(read.fits(&made.seal(b"n", b"x"), b"n", b"x"));
        let other = Key::read_or_make(&folder.path().join("other")).unwrap();
        assert_ne!(other.name(), made.name());
        assert!(!other.fits(&made.seal(b"n", b"x"), b"n", b"x"), "another host's");
    }

    #[test]
    fn a_key_that_cannot_be_trusted_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let first = Key::read_or_make(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let second = Key::read_or_make(&file).unwrap();
        assert_ne!(first.name(), second.name(), "it was open to others");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::write(&file, "cut").unwrap();
        let third = Key::read_or_make(&file).unwrap();
        assert_ne!(second.name(), third.name(), "it was cut");
    }

    #[test]
    fn a_seal_fits_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::read_or_make(&folder.path().join("key")).unwrap();
        let seal = key.seal(b"name", b"code");
        assert!(key.fits(&seal, b"name", b"code"));
        assert!(!key.fits(&seal, b"nam", b"ecode"), "parted elsewhere");
        assert!(!key.fits(&seal, b"name", b"codf"));
        assert!(!key.fits(&seal[..31], b"name", b"code"));
        assert!(!key.fits(&[], b"name", b"code"));
        for bit in 0..SEAL * 8 {
            let mut flipped = seal;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.fits(&flipped, b"name", b"code"), "bit {bit}");
        }
    }
}
