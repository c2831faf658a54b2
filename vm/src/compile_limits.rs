//! Limits on the compilation of untrusted code.
//!
//! The size of a wasm file says little about how much time or memory it takes to compile. This
//! module estimates both in one pass over the bytes, without compiling anything. The caller is
//! responsible for limiting how much is compiled concurrently and how long to wait for a result.

use crate::module::{ModuleError, Requirements, binary, copied_data};
use std::ops::Range;
use wasmparser::{Encoding, Parser, Payload, TypeSectionReader};

mod shape;
mod startup;

/// Limits on the contents of a module or component to be compiled. For a component, contents are
/// summed over all of its modules.
///
/// The defaults allow large programs, such as a Python interpreter, but nothing that takes much
/// longer to compile.
///
/// ```
/// use lunatic_vm::{CompileLimits, ModuleError};
///
/// let limits = CompileLimits { functions: 1, ..CompileLimits::default() };
/// limits.check(b"(module (func))")?;
/// let error = limits.check(b"(module (func) (func))").expect_err("the module has two functions");
/// assert!(error.to_string().starts_with("2 functions; the maximum is 1 (at offset 0x"));
/// # Ok::<(), ModuleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// The size of the module or component, in bytes.
    pub size: u64,
    /// The number of functions.
    pub functions: u64,
    /// The size of a single function body, in bytes.
    pub function_size: u64,
    /// The estimated time to compile a single function, in microseconds on one core. This also
    /// limits memory, because a second of compilation can use 300 MiB. The initial values of a
    /// module's globals, tables and memory count as one more function.
    pub function_work: u64,
    /// The estimated time to compile all functions, in microseconds on one core. A Python
    /// interpreter takes about 30 seconds. The limit is lower for a small module: twice the limit
    /// for a single function, plus 16 microseconds per byte.
    pub work: u64,
    /// The number of types.
    pub types: u64,
    /// The number of data and element segments.
    pub segments: u64,
    /// The number of elements and globals that are computed whenever a process starts. The functions
    /// that compilers put into a table at a fixed position do not count, and neither do globals that
    /// are numbers: they are known beforehand. Not limited for a component.
    pub elements: u64,
    /// The number of bytes of data that are copied into memory whenever a process starts. Data at
    /// fixed positions in a module's only memory is mapped instead, unless it is spread over
    /// hundreds of megabytes. Not limited for a component.
    pub data: u64,
    /// The number of imports, exports, globals, aliases and similar items.
    pub items: u64,
    /// The number of instances that a component creates from its parts.
    pub instances: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            size: 64 << 20,
            functions: 100_000,
            function_size: 1 << 20,
            function_work: 5_000_000,
            work: 120_000_000,
            types: 20_000,
            segments: 20_000,
            elements: 10_000,
            data: 1 << 20,
            items: 200_000,
            instances: 200,
        }
    }
}

/// The maximum average compilation time per byte, in microseconds. The output of compilers takes
/// about 4.
const WORK_OF_BYTE: u64 = 16;

/// Running totals.
#[derive(Default)]
struct Counted {
    functions: u64,
    work: u64,
    /// The limit on `work`.
    allowed_work: u64,
    types: u64,
    segments: u64,
    items: u64,
    /// Whether the bytes are a component.
    is_component: bool,
    /// The offset of the last data section.
    data: usize,
    /// The module being read.
    module: shape::Module,
    /// The initial values of the module being read.
    startup: startup::Startup,
}

impl CompileLimits {
    /// Checks a module or component in binary or text format. Also rejects bytes that are not wasm;
    /// other errors are found during compilation.
    ///
    /// Runs on the calling thread, and takes a tenth of a second for tens of megabytes.
    ///
    /// # Errors
    ///
    /// [`ModuleError::Excessive`] says which limit is exceeded, and at which offset.
    /// [`ModuleError::Malformed`] and [`ModuleError::TooLarge`] have the same meaning as for
    /// compilation.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ModuleError> {
        self.check_size(bytes.len())?;
        let bytes = binary(bytes)?;
        let counted = self.count_all(&bytes)?;
        if !counted.is_component {
            let what = "bytes of data to copy whenever a process starts";
            within(what, copied_data(&bytes), self.data, counted.data)?;
        }
        let instances = Requirements::of_component(&bytes)?.instances;
        within("instances", instances, self.instances, 0)
    }

    fn count_all(&self, bytes: &[u8]) -> Result<Counted, ModuleError> {
        let for_size = (bytes.len() as u64).saturating_mul(WORK_OF_BYTE);
        let small = self.function_work.saturating_mul(2);
        let mut counted = Counted {
            allowed_work: self.work.min(for_size.saturating_add(small)),
            ..Counted::default()
        };
        for payload in Parser::new(0).parse_all(bytes) {
            self.count(&mut counted, payload?)?;
        }
        Ok(counted)
    }

    /// Checks the size of a module or component before anything is read.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<(), ModuleError> {
        let (size, allowed) = (bytes as u64, self.size);
        match size <= allowed {
            true => Ok(()),
            false => Err(ModuleError::TooLarge { size, allowed }),
        }
    }

    fn count(&self, counted: &mut Counted, payload: Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::Version { encoding, .. } => {
                counted.is_component |= encoding == Encoding::Component;
                counted.module = shape::Module::default();
                counted.startup = startup::Startup::default();
            }
            Payload::TypeSection(types) => self.count_types(counted, types)?,
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
                let shape = counted.module.next_body(&body)?;
                let work = shape.work();
                within(
                    "microseconds of compiling one function",
                    work,
                    self.function_work,
                    offset,
                )?;
                counted.add_work(work, offset)?;
                for function in shape.references {
                    counted.escape(function, offset)?;
                }
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
                if let Payload::DataSection(_) = payload {
                    counted.data = range.start;
                }
                self.count_startup(counted, &payload, range.start)?;
                for function in counted.module.declare(payload)? {
                    counted.escape(function, range.start)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the work for the initial values in a section, and checks that there are not too many.
    fn count_startup(
        &self,
        counted: &mut Counted,
        payload: &Payload<'_>,
        offset: usize,
    ) -> Result<(), ModuleError> {
        let before = counted.startup.work;
        counted.startup.declare(payload)?;
        let (work, elements) = (counted.startup.work, counted.startup.elements);
        within(
            "microseconds of compiling initial values",
            work,
            self.function_work,
            offset,
        )?;
        counted.add_work(work - before, offset)?;
        if counted.is_component {
            return Ok(());
        }
        let what = "elements and globals to compute whenever a process starts";
        within(what, elements, self.elements, offset)
    }

    /// Adds a section's types to the module's, and checks that there are not too many.
    fn count_types(
        &self,
        counted: &mut Counted,
        types: TypeSectionReader<'_>,
    ) -> Result<(), ModuleError> {
        let offset = types.range().start;
        for group in types {
            for ty in group?.into_types() {
                counted.types += 1;
                within("types", counted.types, self.types, offset)?;
                counted.add_work(shape::work_of_type(&ty), offset)?;
                counted.module.types.push(ty);
            }
        }
        Ok(())
    }
}

impl Counted {
    /// Adds work, in microseconds.
    fn add_work(&mut self, work: u64, offset: usize) -> Result<(), ModuleError> {
        self.work = self.work.saturating_add(work);
        let what = "microseconds of compiling";
        within(what, self.work, self.allowed_work, offset)
    }

    /// Adds the work for a function that can be called by the host or through a table.
    fn escape(&mut self, function: u32, offset: usize) -> Result<(), ModuleError> {
        let work = self.module.escape(function);
        self.add_work(work, offset)
    }
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

/// A kind of item that is cheap to compile but is counted.
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
            .expect_err("the module exceeds a limit");
        let ModuleError::Excessive { what, offset, .. } = error else {
            panic!("{error}")
        };
        assert!(offset > 0 || what == "instances", "{offset}");
        what.to_string()
    }

    #[test]
    fn t154_what_would_take_long_to_compile_is_rejected_beforehand() {
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
    fn initial_values_are_compiled_like_a_function() {
        let many = |text: &str, count: usize| text.repeat(count);
        let references = |count| many("(ref.func 0) ", count);
        let work = "microseconds of compiling initial values";
        for (fields, what) in [
            (
                format!("(func) (elem funcref {})", references(300_000)),
                work,
            ),
            (format!("(func) (elem func {})", many("0 ", 300_000)), work),
            (
                format!(
                    "(func) (table 1 funcref) (elem (i32.const 0) funcref {})",
                    references(150_000)
                ),
                work,
            ),
            (
                format!(
                    "(global i32 i32.const 1 {})",
                    many("i32.const 1 i32.add ", 400_000)
                ),
                work,
            ),
            (
                format!(
                    "(memory 1) (data (offset i32.const 1 {}) \"a\")",
                    many("i32.const 1 i32.add ", 400_000)
                ),
                work,
            ),
            (
                format!(
                    "(table 1 funcref) (elem (offset i32.const 1 {}) func)",
                    many("i32.const 1 i32.add ", 400_000)
                ),
                work,
            ),
            // These take little time to compile, but every process would compute them.
            (
                format!("(func) (elem func {})", many("0 ", 10_001)),
                "elements and globals to compute whenever a process starts",
            ),
            (
                // The segment does not fit into the table.
                format!(
                    "(func) (table 10000 funcref) (elem (i32.const 0) func {})",
                    many("0 ", 10_001)
                ),
                "elements and globals to compute whenever a process starts",
            ),
            (
                many("(global funcref (ref.func 0)) ", 10_001) + "(func)",
                "elements and globals to compute whenever a process starts",
            ),
        ] {
            assert_eq!(excess(&format!("(module {fields})")), what);
        }
    }

    #[test]
    fn the_functions_of_a_fixed_table_are_not_initial_values_to_compile() {
        let work = |fields: &str| {
            let bytes = wat::parse_str(format!("(module {fields})"));
            let bytes = bytes.expect("the text is well-formed");
            let counted = CompileLimits::default().count_all(&bytes);
            let startup = counted.expect("the module is within the limits").startup;
            (startup.work, startup.elements)
        };
        let functions = "0 ".repeat(6_400);
        let fixed = format!("(elem (i32.const 1) func {functions})");
        assert_eq!(
            work(&format!("(func) (table 10000 funcref) {fixed}")),
            (100, 0)
        );
        assert_eq!(
            work("(global i32 (i32.const 1)) (global f64 (f64.const 1))"),
            (0, 0)
        );
        // Everything after a segment that is not at a fixed position is computed.
        let moving = "(global i32 (i32.const 0)) (elem (global.get 0) func 0)";
        let (_, elements) = work(&format!("(func) (table 10000 funcref) {moving} {fixed}"));
        assert_eq!(elements, 6_401);
    }

    #[test]
    fn data_that_is_copied_for_every_process_is_limited() {
        let data = "a".repeat(600_000);
        let copied = |fields: &str| {
            let module = format!("(module {fields})");
            let checked = CompileLimits::default().check(module.as_bytes());
            checked.map_err(|error| error.to_string())
        };
        let at = |offset: &str| format!("(data ({offset}) \"{data}\")");
        let [low, high] = ["i32.const 0", "i32.const 100000000"].map(at);
        assert_eq!(copied(&format!("(memory 3000) {low} {high}")), Ok(()));
        let moving = at("global.get 0");
        let one = format!("(global i32 (i32.const 0)) (memory 3000) {moving}");
        assert_eq!(copied(&one), Ok(()));
        let refused = copied(&format!("{one} {high}")).expect_err("the data is copied");
        assert!(
            refused.starts_with("1200000 bytes of data to copy"),
            "{refused}"
        );
        // Outside the memory, so that no process can start.
        copied(&format!("(memory 1) {low} {high}")).expect_err("the data is not mapped");
    }

    /// Returns a list of `count` types.
    fn types(count: usize) -> String {
        "i32 ".repeat(count)
    }

    #[test]
    fn values_count_however_few_bytes_they_take() {
        let wide = |count: usize| format!("(param {}) (result {})", types(count), types(count));
        let constants = "i32.const 0 ".repeat(1_000);
        let drops = "drop ".repeat(1_000);
        let callee = format!("(func $f {} unreachable)", wide(1_000));
        let (calls, blocks) = (
            "call $f ".repeat(1_000),
            "block (type $t) end ".repeat(1_500),
        );
        let loads = "(i32.load (i32.const 0)) ".repeat(20_000);
        let loops = "loop end ".repeat(3_000);
        let adds = "i32.add ".repeat(19_999);
        for (fields, what) in [
            (
                format!("{callee} (func {constants} {calls} {drops})"),
                "microseconds of compiling one function",
            ),
            // Values that are left on the stack cost just as much.
            (
                format!(
                    "(func $f (result {}) unreachable) (func {} unreachable)",
                    types(1_000),
                    "call $f ".repeat(1_000)
                ),
                "microseconds of compiling one function",
            ),
            (
                format!(
                    "(type $t (func {})) (func {constants} {blocks} {drops})",
                    wide(1_000)
                ),
                "microseconds of compiling one function",
            ),
            (
                format!("(memory 1) (func {loads} {loops} {adds} drop)"),
                "microseconds of compiling one function",
            ),
            (
                format!(
                    "(table 1 funcref) (func {})",
                    "(drop (table.get 0 (i32.const 0)))".repeat(20_000)
                ),
                "microseconds of compiling one function",
            ),
            // Functions that can be called through tables.
            (
                format!(
                    "(type $t (func {})) {} (table funcref (elem {}))",
                    format_args!("(param {})", types(1_000)),
                    "(func (type $t))".repeat(1_000),
                    (0..1_000)
                        .map(|number| format!("{number} "))
                        .collect::<String>()
                ),
                "microseconds of compiling",
            ),
        ] {
            assert_eq!(excess(&format!("(module {fields})")), what);
        }
    }

    /// The functions' own code is small here. Most code is generated for calls between them and the
    /// host.
    #[test]
    fn the_estimate_follows_the_size_of_the_code_between_functions_and_the_host() {
        let engine = wasmtime::Engine::default();
        let size = |module: &[u8]| {
            let code = engine.precompile_module(module);
            code.expect("the module is valid").len() as u64
        };
        for (functions, parameters, results, kinds, escape) in [
            (200, 0, 0, 1, true),
            (200, 10, 1, 1, true),
            (200, 16, 0, 100, true),
            (20, 200, 0, 1, true),
            (4, 1_000, 0, 1, true),
            (4, 1_000, 0, 1, false),
            (4, 1_000, 0, 4, true),
            (4, 1_000, 0, 4, false),
            (4, 0, 1_000, 1, true),
            (4, 500, 500, 4, true),
        ] {
            // The kinds differ in which parameters are wider than others.
            let parameter = |kind: usize, index: usize| match kind >> (index % 8) & 1 {
                0 => "i32 ",
                _ => "i64 ",
            };
            let function = |index: usize| {
                let kind = index % kinds;
                let parameters: String = (0..parameters).map(|at| parameter(kind, at)).collect();
                format!(
                    "(func (param {parameters}) (result {}) unreachable)",
                    types(results)
                )
            };
            let listed: String = match escape {
                true => (0..functions).map(|index| format!("{index} ")).collect(),
                false => String::new(),
            };
            let bodies: String = (0..functions).map(function).collect();
            let text = format!("(module {bodies} (table funcref (elem {listed})))");
            let bytes = wat::parse_str(&text).expect("the module text is well-formed");
            let estimate = CompileLimits::default().count_all(&bytes);
            let estimate = estimate.expect("the module is within the bounds").work;
            let code = size(&bytes) - size(b"\0asm\x01\0\0\0");
            // About one byte of code is generated per microsecond.
            assert!(
                (code / 3..=2 * code).contains(&estimate),
                "{functions} functions, {parameters} parameters, {results} results, {kinds} kinds, \
                 {escape}: {estimate} microseconds, {code} bytes"
            );
        }
    }

    #[test]
    fn a_small_module_may_take_less_than_a_large_one() {
        let text = |count| format!("(module {})", "(func (param i32))".repeat(count));
        let limits = CompileLimits {
            function_work: 1_000,
            ..CompileLimits::default()
        };
        // Compiling a two-byte function is estimated to take a tenth of a millisecond.
        assert!(limits.check(text(10).as_bytes()).is_ok());
        assert!(limits.check(text(100).as_bytes()).is_err());
        let padded = format!(
            "(module {} (data \"{}\"))",
            "(func)".repeat(100),
            "a".repeat(2_000)
        );
        assert!(limits.check(padded.as_bytes()).is_ok());
    }

    #[test]
    fn a_function_in_a_table_counts_once() {
        let text = format!(
            "(module (func $f (param {})) (table funcref (elem {})))",
            types(1_000),
            "$f ".repeat(100_000)
        );
        CompileLimits::default()
            .check(text.as_bytes())
            .expect("the module has only one function");
    }

    #[test]
    fn t154_compiler_output_is_accepted() {
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
            .expect("the module is within the limits");
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
