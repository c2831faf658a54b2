//! Accounting for kernel mappings, whose number is limited for each operating system process.

use super::arena;
use super::kind::{EngineKind, Profile};
use crate::tally::Tally;
use std::sync::LazyLock;

/// The maximum number of pooled instances across all modules.
pub(crate) const MAX_POOLED: u32 = 512;

/// The number of mappings reserved for everything other than processes: libraries, threads, the
/// allocator, and pooled instances.
const RESERVED_MAPPINGS: u32 = 1_200 + 2 * MAX_POOLED;

/// Reserved kernel mappings. Released on drop.
#[derive(Debug)]
pub(crate) struct Mappings(u32);

/// The total number of mappings reserved by all machines in this operating system process.
static TAKEN: LazyLock<Tally<1>> = LazyLock::new(Tally::default);

/// The total number of mappings available to all machines in this operating system process.
static ALL: LazyLock<u32> = LazyLock::new(|| {
    // A system without this file does not limit the number of mappings.
    let Ok(text) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else {
        return u32::MAX;
    };
    let all: u32 = text.trim().parse().unwrap_or(u32::MAX);
    let others = std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
    all.saturating_sub(u32::try_from(others).unwrap_or(u32::MAX))
        .saturating_sub(RESERVED_MAPPINGS)
});

/// Returns the total number of mappings available to all machines in this operating system process.
pub(super) fn all() -> u32 {
    *ALL
}

/// Returns the number of reserved mappings.
pub(super) fn taken() -> u32 {
    u32::try_from(TAKEN.used(0)).unwrap_or(u32::MAX)
}

impl Mappings {
    /// Reserves the mappings for a process with `memories` memories, if enough are left.
    pub(super) fn of(kind: EngineKind, memories: u32) -> Option<Mappings> {
        Mappings::take(of_process(kind, memories))
    }

    /// Reserves `count` mappings, if enough are left.
    pub(crate) fn take(count: u32) -> Option<Mappings> {
        let taken = TAKEN.take(0, count.into(), (*ALL).into());
        taken.ok().map(|()| Mappings(count))
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        TAKEN.give_back(0, self.0.into());
    }
}

/// Returns the number of mappings that a process needs.
pub(super) fn of_process(kind: EngineKind, memories: u32) -> u32 {
    /// A stack in an arena does not need its own mapping unless its guard page splits the arena's.
    static OF_STACK: LazyLock<u32> =
        LazyLock::new(|| if arena::has_light_guards() { 0 } else { 2 });
    match kind {
        EngineKind::Module(_, profile) => memories * of_memory(profile) + *OF_STACK,
        // The image, the range after it, the inaccessible range, the stack with its guard page, and
        // tables.
        EngineKind::Component(_) => 8,
    }
}

/// Returns the number of mappings that a memory needs.
pub(super) fn of_memory(profile: Profile) -> u32 {
    match profile {
        // One mapping for the image and one for the inaccessible range. A memory that has grown
        // beyond its image needs a third mapping, which comes out of `RESERVED_MAPPINGS`. Such
        // memories are rare, and programs with large memories have few processes.
        Profile::Fast => 2,
        Profile::Dense => 1,
    }
}
