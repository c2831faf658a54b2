//! A module's symbols (names, offsets and source locations), for trap reports.
//!
//! The symbols are read once for each module, on first use. They are never read while a process is
//! ending, because reading them takes milliseconds. They are as untrusted as the module itself.

use super::prepared::original;
use super::source::{SourceMap, demangle};
use lunatic_process::{Frame, RawFrame, SourceLocation};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wasmparser::{BinaryReader, Name, NameSectionReader, Parser, Payload};

/// The maximum size, in bytes, of debug information in a module that is not the host's own. The
/// data read from it can take up 24 times as much memory.
const MAX_FOREIGN_DEBUG_INFORMATION: usize = 8 << 20;

/// The symbols of one compiled form of a module.
pub(super) struct Symbols {
    /// The original bytes.
    bytes: Arc<[u8]>,
    /// How many bytes the start of the code has moved, compared with the original.
    code_shift: usize,
    is_unrolled: bool,
    /// The maximum size of debug information to read, in bytes.
    max_debug_information: usize,
    offsets: OnceLock<Option<Offsets>>,
    names: OnceLock<Vec<(u32, Range<usize>)>>,
    /// The debug information. Its reader caches the data that it has read.
    sources: OnceLock<Option<Mutex<SourceMap>>>,
}

/// A function that returns an instruction's original offset.
type Offsets = Box<dyn Fn(usize) -> usize + Send + Sync>;

impl Symbols {
    pub(super) fn new(
        bytes: &Arc<[u8]>,
        code_shift: usize,
        is_unrolled: bool,
        is_own: bool,
    ) -> Symbols {
        Symbols {
            bytes: bytes.clone(),
            code_shift,
            is_unrolled,
            max_debug_information: match is_own {
                true => usize::MAX,
                false => MAX_FOREIGN_DEBUG_INFORMATION,
            },
            offsets: OnceLock::new(),
            names: OnceLock::new(),
            sources: OnceLock::new(),
        }
    }

    /// Maps an instruction's offset in the compiled module to its offset in the original module.
    fn original(&self, compiled: usize) -> usize {
        let offsets = self.offsets.get_or_init(|| {
            let offsets = self
                .is_unrolled
                .then(|| original(&self.bytes, self.code_shift))??;
            Some(Box::new(offsets))
        });
        match offsets {
            Some(original) => original(compiled),
            None => compiled.saturating_sub(self.code_shift),
        }
    }

    fn name(&self, function: u32) -> Option<&str> {
        let names = self.names.get_or_init(|| names(&self.bytes));
        let found = names
            .binary_search_by_key(&function, |(index, _)| *index)
            .ok()?;
        str::from_utf8(&self.bytes[names[found].1.clone()]).ok()
    }
}

/// The symbols of a trap that stores the names itself.
pub(super) struct NamesOnly;

impl lunatic_process::Symbols for NamesOnly {
    fn frame(&self, raw: &RawFrame) -> Frame {
        Frame {
            function: shown(raw.name.as_deref(), raw.function),
            offset: raw.offset.map(|offset| offset as usize),
        }
    }

    fn locations(&self, _: usize) -> Vec<SourceLocation> {
        Vec::new()
    }
}

/// Returns a function's name in readable form.
fn shown(name: Option<&str>, function: u32) -> String {
    name.map_or_else(|| format!("function {function}"), demangle)
}

impl lunatic_process::Symbols for Symbols {
    fn frame(&self, raw: &RawFrame) -> Frame {
        Frame {
            function: shown(self.name(raw.function), raw.function),
            offset: raw.offset.map(|offset| self.original(offset as usize)),
        }
    }

    fn locations(&self, offset: usize) -> Vec<SourceLocation> {
        let sources = self.sources.get_or_init(|| {
            SourceMap::read(&self.bytes, self.max_debug_information).map(Mutex::new)
        });
        let Some(sources) = sources else {
            return Vec::new();
        };
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.locations(offset)
    }
}

/// Returns the indices of the functions that have names, in order, and the range of each name.
fn names(bytes: &[u8]) -> Vec<(u32, Range<usize>)> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else {
            continue;
        };
        if section.name() != "name" {
            continue;
        }
        let reader = BinaryReader::new(section.data(), section.data_offset());
        for subsection in NameSectionReader::new(reader).flatten() {
            let Name::Function(functions) = subsection else {
                continue;
            };
            names.extend(functions.into_iter().flatten().map(|naming| {
                let start = naming.name.as_ptr().addr() - bytes.as_ptr().addr();
                (naming.index, start..start + naming.name.len())
            }));
        }
    }
    // If a function has two names, the first one is used.
    names.sort_by_key(|(index, _)| *index);
    names.dedup_by_key(|(index, _)| *index);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use lunatic_process::Symbols as _;

    fn symbols(text: &str) -> Symbols {
        let bytes: Arc<[u8]> = wat::parse_str(text)
            .expect("the module text is well-formed")
            .into();
        Symbols::new(&bytes, 0, true, true)
    }

    fn name(symbols: &Symbols, function: u32) -> String {
        let raw = RawFrame {
            function,
            name: None,
            offset: None,
        };
        symbols.frame(&raw).function
    }

    #[test]
    fn functions_are_named_as_in_the_module() {
        let symbols = symbols(
            r#"(module (import "a" "b" (func $imported)) (func $plain)
                (func $rust (@name "_ZN3app4main17h0123456789abcdefE")) (func))"#,
        );
        let names = [0, 1, 2, 3, 9].map(|function| name(&symbols, function));
        assert_eq!(
            names,
            ["imported", "plain", "app::main", "function 3", "function 9"]
        );
    }

    #[test]
    fn a_name_that_grows_when_it_is_demangled_stays_short() {
        // Tuples of ten elements, nested through back references. Each level is ten times as large
        // as the last.
        let mut bomb = "_RIC1aTaaaaaaaaaaE".to_string();
        let mut last = "3_".to_string();
        for next in ["f_", "L_", "1h_", "1N_", "2t_", "39_", "3P_"] {
            bomb += &format!("T{}E", format!("B{last}").repeat(10));
            last = next.to_string();
        }
        bomb.push('E');
        let plain = "x".repeat(100_000);
        let symbols = symbols(&format!(
            r#"(module (func $a (@name "{bomb}")) (func $b (@name "{plain}")))"#
        ));
        for function in [0, 1] {
            assert!(name(&symbols, function).len() < 1_000);
        }
    }
}
