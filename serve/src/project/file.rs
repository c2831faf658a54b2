//! What can stand in `lunatic.toml`. The schema for editors is made from these types.

use super::decode::{At, Section};
use crate::{OutboundRule, quantity};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// A project of functions and the gateways that lead to them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "Project", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    /// The functions, by name: `[a-z0-9][a-z0-9-]{0,62}`.
    #[serde(default)]
    pub(super) functions: Section<FunctionEntry>,
    /// Descriptions of what functions may use, by name.
    #[serde(default)]
    pub(super) environments: Section<EnvironmentEntry>,
    /// What listens, by name.
    #[serde(default)]
    pub(super) gateways: Section<GatewayEntry>,
    /// Other projects, by the name that stands before the `/` of their functions here.
    #[serde(default)]
    pub(super) dependencies: Section<DependencyEntry>,
    /// With it, functions can be deployed over HTTP and are invoked by name.
    pub(super) service: Option<ServiceEntry>,
}

/// A function: a cargo package (`path`), a file (`wasm`), or what a `command` builds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    rename = "Function",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct FunctionEntry {
    /// The directory of its cargo package, or the one that the command runs in.
    pub(super) path: Option<At<PathBuf>>,
    /// The language that it is written in, where it is built without a command.
    pub(super) language: Option<At<Language>>,
    /// What cargo builds for: `wasm32-wasip1` for functions that read and write bytes and for programs, `wasm32-wasip2` for
    /// components that handle HTTP requests.
    pub(super) target: Option<At<Target>>,
    /// The profile that cargo builds with.
    pub(super) profile: Option<At<String>>,
    /// The package's binary, where it has several.
    pub(super) binary: Option<At<String>>,
    /// A file that is built already, as wasm or wat.
    pub(super) wasm: Option<At<PathBuf>>,
    /// A program and its arguments that builds it. No shell reads them.
    pub(super) command: Option<At<Vec<String>>>,
    /// What the command writes, below its directory.
    pub(super) output: Option<At<PathBuf>>,
    /// More files and directories that it is built from: it is built again when they change.
    #[serde(default)]
    pub(super) sources: Vec<At<PathBuf>>,
    /// What it may use: the name of an environment, or an environment of its own.
    pub(super) environment: Option<At<NameOr<EnvironmentEntry>>>,
    /// How its instances serve requests.
    #[serde(default)]
    pub(super) policy: PolicyEntry,
}

/// A language that is built without a command.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Language {
    /// By cargo.
    Rust,
}

/// What cargo builds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum Target {
    /// Modules.
    #[default]
    #[serde(rename = "wasm32-wasip1")]
    Wasip1,
    /// Components.
    #[serde(rename = "wasm32-wasip2")]
    Wasip2,
}

/// How instances serve requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "Policy", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum PolicyEntry {
    /// Each request has an instance of its own.
    #[default]
    Fresh,
    /// One instance serves one request after the other, and what it keeps in its memory stays.
    Single,
    /// At most so many instances, each of which serves one request after the other.
    Pool(NonZeroUsize),
}

/// The name of something, or the thing itself.
#[derive(Debug)]
pub(super) enum NameOr<T> {
    Name(String),
    Table(T),
}

/// What a function may use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename = "Environment",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct EnvironmentEntry {
    /// Memory of each process, for example `"64MiB"`. 256 MiB where nothing is said.
    pub(super) memory: Option<Size>,
    /// Compute of each request, in units of 100,000 instructions. Not limited where nothing is said.
    pub(super) compute: Option<NonZeroU64>,
    /// Processes alive at the same time, of all requests together.
    pub(super) processes: Option<NonZeroU64>,
    /// How long a request may take, for example `"30s"`.
    pub(super) deadline: Option<Time>,
    /// The largest body of a request, for example `"10MiB"`.
    pub(super) body: Option<Size>,
    /// Requests at the same time.
    pub(super) requests: Option<NonZeroUsize>,
    /// What is granted beside what every function has: beginnings of `namespace::name`.
    #[serde(default)]
    pub(super) namespaces: Vec<String>,
    /// Hosts that may be called over HTTP.
    #[serde(default)]
    pub(super) outbound: Vec<OutboundRule>,
    /// Whether these hosts may have addresses of private networks and of this computer.
    #[serde(default)]
    pub(super) private_addresses: bool,
    /// Directories, by the path that the function finds them under.
    #[serde(default)]
    pub(super) files: BTreeMap<String, FilesEntry>,
    /// Environment variables.
    #[serde(default)]
    pub(super) variables: BTreeMap<String, At<String>>,
    /// Environment variables whose values stand elsewhere.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, At<SecretEntry>>,
    /// What `client-secret` of `rvm:lambda/host` tells.
    pub(super) client_secret: Option<At<SecretEntry>>,
}

/// A directory that a function may use.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    rename = "Files",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table with `path`"
)]
pub(super) struct FilesEntry {
    /// Where it is.
    pub(super) path: At<PathBuf>,
    /// Whether it may be written to.
    #[serde(default)]
    pub(super) write: bool,
}

/// Where a secret stands.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "Secret", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum SecretEntry {
    /// In an environment variable of who serves.
    Env(String),
    /// In a file; a line's end at its end does not belong to it.
    File(PathBuf),
}

/// What a gateway speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum GatewayType {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// Bytes.
    Tcp,
}

/// Something that listens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    rename = "Gateway",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct GatewayEntry {
    /// What it speaks.
    #[serde(rename = "type")]
    pub(super) kind: GatewayType,
    /// The address that it listens at; this computer alone where nothing is said.
    pub(super) address: Option<IpAddr>,
    /// The port; 0 is any that is free.
    pub(super) port: At<u16>,
    /// The function that gets everything, or everything that has no route.
    pub(super) function: Option<At<String>>,
    /// Functions and files by path: `/a` is this path and everything below it, and the longest that fits decides.
    #[serde(default)]
    pub(super) routes: Section<At<NameOr<StaticFiles>>>,
    /// With it, only TLS is spoken.
    pub(super) tls: Option<At<TlsEntry>>,
    /// What clients may do.
    #[serde(default)]
    pub(super) limits: LimitsEntry,
}

/// Files that are served as they are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct StaticFiles {
    /// The directory.
    pub(super) files: At<PathBuf>,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    rename = "Tls",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct TlsEntry {
    /// The chain of certificates, the server's own first.
    pub(super) certificates: PathBuf,
    /// Its private key.
    pub(super) key: PathBuf,
}

/// What clients may do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename = "Limits",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct LimitsEntry {
    /// Connections at the same time.
    pub(super) connections: Option<NonZeroUsize>,
    /// How long a connection may lie idle.
    pub(super) idle: Option<Time>,
    /// HTTP: requests at the same time, over all functions.
    pub(super) requests: Option<At<NonZeroUsize>>,
    /// HTTP: time in which a request's head has to be there.
    pub(super) head_time: Option<At<Time>>,
    /// HTTP: bytes of a request's head.
    pub(super) head_size: Option<At<Size>>,
    /// HTTP: fields of a request's head.
    pub(super) fields: Option<At<NonZeroUsize>>,
    /// TCP: how long a connection may live at all.
    pub(super) life: Option<At<Time>>,
}

/// Another project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    rename = "Dependency",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table with `path`"
)]
pub(super) struct DependencyEntry {
    /// Its directory.
    pub(super) path: At<PathBuf>,
}

/// Functions that are deployed over HTTP and invoked by name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    rename = "Service",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct ServiceEntry {
    /// Where functions are deployed. 127.0.0.1:8002 where nothing is said; elsewhere than on this computer it needs a token.
    pub(super) deploy: Option<SocketAddr>,
    /// Where they are invoked. 127.0.0.1:8000 where nothing is said.
    pub(super) invoke: Option<SocketAddr>,
    /// Where they are kept: a directory, or `{ s3 = { … } }`. `module-store` where nothing is said.
    pub(super) storage: Option<NameOr<StorageEntry>>,
    /// What whoever deploys has to know; a file has one on each line.
    pub(super) token: Option<At<SecretEntry>>,
    /// With it, both speak TLS alone.
    pub(super) tls: Option<At<TlsEntry>>,
    /// What deployed functions may use for which nothing else was asked.
    pub(super) environment: Option<At<NameOr<EnvironmentEntry>>>,
}

/// A storage that is no directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    rename = "Storage",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table with `s3`"
)]
pub(super) struct StorageEntry {
    /// A bucket of S3, or of what speaks like it, by OpenDAL's options: `bucket`, `root`, `region`, `endpoint`,
    /// `access_key_id`, `secret_access_key` and others.
    pub(super) s3: BTreeMap<String, At<OptionEntry>>,
}

/// An option of a storage: a text, or a secret.
pub(super) type OptionEntry = NameOr<SecretEntry>;

/// A size in bytes, more than none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) u64);

/// A length of time, more than none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) Duration);

/// Reads a quantity that is a text with a unit, or a number without.
struct OfQuantity<Q> {
    expecting: &'static str,
    read: fn(&str) -> Result<Q, String>,
}

impl<Q> Visitor<'_> for OfQuantity<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Q, E> {
        (self.read)(text)
            .map_err(|why| E::custom(format!("`{text}` is not {}: {why}", self.expecting)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Q, E> {
        self.visit_str(&number.to_string())
    }
}

fn more_than_none<Q: PartialEq + Default>(quantity: Q) -> Result<Q, String> {
    if quantity == Q::default() {
        Err("it is nothing".into())
    } else {
        Ok(quantity)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let read = |text: &str| quantity::bytes(text).and_then(more_than_none);
        deserializer
            .deserialize_any(OfQuantity {
                expecting: "a size like \"64MiB\"",
                read,
            })
            .map(Size)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let read = |text: &str| quantity::duration(text).and_then(more_than_none);
        deserializer
            .deserialize_any(OfQuantity {
                expecting: "a length of time like \"30s\"",
                read,
            })
            .map(Time)
    }
}

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
            "description": "A length of time: seconds, or a whole number of us, ms, s, m or h.",
            "type": ["string", "integer"],
            "pattern": "^[0-9]+ *(us|ms|s|m|min|h)?$",
            "minimum": 1,
        })
    }
}

/// Reads one word of a few, where a word that is none of them deserves a sentence of its own.
struct OfWord<W: 'static> {
    expecting: &'static str,
    words: &'static [(&'static str, W)],
    otherwise: fn(&str) -> String,
}

impl<W: Copy + 'static> Visitor<'_> for OfWord<W> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<W, E> {
        let found = self.words.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| E::custom((self.otherwise)(text)))
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Language, D::Error> {
        let otherwise = |text: &str| {
            format!(
                "`{text}` is not built without a command\nonly `rust` is; for another language say the `command` that builds it and the `output` that this writes"
            )
        };
        deserializer.deserialize_str(OfWord {
            expecting: "a language",
            words: &[("rust", Language::Rust)],
            otherwise,
        })
    }
}

impl<'de> Deserialize<'de> for GatewayType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GatewayType, D::Error> {
        let words = &[("http", GatewayType::Http), ("tcp", GatewayType::Tcp)];
        let otherwise = |text: &str| {
            format!("there is no gateway of type `{text}`\nthere are `http` and `tcp`")
        };
        deserializer.deserialize_str(OfWord {
            expecting: "the type of a gateway",
            words,
            otherwise,
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NameOr<T>, D::Error> {
        struct OfEither<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfEither<T> {
            type Value = NameOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a table")
            }

            fn visit_str<E>(self, name: &str) -> Result<NameOr<T>, E> {
                Ok(NameOr::Name(name.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NameOr<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(NameOr::Table)
            }
        }

        deserializer.deserialize_any(OfEither(PhantomData))
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
