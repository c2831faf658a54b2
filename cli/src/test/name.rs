//! Parses the names under which modules export tests.
//!
//! ```text
//! #lunatic_test_ [option]... crate::module::function
//! #ignore_                runs only on request
//! #because_TEXT#          why it is ignored
//! #panic_TEXT#            must panic, with a message that contains TEXT
//! #timeout_MILLISECONDS#  must end within this time
//! #memory_BYTES#          limits the memory of each of its processes
//! ```
//! In a TEXT, `\#` stands for `#`. The names that the published crate generates contain only what
//! the first, second and fourth lines show. The crate does not escape backslashes, so if a TEXT
//! ends with a backslash, the closing `#` looks escaped.

use lunatic_vm::printable;
use std::time::Duration;

/// The prefix of every test's exported name.
const PREFIX: &str = "#lunatic_test_";

/// A test, as declared by an export's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declaration {
    /// The test's path: crate, modules and function.
    pub(super) path: String,
    pub(super) is_ignored: bool,
    pub(super) why_ignored: Option<String>,
    /// If the test must panic, the string that its message must contain, which is empty if any
    /// message will do.
    pub(super) panic: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) memory: Option<u64>,
}

/// Parses an export's name. Returns `None` if the export is not a test.
pub(super) fn read(export: &str) -> Option<Declaration> {
    let mut rest = export.strip_prefix(PREFIX)?;
    let mut declared = Declaration::default();
    while let Some(after) = take_option(rest, &mut declared) {
        rest = after;
    }
    declared.path = printable(rest).into_owned();
    Some(declared)
}

/// Parses an option at the start of the text and returns the rest.
fn take_option<'a>(text: &'a str, declared: &mut Declaration) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix("#ignore_") {
        declared.is_ignored = true;
        return Some(rest);
    }
    let (option, value) = text.strip_prefix('#')?.split_once('_')?;
    let (value, rest) = take_text(value)?;
    match option {
        "because" => declared.why_ignored = Some(printable(&value).into_owned()),
        "panic" => declared.panic = Some(value),
        "timeout" => declared.timeout = Some(Duration::from_millis(value.parse().ok()?)),
        "memory" => declared.memory = Some(value.parse().ok()?),
        _ => return None,
    }
    Some(rest)
}

/// Parses text up to the `#` that ends it.
fn take_text(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('#') {
        let Some(before) = before.strip_suffix('\\') else {
            value += before;
            return Some((value, after));
        };
        value += before;
        value.push('#');
        rest = after;
    }
    // Without an unescaped `#`, the text ends at the last `#`, and the backslash before that `#` is
    // part of the text.
    let (before, after) = text.rsplit_once("\\#")?;
    Some((before.replace("\\#", "#") + "\\", after))
}

/// Returns the crate name, including `::`, that all paths start with, so that it can be removed
/// from test names. Returns an empty string if they do not all start with the same crate name.
pub(super) fn common_crate<'a>(mut paths: impl Iterator<Item = &'a str>) -> &'a str {
    let first = |path: &'a str| path.find("::").map(|end| &path[..end + 2]);
    let Some(begin) = paths.next().and_then(first) else {
        return "";
    };
    if paths.all(|path| first(path) == Some(begin)) {
        begin
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_published_crate_are_parsed() {
        let check = |export: &str, is_ignored: bool, panic: Option<&str>| {
            let path = "m::t".to_string();
            let panic = panic.map(str::to_string);
            let expected = Declaration {
                path,
                is_ignored,
                panic,
                ..Declaration::default()
            };
            assert_eq!(read(export), Some(expected), "{export}");
        };
        check("#lunatic_test_m::t", false, None);
        check("#lunatic_test_#ignore_m::t", true, None);
        check("#lunatic_test_#panic_#m::t", false, Some(""));
        check("#lunatic_test_#panic_a b#m::t", false, Some("a b"));
        check(r"#lunatic_test_#panic_a\#b#m::t", false, Some("a#b"));
        check(r"#lunatic_test_#panic_\##m::t", false, Some("#"));
        check(r"#lunatic_test_#panic_\#\##m::t", false, Some("##"));
        check(
            "#lunatic_test_#ignore_#panic_two\nlines#m::t",
            true,
            Some("two\nlines"),
        );
        check(r"#lunatic_test_#panic_C:\dir#m::t", false, Some(r"C:\dir"));
        check(r"#lunatic_test_#panic_C:\#m::t", false, Some(r"C:\"));
        check(r"#lunatic_test_#panic_\#:\#m::t", false, Some(r"#:\"));
        check(r"#lunatic_test_#panic_a\\#b#m::t", false, Some(r"a\#b"));
    }

    #[test]
    fn options_come_in_any_number_and_order() {
        let export = r"#lunatic_test_#timeout_1500##memory_65536##panic_x\#y##ignore_#because_takes an hour#c::m::t";
        let expected = Declaration {
            path: "c::m::t".into(),
            is_ignored: true,
            why_ignored: Some("takes an hour".into()),
            panic: Some("x#y".into()),
            timeout: Some(Duration::from_millis(1_500)),
            memory: Some(65_536),
        };
        assert_eq!(read(export), Some(expected));
    }

    #[test]
    fn text_that_is_not_an_option_belongs_to_the_path() {
        let path = |export: &str| read(export).expect("the prefix is that of a test").path;
        for rest in [
            "m::r#fn",
            "#new_x#m::t",
            "#timeout_soon#m::t",
            "#panic_open",
            "",
            "#",
            "#_#",
        ] {
            assert_eq!(path(&format!("#lunatic_test_{rest}")), rest);
        }
        assert_eq!(path("#lunatic_test_m::\u{1b}[2J"), "m::\\u{1b}[2J");
        for export in ["_start", "lunatic_test_m::t", "#lunatic_tes", ""] {
            assert_eq!(read(export), None, "{export}");
        }
    }

    #[test]
    fn a_common_crate_is_removed() {
        let check = |paths: &[&str], expected: &str| {
            assert_eq!(common_crate(paths.iter().copied()), expected, "{paths:?}");
        };
        check(&["c::m::t", "c::u"], "c::");
        check(&["c::t"], "c::");
        check(&["c::t", "d::t"], "");
        check(&["c::t", "cc::t"], "");
        check(&["c::t", "t"], "");
        check(&["t"], "");
        check(&[], "");
    }
}
