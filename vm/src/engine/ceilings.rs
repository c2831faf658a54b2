//! What bounds how many processes a machine can hold.
//!
//! A process is refused where it would not fit, with a sentence that names the bound and what moves it; what is refused
//! costs nothing, and nobody else pays for it. Mappings are counted for the whole operating system process, as the kernel
//! does; the rest for each machine.

use super::{Code, Kind, Profile, arena, memory, pages};
use crate::process::MAX_WAITING;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// So many processes are in the profile `fast` where no profile was chosen, before the others are in `dense`. Each takes two
/// of the kernel's mappings, so that with this number 60,000 processes fit into the 65,530 that a kernel has by default.
const FAST_FIRST: u32 = 3_072;

/// So many have the address space that a process of the profile `fast` takes.
const FAST_MOST: u32 = 28_000;

/// So many components can be alive at the same time, for each kind of code.
pub(super) const COMPONENT_SLOTS: u32 = 1_000;

/// So many mappings are left for what is not processes: libraries, threads, what the allocator maps, and instances that wait
/// for a process.
const OTHER_MAPPINGS: u32 = 1_200 + 2 * MAX_WAITING;

/// So much of the machine's memory is left for what is not new processes, in bytes.
const OTHER_MEMORY: u64 = 256 << 20;

/// How many processes are spawned between two looks at how much memory there is. Each takes less than 64 KiB at first, so
/// that what is left between them does not go below three quarters.
const MEMORY_LOOK: u32 = 1_024;

/// Whether there is address space for the profile `fast` at all. A limit on it (`ulimit -v`) leaves none.
static HAS_ADDRESS_SPACE: LazyLock<bool> = LazyLock::new(memory::has_address_space);

/// Why no further process can be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ceiling {
    /// The machine was set up for so many.
    #[error("{0} processes are alive, as many as this machine was set up for; end some first")]
    Slots(u32),
    /// There is no more address space in this profile.
    #[error(
        "{0} processes are alive, for whose memories there is address space in the profile `fast`; use `dense`"
    )]
    AddressSpace(u32),
    /// There are no more slots for components.
    #[error("{0} components are alive, which is as many as there are slots for; end some first")]
    Components(u32),
    /// The kernel allows no more mappings.
    #[error(
        "the processes that are alive have {0} mappings, and the kernel allows no more; raise it with \
         `sysctl -w vm.max_map_count=1048576`"
    )]
    Mappings(u32),
    /// There is no more memory.
    #[error(
        "only {0} MiB of this computer's memory are left; end some processes first, or add memory"
    )]
    Memory(u64),
}

/// The bounds of a machine.
#[derive(Debug)]
pub(crate) struct Ceilings {
    profile: Option<Profile>,
    counts: Arc<Counts>,
    /// How many processes there can be, whatever they are.
    slots: u32,
    /// How many were asked for since the machine began, also in vain.
    asked: AtomicU32,
    /// Bytes of memory that were left at the last look.
    memory: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    all: AtomicU32,
    fast: AtomicU32,
    components: [AtomicU32; 2],
}

impl Counts {
    /// Returns the count of a kind that has a bound of its own, with the bound and what is said there.
    fn of(&self, kind: Kind) -> Option<(&AtomicU32, u32, Ceiling)> {
        match kind {
            Kind::Module(_, Profile::Fast) => {
                Some((&self.fast, FAST_MOST, Ceiling::AddressSpace(FAST_MOST)))
            }
            Kind::Module(_, Profile::Dense) => None,
            Kind::Component(code) => Some((
                &self.components[code as usize],
                COMPONENT_SLOTS,
                Ceiling::Components(COMPONENT_SLOTS),
            )),
        }
    }
}

/// What a process takes of what is bounded, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    counts: Arc<Counts>,
    kind: Kind,
    _mappings: Mappings,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((count, ..)) = self.counts.of(self.kind) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many processes a machine has room for, and what bounds them.
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
    /// Mappings that processes can have, and whether a stack is one too.
    mappings: u32,
    has_light_guards: bool,
    tells_written_pages: bool,
    memory: u64,
}

impl Capacity {
    /// Returns how many processes of modules with one memory can be alive at the same time, as far as the kernel's mappings
    /// and the address space go. How much memory each takes is its own affair, and may bound them earlier.
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
                ", bounded by vm.max_map_count, which leaves {} mappings",
                self.mappings
            )?;
        }
        if !self.has_light_guards {
            write!(
                f,
                "; a stack takes two of them, as this kernel has no light guards (Linux 6.13 has)"
            )?;
        }
        if !self.tells_written_pages {
            write!(
                f,
                "; this kernel does not tell which pages were written (Linux 6.7 does), so that memories are made anew"
            )?;
        }
        write!(f, "; {} MiB of memory are left", self.memory >> 20)
    }
}

impl Ceilings {
    /// Returns how many processes there is room for.
    pub(crate) fn capacity(&self) -> Capacity {
        let most =
            |profile, mappings: u32| mappings / mappings_of(Kind::Module(Code::Plain, profile), 1);
        let fast = match self.profile {
            _ if !*HAS_ADDRESS_SPACE => 0,
            Some(Profile::Dense) => 0,
            Some(Profile::Fast) => most(Profile::Fast, *ALL).min(FAST_MOST),
            None => most(Profile::Fast, *ALL).min(FAST_FIRST),
        }
        .min(self.slots);
        let taken = fast * mappings_of(Kind::Module(Code::Plain, Profile::Fast), 1);
        let dense = match self.profile {
            Some(Profile::Fast) => 0,
            _ => most(Profile::Dense, *ALL - taken).min(self.slots - fast),
        };
        Capacity {
            fast,
            dense,
            mappings: *ALL,
            has_light_guards: arena::has_light_guards(),
            tells_written_pages: pages::are_told(),
            memory: available_memory(),
        }
    }

    /// Sets the bounds of a machine: which profile its modules run in where it is not ours to choose, and for how many
    /// processes it is set up where that is not left to the computer.
    pub(crate) fn new(profile: Option<Profile>, slots: Option<u32>) -> Ceilings {
        Ceilings {
            profile,
            counts: Arc::default(),
            slots: slots.unwrap_or(u32::MAX),
            asked: AtomicU32::new(0),
            memory: AtomicU64::new(u64::MAX),
        }
    }

    /// Returns the profile for the next process.
    pub(super) fn profile_of_next(&self) -> Profile {
        // Relaxed, here and below: each is a count of its own, and gives nobody anything that it counts.
        let is_room =
            || self.counts.fast.load(Ordering::Relaxed) < FAST_FIRST && *HAS_ADDRESS_SPACE;
        self.profile.unwrap_or_else(|| {
            if is_room() {
                Profile::Fast
            } else {
                Profile::Dense
            }
        })
    }

    /// Returns the profile of the processes to come, where it is about to change.
    pub(super) fn profile_of_many(&self) -> Option<Profile> {
        let is_near =
            self.profile.is_none() && self.counts.fast.load(Ordering::Relaxed) >= FAST_FIRST / 2;
        is_near.then_some(Profile::Dense)
    }

    /// Takes what a process with so many memories needs.
    pub(super) fn take(&self, kind: Kind, memories: u32) -> Result<Slot, Ceiling> {
        self.check_memory()?;
        if matches!(kind, Kind::Module(_, Profile::Fast)) && memories > 0 && !*HAS_ADDRESS_SPACE {
            return Err(Ceiling::AddressSpace(0));
        }
        let mappings = Mappings::of(kind, memories).ok_or_else(Mappings::ceiling)?;
        take(&self.counts.all, 1, self.slots).ok_or(Ceiling::Slots(self.slots))?;
        if let Some((count, most, ceiling)) = self.counts.of(kind)
            && take(count, 1, most).is_none()
        {
            self.counts.all.fetch_sub(1, Ordering::Relaxed);
            return Err(ceiling);
        }
        Ok(Slot {
            counts: self.counts.clone(),
            kind,
            _mappings: mappings,
        })
    }

    /// Checks, now and then, how much memory is left.
    fn check_memory(&self) -> Result<(), Ceiling> {
        let is_due = self
            .asked
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(MEMORY_LOOK);
        if is_due || self.memory.load(Ordering::Relaxed) < OTHER_MEMORY {
            self.memory.store(available_memory(), Ordering::Relaxed);
        }
        match self.memory.load(Ordering::Relaxed) {
            left if left < OTHER_MEMORY => Err(Ceiling::Memory(left >> 20)),
            _ => Ok(()),
        }
    }
}

/// Takes some of so many, if they are left.
fn take(taken: &AtomicU32, count: u32, all: u32) -> Option<()> {
    let more = |taken: u32| taken.checked_add(count).filter(|&sum| sum <= all);
    taken
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .ok()
        .map(drop)
}

/// Some of the kernel's mappings, until they are dropped.
#[derive(Debug)]
pub(super) struct Mappings(u32);

/// Those that are taken by all machines of this operating system process.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// How many there are for all of them.
static ALL: LazyLock<u32> = LazyLock::new(|| {
    // Where there is no such bound, there is no such file.
    let Ok(text) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else {
        return u32::MAX;
    };
    let all: u32 = text.trim().parse().unwrap_or(u32::MAX);
    let others = std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
    all.saturating_sub(u32::try_from(others).unwrap_or(u32::MAX))
        .saturating_sub(OTHER_MAPPINGS)
});

impl Mappings {
    /// Takes those of a process with so many memories, if they are left.
    fn of(kind: Kind, memories: u32) -> Option<Mappings> {
        Mappings::take(mappings_of(kind, memories))
    }

    /// Takes some, if so many are left.
    pub(super) fn take(count: u32) -> Option<Mappings> {
        take(&TAKEN, count, *ALL)?;
        Some(Mappings(count))
    }

    /// Says why some could not be taken.
    fn ceiling() -> Ceiling {
        Ceiling::Mappings(TAKEN.load(Ordering::Relaxed))
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Returns how many mappings a process has.
fn mappings_of(kind: Kind, memories: u32) -> u32 {
    /// A stack in an arena is none, except where its guard splits the arena's.
    static OF_STACK: LazyLock<u32> =
        LazyLock::new(|| if arena::has_light_guards() { 0 } else { 2 });
    match kind {
        Kind::Module(_, profile) => memories * mappings_of_memory(profile) + *OF_STACK,
        // The image, what follows it and what is not accessible, and the stack with its guard; and tables.
        Kind::Component(_) => 8,
    }
}

/// Returns how many mappings a memory has.
pub(super) fn mappings_of_memory(profile: Profile) -> u32 {
    match profile {
        // What is the image's, and what cannot be accessed. What it grew by is a third, which is left to the reserve: it is
        // seldom, and who grows much has few.
        Profile::Fast => 2,
        Profile::Dense => 1,
    }
}

/// Returns how many bytes of memory this process can still have without taking them from others.
fn available_memory() -> u64 {
    let number = |path: &str| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    // In a container the bound may be lower than what the computer has.
    let of_group = number("/sys/fs/cgroup/memory.max")
        .and_then(|most| Some(most.saturating_sub(number("/sys/fs/cgroup/memory.current")?)));
    let of_computer = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        });
    of_group
        .unwrap_or(u64::MAX)
        .min(of_computer.map_or(u64::MAX, |kilobytes| kilobytes << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Kind = Kind::Module(Code::Plain, Profile::Fast);
    const DENSE: Kind = Kind::Module(Code::Plain, Profile::Dense);

    #[test]
    fn what_is_taken_comes_back() {
        let ceilings = Ceilings::new(None, Some(2));
        let first = ceilings.take(FAST, 1).expect("there are two");
        let second = ceilings.take(DENSE, 1).expect("there is one");
        assert_eq!(
            ceilings.take(DENSE, 1).expect_err("there is none"),
            Ceiling::Slots(2)
        );
        drop((first, second));
        ceilings.take(DENSE, 1).expect("both came back");
    }

    #[test]
    fn components_have_slots_of_their_own() {
        let ceilings = Ceilings::new(None, None);
        let kind = Kind::Component(Code::Plain);
        let all: Vec<Slot> = std::iter::from_fn(|| ceilings.take(kind, 1).ok()).collect();
        assert_eq!(all.len(), COMPONENT_SLOTS as usize);
        assert_eq!(
            ceilings.take(kind, 1).expect_err("all are taken"),
            Ceiling::Components(COMPONENT_SLOTS)
        );
        ceilings.take(FAST, 1).expect("modules need none of them");
    }

    #[test]
    fn the_first_are_fast_and_the_others_dense() {
        let ceilings = Ceilings::new(None, None);
        let mut all = Vec::new();
        while ceilings.profile_of_next() == Profile::Fast {
            all.push(
                ceilings
                    .take(FAST, 0)
                    .expect("without memories they cost no mappings"),
            );
        }
        assert_eq!(all.len(), FAST_FIRST as usize);
        all.pop();
        assert_eq!(ceilings.profile_of_next(), Profile::Fast);
        assert_eq!(
            Ceilings::new(Some(Profile::Dense), None).profile_of_next(),
            Profile::Dense
        );
    }

    #[test]
    fn the_capacity_is_what_can_be_taken() {
        let ceilings = Ceilings::new(None, Some(5_000));
        let capacity = ceilings.capacity();
        assert_eq!(
            (capacity.fast, capacity.dense),
            (FAST_FIRST, 5_000 - FAST_FIRST)
        );
        assert_eq!(
            Ceilings::new(Some(Profile::Dense), Some(10))
                .capacity()
                .to_string()
                .find("10 processes"),
            Some(9)
        );
    }

    #[test]
    fn a_computer_has_memory() {
        assert!(available_memory() > 1 << 20);
    }
}
