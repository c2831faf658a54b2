//! The JSON schema of `lunatic.toml`, which editors use for completion and validation. It is
//! generated from the types in [`file`](super::file).

use super::decode::{Section, Spanned};
use super::file::{File, NameOr, Size, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size: bytes, or a whole number of KiB, MiB or GiB.",
            "type": ["string", "integer"],
            "pattern": "^[0-9]+ *([bB]|[kKmMgG]([iI][bB])?)?$",
            "minimum": 1,
        })
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: seconds, or a whole number of us, ms, s, m or h.",
            "type": ["string", "integer"],
            "pattern": "^[0-9]+ *(us|ms|s|m|min|h)?$",
            "minimum": 1,
        })
    }
}

impl<T: JsonSchema> JsonSchema for NameOr<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("NameOr{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<T>()] })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// In `lunatic.toml`, sections are tables of named items.
impl<T: JsonSchema> JsonSchema for Section<T> {
    fn schema_name() -> Cow<'static, str> {
        BTreeMap::<String, T>::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, T>::json_schema(generator)
    }
}

#[test]
fn the_schema_in_the_repository_matches_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lunatic.schema.json");
    let schema = schemars::schema_for!(File);
    let schema =
        serde_json::to_string_pretty(&schema).expect("a schema can be serialized as JSON") + "\n";
    if std::env::var_os("LUNATIC_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).expect("the repository can be written to");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == schema,
        "the schema is out of date: `LUNATIC_WRITE_SCHEMA=1 cargo test -p lunatic-serve --lib schema` updates it"
    );
}
