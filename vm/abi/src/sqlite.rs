//! The encoding of SQLite values that guests and the machine exchange.
//!
//! The layout is the one that the published guest crate writes with bincode 1: integers are
//! fixed-width and little-endian, lengths are 64 bits, and enum variants are encoded as 32-bit
//! numbers. This module implements only the necessary parts of the format. It reads without copying
//! and does not trust the input: bytes that are not a valid list of values are [`Malformed`].

use alloc::vec::Vec;

/// A column or parameter value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL's `NULL`.
    Null,
    /// Bytes.
    Blob(&'a [u8]),
    /// Text.
    Text(&'a str),
    /// A floating point number.
    Real(f64),
    /// An integer.
    Integer(i64),
}

/// The statement parameter that a value is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// The parameter whose number equals the value's position in the list, counting from 1.
    Position,
    /// The parameter with this number, counting from 1.
    Number(u64),
    /// The parameter with this name, with or without its prefix (`:`, `@` or `$`).
    Name(&'a str),
}

/// The bytes do not have the expected layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The variant numbers. Integers have two: in bound values, one is for 32-bit and the other for
/// 64-bit integers; in row values, both are for 64-bit integers.
mod variant {
    pub(super) const NULL: u32 = 0;
    pub(super) const BLOB: u32 = 1;
    pub(super) const TEXT: u32 = 2;
    pub(super) const REAL: u32 = 3;
    pub(super) const BOUND_I32: u32 = 4;
    pub(super) const BOUND_I64: u32 = 5;
    pub(super) const READ_I64: u32 = 4;
    pub(super) const READ_I64_TOO: u32 = 5;
    pub(super) const POSITION: u32 = 0;
    pub(super) const NUMBER: u32 = 1;
    pub(super) const NAME: u32 = 2;
}

/// Appends the length of a list. Its entries follow.
pub fn write_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

/// Appends a string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    write_bytes(out, text.as_bytes());
}

/// Appends a row value.
pub fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    write_as(out, value, variant::READ_I64);
}

/// Appends an entry to a list of parameter values.
pub fn write_binding(out: &mut Vec<u8>, key: Key<'_>, value: Value<'_>) {
    match key {
        Key::Position => write_variant(out, variant::POSITION),
        Key::Number(number) => {
            write_variant(out, variant::NUMBER);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Key::Name(name) => {
            write_variant(out, variant::NAME);
            write_text(out, name);
        }
    }
    write_as(out, value, variant::BOUND_I64);
}

/// Appends an error in the form that `lunatic::sqlite::last_error` returns: SQLite's primary result
/// code and error message.
pub fn write_error(out: &mut Vec<u8>, code: u32, message: &str) {
    const SOME: u8 = 1;
    out.push(SOME);
    out.extend_from_slice(&code.to_le_bytes());
    out.push(SOME);
    write_text(out, message);
}

fn write_as(out: &mut Vec<u8>, value: Value<'_>, integer: u32) {
    match value {
        Value::Null => write_variant(out, variant::NULL),
        Value::Blob(bytes) => {
            write_variant(out, variant::BLOB);
            write_bytes(out, bytes);
        }
        Value::Text(text) => {
            write_variant(out, variant::TEXT);
            write_text(out, text);
        }
        Value::Real(number) => {
            write_variant(out, variant::REAL);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Integer(number) => {
            write_variant(out, integer);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn write_variant(out: &mut Vec<u8>, variant: u32) {
    out.extend_from_slice(&variant.to_le_bytes());
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// A reader for a list of parameter values, row values or strings.
#[derive(Clone, Debug)]
pub struct List<'a> {
    bytes: &'a [u8],
    left: u64,
}

impl<'a> List<'a> {
    /// Begins to read a list.
    pub fn new(bytes: &'a [u8]) -> Result<List<'a>, Malformed> {
        let mut list = List { bytes, left: 0 };
        list.left = list.u64()?;
        Ok(list)
    }

    /// Returns the number of entries that the list claims are left. Do not trust it to size
    /// allocations.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Reads the next parameter value. Returns `None` at the end.
    pub fn binding(&mut self) -> Result<Option<(Key<'a>, Value<'a>)>, Malformed> {
        self.entry(|list| {
            let key = match list.u32()? {
                variant::POSITION => Key::Position,
                variant::NUMBER => Key::Number(list.u64()?),
                variant::NAME => Key::Name(list.str()?),
                _ => return Err(Malformed),
            };
            let value = match list.u32()? {
                variant::BOUND_I32 => Value::Integer(i32::from_le_bytes(list.array()?).into()),
                variant::BOUND_I64 => Value::Integer(i64::from_le_bytes(list.array()?)),
                other => list.plain(other)?,
            };
            Ok((key, value))
        })
    }

    /// Reads the next row value. Returns `None` at the end.
    pub fn value(&mut self) -> Result<Option<Value<'a>>, Malformed> {
        self.entry(|list| match list.u32()? {
            variant::READ_I64 | variant::READ_I64_TOO => {
                Ok(Value::Integer(i64::from_le_bytes(list.array()?)))
            }
            other => list.plain(other),
        })
    }

    /// Reads the next string. Returns `None` at the end.
    pub fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        self.entry(Self::str)
    }

    /// Reads an entry. Bytes after the last entry make the list malformed.
    fn entry<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.left == 0 {
            return if self.bytes.is_empty() {
                Ok(None)
            } else {
                Err(Malformed)
            };
        }
        self.left -= 1;
        read(self).map(Some)
    }

    /// Reads a value whose variant number is the same for parameters and rows.
    fn plain(&mut self, number: u32) -> Result<Value<'a>, Malformed> {
        match number {
            variant::NULL => Ok(Value::Null),
            variant::BLOB => Ok(Value::Blob(self.bytes()?)),
            variant::TEXT => Ok(Value::Text(self.str()?)),
            variant::REAL => Ok(Value::Real(f64::from_le_bytes(self.array()?))),
            _ => Err(Malformed),
        }
    }

    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Malformed> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(Malformed)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u64()?).map_err(|_| Malformed)?;
        let (bytes, rest) = self.bytes.split_at_checked(length).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(bytes)
    }

    fn str(&mut self) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [Value<'_>; 5] = [
        Value::Null,
        Value::Blob(&[0, 255]),
        Value::Text("zwölf"),
        Value::Real(-0.5),
        Value::Integer(i64::MIN),
    ];

    #[test]
    fn values_survive_a_round_trip() {
        let (mut row, mut list) = (Vec::new(), Vec::new());
        let keys = [
            Key::Position,
            Key::Number(2),
            Key::Name(":three"),
            Key::Number(u64::MAX),
            Key::Name(""),
        ];
        write_length(&mut row, VALUES.len());
        write_length(&mut list, VALUES.len());
        for (key, value) in keys.into_iter().zip(VALUES) {
            write_value(&mut row, value);
            write_binding(&mut list, key, value);
        }
        let (mut row, mut list) = (
            List::new(&row).expect("the list was just written"),
            List::new(&list).expect("the list was just written"),
        );
        for (key, value) in keys.into_iter().zip(VALUES) {
            assert_eq!(row.value(), Ok(Some(value)));
            assert_eq!(list.binding(), Ok(Some((key, value))));
        }
        assert_eq!((row.value(), list.binding()), (Ok(None), Ok(None)));
    }

    #[test]
    fn the_layout_is_that_of_bincode_1() {
        // The output of bincode 1's `serialize` for the published types, written by hand.
        let mut error = Vec::new();
        write_error(&mut error, 19, "no");
        assert_eq!(
            error,
            [1, 19, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, b'n', b'o']
        );
        let mut value = Vec::new();
        write_value(&mut value, Value::Integer(-2));
        assert_eq!(value, [4, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255]);
        let int = [
            1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 255, 255, 255,
            255,
        ];
        let mut list = List::new(&int).expect("the list begins with a length");
        assert_eq!(
            list.binding(),
            Ok(Some((Key::Number(3), Value::Integer(-1))))
        );
    }

    #[test]
    fn reading_ends_whatever_the_bytes_are() {
        let mut good = Vec::new();
        write_length(&mut good, 2);
        write_binding(&mut good, Key::Name("name"), Value::Text("text"));
        write_binding(&mut good, Key::Position, Value::Blob(&[1, 2, 3]));
        let read = |bytes: &[u8]| -> Result<usize, Malformed> {
            let (mut list, mut count) = (List::new(bytes)?, 0);
            while list.binding()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(read(&good), Ok(2));
        for end in 0..good.len() {
            assert_eq!(read(&good[..end]), Err(Malformed), "the first {end} bytes");
        }
        for place in 0..good.len() {
            for byte in [0, 1, 7, 127, 255] {
                let mut bad = good.clone();
                bad[place] = byte;
                // Not every change makes the list malformed, but reading always terminates.
                let _ = read(&bad);
            }
        }
        let longer: Vec<u8> = good.iter().copied().chain([0]).collect();
        assert_eq!(read(&longer), Err(Malformed));
        assert_eq!(read(&[255; 64]), Err(Malformed));
    }
}
