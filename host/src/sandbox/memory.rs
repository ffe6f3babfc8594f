//! The limits of one store: one over all memories and tables together, which
//! wasmtime's own `StoreLimits` counts each for itself, and how many of each
//! there may be.

use wasmtime::ResourceLimiter;

use crate::domain::job::Limits;

/// What a table entry costs the host: a pointer-sized reference.
const TABLE_ENTRY: usize = 16;

/// Counts what one store takes of its limits.
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    limits: Counts,
    used: usize,
    refused: Option<Refused>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All memories and tables together.
    #[error("it asked for more memory than its limit of {0} bytes (job.limits.memory)")]
    Memory(usize),
    /// One table.
    #[error("it asked for more elements in a table than its limit of {0} (job.limits.table_elements)")]
    TableElements(usize),
}

/// The limits as wasmtime counts.
#[derive(Clone, Copy, Debug)]
struct Counts {
    memory: usize,
    table_elements: usize,
    memories: usize,
    tables: usize,
    instances: usize,
}

impl MemoryLimiter {
    pub(super) fn new(limits: &Limits) -> Self {
        let limits = Counts {
            memory: usize::try_from(limits.memory).unwrap_or(usize::MAX),
            table_elements: limits.table_elements as usize,
            memories: limits.memories as usize,
            tables: limits.tables as usize,
            instances: limits.instances as usize,
        };
        Self { limits, used: 0, refused: None }
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The limit that the guest reached, if it did.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// A new call begins.
    pub(super) fn forget_refusal(&mut self) {
        self.refused = None;
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limits.memory {
            self.refused = Some(Refused::Memory(self.limits.memory));
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
        if desired > self.limits.table_elements {
            self.refused = Some(Refused::TableElements(self.limits.table_elements));
            return Ok(false);
        }
        Ok(self.grow(current.saturating_mul(TABLE_ENTRY), desired.saturating_mul(TABLE_ENTRY)))
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    const ROOMY: Counts = Counts { memory: 1 << 20, table_elements: 10, memories: 2, tables: 2, instances: 2 };

    fn limiter(limits: Counts) -> MemoryLimiter {
        MemoryLimiter { limits, used: 0, refused: None }
    }

    #[test]
    fn memories_and_tables_share_the_limit() {
        let mut limiter = limiter(Counts { memory: 100_000, table_elements: 10_000, ..ROOMY });
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(!limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(limiter.table_growing(0, 2_000, None).unwrap());
        assert!(!limiter.table_growing(2_000, 3_000, None).unwrap());
        assert_eq!(limiter.refused(), Some(Refused::Memory(100_000)));
        assert_eq!(limiter.used(), 97_536);
    }

    #[test]
    fn a_table_has_a_limit_of_its_own() {
        let mut limiter = limiter(ROOMY);
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
        assert_eq!(limiter.refused(), Some(Refused::TableElements(10)));
    }

    /// A core module of this one section, in bytes.
    fn module(engine: &Engine, section: &[u8]) -> Module {
        let bytes = [b"\0asm\x01\0\0\0", section].concat();
        Module::from_binary(engine, &bytes).expect("a module")
    }

    /// Instantiates so many of `section` one after the other; the last error.
    fn instantiate(limits: Counts, section: &[u8], times: usize) -> Result<(), String> {
        let engine = Engine::default();
        let module = module(&engine, section);
        let mut store = Store::new(&engine, limiter(limits));
        store.limiter(|limiter| limiter);
        (0..times)
            .try_for_each(|_| Instance::new(&mut store, &module, &[]).map(drop).map_err(|error| error.to_string()))
    }

    #[test]
    fn memories_tables_and_instances_are_counted() {
        // (memory 0) twice; (table 0 funcref) twice; nothing at all.
        let memories: &[u8] = &[5, 5, 2, 0, 0, 0, 0];
        let tables: &[u8] = &[4, 7, 2, 0x70, 0, 0, 0x70, 0, 0];
        for (section, times, limits, counted) in [
            (memories, 1, Counts { memories: 1, ..ROOMY }, "memory count"),
            (tables, 1, Counts { tables: 1, ..ROOMY }, "table count"),
            (&[], 3, ROOMY, "instance count"),
        ] {
            let error = instantiate(limits, section, times).expect_err(counted);
            assert!(error.contains(counted), "{error}");
        }
        for (section, times) in [(memories, 1), (tables, 1), (&[], 2)] {
            assert_eq!(instantiate(ROOMY, section, times), Ok(()));
        }
    }
}
