//! Prepares modules for frequent instantiation.
//!
//! The compiled module differs slightly from the original: its initial memory contents are moved
//! into an image that can be mapped, and mutable globals are exported, so that an instance can be
//! reset and reused for another process. The module's behaviour does not change. A module that
//! cannot be rewritten in this way is compiled unmodified.

use super::unroll::unroll;
use crate::engine::Image;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use wasm_encoder::{
    ConstExpr, DataSection, DataSegment, DataSegmentMode, Encode, ExportKind, ExportSection,
    RawSection, SectionId,
};
use wasmparser::{DataKind, ExternalKind, Operator, Parser, Payload, ValType};

/// The name prefix of added exports. Compilers do not generate names with this prefix.
const PREFIX: &str = "\u{1}lunatic::";

/// The maximum length of an image, in bytes. If a module's data spans a longer range, wasmtime
/// copies it into memory. An image only occupies as much memory as it has data, but pages in its
/// holes are allocated when a process reads them.
const MAX_IMAGE: usize = 256 << 20;

/// The maximum length of an image with little data, in bytes.
const MAX_SPARSE_IMAGE: usize = 64 << 20;

/// The number of bytes up to which data is little: copying them takes a few milliseconds at most.
const LITTLE: usize = 1 << 20;

/// A module in the form that will be compiled.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) bytes: Box<[u8]>,
    /// The initial contents of the module's memory. `None` if they are all zeros or wasmtime
    /// initializes them.
    pub(super) image: Option<Arc<Image>>,
    /// Whether a new instance's memory contains only the image (or zeros), in which case wasmtime
    /// does not copy anything into it.
    pub(super) image_is_complete: bool,
    /// How many bytes the start of the code has moved, compared with the original.
    pub(super) code_shift: usize,
    /// The added exports. `None` if they would not be enough to reset an instance.
    pub(super) exports: Option<Exports>,
}

/// The export names of an instance's state.
#[derive(Debug)]
pub(crate) struct Exports {
    /// The instance's memory, if it has one.
    pub(crate) memory: Option<String>,
    /// The instance's mutable globals.
    pub(crate) globals: Vec<String>,
}

impl Prepared {
    /// Prepares a module for the host or a guest. Invalid bytes are left unchanged, so that the
    /// compiler reports the error.
    pub(super) fn new(bytes: &[u8], is_guests: bool) -> Prepared {
        prepare(bytes, is_guests).unwrap_or_else(|| Prepared::untouched(bytes))
    }

    /// Returns the size of the prepared module in bytes.
    pub(super) fn size(&self) -> usize {
        let image = self.image.as_ref().map_or(0, |image| image.size());
        self.bytes.len() + image
    }

    /// Returns the module with short loops unrolled, for code that can be interrupted at any time.
    /// Metered code is not unrolled, so that its fuel counts stay the same.
    pub(super) fn unrolled(&self) -> Cow<'_, [u8]> {
        self.unroll().map_or(Cow::Borrowed(&self.bytes), Cow::Owned)
    }

    fn unroll(&self) -> Option<Vec<u8>> {
        let code = code_of(&self.bytes)?;
        let unrolled = unroll(&self.bytes[code.clone()])?;
        let (before, after) = (header(code.len()), header(unrolled.code.len()));
        let head = code.start.checked_sub(before.len())?;
        if self.bytes[head..code.start] != *before {
            return None;
        }
        let parts = [
            &self.bytes[..head],
            &after,
            &unrolled.code,
            &self.bytes[code.end..],
        ];
        Some(parts.concat())
    }

    /// Leaves a module unmodified.
    pub(super) fn untouched(bytes: &[u8]) -> Prepared {
        Prepared {
            bytes: bytes.into(),
            image: None,
            image_is_complete: false,
            code_shift: 0,
            exports: None,
        }
    }
}

/// The information about a module that is needed to rewrite it.
#[derive(Default)]
struct Survey<'a> {
    /// The size of each memory, in bytes.
    memories: Vec<u64>,
    imports_state: bool,
    /// The indices of mutable globals.
    changing: Vec<u32>,
    has_references: bool,
    has_start: bool,
    exports: Vec<wasmparser::Export<'a>>,
    data: Vec<wasmparser::Data<'a>>,
    code: Option<usize>,
}

impl Survey<'_> {
    /// Returns the size of the only memory, in bytes, or 0 if there is none. Returns `None` if
    /// there are several memories, which would require several images.
    fn size_of_memory(&self) -> Option<usize> {
        match self.memories[..] {
            [] => Some(0),
            [size] => usize::try_from(size).ok(),
            _ => None,
        }
    }
}

fn prepare(bytes: &[u8], is_guests: bool) -> Option<Prepared> {
    let survey = survey(bytes)?;
    let size = survey.size_of_memory()?;
    if survey.imports_state {
        return None;
    }
    let is_taken = survey
        .exports
        .iter()
        .any(|export| export.name.starts_with(PREFIX));
    let can_be_reset =
        !survey.has_start && !survey.has_references && !is_taken && !survey.exports.is_empty();
    let added = can_be_reset.then(|| Exports {
        memory: (!survey.memories.is_empty()).then(|| format!("{PREFIX}memory")),
        globals: (0..survey.changing.len())
            .map(|number| format!("{PREFIX}global::{number}"))
            .collect(),
    });
    let laid_out = lay_out(&survey.data, size);

    let mut module = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.ok()?;
        if let Payload::Version { .. } | Payload::End(_) = payload {
            continue;
        }
        match payload {
            Payload::ExportSection(_) if let Some(added) = &added => {
                let mut section = ExportSection::new();
                for export in &survey.exports {
                    section.export(export.name, kind(export.kind)?, export.index);
                }
                for (name, &global) in added.globals.iter().zip(&survey.changing) {
                    section.export(name, ExportKind::Global, global);
                }
                if let Some(name) = &added.memory {
                    section.export(name, ExportKind::Memory, 0);
                }
                module.section(&section);
            }
            Payload::DataSection(_) if laid_out.is_some() => {
                let mut section = DataSection::new();
                for data in &survey.data {
                    match data.kind {
                        // An empty segment is dropped at instantiation, as the original segment
                        // would be.
                        DataKind::Active { memory_index, .. } => {
                            let mode = DataSegmentMode::Active {
                                memory_index,
                                offset: &ConstExpr::i32_const(0),
                            };
                            section.segment(DataSegment { mode, data: [] });
                        }
                        DataKind::Passive => {
                            let data = data.data.iter().copied();
                            section.segment(DataSegment {
                                mode: DataSegmentMode::Passive,
                                data,
                            });
                        }
                    }
                }
                module.section(&section);
            }
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    module.section(&RawSection {
                        id,
                        data: &bytes[range],
                    });
                }
            }
        }
    }
    let prepared = module.finish();
    let image = match &laid_out {
        Some(Some((offset, data))) => Some(Arc::new(Image::new(*offset, data, is_guests).ok()?)),
        _ => None,
    };
    let code_shift = match survey.code {
        Some(code) => code_of(&prepared)?.start.checked_sub(code)?,
        None => 0,
    };
    Some(Prepared {
        image,
        image_is_complete: laid_out.is_some(),
        code_shift,
        exports: added,
        bytes: prepared.into(),
    })
}

fn survey(bytes: &[u8]) -> Option<Survey<'_>> {
    let mut survey = Survey::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    survey.imports_state |=
                        !matches!(import.ok()?.ty, wasmparser::TypeRef::Func(_));
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.ok()?;
                    if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                        return None;
                    }
                    survey.memories.push(memory.initial << 16);
                }
            }
            Payload::GlobalSection(globals) => {
                for (number, global) in globals.into_iter().enumerate() {
                    let ty = global.ok()?.ty;
                    survey.has_references |=
                        ty.mutable && matches!(ty.content_type, ValType::Ref(_));
                    if ty.mutable {
                        survey.changing.push(number as u32);
                    }
                }
            }
            Payload::ExportSection(exports) => {
                survey.exports = exports.into_iter().collect::<Result<_, _>>().ok()?
            }
            Payload::StartSection { .. } => survey.has_start = true,
            Payload::DataSection(data) => {
                survey.data = data.into_iter().collect::<Result<_, _>>().ok()?
            }
            Payload::CodeSectionStart { range, .. } => survey.code = Some(range.start),
            _ => {}
        }
    }
    Some(survey)
}

/// Returns the number of bytes of data that wasmtime copies into memory at each instantiation,
/// because the data cannot be moved into an image. Returns 0 if the bytes are not a module that
/// can be compiled.
pub(crate) fn copied_data(bytes: &[u8]) -> u64 {
    let Some(survey) = survey(bytes) else {
        return 0;
    };
    if let (Some(size), false) = (survey.size_of_memory(), survey.imports_state)
        && place(&survey.data, size).is_some()
    {
        return 0;
    }
    let is_active = |data: &&wasmparser::Data<'_>| matches!(data.kind, DataKind::Active { .. });
    let active = survey.data.iter().filter(is_active);
    active.map(|data| data.data.len() as u64).sum()
}

/// A data segment that is not empty, with its range in memory.
type Placed<'a> = (Range<usize>, &'a [u8]);

/// Returns the data segments that initialize a memory of `size` bytes, and the range that they
/// span. Returns `None` if an image cannot replace them: their positions are not known before
/// instantiation, they would cause instantiation to fail, or they are too far apart.
fn place<'a>(
    data: &[wasmparser::Data<'a>],
    size: usize,
) -> Option<(Range<usize>, Vec<Placed<'a>>)> {
    let mut segments = Vec::new();
    for segment in data {
        let DataKind::Active {
            memory_index: 0,
            offset_expr,
        } = &segment.kind
        else {
            continue;
        };
        let mut operators = offset_expr.get_operators_reader();
        let Operator::I32Const { value } = operators.read().ok()? else {
            return None;
        };
        let Operator::End = operators.read().ok()? else {
            return None;
        };
        let start = value as u32 as usize;
        let end = start
            .checked_add(segment.data.len())
            .filter(|&end| end <= size)?;
        segments.push((start..end, segment.data));
    }
    segments.retain(|(range, _)| !range.is_empty());
    let start = segments.iter().map(|(range, _)| range.start).min();
    let end = segments.iter().map(|(range, _)| range.end).max();
    let span = start.unwrap_or(0)..end.unwrap_or(0);
    let bytes: usize = segments.iter().map(|(range, _)| range.len()).sum();
    let longest = match bytes <= LITTLE {
        true => MAX_SPARSE_IMAGE,
        false => MAX_IMAGE,
    };
    (span.len() <= longest).then_some((span, segments))
}

/// Applies the data segments in order and returns the initial contents of a memory of `size` bytes
/// and their offset. Returns `Some(None)` if there is no data, or `None` if an image cannot replace
/// the segments.
fn lay_out(data: &[wasmparser::Data<'_>], size: usize) -> Option<Option<(usize, Vec<u8>)>> {
    let (span, segments) = place(data, size)?;
    if segments.is_empty() {
        return Some(None);
    }
    // Pages that stay zero are not allocated.
    let mut bytes = vec![0; span.len()];
    for (range, data) in segments {
        bytes[range.start - span.start..range.end - span.start].copy_from_slice(data);
    }
    Some(Some((span.start, bytes)))
}

fn kind(kind: ExternalKind) -> Option<ExportKind> {
    match kind {
        ExternalKind::Func => Some(ExportKind::Func),
        ExternalKind::Table => Some(ExportKind::Table),
        ExternalKind::Memory => Some(ExportKind::Memory),
        ExternalKind::Global => Some(ExportKind::Global),
        _ => None,
    }
}

/// Returns the header of a code section, which consists of its id and length. The encoder writes
/// lengths in the minimum number of bytes.
fn header(length: usize) -> Vec<u8> {
    let mut header = vec![SectionId::Code.into()];
    length.encode(&mut header);
    header
}

/// Returns a function that maps an instruction's offset in the compiled module, whose code is
/// unrolled and starts later, to its offset in the original module.
pub(super) fn original(bytes: &[u8], code_shift: usize) -> Option<impl Fn(usize) -> usize + use<>> {
    let code = code_of(bytes)?;
    let unrolled = unroll(&bytes[code.clone()])?;
    let head = (code.start + code_shift).checked_sub(header(code.len()).len())?;
    let start = head + header(unrolled.code.len()).len();
    let moves = unrolled.into_moves();
    Some(move |compiled: usize| match compiled.checked_sub(start) {
        Some(offset) => code.start + moves.original(offset),
        None => compiled.saturating_sub(code_shift),
    })
}

/// Returns the range of a module's code section, without its header.
pub(super) fn code_of(bytes: &[u8]) -> Option<Range<usize>> {
    Parser::new(0)
        .parse_all(bytes)
        .find_map(|payload| match payload {
            Ok(Payload::CodeSectionStart { range, .. }) => Some(range),
            _ => None,
        })
}

/// Returns whether the code is free of instructions that change a table or drop a segment, which
/// could not be undone. This reads all of the code.
pub(super) fn leaves_tables_alone(bytes: &[u8]) -> bool {
    let leaves_alone = |body: wasmparser::FunctionBody<'_>| -> wasmparser::Result<bool> {
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. }
                | Operator::ElemDrop { .. }
                | Operator::DataDrop { .. } => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    };
    Parser::new(0)
        .parse_all(bytes)
        .all(|payload| match payload {
            Ok(Payload::CodeSectionEntry(body)) => leaves_alone(body).unwrap_or(false),
            Ok(_) => true,
            Err(_) => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("the tests use well-formed text")
    }

    fn exports(bytes: &[u8]) -> Vec<String> {
        survey(bytes)
            .expect("the module is valid")
            .exports
            .iter()
            .map(|export| export.name.to_string())
            .collect()
    }

    #[test]
    fn data_segments_are_written_to_the_image_in_order() {
        let laid_out = |text: &str| {
            let bytes = binary(text);
            let survey = survey(&bytes).expect("the module is valid");
            lay_out(&survey.data, 65_536)
        };
        assert_eq!(laid_out("(module (memory 1))"), Some(None));
        let two = r#"(module (memory 1) (data (i32.const 20) "cd") (data (i32.const 16) "ab") (data (i32.const 17) "x"))"#;
        assert_eq!(laid_out(two), Some(Some((16, b"ax\0\0cd".to_vec()))));
        assert_eq!(
            laid_out(r#"(module (memory 1) (data "passive"))"#),
            Some(None)
        );
        // Modules whose data causes an error, or is not known before instantiation, are left
        // unmodified.
        assert_eq!(
            laid_out(r#"(module (memory 1) (data (i32.const 65535) "ab"))"#),
            None
        );
        assert_eq!(
            laid_out(r#"(module (memory 1) (data (i32.const -1) "a"))"#),
            None
        );
        assert_eq!(
            laid_out(
                r#"(module (memory 1) (global $g i32 (i32.const 3)) (data (global.get $g) "a"))"#
            ),
            None
        );
    }

    #[test]
    fn data_that_is_far_apart_has_an_image_unless_it_is_little() {
        let check = |length: usize, offset: usize, has_image: bool| {
            let byte = "x".repeat(length);
            let bytes = binary(&format!(
                r#"(module (memory 8192) (data (i32.const 0) "a") (data (i32.const {offset}) "{byte}"))"#
            ));
            let prepared = Prepared::new(&bytes, false);
            assert_eq!(prepared.image.is_some(), has_image, "{length} {offset}");
            let copied = if has_image { 0 } else { 1 + length as u64 };
            assert_eq!(copied_data(&bytes), copied, "{length} {offset}");
        };
        check(1, MAX_SPARSE_IMAGE - 1, true);
        check(1, MAX_SPARSE_IMAGE, false);
        check(LITTLE, MAX_SPARSE_IMAGE, true);
        check(LITTLE, MAX_IMAGE - LITTLE, true);
        check(LITTLE, MAX_IMAGE, false);
    }

    #[test]
    fn data_is_copied_if_no_image_can_replace_it() {
        let copied = |fields: &str| copied_data(&binary(&format!("(module {fields})")));
        assert_eq!(copied("(memory 1)"), 0);
        assert_eq!(
            copied(r#"(memory 1) (data (i32.const 1) "ab") (data "passive")"#),
            0
        );
        for fields in [
            r#"(memory 1) (memory 1) (data (i32.const 1) "ab")"#,
            r#"(memory 1) (global i32 (i32.const 1)) (data (global.get 0) "ab")"#,
            r#"(memory 1) (data (i32.const 65535) "ab") (data "passive")"#,
            r#"(import "" "" (memory 1)) (data (i32.const 1) "ab")"#,
        ] {
            assert_eq!(copied(fields), 2, "{fields}");
        }
    }

    #[test]
    fn segments_keep_their_numbers_and_passive_segments_keep_their_bytes() {
        let bytes = binary(
            r#"(module (memory 1) (data (i32.const 8) "active") (data "passive") (func (export "f")))"#,
        );
        let prepared = Prepared::new(&bytes, false);
        assert!(prepared.image_is_complete && prepared.image.is_some());
        let survey = survey(&prepared.bytes).expect("the module is valid");
        let lengths: Vec<usize> = survey.data.iter().map(|data| data.data.len()).collect();
        assert_eq!(lengths, [0, 7]);
    }

    #[test]
    fn mutable_state_is_exported_and_the_code_moves_by_the_reported_shift() {
        let bytes = binary(
            r#"(module (memory 1) (global i32 (i32.const 1)) (global (mut i32) (i32.const 2)) (func (export "f") nop nop))"#,
        );
        let prepared = Prepared::new(&bytes, false);
        let names = exports(&prepared.bytes);
        assert_eq!(names.len(), 3, "{names:?}");
        let added = prepared.exports.expect("the instance can be reset");
        assert!(
            names.contains(&added.globals[0])
                && added.memory.is_some_and(|name| names.contains(&name)),
            "{names:?}"
        );
        let (before, after) = (
            code_of(&bytes).expect("the module has a code section"),
            code_of(&prepared.bytes).expect("the module has a code section"),
        );
        assert_eq!(after.start - before.start, prepared.code_shift);
        assert!(prepared.code_shift > 0);
    }

    #[test]
    fn offsets_are_mapped_to_those_in_the_original_module() {
        let bytes = binary(
            r#"(module (memory 1) (global (mut i32) (i32.const 2)) (func (export "f") (param i32)
                (loop (br_if 0 (i32.load (local.get 0)))) unreachable))"#,
        );
        let prepared = Prepared::new(&bytes, false);
        let unrolled = prepared.unrolled();
        assert!(unrolled.len() > prepared.bytes.len() && prepared.code_shift > 0);
        let unreachable = |bytes: &[u8]| {
            let code = code_of(bytes).expect("the module has a code section");
            code.start
                + bytes[code]
                    .iter()
                    .rposition(|&byte| byte == 0)
                    .expect("`unreachable` is encoded as 0")
        };
        let original = original(&bytes, prepared.code_shift).expect("a loop is unrolled");
        assert_eq!(original(unreachable(&unrolled)), unreachable(&bytes));
        assert_eq!(
            unreachable(&prepared.bytes) - prepared.code_shift,
            unreachable(&bytes)
        );
    }

    #[test]
    fn a_module_that_cannot_be_reset_is_recognized() {
        let can = |fields: &str| {
            Prepared::new(
                &binary(&format!("(module {fields} (func (export \"f\")))")),
                false,
            )
            .exports
            .is_some()
        };
        assert!(can("(memory 1)"));
        assert!(!can("(memory 1) (memory 1)"), "two memories");
        assert!(
            !can("(global (mut funcref) (ref.null func))"),
            "a global that refers to a function"
        );
        assert!(
            !can("(start $s) (func $s)"),
            "a start function, which would have to run again"
        );
        assert!(
            !can(
                "(global $g (mut i32) (i32.const 0)) (export \"\\01lunatic::global::0\" (global $g))"
            ),
            "an export with our prefix"
        );
    }

    #[test]
    fn tables_that_code_can_change_are_found() {
        let alone = |body: &str| {
            let module = format!(
                "(module (table 4 funcref) (elem func) (data \"a\") (memory 1) (func (export \"f\") {body}))"
            );
            leaves_tables_alone(&binary(&module))
        };
        assert!(alone(
            "(drop (table.size 0)) (drop (table.get 0 (i32.const 1)))"
        ));
        for body in [
            "(table.set 0 (i32.const 0) (ref.null func))",
            "(drop (table.grow 0 (ref.null func) (i32.const 1)))",
            "(table.fill 0 (i32.const 0) (ref.null func) (i32.const 1))",
            "(table.copy (i32.const 0) (i32.const 1) (i32.const 1))",
            "(table.init 0 (i32.const 0) (i32.const 0) (i32.const 0))",
            "(elem.drop 0)",
            "(data.drop 0)",
        ] {
            assert!(!alone(body), "{body}");
        }
    }

    #[test]
    fn invalid_bytes_are_left_alone() {
        for bytes in [&b""[..], b"\0asm", b"not wasm", b"\0asm\x01\0\0\0\x0b\xff"] {
            assert_eq!(&*Prepared::new(bytes, false).bytes, bytes);
        }
    }
}
