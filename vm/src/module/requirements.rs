//! The resources that a module or component needs before its first instruction runs. They are read
//! from the bytes, so the error for a rejected spawn can include exact numbers.

use super::error::ModuleError;
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, ElementItems, Encoding, Instance, Parser, Payload,
};

/// The initial resources of a module instance. For a component, the sums over all of its module
/// instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// The total size of all linear memories, in bytes.
    pub(crate) memory: u64,
    /// The total number of elements in all tables.
    pub(crate) table_elements: u64,
    /// The number of bytes that the host holds for the module's imports, globals, tables and
    /// function references.
    pub(crate) host: u64,
    /// The number of memories.
    pub(crate) memories: u32,
    /// The code size of the longest function, in bytes. This is also an upper bound on its number
    /// of instructions.
    pub(crate) longest_function: u64,
    /// The number of module and component instances that a component creates, or [`UNKNOWN`] if it
    /// instantiates an imported component.
    pub(crate) instances: u64,
}

/// The size of each import, global and function reference in an instance, in bytes. A function
/// reference is the largest of these.
const INSTANCE_ENTRY: u64 = 32;

/// The size of a table element, in bytes.
pub(crate) const TABLE_ELEMENT: u64 = 8;

/// The number of instances if it is not known before instantiation. Larger than any limit.
const UNKNOWN: u64 = u64::MAX;

/// The maximum number of modules or components in a valid component.
const MAX_PARTS: usize = 1_000;
/// The maximum nesting depth of valid components.
const MAX_DEPTH: usize = 100;

impl Requirements {
    /// Reads the declarations of memories and tables, and skips the code. Leaves all other
    /// validation to the compiler.
    pub(crate) fn read(bytes: &[u8]) -> Result<Requirements, ModuleError> {
        let mut requirements = Requirements::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version {
                    encoding: Encoding::Component,
                    ..
                } => return Err(ModuleError::Component),
                payload => requirements.declare(payload)?,
            }
        }
        Ok(requirements)
    }

    /// Reads what a component instantiates, and what the instantiated modules declare. Modules that
    /// are passed between the component's parts are counted at instantiation, not here.
    pub(crate) fn of_component(bytes: &[u8]) -> Result<Requirements, ModuleError> {
        let mut scopes: Vec<Scope> = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if let Payload::Version { encoding, .. } = payload {
                if scopes.len() >= MAX_DEPTH {
                    return Err(ModuleError::Malformed(format!(
                        "components are nested more than {MAX_DEPTH} deep"
                    )));
                }
                scopes.push(Scope {
                    is_component: encoding == Encoding::Component,
                    ..Scope::default()
                });
                continue;
            }
            if let Payload::End(_) = payload {
                let Some(whole) = scopes.pop() else { break };
                let Some(outer) = scopes.last_mut() else {
                    return Ok(whole.needs);
                };
                let part = match whole.is_component {
                    true => Part::Component,
                    false => Part::Module,
                };
                outer.add(part, whole.needs)?;
                continue;
            }
            match scopes.last_mut() {
                Some(scope) if !scope.is_component => scope.needs.declare(payload)?,
                _ => follow(&mut scopes, payload)?,
            }
        }
        Ok(Requirements::default())
    }

    /// Adds the declarations in one section of a module.
    fn declare(&mut self, payload: Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::MemorySection(memories) => {
                self.memories = self.memories.saturating_add(memories.count());
                for memory in memories {
                    let memory = memory?;
                    let page = 1u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    self.memory = self
                        .memory
                        .saturating_add(memory.initial.saturating_mul(page));
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    let elements = table?.ty.initial;
                    self.table_elements = self.table_elements.saturating_add(elements);
                    self.hold(TABLE_ELEMENT.saturating_mul(elements));
                }
            }
            Payload::ImportSection(imports) => self.hold_each(imports.count()),
            Payload::GlobalSection(globals) => self.hold_each(globals.count()),
            Payload::ExportSection(exports) => self.hold_each(exports.count()),
            Payload::DataSection(segments) => self.hold_each(segments.count()),
            Payload::ElementSection(segments) => {
                for segment in segments {
                    let items = match segment?.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    };
                    self.hold_each(items.saturating_add(1));
                }
            }
            Payload::CodeSectionEntry(body) => {
                self.longest_function = self.longest_function.max(body.range().len() as u64);
            }
            _ => {}
        }
        Ok(())
    }

    fn hold_each(&mut self, count: u32) {
        self.hold(u64::from(count) * INSTANCE_ENTRY);
    }

    fn hold(&mut self, bytes: u64) {
        self.host = self.host.saturating_add(bytes);
    }

    /// Adds the requirements of another instance.
    fn instantiate(&mut self, part: &Requirements) {
        self.memory = self.memory.saturating_add(part.memory);
        self.table_elements = self.table_elements.saturating_add(part.table_elements);
        self.host = self.host.saturating_add(part.host);
        self.memories = self.memories.saturating_add(part.memories);
        self.longest_function = self.longest_function.max(part.longest_function);
        self.instances = self
            .instances
            .saturating_add(part.instances)
            .saturating_add(1);
    }
}

/// A component being read, or a module in it.
#[derive(Default)]
struct Scope {
    is_component: bool,
    needs: Requirements,
    /// The requirements of an instance of each part, by kind and index.
    parts: [Vec<Requirements>; 2],
}

/// The kind of a component's part.
#[derive(Clone, Copy)]
enum Part {
    Module,
    Component,
}

impl Part {
    /// Returns the kind of an exported part, or `None` if the export is not a part.
    fn exported(kind: ComponentExternalKind) -> Option<Part> {
        match kind {
            ComponentExternalKind::Module => Some(Part::Module),
            ComponentExternalKind::Component => Some(Part::Component),
            _ => None,
        }
    }

    fn unknown(self) -> ModuleError {
        let what = ["module", "component"][self as usize];
        ModuleError::Malformed(format!("the index of a {what} is out of bounds"))
    }
}

impl Scope {
    fn add(&mut self, part: Part, needs: Requirements) -> Result<(), ModuleError> {
        let parts = &mut self.parts[part as usize];
        if parts.len() >= MAX_PARTS {
            return Err(ModuleError::Malformed(format!(
                "a component has more than {MAX_PARTS} modules or components"
            )));
        }
        parts.push(needs);
        Ok(())
    }

    fn get(&self, part: Part, index: u32) -> Result<Requirements, ModuleError> {
        let found = self.parts[part as usize].get(index as usize).copied();
        found.ok_or_else(|| part.unknown())
    }
}

/// A module that is imported or taken from an instance. Counted at instantiation.
const MODULE: Requirements = Requirements {
    memory: 0,
    table_elements: 0,
    host: 0,
    memories: 0,
    longest_function: 0,
    instances: 0,
};

/// A component that is imported or taken from an instance. Its requirements are not known before
/// instantiation.
const COMPONENT: Requirements = Requirements {
    instances: UNKNOWN,
    ..MODULE
};

/// Adds the declarations in one section of the innermost component.
fn follow(scopes: &mut [Scope], payload: Payload<'_>) -> Result<(), ModuleError> {
    let Some((scope, outer)) = scopes.split_last_mut() else {
        return Ok(());
    };
    match payload {
        Payload::ComponentImportSection(imports) => {
            for import in imports {
                match import?.ty {
                    ComponentTypeRef::Module(_) => scope.add(Part::Module, MODULE)?,
                    ComponentTypeRef::Component(_) => scope.add(Part::Component, COMPONENT)?,
                    _ => {}
                }
            }
        }
        Payload::ComponentAliasSection(aliases) => {
            for alias in aliases {
                match alias? {
                    ComponentAlias::InstanceExport { kind, .. } => match Part::exported(kind) {
                        Some(Part::Module) => scope.add(Part::Module, MODULE)?,
                        Some(Part::Component) => scope.add(Part::Component, COMPONENT)?,
                        None => {}
                    },
                    ComponentAlias::Outer { kind, count, index } => {
                        let part = match kind {
                            ComponentOuterAliasKind::CoreModule => Part::Module,
                            ComponentOuterAliasKind::Component => Part::Component,
                            _ => continue,
                        };
                        // 0 is the innermost component itself.
                        let from = match (count as usize).checked_sub(1) {
                            None => Some(&*scope),
                            Some(above) => outer.iter().rev().nth(above),
                        };
                        let needs = from.ok_or_else(|| part.unknown())?.get(part, index)?;
                        scope.add(part, needs)?;
                    }
                    _ => {}
                }
            }
        }
        Payload::ComponentExportSection(exports) => {
            // Exporting an item gives it an additional index.
            for export in exports {
                let export = export?;
                if let Some(part) = Part::exported(export.kind) {
                    scope.add(part, scope.get(part, export.index)?)?;
                }
            }
        }
        Payload::InstanceSection(instances) => {
            for instance in instances {
                if let Instance::Instantiate { module_index, .. } = instance? {
                    let module = scope.get(Part::Module, module_index)?;
                    scope.needs.instantiate(&module);
                }
            }
        }
        Payload::ComponentInstanceSection(instances) => {
            for instance in instances {
                if let ComponentInstance::Instantiate {
                    component_index, ..
                } = instance?
                {
                    let component = scope.get(Part::Component, component_index)?;
                    scope.needs.instantiate(&component);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Requirements, ModuleError> {
        Requirements::read(&wat::parse_str(text).expect("the tests use well-formed text"))
    }

    #[test]
    fn all_memories_and_tables_count() {
        let found = read("(module (memory 2) (memory 3) (table 7 funcref) (table 1 funcref))")
            .expect("the module is valid");
        assert_eq!(
            found,
            Requirements {
                memory: 5 * 65_536,
                table_elements: 8,
                host: 8 * TABLE_ELEMENT,
                memories: 2,
                ..Requirements::default()
            }
        );
    }

    #[test]
    fn no_function_has_more_instructions_than_the_longest_has_bytes() {
        let found = read("(module (func) (func nop nop nop nop nop nop nop) (func nop))")
            .expect("the module is valid");
        assert!((7..=12).contains(&found.longest_function), "{found:?}");
    }

    #[test]
    fn a_module_that_asks_for_everything_does_not_overflow() {
        let found = read("(module (memory i64 0x1000000000000) (memory i64 0x1000000000000))")
            .expect("the module is valid");
        assert_eq!(found.memory, u64::MAX);
    }

    #[test]
    fn a_component_is_recognised() {
        assert!(matches!(read("(component)"), Err(ModuleError::Component)));
    }

    #[test]
    fn half_a_module_is_malformed() {
        let whole = wat::parse_str("(module (memory 2))").expect("the text is well-formed");
        assert!(matches!(
            Requirements::read(&whole[..whole.len() - 1]),
            Err(ModuleError::Malformed(_))
        ));
    }

    fn of_component(text: &str) -> Requirements {
        let bytes = wat::parse_str(text).expect("the tests use well-formed text");
        Requirements::of_component(&bytes).expect("the component is valid")
    }

    #[test]
    fn a_component_needs_what_its_instances_need() {
        let found = of_component(
            "(component
                (core module $one (memory 2) (table 3 funcref))
                (core module $unused (memory 100))
                (core instance (instantiate $one))
                (core instance (instantiate $one))
                (component $inner
                    (core module $other (memory 5))
                    (alias outer 1 $one (core module $again))
                    (core instance (instantiate $other))
                    (core instance (instantiate $again)))
                (instance (instantiate $inner))
                (instance (instantiate $inner)))",
        );
        let page = 65_536;
        let expected = Requirements {
            memory: 18 * page,
            table_elements: 12,
            memories: 6,
            instances: 8,
            ..found
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn t154_a_component_that_doubles_its_instances_is_counted_and_not_followed() {
        let mut text =
            "(component $c0 (core module $m (memory 1)) (core instance (instantiate $m)))"
                .to_string();
        for scope in 1..64 {
            let twice = "(instance (instantiate 0)) (instance (instantiate 0))";
            text = format!("(component $c{scope} {text} {twice})");
        }
        let found = of_component(&text);
        assert_eq!((found.memory, found.instances), (u64::MAX, u64::MAX));
    }

    #[test]
    fn an_imported_component_is_unknown() {
        let found = of_component(
            "(component
                (import \"c\" (component $given))
                (instance (instantiate $given)))",
        );
        assert_eq!(found.instances, UNKNOWN);
    }
}
