//! Makes untrusted text, from guests or clients, safe to display.
//!
//! Untrusted text can control a terminal, begin a line that looks like one of ours, or reorder the
//! displayed characters. Code that prints such text passes it through [`printable`] first.

use std::borrow::Cow;

/// Makes text safe to use as part of a single line. Escapes control characters, including line
/// breaks, and characters that are zero-width or change the text direction.
///
/// ```
/// # use lunatic_process::printable;
/// assert_eq!(printable("h\u{e9}llo"), "h\u{e9}llo");
/// assert_eq!(printable("a\nwarn: b\u{202e}c"), "a\\nwarn: b\\u{202e}c");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// Like [`printable`], but keeps line breaks. Any untrusted parts of the text must already have
/// been passed through `printable`.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unsafe(c) && c != '\n')
}

fn escaped(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_unsafe) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Soft hyphens, direction marks and zero-width characters. Joiners are allowed, because
            // some scripts and emoji need them.
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            // Line and paragraph separators, embeddings, overrides and isolates.
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            // Annotations and (invisible) tags.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_could_control_a_terminal_or_mislead_a_reader_are_escaped() {
        for c in ['\0', '\u{1b}', '\u{7f}', '\u{9b}', '\n', '\r', '\u{85}'] {
            assert_eq!(printable(&c.to_string()), c.escape_default().to_string());
        }
        for c in "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars()
        {
            assert_eq!(printable(&c.to_string()), c.escape_default().to_string());
        }
        for c in "\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}\u{200b}\u{feff}\u{e0041}".chars() {
            assert_eq!(
                printable_lines(&c.to_string()),
                c.escape_default().to_string()
            );
        }
        for text in [
            "",
            "a \"quoted\" \\ text",
            "m\u{fc}ller",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
            "e\u{301}",
            "\u{1f468}\u{200d}\u{1f469}",
        ] {
            assert_eq!(printable(text), text);
        }
        assert_eq!(printable_lines("one\ntwo\u{1b}"), "one\ntwo\\u{1b}");
    }
}
