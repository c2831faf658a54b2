//! Determines which interface generation a module was built for, based on the names and types of
//! its imports.

use super::error::ModuleError;
use super::imports;
use lunatic_abi::{Generation, HostFunction, ValueType};
use std::collections::BTreeSet;
use wasmparser::{FuncType, ValType};

/// The namespace prefix of the interface in all generations. Other namespaces belong to WASI or the
/// embedder and do not indicate a generation.
const NAMESPACE: &str = "lunatic::";

/// A function import that belongs to the interface.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    name: String,
    /// The function's type, in the notation of `REFUSED`.
    ty: String,
}

/// An unsupported generation.
struct Refused {
    /// The published versions of the guest crate that produce such modules.
    versions: &'static str,
    /// What such modules may import: each namespace's functions with their parameters and results,
    /// where `i` stands for i32 and `l` for i64. A function whose type changed within the
    /// generation is listed twice.
    functions: &'static [(&'static str, &'static str)],
}

const REFUSED: [Refused; 2] = [
    Refused {
        versions: "0.5",
        functions: &[
            ("error", "string_size(l)i to_string(li) drop(l)"),
            (
                "message",
                "create() set_buffer(ii) add_process(l)l add_tcp_stream(l)l send(l)i prepare_receive(ii)i receive(ii)",
            ),
            (
                "networking",
                "resolve(iii)i drop_dns_iterator(l) resolve_next(liiiii)i tcp_bind(iiiiii)i drop_tcp_listener(l)
                 tcp_accept(lii)i tcp_connect(iiiiii)i drop_tcp_stream(l) clone_tcp_stream(l)l
                 tcp_write_vectored(liii)i tcp_read(liii)i tcp_flush(li)i",
            ),
            (
                "process",
                "create_config(ll)l drop_config(l) allow_namespace(lii) add_plugin(liii)i create_environment(li)i
                 drop_environment(l) add_module(liii)i add_this_module(li)i drop_module(l) spawn(iliiiii)i
                 inherit_spawn(iiiiii)i drop_process(l) clone_process(l)l sleep_ms(l) die_when_link_dies(i) this()l
                 join(l)i",
            ),
        ],
    },
    Refused {
        versions: "0.9",
        functions: &[
            ("error", "string_size(l)i to_string(li) drop(l)"),
            (
                "message",
                "create_data(ll) write_data(ii)i read_data(ii)i seek_data(l) get_tag()l data_size()l push_process(l)l
                 take_process(l)l push_tcp_stream(l)l take_tcp_stream(l)l send(l) send_receive_skip_search(li)i
                 receive(iii)i",
            ),
            (
                "networking",
                "resolve(iiii)i drop_dns_iterator(l) resolve_next(liiiii)i tcp_bind(iiiiii)i drop_tcp_listener(l)
                 tcp_local_addr(li)i tcp_accept(lii)i tcp_connect(iiiiiii)i drop_tcp_stream(l) clone_tcp_stream(l)l
                 tcp_write_vectored(liiii)i tcp_read(liiii)i tcp_flush(li)i",
            ),
            (
                "process",
                "compile_module(iii)i drop_module(l) create_config()l drop_config(l) config_set_max_memory(ll)
                 config_get_max_memory(l)l config_set_max_fuel(ll) config_get_max_fuel(l)l
                 config_can_compile_modules(l)i config_set_can_compile_modules(li) config_can_create_configs(l)i
                 config_set_can_create_configs(li) config_can_spawn_processes(l)i config_set_can_spawn_processes(li)
                 spawn(llliiiii)i drop_process(l) clone_process(l)l sleep_ms(l) die_when_link_dies(i) this()l id(li)
                 link(ll) unlink(l)",
            ),
            ("registry", "put(iil) get(iii)i remove(ii)"),
            (
                "wasi",
                "config_add_environment_variable(liiii) config_add_command_line_argument(lii)
                 config_preopen_dir(lii)",
            ),
        ],
    },
];

/// Returns the first generation that has all of the interface functions that a module imports. If
/// the module does not import any, returns the newest generation.
///
/// # Errors
///
/// Fails if no supported generation has all of the functions, unless the missing ones do not exist
/// in any generation.
pub(super) fn of(imports: &[imports::Import<'_>]) -> Result<Generation, ModuleError> {
    let imports: Vec<Import> = imports.iter().filter_map(interface).collect();
    let has_all = |generation: &Generation| imports.iter().all(|import| import.is_of(*generation));
    if let Some(generation) = Generation::ALL.into_iter().find(has_all) {
        return Ok(generation);
    }
    for refused in &REFUSED {
        if imports.iter().all(|import| refused.has(import)) {
            let shows = imports
                .into_iter()
                .find(|import| !import.is_of(Generation::V0_13));
            let import = shows
                .expect("the newest generation lacks one of the imports")
                .name;
            return Err(ModuleError::Generation {
                versions: refused.versions,
                import,
            });
        }
    }
    // The imports that exist in some supported generation. Each occurs once, so there are at most
    // as many imports as rows in the tables.
    let known: BTreeSet<&Import> = imports
        .iter()
        .filter(|import| import.generations().next().is_some())
        .collect();
    for one in &known {
        if let Some(other) = known
            .iter()
            .find(|other| !one.generations().any(|generation| other.is_of(generation)))
        {
            return Err(ModuleError::MixedGenerations {
                one: one.name.clone(),
                other: other.name.clone(),
            });
        }
    }
    // Linking against the newest generation will report the missing imports.
    Ok(Generation::V0_13)
}

/// Returns an import if it belongs to the interface, with its name escaped for display.
fn interface(import: &imports::Import<'_>) -> Option<Import> {
    let ty = import.function.as_ref()?;
    if !import.namespace.starts_with(NAMESPACE) {
        return None;
    }
    Some(Import {
        name: import.full_name(),
        ty: signature(ty),
    })
}

impl Import {
    /// Returns the generations that have a function with the import's name and type.
    fn generations(&self) -> impl Iterator<Item = Generation> {
        Generation::ALL
            .into_iter()
            .filter(|generation| self.is_of(*generation))
    }

    fn is_of(&self, generation: Generation) -> bool {
        let is_it = |row: &HostFunction| {
            self.name
                .strip_prefix(row.namespace)
                .and_then(|rest| rest.strip_prefix("::"))
                == Some(row.name)
                && self.ty == signature_of(row)
        };
        generation.host_functions().any(is_it)
    }
}

impl Refused {
    fn has(&self, import: &Import) -> bool {
        let Some((namespace, name)) = import.name[NAMESPACE.len()..].split_once("::") else {
            return false;
        };
        let is_it = |function: &str| function.strip_prefix(name) == Some(import.ty.as_str());
        let functions = self
            .functions
            .iter()
            .filter(|(other, _)| *other == namespace);
        functions
            .flat_map(|(_, functions)| functions.split_whitespace())
            .any(is_it)
    }
}

/// Formats a type: a letter for each parameter, in parentheses, and then a letter for the result.
fn signature(ty: &FuncType) -> String {
    let letters = |types: &[ValType]| -> String {
        let letter = |ty: &ValType| match ty {
            ValType::I32 => 'i',
            ValType::I64 => 'l',
            ValType::F64 => 'f',
            // The interface does not use any other types.
            _ => '?',
        };
        types.iter().map(letter).collect()
    };
    format!("({}){}", letters(ty.params()), letters(ty.results()))
}

/// Formats a row's type in the same way as [`signature`].
fn signature_of(row: &HostFunction) -> String {
    let letter = |ty| match ty {
        ValueType::I32 => 'i',
        ValueType::I64 => 'l',
        ValueType::F64 => 'f',
    };
    let parameters: String = row.parameter_types().map(letter).collect();
    let result = row.result_type().map(letter);
    format!(
        "({parameters}){}",
        result.map(String::from).unwrap_or_default()
    )
}
