//! Finds a panic message in what a program wrote to standard error.
//!
//! For a Rust program in wasm, this is the only place to find the message. The standard library
//! changed the format in version 1.73; both formats are recognized.
//!
//! ```text
//! thread 'main' panicked at 'the message', src/main.rs:2:5
//! thread 'main' panicked at src/main.rs:2:5:
//! the message
//! ```

/// Returns the message of the last panic.
pub(super) fn message(text: &str) -> Option<&str> {
    let (start, _) = text.rmatch_indices("thread '").find(|&(start, _)| {
        let is_line_start = text[..start]
            .chars()
            .next_back()
            .is_none_or(|before| before == '\n');
        is_line_start && header(&text[start..]).is_some()
    })?;
    let rest = without_advice(header(&text[start..])?);
    if let Some(quoted) = rest.strip_prefix('\'') {
        return quoted.rsplit_once("', ").map(|(message, _)| message);
    }
    let (_, message) = rest.split_once(":\n")?;
    Some(message.strip_suffix('\n').unwrap_or(message))
}

/// Returns what follows `panicked at` on a line that starts with `thread '`.
fn header(text: &str) -> Option<&str> {
    let (line, _) = text.split_once('\n').unwrap_or((text, ""));
    let start = line.find(" panicked at ")?;
    Some(&text[start + " panicked at ".len()..])
}

/// Removes what the standard library prints after the message.
fn without_advice(text: &str) -> &str {
    let ends = ["\nnote: run with `RUST_BACKTRACE", "\nstack backtrace:\n"];
    let end = ends.iter().filter_map(|end| text.rfind(end)).min();
    end.map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_either_format_are_found() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(message(text), expected, "{text}");
        let note =
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        check(
            &format!("thread 'main' panicked at 'it broke', src/m.rs:2:5\n{note}"),
            Some("it broke"),
        );
        check(
            &format!("thread '<unnamed>' panicked at 'a\n'b', c', src/m.rs:2:5\n{note}"),
            Some("a\n'b', c"),
        );
        check(
            &format!("out\n\nthread 'main' panicked at src/m.rs:2:5:\nit broke\n{note}"),
            Some("it broke"),
        );
        check(
            &format!("\nthread 'main' (1) panicked at src/m.rs:2:5:\ntwo\nlines\n{note}"),
            Some("two\nlines"),
        );
        check(
            "thread 'main' panicked at src/m.rs:2:5:\nit broke\nstack backtrace:\n   0: f\n",
            Some("it broke"),
        );
        check(
            "thread 'main' panicked at src/m.rs:2:5:\nit broke\n",
            Some("it broke"),
        );
        check(
            &format!("thread 'main' panicked at src/m.rs:2:5:\n\n{note}"),
            Some(""),
        );
    }

    #[test]
    fn the_last_panic_counts() {
        let text = "thread 'main' panicked at a.rs:1:1:\nfirst\nthread 'main' panicked at a.rs:2:2:\nsecond\n";
        assert_eq!(message(text), Some("second"));
    }

    #[test]
    fn other_text_is_not_a_panic() {
        for text in [
            "",
            "thread 'main' slept\n",
            "x thread 'main' panicked at a.rs:1:1:\nno\n",
            "panicked at a.rs:1:1:\n",
        ] {
            assert_eq!(message(text), None, "{text}");
        }
    }
}
