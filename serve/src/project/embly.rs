//! Embly's `embly-project.yml`, which contains only functions and gateways.

use super::decode::{Report, Section, Spanned};
use super::file::{FunctionEntry, GatewayEntry, GatewayType, Language, LimitsEntry, PolicyEntry};
use serde::Deserialize;
use std::path::PathBuf;

/// The file's contents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmblyFile {
    #[serde(default)]
    functions: Section<EmblyFunction>,
    #[serde(default)]
    gateways: Section<EmblyGateway>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a function: a table with `name`, `path` and `language`"
)]
struct EmblyFunction {
    name: Spanned<String>,
    /// The function's path, relative to the context.
    path: Spanned<PathBuf>,
    language: Spanned<Language>,
    /// The directory that contains all of the function's sources.
    context: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a gateway: a table with `name`, `type`, `port` and `function`"
)]
struct EmblyGateway {
    name: Spanned<String>,
    #[serde(rename = "type")]
    kind: GatewayType,
    port: Spanned<u16>,
    function: Spanned<String>,
}

impl EmblyFile {
    /// Returns the functions as `lunatic.toml` entries.
    pub(super) fn functions(&self, report: &Report) -> Vec<(Spanned<String>, FunctionEntry)> {
        let entry = |Spanned {
                         value: function, ..
                     }: Spanned<EmblyFunction>| {
            let mut path = function.path;
            let mut sources = Vec::new();
            if let Some(context) = function.context {
                path.value = context.value.join(&path.value);
                sources.push(context);
            }
            let entry = FunctionEntry {
                path: Some(path),
                language: Some(function.language),
                target: None,
                profile: None,
                binary: None,
                wasm: None,
                command: None,
                output: None,
                sources,
                environment: None,
                policy: PolicyEntry::Fresh,
            };
            (function.name, entry)
        };
        self.functions
            .items(report)
            .into_iter()
            .map(entry)
            .collect()
    }

    /// Returns the gateways as `lunatic.toml` entries.
    pub(super) fn gateways(&self, report: &Report) -> Vec<(Spanned<String>, GatewayEntry)> {
        let entry = |Spanned { value: gateway, .. }: Spanned<EmblyGateway>| {
            let entry = GatewayEntry {
                kind: gateway.kind,
                address: None,
                port: gateway.port,
                function: Some(gateway.function),
                routes: Section::default(),
                tls: None,
                limits: LimitsEntry::default(),
            };
            (gateway.name, entry)
        };
        self.gateways.items(report).into_iter().map(entry).collect()
    }
}
