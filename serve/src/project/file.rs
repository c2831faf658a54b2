//! The contents of `lunatic.toml`. The schema for editors is generated from these types.

use super::decode::{Section, Spanned};
use crate::{OutboundRule, quantity};
#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// Functions and the gateways that lead to them.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename = "Project", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    /// The functions, by name: `[a-z0-9][a-z0-9-]{0,62}`.
    #[serde(default)]
    pub(super) functions: Section<FunctionEntry>,
    /// Environments, by name. They determine what functions may do.
    #[serde(default)]
    pub(super) environments: Section<EnvironmentEntry>,
    /// Gateways, by name. They listen for requests.
    #[serde(default)]
    pub(super) gateways: Section<GatewayEntry>,
    /// Other projects, by name. Their functions are called `name/function` here.
    #[serde(default)]
    pub(super) dependencies: Section<DependencyEntry>,
    /// Lets functions be deployed over HTTP and invoked by name.
    pub(super) service: Option<ServiceEntry>,
}

/// A function: a cargo package (`path`), a file (`wasm`), or the output of a `command`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Function",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct FunctionEntry {
    /// The directory of the function's cargo package, or the directory to run the command in.
    pub(super) path: Option<Spanned<PathBuf>>,
    /// The language the function is written in, if it is built without a command.
    pub(super) language: Option<Spanned<Language>>,
    /// The target cargo builds for: `wasm32-wasip1` for functions that read and write bytes and for
    /// programs, `wasm32-wasip2` for components that handle HTTP requests.
    pub(super) target: Option<Spanned<Target>>,
    /// The profile cargo builds with.
    pub(super) profile: Option<Spanned<String>>,
    /// Which of the package's binaries to use, if it has several.
    pub(super) binary: Option<Spanned<String>>,
    /// An existing file that contains the function, as wasm or wat.
    pub(super) wasm: Option<Spanned<PathBuf>>,
    /// The program that builds the function, followed by its arguments. No shell is involved.
    pub(super) command: Option<Spanned<Vec<String>>>,
    /// The file that the command writes, relative to the directory it runs in.
    pub(super) output: Option<Spanned<PathBuf>>,
    /// Other files and directories that the function is built from. It is rebuilt when they change.
    #[serde(default)]
    pub(super) sources: Vec<Spanned<PathBuf>>,
    /// The function's environment, or the name of one.
    pub(super) environment: Option<Spanned<NameOr<EnvironmentEntry>>>,
    /// How the function's instances serve requests.
    #[serde(default)]
    pub(super) policy: PolicyEntry,
}

/// A language that can be built without a command.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(rename_all = "lowercase"))]
pub(super) enum Language {
    /// Built by cargo.
    Rust,
}

/// A target cargo builds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) enum Target {
    /// For modules.
    #[default]
    #[serde(rename = "wasm32-wasip1")]
    Wasip1,
    /// For components.
    #[serde(rename = "wasm32-wasip2")]
    Wasip2,
}

/// How instances serve requests.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename = "Policy", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum PolicyEntry {
    /// Each request gets its own instance.
    #[default]
    Fresh,
    /// One instance serves one request after another and keeps its memory between requests.
    Single,
    /// At most this many instances each serve one request after another.
    Pool(NonZeroUsize),
}

/// A table, or the name of a table that is defined elsewhere.
#[derive(Debug)]
pub(super) enum NameOr<T> {
    Name(String),
    Table(T),
}

/// A function's rights and limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Environment",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct EnvironmentEntry {
    /// The memory limit of each process, for example `"64MiB"`. 256 MiB by default.
    pub(super) memory: Option<Size>,
    /// The compute limit of each request, in units of 100,000 instructions. Unlimited by default.
    pub(super) compute: Option<NonZeroU64>,
    /// The maximum number of processes alive at the same time, across all requests.
    pub(super) processes: Option<NonZeroU64>,
    /// How much memory the machine may hold for each process besides the process's own. 64 MiB by
    /// default.
    pub(super) host_memory: Option<Size>,
    /// How much memory the machine may hold for all processes besides their own. 1 GiB by default.
    pub(super) total_host_memory: Option<Size>,
    /// The maximum number of files, directories and sockets that all processes may have open.
    /// 10,000 by default.
    pub(super) descriptors: Option<NonZeroU64>,
    /// How long a request may take, for example `"30s"`.
    pub(super) deadline: Option<Time>,
    /// The maximum size of a request's body, for example `"10MiB"`.
    pub(super) body: Option<Size>,
    /// The maximum number of concurrent requests.
    pub(super) requests: Option<NonZeroUsize>,
    /// Host functions to grant in addition to those that every function has: prefixes of
    /// `namespace::name`.
    #[serde(default)]
    pub(super) namespaces: Vec<String>,
    /// Hosts that the function may call over HTTP.
    #[serde(default)]
    pub(super) outbound: Vec<OutboundRule>,
    /// Whether the hosts in `outbound` may resolve to addresses in private networks or on this
    /// computer.
    #[serde(default)]
    pub(super) private_addresses: bool,
    /// Directories that the function may use, by their paths as seen by the function.
    #[serde(default)]
    pub(super) files: BTreeMap<String, FilesEntry>,
    /// Environment variables.
    #[serde(default)]
    pub(super) variables: BTreeMap<String, Spanned<String>>,
    /// Environment variables whose values are stored elsewhere.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, Spanned<SecretEntry>>,
    /// The client's secret, which `client-secret` of `rvm:lambda/host` returns.
    pub(super) client_secret: Option<Spanned<SecretEntry>>,
}

/// A directory that a function may use.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Files",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table with `path`"
)]
pub(super) struct FilesEntry {
    /// The directory's path.
    pub(super) path: Spanned<PathBuf>,
    /// Whether the function may write to it.
    #[serde(default)]
    pub(super) write: bool,
}

/// Where a secret is stored.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename = "Secret", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum SecretEntry {
    /// In an environment variable of the command that serves the function.
    Env(String),
    /// In a file. A line break at its end is not part of the secret.
    File(PathBuf),
}

/// A gateway's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(rename_all = "lowercase"))]
pub(super) enum GatewayType {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// Plain bytes.
    Tcp,
}

/// A gateway.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Gateway",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct GatewayEntry {
    /// The gateway's protocol.
    #[serde(rename = "type")]
    pub(super) kind: GatewayType,
    /// The address to listen on. By default, only this computer can reach the gateway.
    pub(super) address: Option<IpAddr>,
    /// The port to listen on. 0 stands for any free port.
    pub(super) port: Spanned<u16>,
    /// The function that receives every connection, or every request that does not match any route.
    pub(super) function: Option<Spanned<String>>,
    /// Functions and files by path: `/a` is that path and everything below it, and the longest
    /// match wins.
    #[serde(default)]
    pub(super) routes: Section<Spanned<NameOr<StaticFiles>>>,
    /// Makes the gateway accept only TLS.
    pub(super) tls: Option<Spanned<TlsEntry>>,
    /// Limits for the gateway's clients.
    #[serde(default)]
    pub(super) limits: LimitsEntry,
}

/// A directory of static files.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct StaticFiles {
    /// The directory.
    pub(super) files: Spanned<PathBuf>,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Tls",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct TlsEntry {
    /// The certificate chain, starting with the server's own certificate.
    pub(super) certificates: PathBuf,
    /// The private key.
    pub(super) key: PathBuf,
}

/// Limits for a gateway's clients.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Limits",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct LimitsEntry {
    /// The maximum number of concurrent connections.
    pub(super) connections: Option<NonZeroUsize>,
    /// How long a connection may be idle.
    pub(super) idle: Option<Time>,
    /// HTTP: the maximum number of concurrent requests, for all functions in total.
    pub(super) requests: Option<Spanned<NonZeroUsize>>,
    /// HTTP: how long a request's head may take to arrive.
    pub(super) head_time: Option<Spanned<Time>>,
    /// HTTP: the maximum size of a request's head.
    pub(super) head_size: Option<Spanned<Size>>,
    /// HTTP: the maximum number of fields in a request's head.
    pub(super) fields: Option<Spanned<NonZeroUsize>>,
    /// TCP: how long a connection may stay open.
    pub(super) life: Option<Spanned<Time>>,
}

/// Another project.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Dependency",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table with `path`"
)]
pub(super) struct DependencyEntry {
    /// The project's directory.
    pub(super) path: Spanned<PathBuf>,
}

/// Functions that are deployed over HTTP and invoked by name.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Service",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table"
)]
pub(super) struct ServiceEntry {
    /// The address for deploying functions. 127.0.0.1:8002 by default. A token is required if other
    /// computers can reach the address.
    pub(super) deploy: Option<SocketAddr>,
    /// The address for invoking functions. 127.0.0.1:8000 by default.
    pub(super) invoke: Option<SocketAddr>,
    /// Where functions are stored: a directory, or `{ s3 = { … } }`. `module-store` by default.
    pub(super) storage: Option<NameOr<StorageEntry>>,
    /// The token required to deploy. A file contains one token per line.
    pub(super) token: Option<Spanned<SecretEntry>>,
    /// Makes both addresses accept only TLS.
    pub(super) tls: Option<Spanned<TlsEntry>>,
    /// The default environment of deployed functions.
    pub(super) environment: Option<Spanned<NameOr<EnvironmentEntry>>>,
}

/// Storage other than a directory.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    rename = "Storage",
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a table with `s3`"
)]
pub(super) struct StorageEntry {
    /// A bucket on S3 or a compatible service, described by OpenDAL's options: `bucket`, `root`,
    /// `region`, `endpoint`, `access_key_id`, `secret_access_key` and others.
    pub(super) s3: BTreeMap<String, Spanned<OptionEntry>>,
}

/// A storage option: a string or a secret.
pub(super) type OptionEntry = NameOr<SecretEntry>;

/// A size in bytes, greater than zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) u64);

/// A duration, greater than zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) Duration);

/// Reads a quantity greater than zero: a string with a unit, or a number. Consists of a description
/// of what is expected and the function that parses the string.
struct QuantityVisitor<Q>(&'static str, fn(&str) -> Result<Q, String>);

impl<Q: PartialEq + Default> Visitor<'_> for QuantityVisitor<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Q, E> {
        let QuantityVisitor(expecting, read) = self;
        let why = match read(text) {
            Ok(quantity) if quantity != Q::default() => return Ok(quantity),
            Ok(_) => "it must be greater than zero".to_string(),
            Err(why) => why,
        };
        Err(E::custom(format!("`{text}` is not {expecting}: {why}")))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Q, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let visitor = QuantityVisitor("a size like \"64MiB\"", quantity::bytes);
        deserializer.deserialize_any(visitor).map(Size)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let visitor = QuantityVisitor("a duration like \"30s\"", quantity::duration);
        deserializer.deserialize_any(visitor).map(Time)
    }
}

/// Reads one of a few words. Any other word is rejected with a custom message.
struct WordVisitor<W: 'static> {
    expecting: &'static str,
    words: &'static [(&'static str, W)],
    unknown: fn(&str) -> String,
}

impl<W: Copy + 'static> Visitor<'_> for WordVisitor<W> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<W, E> {
        let found = self.words.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| E::custom((self.unknown)(text)))
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Language, D::Error> {
        let unknown = |text: &str| {
            format!(
                "`{text}` cannot be built without a `command`\nonly `rust` can; for any other language, set the `command` that builds it and the `output` that it writes"
            )
        };
        deserializer.deserialize_str(WordVisitor {
            expecting: "a language",
            words: &[("rust", Language::Rust)],
            unknown,
        })
    }
}

impl<'de> Deserialize<'de> for GatewayType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GatewayType, D::Error> {
        let words = &[("http", GatewayType::Http), ("tcp", GatewayType::Tcp)];
        let unknown =
            |text: &str| format!("unknown gateway type `{text}`\nexpected `http` or `tcp`");
        deserializer.deserialize_str(WordVisitor {
            expecting: "a gateway type",
            words,
            unknown,
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NameOr<T>, D::Error> {
        struct NameOrVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NameOrVisitor<T> {
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

        deserializer.deserialize_any(NameOrVisitor(PhantomData))
    }
}
