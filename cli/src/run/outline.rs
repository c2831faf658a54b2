//! Reads what a module imports and exports, without compiling it.

use super::program::ENTRY;
use super::rights::{list, near};
use crate::failure::{Failure, not_started};
use lunatic_vm::{Config, ModuleError};
use std::path::Path;
use wasmparser::{Encoding, ExternalKind, Parser, Payload, TypeRef};

/// A module's imported functions, as `namespace::name`, and its exported functions.
#[derive(Default)]
pub(super) struct Outline {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// The namespace of the functions that handle requests.
const SPARK: &str = "lunatic::spark::";

/// The prefix of the namespaces whose imports are checked by the machine itself, because the
/// machine also determines which generation of the interface a module was built for.
const OURS: &str = "lunatic::";

/// The function that starts a thread, for the target `wasm32-wasip1-threads`.
const THREAD: &str = "wasi::thread-spawn";

/// The maximum number of functions to list in a message.
const MAX_LISTED: usize = 20;

impl Outline {
    /// Reads a module in the binary format. Returns `None` for anything else; the machine will
    /// report what is wrong with it.
    pub(super) fn read(bytes: &[u8]) -> Option<Outline> {
        let mut outline = Outline::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.ok()? {
                Payload::Version { encoding, .. } if encoding != Encoding::Module => return None,
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.ok()?;
                        if let TypeRef::Func(_) = import.ty {
                            let name = format!("{}::{}", import.module, import.name);
                            outline.imports.push(name);
                        }
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.ok()?;
                        if export.kind == ExternalKind::Func {
                            outline.exports.push(export.name.to_string());
                        }
                    }
                }
                Payload::CodeSectionStart { .. } => return Some(outline),
                _ => {}
            }
        }
        Some(outline)
    }

    /// Fails if the module imports anything that the machine does not provide. Imports from the
    /// machine's own namespaces are not checked. The error lists the missing imports.
    pub(super) fn check_imports(&self, path: &Path, config: &Config) -> Result<(), Failure> {
        let mut missing: Vec<&str> = self
            .imports
            .iter()
            .map(String::as_str)
            .filter(|import| !import.starts_with(OURS) || import.starts_with(SPARK))
            .filter(|import| !config.functions().any(|function| function == *import))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(not_provided(path, &missing, config)),
        }
    }

    /// Fails if there is no function to start.
    pub(super) fn check_entry(&self, path: &Path) -> Result<(), Failure> {
        let has = |name: &str| self.exports.iter().any(|export| export == name);
        if has(ENTRY) {
            return Ok(());
        }
        let path = path.display();
        let failure = not_started(format!(
            "`{path}` cannot be run: it does not export `{ENTRY}`, the function that every program \
             starts with"
        ));
        if has("main") {
            return Err(failure.hint(
                "the module was built for `wasm32-unknown-unknown`; build it for `wasm32-wasip1`",
            ));
        }
        if self.exports.is_empty() {
            return Err(failure
                .hint("the module does not export any functions; build a binary, not a library"));
        }
        let mut exports = list(self.exports.iter().take(MAX_LISTED).map(String::as_str));
        let more = self.exports.len().saturating_sub(MAX_LISTED);
        if more > 0 {
            exports += &format!(" and {more} more");
        }
        Err(failure
            .hint(format!("the module exports {exports}"))
            .hint(format!(
                "`lunatic call {path} FUNCTION` calls one of them; to get a program, build a binary, not a library"
            )))
    }
}

/// Returns the failure to report when the machine cannot use a module.
pub(super) fn unusable(path: &Path, error: &ModuleError, config: &Config) -> Failure {
    let failure = not_started(format!("`{}` cannot be run: {error}", path.display()));
    match error {
        ModuleError::UnknownImport { name, .. } if name.starts_with(SPARK) => {
            not_provided(path, &[name.as_str()], config)
        }
        ModuleError::UnknownImport { name, .. } => with_near(failure, &[name.as_str()], config),
        ModuleError::Component => {
            failure.hint("`lunatic serve` serves components that answer HTTP requests")
        }
        _ => failure,
    }
}

fn not_provided(path: &Path, missing: &[&str], config: &Config) -> Failure {
    let path = path.display();
    if let Some(import) = missing.iter().find(|import| import.starts_with(SPARK)) {
        let sentence = format!(
            "`{path}` is not a program: its import `{import}` shows that it answers requests"
        );
        return not_started(sentence).hint(
            "`lunatic serve` serves such a module from a project; `lunatic serve --deploy` accepts one over HTTP",
        );
    }
    let is_for_threads = missing.contains(&THREAD);
    let failure = not_started(match missing {
        [one] => format!(
            "`{path}` cannot be run: nothing provides the import `{}`",
            one.escape_debug()
        ),
        _ => format!(
            "`{path}` cannot be run: nothing provides {} of its imports: {}",
            missing.len(),
            list(missing.iter().take(MAX_LISTED).copied())
        ),
    });
    if is_for_threads {
        return failure.hint(
            "the program was built with threads, which this machine does not support; build it for `wasm32-wasip1` and use processes in place of threads",
        );
    }
    with_near(failure, missing, config)
        .hint("an embedder can provide additional functions with `VmBuilder::host`")
}

/// Adds a hint for each missing function that has a name similar to an existing one.
fn with_near(mut failure: Failure, missing: &[&str], config: &Config) -> Failure {
    for import in missing.iter().take(MAX_LISTED) {
        let near = near(config.functions(), import);
        let near: Vec<&str> = near
            .into_iter()
            .filter(|name| config.functions().any(|function| function == *name))
            .collect();
        if !near.is_empty() {
            failure = failure.hint(format!(
                "for `{}`, did you mean {}?",
                import.escape_debug(),
                list(near)
            ));
        }
    }
    failure
}
