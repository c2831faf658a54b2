//! Converts results to Elixir terms: JSON to the corresponding term, bytes to a binary.
//!
//! JSON is converted in two steps. Our threads, which have enough stack, parse it into a list of
//! tokens; then a dirty scheduler builds the term from the tokens, without recursion. Large maps
//! cannot be built on threads that do not belong to the node: while building them, OTP 25 reads
//! scheduler-specific data, which makes it crash on other threads.
//!
//! Objects become maps with binary keys, so that guests cannot create atoms. The length of answers
//! is limited because their terms take up to about ten times as much space. serde_json limits their
//! depth.

use crate::failure::{Failure, Kind};
use crate::tasks;
use lunatic_bridge::CallError;
use rustler::types::atom;
use rustler::{Encoder, Env, NewBinary, Term};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A parsed value, in postfix order: a list's or map's elements come before it.
#[derive(Default)]
pub(crate) struct Value {
    tokens: Vec<Token>,
    /// All strings, concatenated.
    texts: Vec<u8>,
}

enum Token {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    /// The length of the next string, in bytes.
    Text(usize),
    /// The number of elements.
    List(usize),
    /// The number of keys, each followed by its value.
    Map(usize),
}

/// Parses JSON, or fails if it is longer than `most` bytes.
pub(crate) fn read(json: &[u8], most: usize) -> Result<Value, Failure> {
    if json.len() > most {
        let message = format!(
            "the answer is {} bytes of JSON, but only {most} are allowed: see the option `answer`",
            json.len()
        );
        return Err(Failure::new(Kind::TooLarge, message));
    }
    let mut value = Value::default();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = Reader(&mut value)
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    read.map_err(|error| CallError::Answer(error.to_string()))?;
    Ok(value)
}

/// Creates a binary with the given bytes.
pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}

impl Value {
    fn text(&mut self, text: &str) {
        self.texts.extend_from_slice(text.as_bytes());
        self.tokens.push(Token::Text(text.len()));
    }

    /// Builds the term. Must run on a scheduler.
    fn build<'a>(&self, env: Env<'a>) -> Term<'a> {
        let mut texts = &self.texts[..];
        let mut terms: Vec<Term> = Vec::new();
        for token in &self.tokens {
            let term = match *token {
                Token::Null => atom::nil().to_term(env),
                Token::Bool(value) => value.encode(env),
                Token::Signed(value) => value.encode(env),
                Token::Unsigned(value) => value.encode(env),
                Token::Float(value) => value.encode(env),
                Token::Text(length) => {
                    let (text, rest) = texts.split_at(length);
                    texts = rest;
                    binary(env, text)
                }
                Token::List(length) => terms.split_off(terms.len() - length).encode(env),
                Token::Map(length) => map(env, &terms.split_off(terms.len() - length * 2)),
            };
            terms.push(term);
        }
        terms.pop().expect("the parser reads exactly one value")
    }
}

/// Creates a map from alternating keys and values.
fn map<'a>(env: Env<'a>, pairs: &[Term<'a>]) -> Term<'a> {
    let (keys, values): (Vec<Term>, Vec<Term>) =
        pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
    if let Ok(map) = Term::map_from_term_arrays(env, &keys, &values) {
        return map;
    }
    // A key appears more than once. The last value wins, as usual.
    let text = |key: &Term<'a>| key.decode_as_binary().expect("keys are strings").as_slice();
    let last: HashMap<&[u8], (Term, Term)> = keys
        .into_iter()
        .zip(values)
        .map(|(key, value)| (text(&key), (key, value)))
        .collect();
    let (keys, values): (Vec<Term>, Vec<Term>) = last.into_values().unzip();
    Term::map_from_term_arrays(env, &keys, &values).expect("duplicate keys were removed above")
}

/// A value that the calling process has yet to turn into a term.
pub(crate) struct Waiting(Mutex<Option<Value>>);

impl Waiting {
    pub(crate) fn new(value: Value) -> Waiting {
        Waiting(Mutex::new(Some(value)))
    }

    /// Builds the term. Returns `None` if it has already been built.
    pub(crate) fn build<'a>(&self, env: Env<'a>) -> Option<Term<'a>> {
        self.take().map(|value| value.build(env))
    }

    fn take(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The term was never built. This runs during garbage collection, and the value may be
        // large.
        if let Some(value) = self.take() {
            tasks::unblock(move || drop(value));
        }
    }
}

/// Parses one value, recursively.
struct Reader<'a>(&'a mut Value);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.tokens.push(Token::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.tokens.push(Token::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.tokens.push(Token::Signed(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.tokens.push(Token::Unsigned(value));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if !value.is_finite() {
            return Err(E::custom("a number is out of range"));
        }
        self.0.tokens.push(Token::Float(value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.0.text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let mut length = 0;
        while values.next_element_seed(Reader(self.0))?.is_some() {
            length += 1;
        }
        self.0.tokens.push(Token::List(length));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<(), A::Error> {
        let mut length = 0;
        while pairs.next_key_seed(Reader(self.0))?.is_some() {
            pairs.next_value_seed(Reader(self.0))?;
            length += 1;
        }
        self.0.tokens.push(Token::Map(length));
        Ok(())
    }
}
