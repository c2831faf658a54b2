//! What can be wrong with a module.

/// Why this machine cannot use some bytes as a module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// They are neither valid wasm nor valid text of a module.
    #[error("not a wasm module: {0}")]
    Malformed(String),
    /// They are a component, although a core module is needed.
    #[error(
        "this is a component; a core module is needed here (build it for wasm32-wasip1, or unwrap it)"
    )]
    Component,
    /// They are larger than a module may be.
    #[error("the module has {0} bytes; at most {MAX_MODULE_SIZE} are compiled")]
    TooLarge(usize),
    /// It exceeds a bound of [`CompileLimits`](crate::CompileLimits).
    #[error("{found} {what}, and at most {allowed} are compiled (at offset {offset:#x})")]
    Excessive {
        /// What there is too much of.
        what: &'static str,
        /// How much there is, counted up to the offset.
        found: u64,
        /// How much there may be.
        allowed: u64,
        /// Where the bound is exceeded, in bytes.
        offset: usize,
    },
    /// It imports something that the machine does not provide.
    #[error("nothing provides the import `{name}`{hint}")]
    UnknownImport {
        /// The import, as `namespace::name`.
        name: String,
        /// What to do about it, starting with a separator. May be empty.
        hint: String,
    },
    /// It imports a function that the machine provides with another type.
    #[error("the module was built for another generation of the interface: {0}")]
    ImportType(String),
    /// It was built for a generation of the interface that the machine does not support.
    #[error(
        "the module was built with version {versions} of the guest crate `lunatic`, as its import `{import}` shows; \
         build it with version 0.14.1 or 0.7.4, or with this project's `lunatic`"
    )]
    Generation {
        /// The versions of the published guest crate that produce such modules.
        versions: &'static str,
        /// The import that shows it, as `namespace::name`.
        import: String,
    },
    /// Its imports belong to different generations of the interface.
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

/// Why a function cannot be the entry point of a process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The module exports no such function.
    #[error("the module `{module}` exports no function `{function}`")]
    NoFunction {
        /// The requested name.
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
        /// The types of the given parameters.
        given: String,
    },
}
