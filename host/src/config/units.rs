//! Durations and sizes as people write them.

use std::time::Duration;

use bytesize::ByteSize;

/// A duration with its unit: `250ms`, `3s`, `1h 30m`, `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("`{text}` is no duration: write a number and a unit, such as \"250ms\", \"3s\" or \"24h\"")
    })
}

/// A size in bytes: `64KiB`, `8MiB`, `1GB`; without a unit, bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("`{text}` is no size: write a number and a unit, such as \"64KiB\", \"8MiB\" or \"1GB\""))
}

/// A duration in the words that [`duration`] reads.
pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A size in the words that [`size`] reads.
pub(super) fn show_size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("250ms", 250), ("3s", 3_000), ("1h 30m", 5_400_000), ("30d", 2_592_000_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "3", "-1s", "3 parsecs", "s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1GB", 1_000_000_000), ("64 KiB", 65_536), ("512", 512)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1MiB", "64 apples"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(show_size(1 << 20), "1.0 MiB");
    }
}
