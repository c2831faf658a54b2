//! What distinguishes engines.

/// Whether code counts the instructions that it executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// It does not count, so it cannot be limited exactly.
    Plain,
    /// Every instruction costs fuel.
    Metered,
}

/// How the memories and stacks of processes are laid out in the address space.
///
/// Programs behave the same in both, except for their maximum recursion depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// For speed. Every memory has the full 4 GiB that it can address to itself, so no access needs
    /// a check. There is address space for about 28,000 memories, and the kernel's default limit on
    /// mappings allows as many. Code has 1 MiB of stack.
    Fast,
    /// For many processes. A memory has little more room than it uses and moves when it outgrows
    /// that room; each access is checked. Code has 384 KiB of stack.
    Dense,
}

/// What an engine is for.
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

    pub(crate) fn code(self) -> Code {
        match self {
            EngineKind::Module(code, _) | EngineKind::Component(code) => code,
        }
    }
}
