//! Parses quantities in flags.

use lunatic_vm::VmBuilder;
use std::time::Duration;

pub(crate) use lunatic_serve::quantity::{bytes, duration};

/// Parses the time between ticks.
pub(crate) fn tick(text: &str) -> Result<Duration, String> {
    let (least, most) = VmBuilder::TICKS.into_inner();
    let tick = duration(text)?;
    if tick < least || tick > most {
        return Err(format!("a tick must be between {least:?} and {most:?}"));
    }
    Ok(tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_neither_too_short_nor_too_long() {
        assert_eq!(tick("100us"), Ok(Duration::from_micros(100)));
        assert_eq!(tick("1s"), Ok(Duration::from_secs(1)));
        for text in ["0", "99us", "1001ms"] {
            assert_eq!(
                tick(text),
                Err("a tick must be between 100µs and 1s".to_string()),
                "{text}"
            );
        }
    }
}
