//! Maps an instruction in a module to its source locations.
//!
//! The module's debug information is read on request rather than at every trap, because reading it
//! would block a worker for milliseconds. It is as untrusted as the module itself.

use addr2line::gimli::{self, Dwarf, EndianSlice, LittleEndian};
use addr2line::{Context, Frame};
use lunatic_process::SourceLocation;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use wasmparser::{Parser, Payload};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The maximum nesting depth of a unit's entries. Entries are read recursively, so deeper nesting
/// could overflow the stack. Compiler output stays far below this limit.
const MAX_DEPTH: usize = 200;

/// Returns the source locations of an instruction in a binary module, starting with the innermost
/// inlined function and ending with the function that everything was inlined into. `offset` is in
/// bytes from the start of the module, like [`Frame::offset`](crate::Frame::offset).
///
/// The list is empty if the module has no debug information, if the debug information cannot be
/// read, or if it does not cover this instruction. This function reads all of the debug
/// information; [`Trap::locations`](crate::Trap::locations) does so only once for each module.
pub fn source_locations(bytes: &[u8], offset: usize) -> Vec<SourceLocation> {
    SourceMap::read(&bytes.into(), usize::MAX)
        .map(|mut sources| sources.locations(offset))
        .unwrap_or_default()
}

/// A module's debug information.
pub(super) struct SourceMap {
    /// `None` once reading has failed.
    reader: Option<Reader>,
}

/// The data read from a module's bytes.
struct Information<'a> {
    /// The start of the code. Addresses in the debug information are relative to it.
    code: usize,
    context: Context<Slice<'a>>,
}

self_cell::self_cell!(
    struct Reader {
        owner: Arc<[u8]>,
        #[not_covariant]
        dependent: Information,
    }
);

impl SourceMap {
    /// Reads the data that later queries need. Returns `None` if there is no debug information, if
    /// it cannot be read, or if it is larger than `most` bytes.
    pub(super) fn read(bytes: &Arc<[u8]>, most: usize) -> Option<SourceMap> {
        let reader = harmless(|| {
            Reader::try_new(bytes.clone(), |bytes| {
                Information::read(bytes, most).ok_or(())
            })
            .ok()
        })?;
        Some(SourceMap {
            reader: Some(reader),
        })
    }

    /// Like [`source_locations`].
    pub(super) fn locations(&mut self, offset: usize) -> Vec<SourceLocation> {
        // A reader that has panicked is not used again.
        let Some(reader) = self.reader.take() else {
            return Vec::new();
        };
        let found = harmless(|| {
            let locations = reader.with_dependent(|_, information| information.find(offset));
            Some((reader, locations))
        });
        let (reader, locations) = found.unzip();
        self.reader = reader;
        locations.unwrap_or_default()
    }
}

impl Information<'_> {
    fn read(bytes: &[u8], most: usize) -> Option<Information<'_>> {
        let (code, dwarf) = read(bytes, most)?;
        if !is_shallow(&dwarf).ok()? {
            return None;
        }
        let context = Context::from_dwarf(dwarf).ok()?;
        Some(Information { code, context })
    }

    fn find(&self, offset: usize) -> Vec<SourceLocation> {
        let address = offset.checked_sub(self.code);
        let address = address.and_then(|address| u64::try_from(address).ok());
        let found = address.and_then(|address| find(&self.context, address).ok());
        found.unwrap_or_default()
    }
}

/// Calls a function that reads data from a guest, and catches panics, because the parser is not
/// hardened against malicious input.
fn harmless<T>(read: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

/// Returns the start of the code and the debug information.
fn read(bytes: &[u8], most: usize) -> Option<(usize, Dwarf<Slice<'_>>)> {
    let mut code = None;
    let mut sections = Vec::new();
    let mut size = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::CodeSectionStart { range, .. } => code = Some(range.start),
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                size += section.data().len();
                sections.push((section.name(), section.data()));
            }
            _ => {}
        }
    }
    if sections.is_empty() || size > most {
        return None;
    }
    let load = |id: gimli::SectionId| {
        let section = sections.iter().find(|(name, _)| *name == id.name());
        Ok::<_, gimli::Error>(EndianSlice::new(
            section.map_or(&[][..], |(_, data)| data),
            LittleEndian,
        ))
    };
    let dwarf = Dwarf::load(load).ok()?;
    Some((code?, dwarf))
}

/// Returns true if no entry is nested too deeply.
fn is_shallow(dwarf: &Dwarf<Slice<'_>>) -> gimli::Result<bool> {
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let abbreviations = dwarf.abbreviations(&header)?;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        while !entries.is_empty() {
            if let Some(abbreviation) = entries.read_abbreviation()? {
                entries.skip_attributes(abbreviation.attributes())?;
            }
            if entries.next_depth().unsigned_abs() > MAX_DEPTH {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn find(context: &Context<Slice<'_>>, address: u64) -> gimli::Result<Vec<SourceLocation>> {
    // Debug information in other files is not loaded, because guests must not be able to choose
    // which host files are read.
    let mut frames = context.find_frames(address).skip_all_loads()?;
    let mut locations = Vec::new();
    while locations.len() < MAX_DEPTH
        && let Some(frame) = frames.next()?
    {
        locations.extend(location(&frame));
    }
    Ok(locations)
}

/// The maximum length of a mangled name, in bytes. Longer names are not demangled.
const MAX_MANGLED: usize = 16 << 10;

/// The maximum length of a displayed name, in bytes. A mangled name of 300 bytes can demangle to a
/// megabyte.
const MAX_NAME: usize = 512;

/// Demangles a function's name if it is a Rust name. Truncates long names.
pub(super) fn demangle(name: &str) -> String {
    let mut short = Short(String::new());
    // This fails once the name has reached its maximum length.
    let written = match name.len() <= MAX_MANGLED {
        true => write!(short, "{:#}", rustc_demangle::demangle(name)),
        false => short.write_str(name),
    };
    if written.is_err() {
        short.0.push('…');
    }
    short.0
}

/// A string that cannot grow beyond [`MAX_NAME`] bytes.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(MAX_NAME - self.0.len());
        self.0.push_str(&text[..room]);
        match room == text.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

fn location(frame: &Frame<'_, Slice<'_>>) -> Option<SourceLocation> {
    let found = frame.location.as_ref()?;
    let function = frame
        .function
        .as_ref()
        .and_then(|function| function.raw_name().ok());
    Some(SourceLocation {
        function: function.map(|name| demangle(&name)),
        file: found.file?.to_string(),
        line: found.line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a module with these custom sections.
    fn module(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = wat::parse_str("(module (func nop nop))").expect("the text is well-formed");
        for (name, data) in sections {
            let mut body = vec![u8::try_from(name.len()).expect("the names are short")];
            body.extend(name.as_bytes());
            body.extend(*data);
            bytes.push(0);
            let mut rest = body.len();
            while rest >= 0x80 {
                bytes.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            bytes.extend(body);
        }
        bytes
    }

    /// Returns the offset where such a module's code starts.
    fn code(bytes: &[u8]) -> usize {
        let is_code = |payload| match payload {
            Ok(Payload::CodeSectionStart { range, .. }) => Some(range.start),
            _ => None,
        };
        let mut payloads = Parser::new(0).parse_all(bytes);
        payloads.find_map(is_code).expect("the module has code")
    }

    /// Debug information for one unit. It describes a file `a.c` and a function `f` at addresses 0
    /// to 16, which contains `depth` nested inlined calls to `g`.
    fn sections(depth: usize) -> Vec<(&'static str, Vec<u8>)> {
        let abbreviations = [
            // The unit's range and the position of its line table.
            &[1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0x10, 0x17, 0, 0][..],
            // The function's name and range.
            &[2, 0x2e, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0],
            // The inlined call's name, range and position.
            &[
                3, 0x1d, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0x58, 0x0b, 0x59, 0x0b, 0, 0,
            ],
            &[0],
        ];
        let range = [0, 0, 0, 0, 16, 0, 0, 0];
        let mut unit = vec![4, 0, 0, 0, 0, 0, 4, 1];
        unit.extend(range);
        unit.extend([0; 4]);
        unit.push(2);
        unit.extend(b"f\0");
        unit.extend(range);
        for _ in 0..depth {
            unit.push(3);
            unit.extend(b"g\0");
            unit.extend(range);
            unit.extend([1, 7]);
        }
        unit.extend(vec![0; depth + 2]);
        let length = |data: &[u8]| {
            u32::try_from(data.len())
                .expect("the sections are short")
                .to_le_bytes()
        };
        let info = [&length(&unit)[..], &unit].concat();

        // The minimum instruction length, operations, default, line base and range, and the
        // opcodes' lengths; no directories, and one file.
        let header = [
            &[1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0][..],
            b"a.c\0\0\0\0\0",
        ]
        .concat();
        // At address 0, advance two lines and emit a row. Sixteen bytes later, end the sequence.
        let program = [0, 5, 2, 0, 0, 0, 0, 3, 2, 1, 2, 16, 0, 1, 1];
        let lines = [&[4, 0][..], &length(&header), &header, &program].concat();
        let lines = [&length(&lines)[..], &lines].concat();
        vec![
            (".debug_abbrev", abbreviations.concat()),
            (".debug_info", info),
            (".debug_line", lines),
        ]
    }

    fn found(sections: &[(&str, Vec<u8>)]) -> Vec<SourceLocation> {
        let sections: Vec<(&str, &[u8])> = sections
            .iter()
            .map(|(name, data)| (*name, &data[..]))
            .collect();
        let bytes = module(&sections);
        source_locations(&bytes, code(&bytes) + 2)
    }

    fn location(function: &str, line: u32) -> SourceLocation {
        SourceLocation {
            function: Some(function.to_string()),
            file: "a.c".to_string(),
            line: Some(line),
        }
    }

    #[test]
    fn an_instruction_is_found_innermost_call_first() {
        assert_eq!(found(&sections(0)), [location("f", 3)]);
        assert_eq!(
            found(&sections(2)),
            [location("g", 3), location("g", 7), location("f", 7)]
        );
    }

    #[test]
    fn an_offset_outside_the_code_has_no_location() {
        let sections = sections(0);
        let sections: Vec<(&str, &[u8])> = sections
            .iter()
            .map(|(name, data)| (*name, &data[..]))
            .collect();
        let bytes = module(&sections);
        let code = code(&bytes);
        for offset in [0, code - 1, code + 16, bytes.len(), usize::MAX] {
            assert_eq!(source_locations(&bytes, offset), [], "{offset}");
        }
    }

    #[test]
    fn without_debug_information_there_are_no_locations() {
        assert_eq!(found(&[]), []);
        assert_eq!(source_locations(b"", 0), []);
        assert_eq!(
            source_locations(
                &wat::parse_str("(module)").expect("the text is well-formed"),
                8
            ),
            []
        );
    }

    #[test]
    fn garbage_gives_no_locations() {
        for byte in [0x00, 0x01, 0x41, 0x7f, 0x80, 0xff] {
            for length in [1, 4, 11, 64, 1_000] {
                let names = [
                    ".debug_abbrev",
                    ".debug_info",
                    ".debug_line",
                    ".debug_ranges",
                    ".debug_str",
                ];
                let sections = names.map(|name| (name, vec![byte; length]));
                assert_eq!(found(&sections), [], "{length} times {byte:#x}");
            }
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_does_no_harm() {
        let whole = sections(2);
        for section in 0..whole.len() {
            for at in 0..whole[section].1.len() {
                for byte in [0x00, 0x01, 0x1d, 0x7f, 0xff] {
                    let mut broken = whole.clone();
                    broken[section].1[at] = byte;
                    assert!(found(&broken).len() <= 3);
                    broken[section].1.truncate(at);
                    assert!(found(&broken).len() <= 3);
                }
            }
        }
    }

    #[test]
    fn deeply_nested_entries_do_not_overflow_the_stack() {
        assert_eq!(found(&sections(100)).len(), 101);
        assert_eq!(found(&sections(1_000_000)), []);
    }
}
