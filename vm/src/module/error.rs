//! What can be wrong with a module.

/// Why bytes are not a module of this machine.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// They are neither wasm nor text that describes a module.
    #[error("not a wasm module: {0}")]
    Malformed(String),
    /// They are a component, where a module is due.
    #[error(
        "this is a component; a core module is needed here (build it for wasm32-wasip1, or unwrap it)"
    )]
    Component,
    /// They are larger than a module may be.
    #[error("the module has {0} bytes; at most {MAX_MODULE_SIZE} are compiled")]
    TooLarge(usize),
    /// It is made of more than its author may have compiled.
    #[error("{found} {what}, and at most {allowed} are compiled (at offset {offset:#x})")]
    Excessive {
        /// What there is too much of.
        what: &'static str,
        /// How much there is, counted up to the offset.
        found: u64,
        /// How much there may be.
        allowed: u64,
        /// Where it is found to be too much, in bytes.
        offset: usize,
    },
    /// It imports something that the machine does not have.
    #[error("nothing provides the import `{name}`{hint}")]
    UnknownImport {
        /// The import, as `namespace::name`.
        name: String,
        /// What to do about it, beginning with a separator; may be empty.
        hint: String,
    },
    /// It imports a function that the machine has with another type.
    #[error("the module was built for another generation of the interface: {0}")]
    ImportType(String),
    /// It was built for a generation of the interface that the machine does not have.
    #[error(
        "the module was built with version {versions} of the guest crate `lunatic`, as its import `{import}` shows; \
         build it with version 0.14.1 or 0.7.4, or with this project's `lunatic`"
    )]
    Generation {
        /// The versions of the published guest crate that make such modules.
        versions: &'static str,
        /// The import that shows it, as `namespace::name`.
        import: String,
    },
    /// Its imports are of different generations of the interface.
    #[error(
        "the module mixes generations of the interface: no version of the guest crate `lunatic` has both the imports \
         `{one}` and `{other}`; build all parts of it with one version"
    )]
    MixedGenerations {
        /// An import of one generation, as `namespace::name`.
        one: String,
        /// An import of another.
        other: String,
    },
}

/// The largest module that is compiled, in bytes.
pub(crate) const MAX_MODULE_SIZE: usize = 64 << 20;

/// Why a function cannot be a process's entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The module exports no such function.
    #[error("the module `{module}` exports no function `{function}`")]
    NoFunction {
        /// The name that was asked for.
        function: String,
        /// The module.
        module: String,
    },
    /// It takes other parameters.
    #[error("the function `{function}` takes ({expected}), not ({given})")]
    BadParameters {
        /// The function.
        function: String,
        /// The types that it takes.
        expected: String,
        /// The types that it was to be given.
        given: String,
    },
}
