//! Sizes and durations as written by users in project files, queries and flags.

use std::time::Duration;

/// Parses a size: a whole number of bytes, `KiB`, `MiB` or `GiB`.
///
/// ```
/// assert_eq!(lunatic_serve::quantity::bytes("64KiB"), Ok(65_536));
/// ```
///
/// # Errors
///
/// A message that says what is wrong with the text and what to write instead.
pub fn bytes(text: &str) -> Result<u64, String> {
    let example = "size; write for example 65536, 512KiB, 64MiB or 1GiB";
    scaled(text, example, |unit| {
        match unit.to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "k" | "kib" => Some(1 << 10),
            "m" | "mib" => Some(1 << 20),
            "g" | "gib" => Some(1 << 30),
            _ => None,
        }
    })
}

/// Parses a duration: a whole number of `us`, `ms`, `s`, `m` or `h`. A number without a unit means
/// seconds.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(lunatic_serve::quantity::duration("30s"), Ok(Duration::from_secs(30)));
/// ```
///
/// # Errors
///
/// A message that says what is wrong with the text and what to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let example = "time; write for example 500ms, 10s, 5m or 1h";
    let microseconds = scaled(text, example, |unit| match unit {
        "us" => Some(1),
        "ms" => Some(1_000),
        "" | "s" => Some(1_000_000),
        "m" | "min" => Some(60_000_000),
        "h" => Some(3_600_000_000),
        _ => None,
    })?;
    Ok(Duration::from_micros(microseconds))
}

/// Parses a whole number and multiplies it by the factor of the unit that follows.
fn scaled(text: &str, example: &str, factor: impl Fn(&str) -> Option<u64>) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("it does not begin with a whole number".to_string());
    }
    let unit = unit.trim_start();
    let factor = factor(unit).ok_or_else(|| format!("`{unit}` is not a unit of {example}"))?;
    let number = number.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "the number is too large".to_string())
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
    fn anything_but_a_size_is_refused() {
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
    fn durations_are_read() {
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
    fn anything_but_a_duration_is_refused() {
        for text in ["", "s", "1.5s", "1d", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
