//! What a module needs before its first instruction, read from its bytes so that a spawn can be refused with a number.

use super::ModuleError;
use wasmparser::{Encoding, Parser, Payload};

/// What instances of a module begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// Bytes of linear memory, over all memories.
    pub(crate) memory: u64,
    /// Elements, over all tables.
    pub(crate) table_elements: u64,
    /// How many memories there are.
    pub(crate) memories: u32,
    /// Bytes of the longest function's code, which are at least as many as its instructions.
    pub(crate) longest_function: u64,
}

impl Requirements {
    /// Reads the declarations of memories and tables, and passes over the code. The bytes need not be a valid module otherwise: that is checked when
    /// they are compiled.
    pub(crate) fn read(bytes: &[u8]) -> Result<Requirements, ModuleError> {
        let malformed = |error: wasmparser::BinaryReaderError| ModuleError::Malformed(error.to_string());
        let mut requirements = Requirements::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(malformed)? {
                Payload::Version { encoding: Encoding::Component, .. } => return Err(ModuleError::Component),
                Payload::MemorySection(memories) => {
                    requirements.memories = memories.count();
                    for memory in memories {
                        let memory = memory.map_err(malformed)?;
                        let page = 1u64 << memory.page_size_log2.unwrap_or(16).min(16);
                        let bytes = memory.initial.saturating_mul(page);
                        requirements.memory = requirements.memory.saturating_add(bytes);
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        let elements = table.map_err(malformed)?.ty.initial;
                        requirements.table_elements = requirements.table_elements.saturating_add(elements);
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    requirements.longest_function = requirements.longest_function.max(body.range().len() as u64);
                }
                _ => {}
            }
        }
        Ok(requirements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Requirements, ModuleError> {
        Requirements::read(&wat::parse_str(text).expect("the tests use well-formed text"))
    }

    #[test]
    fn all_memories_and_tables_count() {
        let found = read("(module (memory 2) (memory 3) (table 7 funcref) (table 1 funcref))").expect("it is a module");
        assert_eq!(found, Requirements { memory: 5 * 65_536, table_elements: 8, memories: 2, longest_function: 0 });
    }

    #[test]
    fn no_function_has_more_instructions_than_the_longest_has_bytes() {
        let found = read("(module (func) (func nop nop nop nop nop nop nop) (func nop))").expect("it is a module");
        assert!((7..=12).contains(&found.longest_function), "{found:?}");
    }

    #[test]
    fn a_module_that_asks_for_everything_does_not_overflow() {
        let found = read("(module (memory i64 0x1000000000000) (memory i64 0x1000000000000))").expect("it is a module");
        assert_eq!(found.memory, u64::MAX);
    }

    #[test]
    fn a_component_is_told_apart() {
        assert!(matches!(read("(component)"), Err(ModuleError::Component)));
    }

    #[test]
    fn half_a_module_is_malformed() {
        let whole = wat::parse_str("(module (memory 2))").expect("it is well-formed");
        assert!(matches!(Requirements::read(&whole[..whole.len() - 1]), Err(ModuleError::Malformed(_))));
    }
}
