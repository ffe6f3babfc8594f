//! `[job.limits]` and `[sandbox]`: how much a guest may use, and how it is kept
//! in.

use std::time::Duration;

use crate::domain::job::Limits;
use crate::domain::wall::WallPolicy;

use super::raw::{RawLimits, RawSandbox};
use super::resolved::{LONGEST, Resolver, text};

const SHORTEST: Duration = Duration::from_millis(10);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What `sandbox.max_compiled` is where no configuration is read, in bytes.
pub const MAX_COMPILED: u64 = 256 * MIB;

/// The same of `sandbox.compile_time`.
pub const COMPILE_TIME: Duration = Duration::from_mins(2);

/// The same of `sandbox.compile_memory`, in bytes.
pub const COMPILE_MEMORY: u64 = 6 * GIB;

/// How all guests of a host are kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxConfig {
    /// Whether the host confines itself.
    pub landlock: WallPolicy,
    /// The stack of a guest, in bytes.
    pub stack: usize,
    /// Largest machine code of one component, in bytes.
    pub max_compiled: u64,
    /// Longest time that compiling one component may take.
    pub compile_time: Duration,
    /// Most memory that it may take, in bytes of address space.
    pub compile_memory: u64,
}

/// `[sandbox]`. The stack of a guest is a part of its thread's, which has two
/// mebibytes.
pub(super) fn sandbox(resolver: &mut Resolver, raw: &RawSandbox) -> SandboxConfig {
    let stack = resolver.size("sandbox.stack", raw.stack.as_deref(), 64 * KIB..=MIB);
    SandboxConfig {
        landlock: landlock(resolver, raw.landlock.as_deref()),
        stack: usize::try_from(stack).unwrap_or(usize::MAX),
        max_compiled: resolver.size("sandbox.max_compiled", raw.max_compiled.as_deref(), 64 * KIB..=4 * GIB),
        compile_time: resolver.duration(
            "sandbox.compile_time",
            raw.compile_time.as_deref(),
            Duration::from_secs(1)..=Duration::from_hours(24),
        ),
        compile_memory: resolver.size("sandbox.compile_memory", raw.compile_memory.as_deref(), 256 * MIB..=1024 * GIB),
    }
}

fn landlock(resolver: &mut Resolver, raw: Option<&str>) -> WallPolicy {
    let written = text("sandbox.landlock", raw);
    WallPolicy::ALL.into_iter().find(|policy| policy.name() == written).unwrap_or_else(|| {
        let help = "\"required\" starts the host only where the kernel confines it, \"best-effort\" also elsewhere, \
                    with a warning, and \"off\" confines it nowhere";
        resolver.refuse("sandbox.landlock", format!("`{written}` is no setting"), Some(help.to_owned()));
        WallPolicy::Required
    })
}

/// `[job.limits]`.
pub(super) fn resolve(resolver: &mut Resolver, path: &str, raw: &RawLimits) -> Limits {
    let at = |key: &str| format!("{path}.{key}");
    Limits {
        memory: resolver.size(&at("memory"), raw.memory.as_deref(), MIB..=64 * GIB),
        memories: resolver.integer(&at("memories"), raw.memories, 1..=1000),
        tables: resolver.integer(&at("tables"), raw.tables, 1..=10_000),
        table_elements: resolver.integer(&at("table_elements"), raw.table_elements, 1..=100_000_000),
        instances: resolver.integer(&at("instances"), raw.instances, 1..=10_000),
        fuel: raw.fuel.and_then(|fuel| instructions(resolver, &at("fuel"), fuel)),
        answer: resolver.size(&at("answer"), raw.answer.as_deref(), MIB..=GIB),
        descriptors: resolver.integer(&at("descriptors"), raw.descriptors, 8..=4000),
        folder_entries: resolver.integer(&at("folder_entries"), raw.folder_entries, 1..=u32::MAX),
        dispatch_deadline: resolver.duration(
            &at("dispatch_deadline"),
            raw.dispatch_deadline.as_deref(),
            SHORTEST..=LONGEST,
        ),
        task_deadline: resolver.duration(&at("task_deadline"), raw.task_deadline.as_deref(), SHORTEST..=LONGEST),
        output: resolver.size(&at("output"), raw.output.as_deref(), 0..=64 * MIB),
        output_rate: resolver.size(&at("output_rate"), raw.output_rate.as_deref(), 0..=GIB),
        tasks_per_instance: resolver.integer(&at("tasks_per_instance"), raw.tasks_per_instance, 1..=1_000_000_000),
        changes: resolver.integer(&at("changes"), raw.changes, 1..=u32::MAX),
        written: resolver.size(&at("written"), raw.written.as_deref(), 0..=u64::MAX),
    }
}

fn instructions(resolver: &mut Resolver, path: &str, raw: i64) -> Option<u64> {
    let fuel = u64::try_from(raw).ok().filter(|fuel| *fuel > 0);
    if fuel.is_none() {
        let help = "write how many instructions one call may take, or leave it out to count none";
        resolver.refuse(path, format!("`{raw}` is no number from 1"), Some(help.to_owned()));
    }
    fuel
}
