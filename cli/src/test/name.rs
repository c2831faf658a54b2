//! The names under which modules export tests, and what they say.
//!
//! ```text
//! #lunatic_test_ [option]... crate::module::function
//! #ignore_                it is not run unless asked for
//! #because_TEXT#          why it is not
//! #panic_TEXT#            it has to panic, with a message that contains the text
//! #timeout_MILLISECONDS#  it has to end within this time
//! #memory_BYTES#          each of its processes may have so much memory
//! ```
//!
//! In a text, `\#` stands for `#`. The first, second and fourth lines are what programs on the published crate export; these
//! do not escape a backslash, so that one at the end of a text looks like an escape of what ends the text.

use lunatic_vm::printable;
use std::time::Duration;

/// What the exported names of tests begin with.
const PREFIX: &str = "#lunatic_test_";

/// What a module's export says of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declaration {
    /// Its path: the crate, modules, the function.
    pub(super) path: String,
    pub(super) is_ignored: bool,
    pub(super) why_ignored: Option<String>,
    /// What its panic's message has to contain, where it has to panic; nothing is contained in every message.
    pub(super) panic: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) memory: Option<u64>,
}

/// Reads the name of an export; `None` where it is not that of a test.
pub(super) fn read(export: &str) -> Option<Declaration> {
    let mut rest = export.strip_prefix(PREFIX)?;
    let mut declared = Declaration::default();
    while let Some(after) = take_option(rest, &mut declared) {
        rest = after;
    }
    declared.path = printable(rest).into_owned();
    Some(declared)
}

/// Takes an option off the front and returns what follows it.
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

/// Reads a text to the `#` that ends it.
fn take_text(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    while let Some(place) = rest.find('#') {
        let (before, after) = (&rest[..place], &rest[place + 1..]);
        let Some(before) = before.strip_suffix('\\') else {
            value += before;
            return Some((value, after));
        };
        value += before;
        value.push('#');
        rest = after;
    }
    // No `#` is left to end it, so the last one did, behind a backslash that is the text's own.
    let (before, after) = text.rsplit_once("\\#")?;
    Some((before.replace("\\#", "#") + "\\", after))
}

/// Returns the crate that all paths begin with, and `::`: names of tests are without. Empty where there is not one.
pub(super) fn common_crate<'a>(mut paths: impl Iterator<Item = &'a str>) -> &'a str {
    let first = |path: &'a str| path.find("::").map(|place| &path[..place + 2]);
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
    fn the_names_of_the_published_crate_are_read() {
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
    fn what_is_no_option_belongs_to_the_path() {
        let path = |export: &str| read(export).expect("it is the name of a test").path;
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
    fn the_crate_is_left_out_where_there_is_one() {
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
