//! Reads a module's imports from its bytes before the module is compiled.

use super::error::ModuleError;
use lunatic_process::printable;
use std::fmt::Write;
use wasmparser::{FuncType, MemoryType, Parser, Payload, TypeRef};

/// An import.
pub(super) struct Import<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// The function's type. `None` for any other kind of import; the machine provides only
    /// functions.
    pub(super) function: Option<FuncType>,
    /// Whether the import shows that the module was built with threads.
    is_for_threads: bool,
}

impl Import<'_> {
    /// Returns the full name, as used in reports.
    pub(super) fn full_name(&self) -> String {
        let name = format!("{}::{}", self.namespace, self.name);
        match name.char_indices().nth(MAX_NAME) {
            Some((end, _)) => format!("{}…", name[..end].escape_debug()),
            None => name.escape_debug().to_string(),
        }
    }
}

/// The maximum number of characters of an import's name to show or compare.
const MAX_NAME: usize = 200;

/// The maximum number of missing imports that are listed.
const MAX_LISTED: usize = 20;

/// Returns a module's imports. The rest of the module need not be valid.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Import<'_>>, ModuleError> {
    let mut types = Vec::new();
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::TypeSection(groups) => {
                for group in groups {
                    let ty = |ty: wasmparser::SubType| match ty.composite_type.inner {
                        wasmparser::CompositeInnerType::Func(ty) => Some(ty),
                        _ => None,
                    };
                    types.extend(group?.into_types().map(ty));
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    let function = match import.ty {
                        // If the type does not exist, the compiler reports the error.
                        TypeRef::Func(ty) => {
                            let known = types.get(ty as usize).cloned().flatten();
                            Some(known.unwrap_or_else(|| FuncType::new([], [])))
                        }
                        _ => None,
                    };
                    let is_shared =
                        matches!(import.ty, TypeRef::Memory(MemoryType { shared: true, .. }));
                    found.push(Import {
                        namespace: import.module,
                        name: import.name,
                        function,
                        is_for_threads: is_shared
                            || (import.module, import.name) == ("wasi", "thread-spawn"),
                    });
                }
            }
            // There are no more imports.
            Payload::FunctionSection(_) | Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    Ok(found)
}

/// Checks that all imports are among the provided functions, which are given as `namespace::name`.
/// The error lists the missing imports.
pub(super) fn check(imports: &[Import<'_>], provided: &[String]) -> Result<(), ModuleError> {
    let is_provided = |import: &&Import<'_>| {
        let is_it = |name: &String| {
            name.strip_prefix(import.namespace)
                .and_then(|rest| rest.strip_prefix("::"))
                == Some(import.name)
        };
        import.function.is_some() && provided.iter().any(is_it)
    };
    let mut missing: Vec<&Import<'_>> = imports
        .iter()
        .filter(|import| !is_provided(import))
        .collect();
    // A module can import the same function several times.
    missing.sort_by_key(|import| (import.namespace, import.name));
    missing.dedup_by_key(|import| (import.namespace, import.name));
    let one = |import: &Import<'_>| (import.full_name(), hint(import, provided));
    match &missing[..] {
        [] => Ok(()),
        [import] => {
            let (name, hint) = one(import);
            Err(ModuleError::UnknownImport { name, hint })
        }
        several => {
            let mut list = String::new();
            for import in several.iter().take(MAX_LISTED) {
                let (name, hint) = one(import);
                let _ = write!(list, "\n  `{}`{hint}", printable(&name));
            }
            if several.len() > MAX_LISTED {
                let _ = write!(list, "\n  and {} more", several.len() - MAX_LISTED);
            }
            Err(ModuleError::UnknownImports {
                count: several.len(),
                list,
            })
        }
    }
}

/// Returns the likely reason for an unknown import, starting with a separator. May be empty.
fn hint(import: &Import<'_>, provided: &[String]) -> String {
    if import.is_for_threads {
        return ": the module was built with threads, which this machine does not support; \
                build it for wasm32-wasip1 and use processes in place of threads"
            .into();
    }
    if import.function.is_none() {
        return ": the machine provides only functions, not memories, tables or globals".into();
    }
    let text = match import.namespace {
        "lunatic" => {
            ": the module was built with version 0.1, 0.2 or 0.3 of the guest crate; build it with version 0.14.1 or 0.7.4, or with this project's `lunatic`"
        }
        "lunatic::plugin" => {
            ": the module is a plugin for Lunatic 0.6 or 0.7; this machine has no plugins"
        }
        "env" => ": this is probably a C function that was not linked in",
        "__wbindgen_placeholder__" | "wbg" => {
            ": the module was built for a browser; build it for wasm32-wasip1"
        }
        _ => {
            if let Some(similar) = similar(import, provided) {
                return format!(": did you mean `{similar}`?");
            }
            match import.namespace.starts_with("lunatic::") {
                true => ": this version of the machine does not have this function",
                false => ": a host program can provide this function with `VmBuilder::host`",
            }
        }
    };
    text.into()
}

/// Returns the provided function whose name is most similar to an import's name.
fn similar<'a>(import: &Import<'_>, provided: &'a [String]) -> Option<&'a str> {
    /// The minimum similarity, from 0 to 1, at which a name is suggested.
    const SIMILAR: f64 = 0.9;
    let name = format!("{}::{}", import.namespace, import.name);
    if name.len() > MAX_NAME {
        return None;
    }
    let likeness = |other: &&String| strsim::normalized_damerau_levenshtein(&name, other);
    provided
        .iter()
        .map(|other| (likeness(&other), other))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, other)| other.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(fields: &str) -> Option<String> {
        let bytes =
            wat::parse_str(format!("(module {fields})")).expect("the module text is well-formed");
        let imports = read(&bytes).expect("the module is valid");
        let provided = [
            "wasi_snapshot_preview1::fd_write",
            "lunatic::process::spawn",
        ];
        let provided = provided.map(String::from);
        check(&imports, &provided)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn what_is_provided_is_not_missing() {
        let found = sentence(r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32)))"#);
        assert_eq!(found, None);
    }

    #[test]
    fn all_missing_imports_are_reported_at_once() {
        let found = sentence(
            r#"(import "wasi_snapshot_preview1" "fd_wirte" (func))
               (import "" "hello" (func)) (import "" "hello" (func))
               (import "env" "memory" (memory 1))"#,
        );
        let found = found.expect("three imports are missing");
        for part in [
            "nothing provides 3 imports",
            "`::hello`: a host program",
            "`env::memory`: the machine provides only functions",
            "`wasi_snapshot_preview1::fd_wirte`: did you mean `wasi_snapshot_preview1::fd_write`?",
        ] {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn a_module_built_with_threads_is_recognized_by_its_imports() {
        for import in [
            r#"(import "env" "memory" (memory 1 2 shared))"#,
            r#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#,
        ] {
            let found = sentence(import).expect("the import is missing");
            let part = "built with threads, which this machine does not support; build it for wasm32-wasip1 and use processes";
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn a_long_list_of_long_names_is_truncated() {
        let long = "x".repeat(100_000);
        let imports: String = (0..1_000)
            .map(|number| format!(r#"(import "{number}" "{long}" (func))"#))
            .collect();
        let found = sentence(&imports).expect("all imports are missing");
        assert!(
            found.len() < 10_000 && found.ends_with("and 980 more"),
            "{}",
            found.len()
        );
    }
}
