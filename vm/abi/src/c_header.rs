//! Generates a header for C guests from the table of host functions.

use crate::{
    Errno, ExitKind, HOST_FUNCTIONS, HostFunction, Kind, Limit, MessageHeader, MessageKind,
    Parameter, parameter,
};
use core::fmt::{self, Debug, Write};

/// Writes a C header that declares the constants of the interface and every host function, each
/// under a name such as `lunatic_message_send`.
///
/// # Errors
///
/// Fails only if the writer fails.
///
/// ```
/// let mut header = String::new();
/// lunatic_abi::write_c_header(&mut header)?;
/// assert!(header.contains("uint64_t lunatic_process_process_id(void);"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
pub fn write_c_header(out: &mut impl Write) -> fmt::Result {
    out.write_str(BEGINNING)?;
    writeln!(out, "#define LUNATIC_TIMED_OUT {}", crate::TIMED_OUT)?;
    writeln!(out, "#define LUNATIC_NOBODY_LEFT {}", crate::NOBODY_LEFT)?;
    out.write_str("#define LUNATIC_FOREVER UINT64_MAX\n#define LUNATIC_OWN UINT64_MAX\n\n")?;
    write_numbers(out, "LUNATIC_ERRNO_", Errno::ALL, |errno| errno as u32)?;
    write_numbers(out, "LUNATIC_EXIT_", ExitKind::ALL, |exit| exit as u32)?;
    write_numbers(out, "LUNATIC_LIMIT_", Limit::ALL, |limit| limit as u32)?;
    write_numbers(out, "LUNATIC_MESSAGE_", MessageKind::ALL, |kind| {
        kind as u32
    })?;
    out.write_str(STRUCTURES)?;
    for (name, number) in [
        ("I32", parameter::I32),
        ("I64", parameter::I64),
        ("F32", parameter::F32),
        ("F64", parameter::F64),
        ("V128", parameter::V128),
    ] {
        writeln!(out, "#define LUNATIC_PARAMETER_{name} {number:#x}")?;
    }
    write!(
        out,
        "\n_Static_assert(sizeof(lunatic_message_header) == {}, \
         \"must match the layout that the machine writes\");",
        MessageHeader::SIZE
    )?;
    writeln!(
        out,
        "\n_Static_assert(sizeof(lunatic_parameter) == {}, \
         \"must match the layout that the machine reads\");",
        parameter::SIZE
    )?;
    HOST_FUNCTIONS
        .iter()
        .try_for_each(|row| write_function(out, row))?;
    out.write_str("\n#endif\n")
}

const BEGINNING: &str = "/* The host functions that a guest can call, and the constants of the interface.
 *
 * Generated from the machine's table of host functions; do not edit. To regenerate this file, see the test
 * `the_header_for_c_is_what_the_table_says` in vm/abi.
 *
 * A result of type `uint32_t` or `int32_t` is 0 on success unless documented otherwise. The module must export its
 * memory under the name `memory`. */
#ifndef LUNATIC_H
#define LUNATIC_H

#include <stdint.h>

#define LUNATIC_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define LUNATIC_EXPORT(name) __attribute__((export_name(name), visibility(\"default\")))

";

const STRUCTURES: &str = "/* Describes a received message. */
typedef struct {
  uint32_t kind;      /* LUNATIC_MESSAGE_... */
  uint32_t length;    /* of all the data, even if it does not fit into the buffer */
  uint32_t resources;
  uint32_t exit;      /* LUNATIC_EXIT_..., if the message reports a death */
  int64_t tag;
  uint64_t pid;       /* the process that died */
  uint64_t detail;    /* the exit status or LUNATIC_LIMIT_... */
} lunatic_message_header;

/* A piece of a vectored write. */
typedef struct {
  const void *data;
  uint32_t length;
} lunatic_vector;

/* A parameter of the function that a process starts with. */
typedef struct __attribute__((packed)) {
  uint8_t type;       /* LUNATIC_PARAMETER_... */
  uint64_t value;
  uint64_t upper;     /* of a vector; otherwise 0 */
} lunatic_parameter;

";

/// Converts names from `CamelCase` to `UPPER_CASE`.
struct Capitals<'a, W> {
    out: &'a mut W,
    is_first: bool,
}

impl<W: Write> Write for Capitals<'_, W> {
    fn write_str(&mut self, name: &str) -> fmt::Result {
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !self.is_first {
                self.out.write_char('_')?;
            }
            self.is_first = false;
            self.out.write_char(letter.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

fn write_numbers<T: Copy + Debug>(
    out: &mut impl Write,
    prefix: &str,
    all: &[T],
    number: impl Fn(T) -> u32,
) -> fmt::Result {
    out.write_str("enum {\n")?;
    for &value in all {
        write!(out, "  {prefix}")?;
        write!(
            Capitals {
                out,
                is_first: true
            },
            "{value:?}"
        )?;
        writeln!(out, " = {},", number(value))?;
    }
    out.write_str("};\n\n")
}

fn write_function(out: &mut impl Write, row: &HostFunction) -> fmt::Result {
    out.write_str("\n/*")?;
    for line in row.doc {
        write!(out, " {}", line.trim())?;
    }
    out.write_str(" */\n")?;
    writeln!(
        out,
        "LUNATIC_IMPORT(\"{}\", \"{}\")",
        row.namespace, row.name
    )?;
    write!(out, "{}", row.result.map_or("void ", c_type))?;
    for part in row.namespace.split("::") {
        write!(out, "{part}_")?;
    }
    write!(out, "{}(", row.name)?;
    if row.parameters.is_empty() {
        out.write_str("void")?;
    }
    for (index, parameter) in row.parameters.iter().enumerate() {
        out.write_str(if index == 0 { "" } else { ", " })?;
        write_parameter(out, parameter)?;
    }
    out.write_str(");\n")
}

fn write_parameter(out: &mut impl Write, parameter: &Parameter) -> fmt::Result {
    let (name, kind) = (parameter.name, parameter.kind);
    if kind == Kind::SocketAddr {
        return out.write_str(
            "uint32_t family, const uint8_t *ip, uint32_t port, uint32_t flow, uint32_t scope",
        );
    }
    write!(out, "{}{name}", c_type(kind))?;
    match kind {
        Kind::Bytes | Kind::Text | Kind::Buffer => write!(out, ", uint32_t {name}_length"),
        Kind::Words | Kind::OutWords | Kind::Vectors => write!(out, ", uint32_t {name}_count"),
        _ => Ok(()),
    }
}

/// Returns the C type for the given kind, with a trailing separator unless it ends in `*`. For a
/// slice, this is the type of the address.
const fn c_type(kind: Kind) -> &'static str {
    match kind {
        Kind::I32 => "int32_t ",
        Kind::U32 => "uint32_t ",
        Kind::I64 | Kind::Tag => "int64_t ",
        Kind::F64 => "double ",
        Kind::Bytes => "const void *",
        Kind::Text => "const char *",
        Kind::Buffer => "void *",
        Kind::Words => "const uint64_t *",
        Kind::Vectors => "const lunatic_vector *",
        Kind::OutU16 => "uint16_t *",
        Kind::OutU32 => "uint32_t *",
        Kind::OutU64 | Kind::OutWords => "uint64_t *",
        Kind::OutIpBytes => "uint8_t *",
        Kind::OutHeader => "lunatic_message_header *",
        Kind::OutText => "char *",
        _ => "uint64_t ",
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;

    #[test]
    fn the_header_for_c_is_what_the_table_says() {
        let mut header = String::new();
        super::write_c_header(&mut header).expect("writing to a string cannot fail");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/c/lunatic.h");
        if std::env::var_os("LUNATIC_WRITE_HEADER").is_some() {
            std::fs::write(path, &header).expect("the example's directory is writable");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == header,
            "examples/c/lunatic.h does not match the table; regenerate it with `LUNATIC_WRITE_HEADER=1 cargo test -p lunatic-abi`"
        );
    }
}
