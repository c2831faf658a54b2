//! A statement's parameters, by name.
//!
//! To find a name, SQLite searches all of a statement's parameters, which takes a long time if a
//! list binds thousands of parameters by name. The names are therefore collected only once, from
//! the statement's text, following SQLite's rules for tokens and numbering.

use std::collections::HashMap;

/// A statement's parameter numbers by name. The names include the leading sign.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(HashMap<Box<str>, u64>);

/// The size of a name's entry in addition to the name, in bytes.
const SIZE: usize = 64;

impl Parameters {
    /// Finds the parameters of a statement that SQLite has accepted.
    pub(super) fn of(sql: &str) -> Parameters {
        let mut numbers = HashMap::new();
        // The highest number so far.
        let mut last = 0u64;
        let mut rest = sql;
        while let Some(first) = rest.bytes().next() {
            let length = token(rest.as_bytes());
            let (token, after) = rest.split_at(rest.ceil_char_boundary(length));
            rest = after;
            match first {
                b'?' => {
                    let number = match &token[1..] {
                        "" => last.saturating_add(1),
                        digits => digits.parse().unwrap_or(u64::MAX),
                    };
                    last = last.max(number);
                    if token.len() > 1 {
                        numbers.entry(token.into()).or_insert(number);
                    }
                }
                b':' | b'@' | b'$' if token.len() > 1 => {
                    numbers.entry(token.into()).or_insert_with(|| {
                        last = last.saturating_add(1);
                        last
                    });
                }
                _ => {}
            }
        }
        Parameters(numbers)
    }

    /// Returns how much memory the names occupy.
    pub(super) fn size(&self) -> usize {
        self.0.keys().map(|name| name.len() + SIZE).sum()
    }

    /// Returns the number of the parameter with the given name. The name may omit its leading sign.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let with_sign = |sign: &str| self.0.get(&*format!("{sign}{name}")).copied();
        ["", ":", "@", "$"].into_iter().find_map(with_sign)
    }
}

/// Returns the length of the first token, or 1 if the first byte is not part of a token.
fn token(sql: &[u8]) -> usize {
    let until = |end: &[u8], from: usize| {
        let found = memchr::memmem::find(sql.get(from..).unwrap_or_default(), end);
        found.map_or(sql.len(), |start| from + start + end.len())
    };
    let while_identifier = |from: usize| {
        let rest = sql[from..].iter();
        from + rest.take_while(|byte| is_in_identifier(**byte)).count()
    };
    match sql {
        [b'-', b'-', ..] => until(b"\n", 2),
        [b'/', b'*', ..] => until(b"*/", 2),
        [b'[', ..] => until(b"]", 1),
        [quote @ (b'\'' | b'"' | b'`'), ..] => {
            // A doubled quote is treated as the end of one string and the beginning of another,
            // which has the same effect.
            until(&[*quote], 1)
        }
        [b'?', rest @ ..] => 1 + rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        [b':' | b'@' | b'$', ..] => variable(sql),
        [first, ..] if is_in_identifier(*first) => while_identifier(1),
        _ => 1,
    }
}

/// Returns the length of a named parameter, which may have parts after `::` and a suffix in
/// parentheses.
fn variable(sql: &[u8]) -> usize {
    let mut at = 1;
    let mut has_name = false;
    loop {
        match &sql[at..] {
            [byte, ..] if is_in_identifier(*byte) => {
                has_name = true;
                at += 1;
            }
            [b'(', rest @ ..] if has_name => {
                let inside = rest
                    .iter()
                    .take_while(|byte| !is_space(**byte) && **byte != b')');
                let end = at + 1 + inside.count();
                return match sql.get(end) {
                    Some(b')') => end + 1,
                    _ => end,
                };
            }
            [b':', b':', ..] => at += 2,
            _ => return at,
        }
    }
}

fn is_in_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// Returns whether SQLite treats a byte as whitespace.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;

    #[test]
    fn names_get_the_numbers_that_sqlite_gives_them() {
        const PARTS: &[&str] = &[
            "?",
            "?7",
            ":a",
            "@a",
            "$a",
            ":a",
            "$a::b(c)",
            "':x'",
            "\":y\"",
            "[:z]",
            "`@q`",
            "/* :c */ 1",
            "1 -- :d\n",
            "'it''s :e'",
            "x",
            "x$y",
            "x'00'",
            "1.5",
            ":ä",
        ];
        let sql = prop::collection::vec(prop::sample::select(PARTS), 1..12);
        let sql = sql.prop_map(|parts| format!("SELECT {} FROM t", parts.join(", ")));
        let connection = Connection::open_in_memory().expect("there is enough memory");
        let table = "CREATE TABLE t (x, x$y, \":y\", \":z\", \"@q\")";
        connection.execute_batch(table).expect("the table is new");
        proptest!(|(sql in sql)| {
            let statement = connection.prepare(&sql).expect("the statement is valid");
            let found = Parameters::of(&sql);
            let count = statement.parameter_count();
            for number in 1..=count {
                if let Some(name) = statement.parameter_name(number) {
                    prop_assert_eq!(found.number(name), Some(number as u64), "{} in {}", name, sql);
                }
            }
            prop_assert!(found.0.values().all(|number| *number <= count as u64));
        });
    }

    #[test]
    fn a_name_may_omit_its_sign() {
        let parameters = Parameters::of("SELECT :a, @b, $c, ?");
        let found = ["a", "b", "c", ":a", "d"].map(|name| parameters.number(name));
        assert_eq!(found, [Some(1), Some(2), Some(3), Some(1), None]);
    }
}
