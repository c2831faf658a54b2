//! Module errors.

use crate::compiler::Stopped;
use lunatic_process::{LimitReached, printable};
use std::borrow::Cow;
use wasmparser::BinaryReaderError;

/// Why bytes cannot be used as a module on this machine.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The bytes are neither valid wasm nor a valid module in the text format.
    #[error("not a wasm module: {0}")]
    Malformed(String),
    /// The module uses a feature of WebAssembly that the machine does not support.
    #[error("the module uses {feature}, which this machine does not support; {remedy}")]
    Unsupported {
        /// The feature.
        feature: &'static str,
        /// How to build the module without it.
        remedy: &'static str,
    },
    /// The bytes are a component, but a core module is needed.
    #[error(
        "this is a component; a core module is needed here (build it for wasm32-wasip1, or unwrap it)"
    )]
    Component,
    /// The bytes exceed the maximum module size,
    /// [`CompileLimits::size`](crate::CompileLimits::size).
    #[error("the module has {size} bytes; at most {allowed} are allowed")]
    TooLarge {
        /// The size, in bytes.
        size: u64,
        /// The maximum size.
        allowed: u64,
    },
    /// The module was compiled for a guest, and the guest's host memory limit was reached.
    #[error("{0}")]
    Limit(LimitReached),
    /// The compiler was stopped.
    #[error("the module was not compiled: {0}")]
    Stopped(String),
    /// The module exceeds one of the [`CompileLimits`](crate::CompileLimits).
    #[error("{found} {what}; the maximum is {allowed} (at offset {offset:#x})")]
    Excessive {
        /// The kind of item that exceeds its limit.
        what: &'static str,
        /// The amount found up to the offset.
        found: u64,
        /// The maximum amount.
        allowed: u64,
        /// The byte offset where the limit is exceeded.
        offset: usize,
    },
    /// The module imports something that the machine does not provide.
    #[error("nothing provides the import `{}`{}", printable(.name), printable(.hint))]
    UnknownImport {
        /// The import, as `namespace::name`.
        name: String,
        /// Advice, starting with a separator. May be empty.
        hint: String,
    },
    /// The module has several imports that the machine does not provide.
    #[error("nothing provides {count} imports:{list}")]
    UnknownImports {
        /// The number of these imports.
        count: usize,
        /// The first few of these imports, each on a separate line with advice.
        list: String,
    },
    /// The module imports a function that the machine provides with a different type.
    #[error("the module was built for a different generation of the interface: {}", printable(.0))]
    ImportType(String),
    /// The module was built for an unsupported generation of the interface.
    #[error(
        "the module was built with version {versions} of the guest crate `lunatic`, as its import `{}` shows; \
         build it with version 0.14.1 or 0.7.4, or with this project's `lunatic`",
        printable(.import)
    )]
    Generation {
        /// The published versions of the guest crate that produce such modules.
        versions: &'static str,
        /// The import that reveals the version, as `namespace::name`.
        import: String,
    },
    /// The module's imports belong to different generations of the interface.
    #[error(
        "the module mixes generations of the interface: no version of the guest crate `lunatic` has both the imports \
         `{}` and `{}`; build all parts of the module with one version",
        printable(.one),
        printable(.other)
    )]
    MixedGenerations {
        /// An import of one generation, as `namespace::name`.
        one: String,
        /// An import of another generation.
        other: String,
    },
}

/// Converts a module or component in binary or text format to the binary format.
pub(crate) fn binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ModuleError> {
    if let Some(what) = kind_of_file(bytes) {
        return Err(ModuleError::Malformed(format!(
            "this is {what}; build the program for wasm32-wasip1 and use the .wasm file"
        )));
    }
    wat::parse_bytes(bytes).map_err(|error| ModuleError::Malformed(error.to_string()))
}

/// If bytes are a program in another format, returns which one. None of these is also wasm or text.
fn kind_of_file(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 6] = [
        (b"#!", "a script"),
        (b"\x7fELF", "a native program"),
        (b"MZ", "a native program"),
        (b"\xcf\xfa\xed\xfe", "a native program"),
        (b"\xca\xfe\xba\xbe", "a native program or a Java class"),
        (b"!<arch>", "a static library"),
    ];
    let is_it = |(start, _): &&(&[u8], &str)| bytes.starts_with(start);
    KINDS.iter().find(is_it).map(|(_, what)| *what)
}

/// A feature of WebAssembly that the machine does not support.
struct Feature {
    name: &'static str,
    remedy: &'static str,
    /// What errors about the feature contain.
    words: &'static [&'static str],
}

/// The features that modules in use are most likely to need.
const UNSUPPORTED: [Feature; 6] = [
    Feature {
        name: "shared memory (threads)",
        remedy: "build it for wasm32-wasip1 without `-C target-feature=+atomics` or `-pthread`, \
                 and use processes in place of threads",
        words: &[
            "threads must be enabled",
            "threads support is not enabled",
            "shared-everything-threads",
        ],
    },
    Feature {
        name: "64-bit memory or tables",
        remedy: "build it for wasm32-wasip1, not for a wasm64 target",
        words: &["memory64 must be enabled"],
    },
    Feature {
        name: "exceptions",
        remedy: "build it without `-fwasm-exceptions`, or with `-C panic=abort` in Rust",
        words: &[
            "exceptions proposal not enabled",
            "exceptions support is not enabled",
            "exception handling feature",
        ],
    },
    Feature {
        name: "garbage collection",
        remedy: "build it for wasm32-wasip1 with a compiler that does not need an engine's \
                 garbage collector",
        words: &[
            "without the gc feature",
            "gc proposal must be enabled",
            "`gc` proposal to be enabled",
            "gc support is not enabled",
            "gc types are dis",
            "GC proposal is disabled",
        ],
    },
    Feature {
        name: "typed function references",
        remedy: "build it for wasm32-wasip1 with a compiler that does not need them",
        words: &[
            "function references required",
            "function references support is not enabled",
        ],
    },
    Feature {
        name: "stack switching",
        remedy: "build it for wasm32-wasip1 with a compiler that does not need it",
        words: &["stack switching"],
    },
];

impl ModuleError {
    /// Converts an error about bytes that cannot be read or compiled.
    fn malformed(error: String) -> ModuleError {
        let is_it = |feature: &&Feature| feature.words.iter().any(|words| error.contains(words));
        match UNSUPPORTED.iter().find(is_it) {
            Some(feature) => ModuleError::Unsupported {
                feature: feature.name,
                remedy: feature.remedy,
            },
            None => ModuleError::Malformed(error),
        }
    }
}

impl From<BinaryReaderError> for ModuleError {
    fn from(error: BinaryReaderError) -> ModuleError {
        ModuleError::malformed(error.to_string())
    }
}

impl From<wasmtime::Error> for ModuleError {
    fn from(error: wasmtime::Error) -> ModuleError {
        match error.downcast_ref::<Stopped>() {
            Some(stopped) => ModuleError::Stopped(stopped.to_string()),
            None => ModuleError::malformed(format!("{error:#}")),
        }
    }
}

/// Why a function cannot be the entry point of a process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The module does not export a function with this name.
    #[error("the module `{}` exports no function `{}`", printable(.module), printable(.function))]
    NoFunction {
        /// The requested name.
        function: String,
        /// The module's name.
        module: String,
    },
    /// The function takes different parameters.
    #[error("the function `{}` takes ({expected}), not ({given})", printable(.function))]
    BadParameters {
        /// The function's name.
        function: String,
        /// The parameter types that it takes.
        expected: String,
        /// The types of the given parameters.
        given: String,
    },
}
