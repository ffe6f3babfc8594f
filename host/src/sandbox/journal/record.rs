//! A record of a journal, as bytes. The encoding is internal to one machine and
//! version: a record that cannot be read is reported, never guessed.
//!
//! ```text
//!  length (4 bytes) · checksum (4) · record
//! ```

use std::io;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::domain::effect::{Effect, EffectId, EffectResult};
use crate::domain::time::Timestamp;

/// Length and checksum of a record.
pub(super) const HEAD: usize = 8;

/// What is read.
#[derive(Debug, Deserialize)]
pub(super) enum Record {
    Intent(Effect),
    Result(EffectId, EffectResult),
    /// The result of something that wrote so many bytes.
    Wrote(EffectId, EffectResult, u64),
    /// The result of something that became a part of another effect.
    Folded(EffectId, EffectResult, Sum),
    /// An intent about something that takes so many bytes of the disk, where that
    /// is not its size.
    Allocated(Effect, u64),
}

/// An effect into which others were folded, as far as it differs from them.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sum {
    pub(super) id: EffectId,
    pub(super) at: Timestamp,
    pub(super) times: u64,
    pub(super) size: u64,
    pub(super) written: u64,
}

/// The same, to be written.
#[derive(Debug, Serialize)]
pub(super) enum Written<'a> {
    Intent(&'a Effect),
    Result(EffectId, &'a EffectResult),
    Wrote(EffectId, &'a EffectResult, u64),
    Folded(EffectId, &'a EffectResult, Sum),
    Allocated(&'a Effect, u64),
}

impl<'a> Written<'a> {
    /// The intent of an effect.
    pub(super) fn intent(effect: &'a Effect) -> Self {
        if effect.allocated == effect.size { Self::Intent(effect) } else { Self::Allocated(effect, effect.allocated) }
    }
}

/// Appends a record to `bytes`; an error leaves them as they were.
pub(super) fn encode(record: &Written<'_>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let start = bytes.len();
    let body = start + HEAD;
    bytes.extend([0; HEAD]);
    let encoded = postcard::serialize_with_flavor(record, Appended(bytes)).map_err(io::Error::other);
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "it is too long to be written down");
    match encoded.and_then(|()| u32::try_from(bytes.len() - body).map_err(too_long)) {
        Ok(length) => {
            let sum = crc32fast::hash(&bytes[body..]);
            bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
            bytes[start + 4..body].copy_from_slice(&sum.to_le_bytes());
            Ok(())
        }
        Err(error) => {
            bytes.truncate(start);
            Err(error)
        }
    }
}

/// Bytes that the encoder appends to. Texts are copied as a whole: a record is
/// encoded at every mutation.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// The record at the beginning of `bytes`, and what follows it.
pub(super) fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let (body, rest) = rest.split_at_checked(length)?;
    let sum = u32::from_le_bytes(head[4..].try_into().ok()?);
    if length == 0 || crc32fast::hash(body) != sum {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, rest))
}

/// Where the next record begins behind a place that holds none.
pub(super) fn next(bytes: &[u8]) -> Option<usize> {
    // A record is found by its checksum. Only lengths that occur are tried: each
    // try reads so many bytes.
    const LONGEST: usize = 64 << 10;
    (1..bytes.len().saturating_sub(HEAD)).find(|at| {
        let head = &bytes[*at..*at + 4];
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        (1..=LONGEST).contains(&length) && decode(&bytes[*at..]).is_some()
    })
}
