//! A serde deserializer for a file's tree. Unlike the file formats' own deserializers, it can
//! continue after an error, so that all problems are reported at once.

use super::problem::{Problem, Source, Span, list, suggestion};
use super::tree::{Member, Node, Value};
use serde::de::value::{StrDeserializer, UsizeDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Collects a file's problems.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) source: Arc<Source>,
    problems: RefCell<Vec<Problem>>,
    /// The nodes of the sections, which are read later.
    sections: RefCell<Vec<Node>>,
}

/// A value and its position in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "SpannedParts<T>", bound = "T: Deserialize<'de>")]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// What the decoder provides for a [`Spanned`].
#[derive(Deserialize)]
#[serde(rename = "$lunatic::Spanned")]
struct SpannedParts<T> {
    start: usize,
    end: usize,
    value: T,
}

impl<T> From<SpannedParts<T>> for Spanned<T> {
    fn from(parts: SpannedParts<T>) -> Spanned<T> {
        let SpannedParts { start, end, value } = parts;
        let span = Span { start, end };
        Spanned { value, span }
    }
}

/// A table or list whose items are read one by one, so that a problem in one does not hide problems
/// in others.
#[derive(Debug, Deserialize)]
#[serde(from = "SectionIndex", bound = "")]
pub(super) struct Section<T> {
    /// The section's index in the report, or `None` if the file does not have this section.
    index: Option<usize>,
    kind: PhantomData<fn() -> T>,
}

/// What the decoder provides for a [`Section`].
#[derive(Deserialize)]
#[serde(rename = "$lunatic::Section")]
struct SectionIndex(usize);

impl<T> From<SectionIndex> for Section<T> {
    fn from(SectionIndex(index): SectionIndex) -> Section<T> {
        Section {
            index: Some(index),
            kind: PhantomData,
        }
    }
}

/// Why a value is invalid.
#[derive(Debug)]
pub(super) struct Fault {
    span: Option<Span>,
    message: String,
    help: Option<String>,
}

impl Report {
    pub(super) fn new(source: Arc<Source>) -> Report {
        Report {
            source,
            problems: RefCell::default(),
            sections: RefCell::default(),
        }
    }

    /// Adds a problem and how to fix it.
    pub(super) fn problem(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.fault(span, message, Some(help.into()));
    }

    /// Adds a problem that there may be no known fix for.
    pub(super) fn fault(&self, span: Span, message: impl Into<String>, help: Option<String>) {
        let problem = Problem::new(&self.source, Some(span), message.into(), help);
        self.add(problem);
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    pub(super) fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Decodes a value. If it is invalid, reports a problem and returns `None`.
    pub(super) fn decode<T: de::DeserializeOwned>(&self, node: &Node, place: Span) -> Option<T> {
        let decoded = T::deserialize(Decoder { node, report: self });
        decoded
            .map_err(|fault| {
                self.fault(fault.span.unwrap_or(place), fault.message, fault.help);
            })
            .ok()
    }

    /// Reports that a section is of the wrong kind. Returns no entries.
    fn unexpected<T>(&self, node: &Node, expected: &str) -> Vec<T> {
        let message = format!("expected {expected}, found {}", node.value);
        self.fault(node.span, message, None);
        Vec::new()
    }

    /// Decodes part of a value.
    fn read<'de, T: DeserializeSeed<'de>>(&self, node: &Node, seed: T) -> Result<T::Value, Fault> {
        let decoder = Decoder { node, report: self };
        seed.deserialize(decoder)
            .map_err(|fault| fault.at(node.span))
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

impl<T: de::DeserializeOwned> Section<T> {
    /// Reads a table of named items, in the order in which the file lists them.
    pub(super) fn entries(&self, report: &Report) -> Vec<(Spanned<String>, T)> {
        let Some(node) = self.node(report) else {
            return Vec::new();
        };
        let Value::Table(entries) = node.value else {
            return report.unexpected(&node, "a table");
        };
        let read = |Member { key, span, node }: Member| {
            let value = report.decode(&node, span)?;
            Some((Spanned { value: key, span }, value))
        };
        entries.into_iter().filter_map(read).collect()
    }

    /// Reads a list of items.
    pub(super) fn items(&self, report: &Report) -> Vec<Spanned<T>> {
        let Some(node) = self.node(report) else {
            return Vec::new();
        };
        let Value::List(items) = node.value else {
            return report.unexpected(&node, "a list");
        };
        let read = |node: Node| {
            Some(Spanned {
                value: report.decode(&node, node.span)?,
                span: node.span,
            })
        };
        items.into_iter().filter_map(read).collect()
    }

    fn node(&self, report: &Report) -> Option<Node> {
        Some(report.sections.borrow()[self.index?].clone())
    }
}

impl<T> Default for Section<T> {
    fn default() -> Section<T> {
        Section {
            index: None,
            kind: PhantomData,
        }
    }
}

impl Fault {
    /// Sets where the fault is, unless a more precise place is already known.
    fn at(mut self, span: Span) -> Fault {
        self.span.get_or_insert(span);
        self
    }

    fn new(message: impl Into<String>, help: Option<String>) -> Fault {
        Fault {
            span: None,
            message: message.into(),
            help,
        }
    }
}

impl de::Error for Fault {
    /// The second line of the message, if any, says how to fix the problem.
    fn custom<T: fmt::Display>(message: T) -> Fault {
        let message = message.to_string();
        match message.split_once('\n') {
            Some((message, help)) => Fault::new(message, Some(help.to_string())),
            None => Fault::new(message, None),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        Fault::new(
            format!("expected {expected}, found {}", described(found)),
            None,
        )
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        Fault::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Fault {
        Fault::new(
            format!("unknown value `{variant}`"),
            Some(suggestion(variant, "others", expected.iter().copied())),
        )
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Fault {
        Fault::new(
            format!("unknown field `{field}`"),
            Some(suggestion(field, "fields", expected.iter().copied())),
        )
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::new(format!("`{field}` is missing"), None)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// Describes the value that was found, in terms that the file's author knows.
fn described(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Str(text) => format!("`{text}`"),
        de::Unexpected::Signed(integer) => format!("`{integer}`"),
        de::Unexpected::Unsigned(integer) => format!("`{integer}`"),
        de::Unexpected::Float(float) => format!("`{float}`"),
        de::Unexpected::Bool(bool) => format!("`{bool}`"),
        de::Unexpected::Seq => "a list".into(),
        de::Unexpected::Map => "a table".into(),
        de::Unexpected::Unit => "nothing".into(),
        other => other.to_string(),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nothing => f.write_str("nothing"),
            Value::Text(text) => write!(f, "`{text}`"),
            Value::Integer(integer) => write!(f, "`{integer}`"),
            Value::Float(float) => write!(f, "`{float}`"),
            Value::Bool(bool) => write!(f, "`{bool}`"),
            Value::List(_) => f.write_str("a list"),
            Value::Table(_) => f.write_str("a table"),
        }
    }
}

/// Decodes one value.
#[derive(Clone, Copy)]
struct Decoder<'t> {
    node: &'t Node,
    report: &'t Report,
}

/// The struct names by which the decoder recognizes [`SpannedParts`] and [`SectionIndex`], which
/// need more than a plain value.
const SPANNED: &str = "$lunatic::Spanned";
const SECTION: &str = "$lunatic::Section";

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Decoder { node, report } = self;
        let visited = match &node.value {
            Value::Nothing => visitor.visit_unit(),
            Value::Text(text) => visitor.visit_str(text),
            Value::Integer(integer) => match (u64::try_from(*integer), i64::try_from(*integer)) {
                (Ok(integer), _) => visitor.visit_u64(integer),
                (_, Ok(integer)) => visitor.visit_i64(integer),
                _ => visitor.visit_i128(*integer),
            },
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Bool(bool) => visitor.visit_bool(*bool),
            Value::List(items) => visitor.visit_seq(Items {
                items: items.iter(),
                report,
            }),
            Value::Table(entries) => visitor.visit_map(Members {
                entries: entries.iter(),
                value: None,
                fields: None,
                report,
            }),
        };
        visited.map_err(|fault| fault.at(node.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Nothing => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name != SECTION {
            return visitor.visit_newtype_struct(self);
        }
        let mut sections = self.report.sections.borrow_mut();
        sections.push(self.node.clone());
        visitor.visit_newtype_struct(UsizeDeserializer::<Fault>::new(sections.len() - 1))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Decoder { node, report } = self;
        match &node.value {
            _ if name == SPANNED => visitor.visit_seq(Parts {
                node,
                report,
                step: 0,
            }),
            Value::Table(entries) => {
                // A missing field is reported at the table's name, so its error must not get the
                // place of the whole table.
                visitor.visit_map(Members {
                    entries: entries.iter(),
                    value: None,
                    fields: Some(fields),
                    report,
                })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Decoder { node, report } = self;
        let (name, span, content) = match &node.value {
            Value::Text(name) => (name, node.span, None),
            Value::Table(entries) if let [entry] = &entries[..] => {
                (&entry.key, entry.span, Some(&entry.node))
            }
            other => {
                let message = format!("expected {}, found {other}", list(variants));
                return Err(Fault::new(message, None).at(node.span));
            }
        };
        let chosen = Variant {
            name,
            span,
            content,
            report,
        };
        visitor
            .visit_enum(chosen)
            .map_err(|fault| fault.at(node.span))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'t> {
    items: std::slice::Iter<'t, Node>,
    report: &'t Report,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let next = self.items.next();
        next.map(|node| self.report.read(node, seed)).transpose()
    }
}

struct Members<'t> {
    entries: std::slice::Iter<'t, Member>,
    /// The value of the key that was read last.
    value: Option<&'t Node>,
    /// The permitted keys. Other keys are reported and skipped.
    fields: Option<&'static [&'static str]>,
    report: &'t Report,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        for entry in self.entries.by_ref() {
            if let Some(fields) = self.fields
                && !fields.contains(&entry.key.as_str())
            {
                let Fault { message, help, .. } = de::Error::unknown_field(&entry.key, fields);
                self.report.fault(entry.span, message, help);
                continue;
            }
            self.value = Some(&entry.node);
            let key = StrDeserializer::<Fault>::new(&entry.key);
            return seed
                .deserialize(key)
                .map(Some)
                .map_err(|fault| fault.at(entry.span));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self
            .value
            .take()
            .expect("serde asks for each value once, after its key");
        self.report.read(node, seed)
    }
}

/// An enum variant's name and its content, if any.
struct Variant<'t> {
    name: &'t str,
    span: Span,
    content: Option<&'t Node>,
    report: &'t Report,
}

impl<'de, 't> EnumAccess<'de> for Variant<'t> {
    type Error = Fault;
    type Variant = Variant<'t>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Variant<'t>), Fault> {
        let name = StrDeserializer::<Fault>::new(self.name);
        let variant = seed
            .deserialize(name)
            .map_err(|fault| fault.at(self.span))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            None => Ok(()),
            Some(node) => Err(
                Fault::new(format!("`{}` does not take a value", self.name), None).at(node.span),
            ),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        match self.content {
            Some(node) => self.report.read(node, seed),
            None => {
                let help = format!("write `{{ {} = … }}`", self.name);
                Err(Fault::new(format!("`{}` needs a value", self.name), Some(help)).at(self.span))
            }
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.newtype_variant_seed(PhantomData::<serde::de::IgnoredAny>)?;
        visitor.visit_unit()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.tuple_variant(0, visitor)
    }
}

/// The fields of [`SpannedParts`], in order.
struct Parts<'t> {
    node: &'t Node,
    report: &'t Report,
    step: u8,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Parts { node, report, step } = *self;
        self.step += 1;
        let number = UsizeDeserializer::<Fault>::new;
        match step {
            0 => seed.deserialize(number(node.span.start)),
            1 => seed.deserialize(number(node.span.end)),
            _ => report.read(node, seed),
        }
        .map(Some)
    }
}
