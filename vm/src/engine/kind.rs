//! The properties that distinguish engines.

/// Whether code counts the instructions that it executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// Code does not count instructions, so its compute cannot be limited exactly.
    Plain,
    /// Every instruction consumes fuel.
    Metered,
}

/// How processes' memories and stacks are laid out in the address space.
///
/// Programs behave the same in both profiles, except for their maximum recursion depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Optimized for speed. Each memory reserves the full 4 GiB that its code can address, so
    /// accesses do not need to be checked. There is enough address space for about 28,000 memories,
    /// and the kernel's default limit on mappings allows about as many. Code has 1 MiB of stack.
    Fast,
    /// Optimized for many processes. Each memory reserves little more address space than it uses,
    /// and moves when it outgrows its reservation. Each access is checked. Code has 384 KiB of
    /// stack.
    Dense,
}

/// The type of guest that an engine runs, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EngineKind {
    /// Modules.
    Module(Code, Profile),
    /// Components.
    Component(Code),
}

impl EngineKind {
    const ALL: [EngineKind; 6] = [
        EngineKind::Module(Code::Plain, Profile::Fast),
        EngineKind::Module(Code::Plain, Profile::Dense),
        EngineKind::Module(Code::Metered, Profile::Fast),
        EngineKind::Module(Code::Metered, Profile::Dense),
        EngineKind::Component(Code::Plain),
        EngineKind::Component(Code::Metered),
    ];

    /// The number of kinds.
    pub(crate) const COUNT: usize = EngineKind::ALL.len();

    /// Returns the index of this kind, which is less than [`EngineKind::COUNT`].
    pub(crate) fn index(self) -> usize {
        EngineKind::ALL
            .iter()
            .position(|&kind| kind == self)
            .expect("`ALL` lists every kind")
    }

    /// Returns all kinds.
    pub(crate) fn all() -> impl Iterator<Item = EngineKind> {
        EngineKind::ALL.into_iter()
    }

    /// Returns the kind with the given index.
    pub(crate) fn of_index(index: usize) -> Option<EngineKind> {
        EngineKind::ALL.get(index).copied()
    }

    pub(crate) fn code(self) -> Code {
        match self {
            EngineKind::Module(code, _) | EngineKind::Component(code) => code,
        }
    }
}
