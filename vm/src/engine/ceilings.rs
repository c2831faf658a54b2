//! Limits on the number of processes in a machine.
//!
//! A process that would exceed a limit is refused with an error that names the limit and says how
//! to raise it. Other processes are not affected. Mappings are counted per operating system
//! process, because that is what the kernel's limit applies to. Everything else is counted per
//! machine.

use super::kind::{Code, EngineKind, Profile};
use super::mappings::{self, Mappings};
use super::pressure::{self, Pressure, Shortage};
use super::{arena, memory, pages};
use crate::tally::{self, Tally};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// The number of processes that use the `fast` profile, unless a profile was chosen. Any others use
/// `dense`. Each `fast` process takes two mappings. With this number, 60,000 processes fit into the
/// 65,530 mappings that the kernel allows by default.
const FAST_BY_DEFAULT: u32 = 3_072;

/// The number of processes with the `fast` profile that fit into the address space.
const MAX_FAST: u32 = 28_000;

/// The maximum number of live components for each kind of code.
pub(super) const COMPONENT_SLOTS: u32 = 1_000;

/// Whether there is enough address space for the `fast` profile. This is not the case if address
/// space is limited (`ulimit -v`).
static HAS_ADDRESS_SPACE: LazyLock<bool> = LazyLock::new(memory::has_address_space);

/// Why another process cannot be spawned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ceiling {
    /// The configured maximum number of processes has been reached.
    #[error(
        "the maximum number of live processes that this machine was configured for, {0}, has been reached; end some first"
    )]
    Slots(u32),
    /// The address space for memories of the `fast` profile is used up.
    #[error(
        "{0} processes are alive, and the address space for the profile `fast` is used up; use `dense`"
    )]
    AddressSpace(u32),
    /// All slots for components are taken.
    #[error("{0} components are alive and occupy all slots; end some first")]
    Components(u32),
    /// The kernel does not allow any more mappings.
    #[error(
        "the processes that are alive have {0} mappings, and the kernel allows no more; raise the limit with \
         `sysctl -w vm.max_map_count=1048576`"
    )]
    Mappings(u32),
    /// Memory is scarce, and the program holds more memory than any other program.
    #[error(
        "only {0} MiB of memory is left, and this program holds more memory than any other; end some of its processes first"
    )]
    Share(u64),
    /// Too little memory is left.
    #[error(
        "only {0} MiB of memory is left to this machine; end some processes first, or add memory"
    )]
    Memory(u64),
}

/// The limits of a machine, and its current usage.
#[derive(Debug)]
pub(crate) struct Ceilings {
    profile: Option<Profile>,
    /// References to the counts, one for each part of the threads, so that workers do not contend
    /// for one count of references.
    counts: [CountsAnchor; tally::PARTS],
    /// The maximum number of processes of all kinds.
    slots: u32,
    pressure: Arc<Pressure>,
}

/// The counts of live processes, by kind.
#[derive(Debug, Default)]
struct Counts(Tally<KINDS>);

/// A reference to the counts with its own count of references, on its own cache lines.
type CountsAnchor = Arc<CachePadded<Arc<Counts>>>;

/// Processes of all kinds.
const ALL: usize = 0;
const FAST: usize = 1;
/// Components that do not count fuel, followed by those that do.
const COMPONENTS: usize = 2;
const KINDS: usize = 4;

/// Returns which count a kind of engine has to itself, its limit and the error for reaching it.
/// Returns `None` if this kind does not have its own limit.
fn own_limit(kind: EngineKind) -> Option<(usize, u32, Ceiling)> {
    match kind {
        EngineKind::Module(_, Profile::Fast) => {
            Some((FAST, MAX_FAST, Ceiling::AddressSpace(MAX_FAST)))
        }
        EngineKind::Module(_, Profile::Dense) => None,
        EngineKind::Component(code) => Some((
            COMPONENTS + code as usize,
            COMPONENT_SLOTS,
            Ceiling::Components(COMPONENT_SLOTS),
        )),
    }
}

impl Counts {
    /// Counts a process, unless a limit is reached.
    fn take(&self, kind: EngineKind, slots: u32) -> Result<(), Ceiling> {
        self.0
            .take(ALL, 1, slots.into())
            .map_err(|_| Ceiling::Slots(slots))?;
        if let Some((own, most, ceiling)) = own_limit(kind)
            && self.0.take(own, 1, most.into()).is_err()
        {
            self.0.give_back(ALL, 1);
            return Err(ceiling);
        }
        Ok(())
    }

    fn give_back(&self, kind: EngineKind) {
        if let Some((own, ..)) = own_limit(kind) {
            self.0.give_back(own, 1);
        }
        self.0.give_back(ALL, 1);
    }
}

/// Limited resources reserved for one process. Released on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    counts: CountsAnchor,
    kind: EngineKind,
    _mappings: Mappings,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.counts.give_back(self.kind);
    }
}

/// The number of processes that a machine has capacity for, and what limits that number.
///
/// ```
/// let vm = lunatic_vm::Vm::builder().build()?;
/// let capacity = vm.capacity();
/// assert!(capacity.processes() > 0);
/// println!("{capacity}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    fast: u32,
    dense: u32,
    /// The number of mappings that are available to processes.
    mappings: u32,
    has_light_guards: bool,
    tells_written_pages: bool,
    memory: u64,
}

impl Capacity {
    /// Returns how many processes can be alive at the same time if their modules have one memory
    /// each. Only the kernel's mapping limit and the address space are taken into account;
    /// available memory may limit the number further.
    pub fn processes(&self) -> u32 {
        self.fast + self.dense
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "room for {} processes: {} fast and {} dense",
            self.processes(),
            self.fast,
            self.dense
        )?;
        if self.mappings < u32::MAX {
            write!(
                f,
                ", limited by vm.max_map_count, which leaves {} mappings",
                self.mappings
            )?;
        }
        if !self.has_light_guards {
            write!(
                f,
                "; a stack takes two mappings, because this kernel has no light guards (Linux 6.13 has them)"
            )?;
        }
        if !self.tells_written_pages {
            write!(
                f,
                "; memories are not reused, because this kernel does not report which pages were written (Linux 6.7 does)"
            )?;
        }
        write!(f, "; {} MiB of memory is available", self.memory >> 20)
    }
}

impl Ceilings {
    /// Returns how many processes the machine has capacity for.
    pub(crate) fn capacity(&self) -> Capacity {
        let most = |profile, mappings: u32| {
            mappings / mappings::of_process(EngineKind::Module(Code::Plain, profile), 1)
        };
        let fast = match self.profile {
            _ if !*HAS_ADDRESS_SPACE => 0,
            Some(Profile::Dense) => 0,
            Some(Profile::Fast) => most(Profile::Fast, mappings::all()).min(MAX_FAST),
            None => most(Profile::Fast, mappings::all()).min(FAST_BY_DEFAULT),
        }
        .min(self.slots);
        let taken = fast * mappings::of_process(EngineKind::Module(Code::Plain, Profile::Fast), 1);
        let dense = match self.profile {
            Some(Profile::Fast) => 0,
            _ => most(Profile::Dense, mappings::all() - taken).min(self.slots - fast),
        };
        Capacity {
            fast,
            dense,
            mappings: mappings::all(),
            has_light_guards: arena::has_light_guards(),
            tells_written_pages: pages::scan_is_supported(),
            memory: pressure::available(),
        }
    }

    /// Sets a machine's limits. If `profile` is `None`, a profile is chosen for each process. If
    /// `slots` is `None`, the number of processes is limited only by the computer's resources. If
    /// `memory` is `None`, the same applies to their memory.
    pub(crate) fn new(
        profile: Option<Profile>,
        slots: Option<u32>,
        memory: Option<u64>,
    ) -> Ceilings {
        let counts: Arc<Counts> = Arc::default();
        Ceilings {
            profile,
            counts: std::array::from_fn(|_| Arc::new(CachePadded::new(counts.clone()))),
            slots: slots.unwrap_or(u32::MAX),
            pressure: Arc::new(Pressure::new(memory)),
        }
    }

    /// Returns the memory pressure monitor.
    pub(super) fn pressure(&self) -> &Arc<Pressure> {
        &self.pressure
    }

    /// Returns the profile for the next process.
    pub(super) fn profile_of_next(&self) -> Profile {
        let is_room = || self.fast_is_below(FAST_BY_DEFAULT) && *HAS_ADDRESS_SPACE;
        self.profile.unwrap_or_else(|| {
            if is_room() {
                Profile::Fast
            } else {
                Profile::Dense
            }
        })
    }

    /// If the profile is about to change, returns the new one.
    pub(super) fn profile_of_many(&self) -> Option<Profile> {
        let is_near = self.profile.is_none() && !self.fast_is_below(FAST_BY_DEFAULT / 2);
        is_near.then_some(Profile::Dense)
    }

    /// Returns whether there are fewer than `most` processes with the `fast` profile.
    fn fast_is_below(&self, most: u32) -> bool {
        let counts = self.counts();
        counts.used_at_most(FAST) < most.into() || counts.used(FAST) < most.into()
    }

    fn anchor(&self) -> &CountsAnchor {
        &self.counts[tally::own_part()]
    }

    fn counts(&self) -> &Tally<KINDS> {
        &self.anchor().0
    }

    /// Returns what is currently refused, for a spawn that is about to take its resources.
    pub(super) fn shortage_at_spawn(&self) -> Shortage {
        self.pressure
            .shortage_at_spawn(self.counts().used_at_most(ALL))
    }

    /// Reserves the resources that a process with `memories` memories needs.
    pub(super) fn take(&self, kind: EngineKind, memories: u32) -> Result<Reservation, Ceiling> {
        if self.pressure.shortage_when_read() == Shortage::Requests {
            return Err(Ceiling::Memory(self.pressure.left() >> 20));
        }
        if matches!(kind, EngineKind::Module(_, Profile::Fast))
            && memories > 0
            && !*HAS_ADDRESS_SPACE
        {
            return Err(Ceiling::AddressSpace(0));
        }
        let mappings =
            Mappings::of(kind, memories).ok_or_else(|| Ceiling::Mappings(mappings::taken()))?;
        let counts = self.anchor();
        counts.take(kind, self.slots)?;
        Ok(Reservation {
            counts: counts.clone(),
            kind,
            _mappings: mappings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: EngineKind = EngineKind::Module(Code::Plain, Profile::Fast);
    const DENSE: EngineKind = EngineKind::Module(Code::Plain, Profile::Dense);

    #[test]
    fn dropped_reservations_are_released() {
        let ceilings = Ceilings::new(None, Some(2), None);
        let first = ceilings
            .take(FAST, 1)
            .expect("neither of the two slots is taken");
        let second = ceilings
            .take(DENSE, 1)
            .expect("one of the two slots is left");
        assert_eq!(
            ceilings.take(DENSE, 1).expect_err("both slots are taken"),
            Ceiling::Slots(2)
        );
        drop((first, second));
        ceilings.take(DENSE, 1).expect("both slots were released");
    }

    #[test]
    fn components_use_separate_slots() {
        let ceilings = Ceilings::new(None, None, None);
        let kind = EngineKind::Component(Code::Plain);
        let all: Vec<Reservation> = std::iter::from_fn(|| ceilings.take(kind, 1).ok()).collect();
        assert_eq!(all.len(), COMPONENT_SLOTS as usize);
        assert_eq!(
            ceilings.take(kind, 1).expect_err("all slots are taken"),
            Ceiling::Components(COMPONENT_SLOTS)
        );
        ceilings
            .take(FAST, 1)
            .expect("modules do not use component slots");
    }

    #[test]
    fn the_first_processes_are_fast_and_later_processes_are_dense() {
        let ceilings = Ceilings::new(None, None, None);
        let mut all = Vec::new();
        while ceilings.profile_of_next() == Profile::Fast {
            all.push(
                ceilings
                    .take(FAST, 0)
                    .expect("processes without memories do not need mappings"),
            );
        }
        assert_eq!(all.len(), FAST_BY_DEFAULT as usize);
        all.pop();
        assert_eq!(ceilings.profile_of_next(), Profile::Fast);
        assert_eq!(
            Ceilings::new(Some(Profile::Dense), None, None).profile_of_next(),
            Profile::Dense
        );
    }

    #[test]
    fn as_many_processes_fit_as_the_capacity_says() {
        let ceilings = Ceilings::new(None, Some(5_000), None);
        let capacity = ceilings.capacity();
        assert_eq!(
            (capacity.fast, capacity.dense),
            (FAST_BY_DEFAULT, 5_000 - FAST_BY_DEFAULT)
        );
        assert_eq!(
            Ceilings::new(Some(Profile::Dense), Some(10), None)
                .capacity()
                .to_string()
                .find("10 processes"),
            Some(9)
        );
    }

    #[test]
    fn the_available_memory_is_detected() {
        assert!(pressure::available() > 1 << 20);
    }
}
