//! Bounds on the compilation of untrusted code.
//!
//! The size of a wasm file says little about how much time or memory its compilation takes. This
//! module estimates both in one pass over the bytes, without compiling anything. Other bounds are
//! up to the caller: how much is compiled concurrently, and how long to wait for a result.

use crate::module::{ModuleError, Requirements, binary};
use std::ops::Range;
use wasmparser::{CompositeInnerType, FunctionBody, Operator, Parser, Payload, TypeSectionReader};

/// The maximum contents of a module or component that is compiled, summed over all modules in it.
///
/// The defaults admit compiler output for large programs, such as a Python interpreter, and nothing
/// that takes much longer to compile.
///
/// ```
/// use lunatic_vm::{CompileLimits, ModuleError};
///
/// let limits = CompileLimits { functions: 1, ..CompileLimits::default() };
/// limits.check(b"(module (func))")?;
/// let error = limits.check(b"(module (func) (func))").expect_err("there are two");
/// assert!(error.to_string().starts_with("2 functions, and at most 1 are compiled (at offset 0x"));
/// # Ok::<(), ModuleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// The number of functions.
    pub functions: u64,
    /// The size of one function's body, in bytes.
    pub function_size: u64,
    /// The estimated time to compile one function, in microseconds on one core. This also limits
    /// memory: a second of compiling can take 300 MiB.
    pub function_work: u64,
    /// The estimated time to compile all functions. A Python interpreter takes about 30 seconds.
    pub work: u64,
    /// The number of types.
    pub types: u64,
    /// The number of data and element segments.
    pub segments: u64,
    /// The number of imports, exports, globals, aliases and similar items.
    pub items: u64,
    /// The number of instances that a component creates from its parts.
    pub instances: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            functions: 100_000,
            function_size: 1 << 20,
            function_work: 5_000_000,
            work: 120_000_000,
            types: 20_000,
            segments: 20_000,
            items: 200_000,
            instances: 200,
        }
    }
}

/// The running totals.
#[derive(Default)]
struct Counted {
    functions: u64,
    work: u64,
    types: u64,
    segments: u64,
    items: u64,
    /// The maximum number of parameters and results of any type in the current module. Each becomes
    /// a variable of a function or block.
    arity: u64,
}

/// The properties of a function that determine how long it takes to compile.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    size: u64,
    /// The number of local variables, and of other variables that it can have.
    variables: u64,
    /// The number of points where control flow splits or joins.
    blocks: u64,
    /// The nesting depth of loops.
    loops: u64,
    indirect_calls: u64,
}

impl Shape {
    /// Estimates the compilation time, in microseconds on one core.
    ///
    /// Each term was measured with functions that contain nothing else: 100,000 empty functions; a
    /// megabyte of calls; 60,000 branches that each change one of 1,000 variables; 200 nested loops
    /// with 100 variables; 40,000 indirect calls.
    fn work(&self) -> u64 {
        let each = 100;
        let straight = 4 * self.size;
        let joins = self.blocks.saturating_mul(self.variables) / 12;
        let carried = self
            .loops
            .saturating_mul(self.loops)
            .saturating_mul(self.variables)
            / 2;
        let indirect = self.indirect_calls.saturating_mul(self.indirect_calls) / 60;
        each + straight + joins.saturating_add(carried).saturating_add(indirect)
    }
}

impl CompileLimits {
    /// Checks a module or a component, given in the binary or the text format. Bytes that are not
    /// wasm at all are also refused; other errors are found during compilation.
    ///
    /// Takes a tenth of a second for tens of megabytes, on the calling thread.
    ///
    /// # Errors
    ///
    /// [`ModuleError::Excessive`] says which bound is exceeded, and at which offset.
    /// [`ModuleError::Malformed`] and [`ModuleError::TooLarge`] mean the same as for compilation.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ModuleError> {
        let bytes = binary(bytes)?;
        let mut counted = Counted::default();
        for payload in Parser::new(0).parse_all(&bytes) {
            self.count(&mut counted, payload?)?;
        }
        let instances = Requirements::of_component(&bytes)?.instances;
        within("instances", instances, self.instances, 0)
    }

    fn count(&self, counted: &mut Counted, payload: Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::Version { .. } => counted.arity = 0,
            Payload::TypeSection(types) => {
                let offset = types.range().start;
                (counted.types, counted.arity) = self.count_types(counted.types, types)?;
                within("types", counted.types, self.types, offset)?;
            }
            Payload::CodeSectionStart { count, range, .. } => {
                counted.functions += u64::from(count);
                within("functions", counted.functions, self.functions, range.start)?;
            }
            Payload::CodeSectionEntry(body) => {
                let offset = body.range().start;
                within(
                    "bytes in one function",
                    body.range().len() as u64,
                    self.function_size,
                    offset,
                )?;
                let work = shape(&body, counted.arity)?.work();
                within(
                    "microseconds of compiling one function",
                    work,
                    self.function_work,
                    offset,
                )?;
                counted.work += work;
                within("microseconds of compiling", counted.work, self.work, offset)?;
            }
            payload => {
                let Some((kind, items, range)) = items(&payload) else {
                    return Ok(());
                };
                let (what, count, allowed) = match kind {
                    Item::Segment => ("segments", &mut counted.segments, self.segments),
                    Item::Other => {
                        let what = "imports, exports, globals and the like";
                        (what, &mut counted.items, self.items)
                    }
                };
                *count += u64::from(items);
                within(what, *count, allowed, range.start)?;
            }
        }
        Ok(())
    }

    /// Adds the types of a section to a count. Also returns the maximum number of parameters and
    /// results of any of these types.
    fn count_types(
        &self,
        before: u64,
        types: TypeSectionReader<'_>,
    ) -> Result<(u64, u64), ModuleError> {
        let offset = types.range().start;
        let (mut count, mut arity) = (before, 0);
        for group in types {
            for ty in group?.into_types() {
                count += 1;
                within("types", count, self.types, offset)?;
                if let CompositeInnerType::Func(ty) = &ty.composite_type.inner {
                    arity = arity.max(ty.params().len() + ty.results().len());
                }
            }
        }
        Ok((count, arity as u64))
    }
}

/// Reads the properties of a function, in a module whose types have at most `arity` parameters and
/// results.
fn shape(body: &FunctionBody<'_>, arity: u64) -> Result<Shape, ModuleError> {
    let mut shape = Shape {
        size: body.range().len() as u64,
        variables: arity,
        ..Shape::default()
    };
    for group in body.get_locals_reader()? {
        let (count, _) = group?;
        shape.variables += u64::from(count);
    }
    // Whether each open block is a loop.
    let (mut open, mut loops) = (Vec::new(), 0);
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Loop { .. } => {
                shape.blocks += 1;
                loops += 1;
                shape.loops = shape.loops.max(loops);
                open.push(true);
            }
            Operator::Block { .. } | Operator::If { .. } => {
                shape.blocks += 1;
                open.push(false);
            }
            Operator::End => loops -= u64::from(open.pop() == Some(true)),
            Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } => shape.blocks += 1,
            Operator::BrTable { targets } => shape.blocks += u64::from(targets.len()),
            Operator::CallIndirect { .. } | Operator::ReturnCallIndirect { .. } => {
                shape.indirect_calls += 1
            }
            _ => {}
        }
    }
    Ok(shape)
}

fn within(what: &'static str, found: u64, allowed: u64, offset: usize) -> Result<(), ModuleError> {
    if found <= allowed {
        Ok(())
    } else {
        Err(ModuleError::Excessive {
            what,
            found,
            allowed,
            offset,
        })
    }
}

/// What is cheap to compile, as it is counted.
enum Item {
    Segment,
    Other,
}

/// If a section declares items that are cheap to compile, returns their kind, their number and the
/// section's position.
fn items(payload: &Payload<'_>) -> Option<(Item, u32, Range<usize>)> {
    macro_rules! kinds {
        ($($payload:ident: $kind:ident),* $(,)?) => {
            match payload {
                $(Payload::$payload(section) => Some((Item::$kind, section.count(), section.range())),)*
                _ => None,
            }
        };
    }
    kinds! {
        DataSection: Segment,
        ElementSection: Segment,
        ImportSection: Other,
        FunctionSection: Other,
        TableSection: Other,
        MemorySection: Other,
        TagSection: Other,
        GlobalSection: Other,
        ExportSection: Other,
        InstanceSection: Other,
        CoreTypeSection: Other,
        ComponentInstanceSection: Other,
        ComponentAliasSection: Other,
        ComponentTypeSection: Other,
        ComponentCanonicalSection: Other,
        ComponentImportSection: Other,
        ComponentExportSection: Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(text: &str) -> String {
        let error = CompileLimits::default()
            .check(text.as_bytes())
            .expect_err("the module exceeds a bound");
        let ModuleError::Excessive { what, offset, .. } = error else {
            panic!("{error}")
        };
        assert!(offset > 0 || what == "instances", "{offset}");
        what.to_string()
    }

    #[test]
    fn t154_what_would_take_long_to_compile_is_refused_before() {
        let many = |text: &str, count: usize| text.repeat(count);
        let indirect = format!(
            "(table 1 funcref) (type (func)) (func {})",
            many("(call_indirect (type 0) (i32.const 0))", 30_000)
        );
        let locals = many("(local.set 0 (i32.add (local.get 0) (i32.const 1)))", 1);
        let loops = format!(
            "(func (local {}) {} {locals} {})",
            many("i32 ", 1_000),
            many("loop ", 300),
            many("end ", 300)
        );
        // A function's parameters count as variables, like its locals.
        let given = format!(
            "(func (param {}) {} {})",
            many("i32 ", 1_000),
            many("loop ", 300),
            many("end ", 300)
        );
        let joins = format!(
            "(func (local {}) {})",
            many("i32 ", 10_000),
            many("block end ", 20_000)
        );
        for (fields, what) in [
            (many("(func)", 100_001), "functions"),
            (
                format!("(func {})", many("nop ", (1 << 20) + 1)),
                "bytes in one function",
            ),
            (indirect, "microseconds of compiling one function"),
            (loops.clone(), "microseconds of compiling one function"),
            (given, "microseconds of compiling one function"),
            (joins, "microseconds of compiling one function"),
            (
                many(
                    &format!(
                        "(func (local {}) {} {})",
                        many("i32 ", 100),
                        many("loop ", 100),
                        many("end ", 100)
                    ),
                    1_000,
                ),
                "microseconds of compiling",
            ),
            (many("(type (func))", 20_001), "types"),
            (
                format!("(memory 1) {}", many("(data (i32.const 0) \"a\")", 20_001)),
                "segments",
            ),
            (
                many("(export \"\" (func 0))", 200_001) + "(func)",
                "imports, exports, globals and the like",
            ),
        ] {
            assert_eq!(excess(&format!("(module {fields})")), what);
        }
        let twice = "(instance (instantiate 0)) (instance (instantiate 0))";
        let eight = (0..8).fold("(component)".to_string(), |inner, _| {
            format!("(component {inner} {twice})")
        });
        assert_eq!(excess(&eight), "instances");
    }

    #[test]
    fn t154_what_compilers_produce_is_admitted() {
        let function = "(func (param i32) (result i32) (local i32)
            (block (loop (br_if 1 (i32.eqz (local.get 0)))
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (local.set 1 (call_indirect (param i32) (result i32) (local.get 1) (i32.const 0)))
                (br 0)))
            (local.get 1))";
        // Roughly the size of a Python interpreter.
        let text = format!("(module (table 1 funcref) {})", function.repeat(15_000));
        CompileLimits::default()
            .check(text.as_bytes())
            .expect("the module is within the bounds");
    }

    #[test]
    fn bytes_that_are_not_wasm_are_malformed() {
        let cut = &wat::parse_str("(module (func))").expect("the text is well-formed")[..13];
        for bytes in [&b"("[..], b"wasm", b"\0asm\x01\0\0\0\x0a", cut] {
            let error = CompileLimits::default()
                .check(bytes)
                .expect_err("the bytes are not a module");
            assert!(matches!(error, ModuleError::Malformed(_)), "{error}");
        }
    }
}
