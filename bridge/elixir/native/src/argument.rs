//! Converts arguments from Elixir terms to JSON.
//!
//! The term is walked without recursion because a scheduler's stack is small. The length of the
//! JSON is limited because a small term with shared parts can expand to more than fits in memory.

use crate::failure::{Failure, Kind};
use rustler::types::atom;
use rustler::types::map::MapIterator;
use rustler::types::tuple::get_tuple;
use rustler::{Binary, Term, TermType};
use std::collections::HashSet;
use std::fmt::Write;

/// The maximum nesting depth of values, which is also the deepest that serde_json parses.
const DEEPEST: usize = 127;

/// Writes a term as JSON, or fails if the JSON is longer than `most` bytes.
pub(crate) fn write(term: Term, most: usize) -> Result<Vec<u8>, Failure> {
    let mut writer = Writer {
        json: Vec::new(),
        most,
        within: Vec::new(),
    };
    match writer.write(term) {
        Ok(()) => Ok(writer.json),
        Err(Wrong::TooLong) => Err(too_large(most)),
        Err(Wrong::Value(what)) => Err(Failure::new(
            Kind::Argument,
            format!(
                "the argument cannot be expressed as JSON: {what}{}",
                writer.path()
            ),
        )),
    }
}

/// Copies a binary, or fails if it is longer than `most` bytes.
pub(crate) fn copy(binary: Binary, most: usize) -> Result<Vec<u8>, Failure> {
    if binary.len() > most {
        Err(too_large(most))
    } else {
        Ok(binary.to_vec())
    }
}

fn too_large(most: usize) -> Failure {
    Failure::new(
        Kind::TooLarge,
        format!("the argument is larger than the maximum size of the guest's memory, {most} bytes"),
    )
}

/// Why a term cannot be written.
enum Wrong {
    TooLong,
    /// A value that JSON cannot express.
    Value(String),
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Value(what.into()))
}

/// A list or map being written, and the position of the current value.
enum Within<'a> {
    List {
        rest: Term<'a>,
        index: usize,
    },
    /// `keys` contains the keys so far if keys of different types could be equal as strings.
    Map {
        pairs: Box<MapIterator<'a>>,
        key: String,
        keys: Option<HashSet<String>>,
        is_first: bool,
    },
    Keyword {
        rest: Term<'a>,
        key: String,
        keys: HashSet<String>,
    },
}

struct Writer<'a> {
    json: Vec<u8>,
    most: usize,
    within: Vec<Within<'a>>,
}

impl<'a> Writer<'a> {
    fn write(&mut self, term: Term<'a>) -> Result<(), Wrong> {
        let mut next = Some(term);
        while let Some(term) = next {
            self.begin(term)?;
            next = self.next()?;
            if self.json.len() > self.most {
                return Err(Wrong::TooLong);
            }
        }
        Ok(())
    }

    /// Writes a scalar, or the start of a list or map whose elements `next` returns.
    fn begin(&mut self, term: Term<'a>) -> Result<(), Wrong> {
        match term.get_type() {
            TermType::Atom => self.atom(term),
            TermType::Binary => self.text(text(term)?),
            TermType::Integer => self.integer(term),
            TermType::Float => match term.decode::<f64>() {
                Ok(number) => self.scalar(&number),
                Err(_) => wrong("a float that is not a number"),
            },
            TermType::List if is_keyword(term) => {
                self.json.push(b'{');
                self.enter(Within::Keyword {
                    rest: term,
                    key: String::new(),
                    keys: HashSet::new(),
                })
            }
            TermType::List => {
                self.json.push(b'[');
                self.enter(Within::List {
                    rest: term,
                    index: 0,
                })
            }
            TermType::Map => self.map(term),
            TermType::Tuple => wrong("a tuple"),
            TermType::Pid => wrong("a pid"),
            TermType::Port => wrong("a port"),
            TermType::Ref => wrong("a reference"),
            TermType::Fun => wrong("a function"),
            TermType::Unknown => wrong("a term of an unknown type"),
        }
    }

    fn enter(&mut self, within: Within<'a>) -> Result<(), Wrong> {
        if self.within.len() == DEEPEST {
            return wrong(format!("it is nested deeper than {DEEPEST} levels"));
        }
        self.within.push(within);
        Ok(())
    }

    fn map(&mut self, term: Term<'a>) -> Result<(), Wrong> {
        if let Ok(name) = term.map_get(atom::__struct__()) {
            let name = name.atom_to_string().unwrap_or_default();
            let name = name.strip_prefix("Elixir.").unwrap_or(&name);
            return wrong(format!(
                "a `{name}` struct (convert it to a map or a string first)"
            ));
        }
        let pairs =
            |term| MapIterator::new(term).ok_or_else(|| Wrong::Value("an invalid map".to_string()));
        // Different keys of the same type are different strings.
        let mut types = pairs(term)?.map(|(key, _)| key.get_type());
        let first = types.next();
        let keys = types.any(|ty| Some(ty) != first).then(HashSet::new);
        self.json.push(b'{');
        self.enter(Within::Map {
            pairs: Box::new(pairs(term)?),
            key: String::new(),
            keys,
            is_first: true,
        })
    }

    /// Closes all lists and maps that are complete, and returns the next term to write.
    fn next(&mut self) -> Result<Option<Term<'a>>, Wrong> {
        while let Some(within) = self.within.last_mut() {
            let value = match within {
                Within::List { rest, index } => match rest.list_get_cell() {
                    Ok((value, after)) => {
                        if *index > 0 {
                            self.json.push(b',');
                        }
                        (*rest, *index) = (after, *index + 1);
                        Some(value)
                    }
                    Err(_) if rest.is_empty_list() => None,
                    Err(_) => return wrong("an improper list"),
                },
                Within::Map {
                    pairs,
                    key,
                    keys,
                    is_first,
                } => match pairs.next() {
                    Some((name, value)) => {
                        if !std::mem::take(is_first) {
                            self.json.push(b',');
                        }
                        *key = key_of(name)?;
                        if let Some(keys) = keys
                            && !keys.insert(key.clone())
                        {
                            return wrong(format!(
                                "the key {key:?} occurs twice, with different types"
                            ));
                        }
                        Some(value)
                    }
                    None => None,
                },
                Within::Keyword { rest, key, keys } => match rest.list_get_cell() {
                    Ok((pair, after)) => {
                        if !keys.is_empty() {
                            self.json.push(b',');
                        }
                        let Some((name, value)) = pair_of(pair) else {
                            return wrong("a list that starts like a keyword list but is not one");
                        };
                        *rest = after;
                        *key = key_of(name)?;
                        if !keys.insert(key.clone()) {
                            return wrong(format!("the key {key:?} occurs twice"));
                        }
                        Some(value)
                    }
                    Err(_) if rest.is_empty_list() => None,
                    Err(_) => return wrong("an improper list"),
                },
            };
            match (value, within) {
                (Some(value), Within::List { .. }) => return Ok(Some(value)),
                (Some(value), Within::Map { key, .. } | Within::Keyword { key, .. }) => {
                    let key = key.clone();
                    self.text(&key)?;
                    self.json.push(b':');
                    return Ok(Some(value));
                }
                (None, within) => {
                    self.json.push(if matches!(within, Within::List { .. }) {
                        b']'
                    } else {
                        b'}'
                    });
                    self.within.pop();
                }
            }
        }
        Ok(None)
    }

    fn atom(&mut self, term: Term) -> Result<(), Wrong> {
        if atom::nil() == term {
            self.json.extend_from_slice(b"null");
            return Ok(());
        }
        // `true` and `false` are atoms too.
        if let Ok(truth) = term.decode::<bool>() {
            return self.scalar(&truth);
        }
        let name = name(term)?;
        self.text(&name)
    }

    fn integer(&mut self, term: Term) -> Result<(), Wrong> {
        match (term.decode::<i64>(), term.decode::<u64>()) {
            (Ok(number), _) => self.scalar(&number),
            (_, Ok(number)) => self.scalar(&number),
            _ => wrong("an integer of more than 64 bits"),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Wrong> {
        if text.len() > self.most.saturating_sub(self.json.len()) {
            return Err(Wrong::TooLong);
        }
        self.scalar(text)
    }

    fn scalar<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Wrong> {
        serde_json::to_writer(&mut self.json, value)
            .map_err(|error| Wrong::Value(error.to_string()))
    }

    /// Returns the path of the current value.
    fn path(&self) -> String {
        let mut path = String::new();
        for within in &self.within {
            let written = match within {
                Within::List { index, .. } => write!(path, "[{}]", index.saturating_sub(1)),
                Within::Map { key, .. } | Within::Keyword { key, .. } => write!(path, "[{key:?}]"),
            };
            written.expect("writing to a string cannot fail");
        }
        // The end of a long path is informative enough.
        let skipped = path.char_indices().rev().nth(200).map_or(0, |(at, _)| at);
        match (&path[skipped..], skipped) {
            ("", _) => String::new(),
            (path, 0) => format!(" at {path}"),
            (path, _) => format!(" at …{path}"),
        }
    }
}

fn text(term: Term<'_>) -> Result<&str, Wrong> {
    let Ok(binary) = term.decode::<Binary>() else {
        return wrong("a bitstring that is not a whole number of bytes");
    };
    std::str::from_utf8(binary.as_slice())
        .map_err(|_| Wrong::Value("a binary that is not UTF-8 (pass it with `bytes:`)".to_string()))
}

fn name(term: Term) -> Result<String, Wrong> {
    term.atom_to_string()
        .map_err(|_| Wrong::Value("an atom with characters beyond Latin-1".to_string()))
}

fn key_of(term: Term) -> Result<String, Wrong> {
    match term.get_type() {
        TermType::Atom => name(term),
        TermType::Binary => text(term).map(str::to_string),
        TermType::Integer => match (term.decode::<i64>(), term.decode::<u64>()) {
            (Ok(number), _) => Ok(number.to_string()),
            (_, Ok(number)) => Ok(number.to_string()),
            _ => wrong("a key that is an integer of more than 64 bits"),
        },
        _ => wrong("a key that is not an atom, a string or an integer"),
    }
}

fn pair_of(term: Term<'_>) -> Option<(Term<'_>, Term<'_>)> {
    match get_tuple(term).ok()?[..] {
        [name, value] if name.is_atom() => Some((name, value)),
        _ => None,
    }
}

fn is_keyword(term: Term) -> bool {
    term.list_get_cell()
        .is_ok_and(|(first, _)| pair_of(first).is_some())
}
