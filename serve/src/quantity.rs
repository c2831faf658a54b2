//! Quantities as a user writes them, in a project file or as flags: sizes in bytes, lengths of time.

use std::time::Duration;

/// Reads a size: a whole number of bytes, or of `KiB`, `MiB` or `GiB`.
///
/// ```
/// assert_eq!(lunatic_serve::quantity::bytes("64KiB"), Ok(65_536));
/// ```
///
/// # Errors
///
/// A sentence that says what is wrong with it, and what to write.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => {
            return Err(format!(
                "`{unit}` is no unit of size; write for example 65536, 512KiB, 64MiB or 1GiB"
            ));
        }
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| "that is more than can be counted".to_string())
}

/// Reads a length of time: a whole number of `us`, `ms`, `s`, `m` or `h`; without a unit, of seconds.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(lunatic_serve::quantity::duration("30s"), Ok(Duration::from_secs(30)));
/// ```
///
/// # Errors
///
/// A sentence that says what is wrong with it, and what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let microseconds = match unit {
        "us" => 1,
        "ms" => 1_000,
        "" | "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        _ => {
            return Err(format!(
                "`{unit}` is no unit of time; write for example 500ms, 10s, 5m or 1h"
            ));
        }
    };
    let total = number
        .checked_mul(microseconds)
        .ok_or_else(|| "that is more than can be counted".to_string())?;
    Ok(Duration::from_micros(total))
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("it does not begin with a whole number".to_string());
    }
    let number = number
        .parse()
        .map_err(|_| "that is more than can be counted".to_string())?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("0", 0),
            ("1200000", 1_200_000),
            ("17b", 17),
            ("64KiB", 65_536),
            ("64 mib", 67_108_864),
            ("4G", 4 << 30),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "1 MB",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_read() {
        for (text, milliseconds) in [
            ("0", 0),
            ("5000us", 5),
            ("250ms", 250),
            ("10", 10_000),
            ("10s", 10_000),
            ("2 m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in ["", "s", "1.5s", "1d", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
