//! One limit over all memories and tables of a store; wasmtime's own
//! `StoreLimits` counts each memory for itself.

use wasmtime::ResourceLimiter;

/// What a table entry costs the host: a pointer-sized reference.
const TABLE_ENTRY: usize = 16;

/// Counts the linear memories and tables of one store against a limit.
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    limit: usize,
    used: usize,
    refused: bool,
}

impl MemoryLimiter {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), used: 0, refused: false }
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Whether the guest asked for more than it may have.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    /// A new call begins.
    pub(super) fn forget_refusal(&mut self) {
        self.refused = false;
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.refused = true;
            return false;
        }
        self.used = used;
        true
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current.saturating_mul(TABLE_ENTRY), desired.saturating_mul(TABLE_ENTRY)))
    }

    fn instances(&self) -> usize {
        100
    }

    fn tables(&self) -> usize {
        100
    }

    fn memories(&self) -> usize {
        20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_the_limit() {
        let mut limiter = MemoryLimiter::new(100_000);
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(!limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(limiter.table_growing(0, 2_000, None).unwrap());
        assert!(!limiter.table_growing(2_000, 3_000, None).unwrap());
        assert!(limiter.refused());
        assert_eq!(limiter.used(), 97_536);
    }
}
