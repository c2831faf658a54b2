//! Checks how deeply the values in a message are nested.
//!
//! Deserialization recurses into nested values, and the sender controls how deeply they are nested.
//! `rmp-serde` limits the nesting of arrays and maps, but not of enums, so a short message could
//! overflow the receiver's stack. This check runs before anything is deserialized.

/// The maximum nesting depth of the values in a message.
pub(super) const DEPTH: usize = 128;

/// Returns true if a MessagePack value is nested more than [`DEPTH`] levels deep.
///
/// Returns false for bytes that are not MessagePack, which cannot be deserialized anyway.
pub(super) fn is_too_deep(bytes: &[u8]) -> bool {
    // Each level takes up at least one byte, so short messages don't need to be examined.
    if bytes.len() <= DEPTH {
        return false;
    }
    // The number of values still missing from each open array or map.
    let mut missing = [0u64; DEPTH];
    let mut depth = 0;
    let mut rest = bytes;
    while let Some(value) = Value::read(rest) {
        rest = rest.get(value.length..).unwrap_or_default();
        if value.values > 0 {
            let Some(level) = missing.get_mut(depth) else {
                return true;
            };
            *level = value.values;
            depth += 1;
            continue;
        }
        // This value is complete, as is every array or map whose last value it is.
        while depth > 0 {
            missing[depth - 1] -= 1;
            if missing[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

/// A value's header.
struct Value {
    /// The value's length in bytes, not counting nested values.
    length: usize,
    /// The number of values nested directly inside this one.
    values: u64,
}

impl Value {
    /// Reads the header of the first value. Returns `None` at the end of the bytes, or if the
    /// value's length is truncated.
    fn read(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let number = |size: usize| -> Option<usize> {
            let digits = bytes.get(1..=size)?.iter();
            Some(digits.fold(0, |number, &digit| number << 8 | usize::from(digit)))
        };
        // The length of a value whose size is stored in `size` bytes, with `kind` more bytes for
        // its type. On wasm, a size of almost 4 GiB plus the header can overflow `usize`.
        let sized = |size: usize, kind: usize| Some(number(size)?.saturating_add(1 + size + kind));
        let (length, values) = match first {
            0x80..=0x8f => (1, 2 * u64::from(first & 0x0f)),
            0x90..=0x9f => (1, u64::from(first & 0x0f)),
            0xa0..=0xbf => (1 + usize::from(first & 0x1f), 0),
            0xc4 | 0xd9 => (sized(1, 0)?, 0),
            0xc5 | 0xda => (sized(2, 0)?, 0),
            0xc6 | 0xdb => (sized(4, 0)?, 0),
            0xc7 => (sized(1, 1)?, 0),
            0xc8 => (sized(2, 1)?, 0),
            0xc9 => (sized(4, 1)?, 0),
            0xcc | 0xd0 => (2, 0),
            0xcd | 0xd1 => (3, 0),
            0xca | 0xce | 0xd2 => (5, 0),
            0xcb | 0xcf | 0xd3 => (9, 0),
            0xd4..=0xd8 => (2 + (1 << (first - 0xd4)), 0),
            0xdc => (3, number(2)? as u64),
            0xdd => (5, number(4)? as u64),
            0xde => (3, 2 * number(2)? as u64),
            0xdf => (5, 2 * number(4)? as u64),
            // Small numbers, nil, booleans, and a byte that MessagePack never uses.
            _ => (1, 0),
        };
        Some(Self { length, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(first: &[u8], depth: usize) -> Vec<u8> {
        let mut bytes = first.repeat(depth);
        bytes.extend([0xc0; DEPTH]);
        bytes
    }

    #[test]
    fn the_limit_is_exact_for_every_kind_of_nested_value() {
        let array_16 = [0xdc, 0, 1];
        let array_32 = [0xdd, 0, 0, 0, 1];
        let map = [0x81, 0xa1, b'k'];
        let map_16 = [0xde, 0, 1, 0x01];
        let map_32 = [0xdf, 0, 0, 0, 1, 0xcc, 0xff];
        let later = [0x93, 0x90, 0xc0];
        let kinds: [&[u8]; 7] = [
            &[0x91],
            &array_16,
            &array_32,
            &map,
            &map_16,
            &map_32,
            &later,
        ];
        for first in kinds {
            assert!(!is_too_deep(&nested(first, DEPTH)), "{first:x?}");
            assert!(is_too_deep(&nested(first, DEPTH + 1)), "{first:x?}");
        }
    }

    #[test]
    fn adjacent_values_are_not_deep() {
        let value = vec![
            (
                vec![1u8; 300],
                "text".repeat(100),
                -1.5f64,
                i64::MIN,
                Some(())
            );
            1_000
        ];
        let bytes = rmp_serde::to_vec(&value).expect("plain values can be serialized");
        assert!(!is_too_deep(&bytes));
    }

    #[test]
    fn the_contents_of_strings_and_bytes_do_not_count() {
        for head in [
            &[0xda, 0x10, 0][..],
            &[0xc5, 0x10, 0],
            &[0xc8, 0x10, 0, 7],
            &[0xdb, 0, 0, 0x10, 0],
        ] {
            let mut bytes = vec![0x92];
            bytes.extend(head);
            bytes.extend([0x91; 0x1000]);
            bytes.push(0xc0);
            assert!(!is_too_deep(&bytes), "{head:x?}");
        }
    }

    #[test]
    fn malformed_bytes_are_not_deep_and_are_read_to_the_end() {
        for byte in 0..=u8::MAX {
            let deep = matches!(byte, 0x81..=0x8f | 0x91..=0x9f | 0xdc..=0xdf);
            assert_eq!(is_too_deep(&[byte; 2_000]), deep, "{byte:x}");
        }
        let mut cut_off = vec![0x91; DEPTH];
        cut_off.extend([0xdf, 0xff, 0xff]);
        assert!(!is_too_deep(&cut_off));
    }
}
