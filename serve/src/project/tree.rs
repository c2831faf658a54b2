//! A file's tree: its values and their positions. TOML and YAML are read into the same kind of
//! tree.

use super::problem::{Problem, Source, Span};
use serde::de::{self, Deserialize, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Spanned};
use std::fmt;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A value and its position in the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Nothing,
    Text(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    /// The members, in file order.
    Table(Vec<Member>),
}

/// A table key and its value.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: String,
    /// The key's position.
    pub(super) span: Span,
    pub(super) node: Node,
}

/// The maximum nesting depth of YAML. A project file needs three levels.
const MAX_DEPTH: usize = 32;

/// The maximum number of values in a YAML file, counting each use of an alias. A project file has a
/// few hundred.
const MAX_NODES: usize = 20_000;

impl Node {
    /// Reads TOML.
    ///
    /// # Errors
    ///
    /// All syntax errors in the TOML.
    pub(super) fn of_toml(source: &Arc<Source>) -> Result<Node, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        if errors.is_empty() {
            return Ok(of_toml(
                table.span().into(),
                DeValue::Table(table.into_inner()),
            ));
        }
        let problem = |error: toml::de::Error| {
            // Some messages have a second line that says what was expected.
            let message = error.message().replace('\n', ", ");
            Problem::new(source, error.span().map(Span::from), message, None)
        };
        Err(errors.into_iter().map(problem).collect())
    }

    /// Reads YAML. The size of the tree is limited, no matter how the file nests or repeats values.
    ///
    /// # Errors
    ///
    /// The first syntax error in the YAML, or the first value that exceeds the limits.
    pub(super) fn of_yaml(source: &Arc<Source>) -> Result<Node, Vec<Problem>> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_NODES, max_documents: 1 },
            duplicate_keys: DuplicateKeyPolicy::Error,
            merge_keys: MergeKeyPolicy::Error,
            strict_booleans: true,
            with_snippet: false,
        };
        let read = serde_saphyr::from_str_with_options::<Spanned<Yaml>>(&source.text, options);
        read.map(Node::from).map_err(|error| {
            let message = error.without_snippet().to_string();
            // The position is reported separately.
            let message = message
                .split(" at line ")
                .next()
                .unwrap_or(&message)
                .to_string();
            let span = error.location().and_then(|location| of_location(&location));
            vec![Problem::new(
                source,
                span,
                format!("this YAML cannot be read: {message}"),
                None,
            )]
        })
    }
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Span {
        Span {
            start: range.start,
            end: range.end,
        }
    }
}

/// Converts a TOML value. This function is recursive, but the parser limits the depth.
fn of_toml(span: Span, value: DeValue<'_>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => Value::Integer(integer),
                // The integer has more digits than any field accepts.
                Err(_) => Value::Text(integer.to_string()),
            }
        }
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(float) => Value::Float(float),
            Err(_) => Value::Text(float.to_string()),
        },
        DeValue::Boolean(bool) => Value::Bool(bool),
        DeValue::Datetime(datetime) => Value::Text(datetime.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| of_toml(item.span().into(), item.into_inner()))
                .collect(),
        ),
        DeValue::Table(table) => {
            let member = |(key, value): (toml::Spanned<_>, toml::Spanned<_>)| {
                let (at, node) = (
                    Span::from(key.span()),
                    of_toml(value.span().into(), value.into_inner()),
                );
                let key: std::borrow::Cow<'_, str> = key.into_inner();
                Member {
                    key: key.into_owned(),
                    span: at,
                    node,
                }
            };
            let mut members: Vec<Member> = table.into_iter().map(member).collect();
            members.sort_by_key(|member| member.span);
            Value::Table(members)
        }
    };
    Node { span, value }
}

/// A YAML value.
struct Yaml(Value);

impl From<Spanned<Yaml>> for Node {
    fn from(spanned: Spanned<Yaml>) -> Node {
        Node {
            span: of_location(&spanned.referenced).unwrap_or_default(),
            value: spanned.value.0,
        }
    }
}

/// Returns a location's byte range, which is known because the file is parsed from a string.
fn of_location(location: &Location) -> Option<Span> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len().unwrap_or(1)).ok()?;
    Some(Span {
        start,
        end: start.checked_add(length)?,
    })
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Yaml, D::Error> {
        struct YamlVisitor;

        impl<'de> Visitor<'de> for YamlVisitor {
            type Value = Yaml;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Yaml, E> {
                Ok(Yaml(Value::Nothing))
            }

            fn visit_bool<E>(self, bool: bool) -> Result<Yaml, E> {
                Ok(Yaml(Value::Bool(bool)))
            }

            fn visit_i64<E>(self, integer: i64) -> Result<Yaml, E> {
                Ok(Yaml(Value::Integer(integer.into())))
            }

            fn visit_u64<E>(self, integer: u64) -> Result<Yaml, E> {
                Ok(Yaml(Value::Integer(integer.into())))
            }

            fn visit_f64<E>(self, float: f64) -> Result<Yaml, E> {
                Ok(Yaml(Value::Float(float)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
                Ok(Yaml(Value::Text(text.to_string())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Spanned<Yaml>>()? {
                    list.push(item.into());
                }
                Ok(Yaml(Value::List(list)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Yaml, A::Error> {
                let mut table = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let span = of_location(&key.referenced).unwrap_or_default();
                    let node = map.next_value::<Spanned<Yaml>>()?.into();
                    table.push(Member {
                        key: key.value,
                        span,
                        node,
                    });
                }
                Ok(Yaml(Value::Table(table)))
            }
        }

        deserializer.deserialize_any(YamlVisitor)
    }
}
