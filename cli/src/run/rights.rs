//! Sets the program's rights and limits according to the flags.

use crate::command_line::{Bounds, Rights};
use crate::failure::{Failure, not_started};
use lunatic_vm::{Access, Config, Limit};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The namespace for sockets and DNS lookups.
const NETWORKING: &str = "lunatic::networking::";

/// The word that stands for all functions.
const ALL: &str = "all";

/// Grants the user's own rights, minus those that the flags deny.
pub(super) fn grant(config: &mut Config, rights: &Rights) -> Result<(), Failure> {
    grant_functions(config, rights)?;
    grant_directories(config, rights)?;
    grant_variables(config, rights)
}

/// Sets the limits given by flags, except for the time limit, which `run` enforces for the whole
/// program.
pub(super) fn bound(config: &mut Config, bounds: &Bounds) {
    for (limit, bound) in [
        (Limit::Memory, bounds.max_memory),
        (Limit::Compute, bounds.max_compute),
        (Limit::Processes, bounds.max_processes),
        (Limit::HostMemory, bounds.max_host_memory),
        (Limit::TotalHostMemory, bounds.max_total_host_memory),
        (Limit::Descriptors, bounds.max_descriptors),
        (Limit::Files, bounds.max_files),
    ] {
        if let Some(bound) = bound {
            config.limit(limit, bound);
        }
    }
}

fn grant_functions(config: &mut Config, rights: &Rights) -> Result<(), Failure> {
    for (flag, prefixes) in [("--allow", &rights.allow), ("--deny", &rights.deny)] {
        for prefix in prefixes {
            if prefix != ALL && (prefix.is_empty() || !config.knows(prefix)) {
                return Err(unknown(config, flag, prefix));
            }
        }
    }
    config.allow("");
    for (is_granted, prefix) in rules(rights) {
        if is_granted {
            config.allow(prefix)
        } else {
            config.deny(prefix)
        };
    }
    Ok(())
}

/// Returns the prefixes to allow and to deny, in the order to apply them. The longest prefix wins.
/// If the same prefix is allowed and denied, it is denied.
fn rules(rights: &Rights) -> Vec<(bool, &str)> {
    let prefix = |prefix| if prefix == ALL { "" } else { prefix };
    let allowed = rights
        .allow
        .iter()
        .map(|allowed| (true, prefix(allowed.as_str())));
    let denied = rights
        .deny
        .iter()
        .map(|denied| (false, prefix(denied.as_str())));
    let networking = rights.no_net.then_some((false, NETWORKING));
    // The sort is stable, so rules of the same length keep their order.
    let mut rules: Vec<_> = allowed.chain(denied).chain(networking).collect();
    rules.sort_by_key(|(_, prefix)| prefix.len());
    rules
}

fn unknown(config: &Config, flag: &str, prefix: &str) -> Failure {
    let failure = not_started(format!(
        "`{prefix}`, given with `{flag}`, does not match any host function"
    ));
    let near = near(config.functions(), prefix);
    if near.is_empty() {
        let namespaces: BTreeSet<_> = config.functions().map(namespace).collect();
        return failure.hint(format!("the namespaces are {}", list(namespaces)));
    }
    failure.hint(format!("did you mean {}?", list(near)))
}

/// The minimum similarity, from 0 to 1, of a name worth suggesting.
const LIKENESS: f64 = 0.8;

/// Returns the namespaces and functions with names similar to `written`, most similar first.
pub(super) fn near<'a>(functions: impl Iterator<Item = &'a str>, written: &str) -> Vec<&'a str> {
    let names: BTreeSet<&str> = functions.flat_map(|name| [namespace(name), name]).collect();
    let likeness = |name: &str| {
        // The user may have typed only the last component.
        let last = name.rsplit("::").next().unwrap_or(name);
        strsim::normalized_damerau_levenshtein(name, written)
            .max(strsim::normalized_damerau_levenshtein(last, written))
    };
    let mut near: Vec<_> = names
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

fn namespace(name: &str) -> &str {
    name.rsplit_once("::")
        .map_or(name, |(namespace, _)| namespace)
}

pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = |name: &str| format!("`{}`", name.escape_debug());
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    names.join(", ")
}

fn grant_directories(config: &mut Config, rights: &Rights) -> Result<(), Failure> {
    let mut preopen = |host: &str, guest: &str, access| {
        let granted = config.preopen(Path::new(host), guest, access);
        granted.map(|_| ()).map_err(not_started)
    };
    let named = [
        (&rights.dir, Access::Write),
        (&rights.read_dir, Access::Read),
    ];
    let named = named.into_iter().flat_map(|(directories, access)| {
        directories.iter().map(move |directory| {
            let (host, guest) = directory.split_once("::").unwrap_or((directory, directory));
            (host, guest, access)
        })
    });
    let named: Vec<_> = named.collect();
    // If the user grants a directory as the current directory, it replaces the real one.
    let current = named.iter().rfind(|(_, guest, _)| is_current(guest));
    let current = match current {
        Some(&(host, _, access)) => Some((host, access)),
        None => (!rights.no_dir).then_some((".", Access::Write)),
    };
    for (host, guest, access) in &named {
        if !is_current(guest) {
            preopen(host, guest, *access)?;
        }
    }
    if let Some((host, access)) = current {
        // Some guests, such as Go programs, use only absolute paths.
        for name in current_names() {
            if !named
                .iter()
                .any(|(_, guest, _)| Path::new(guest) == Path::new(&name))
            {
                preopen(host, &name, access)?;
            }
        }
        preopen(host, ".", access).map_err(|failure| {
            failure.hint("use `--no-dir` to run without access to the current directory")
        })?;
    }
    Ok(())
}

/// Returns whether a directory granted under this path is the one that guests' relative paths are
/// resolved against.
fn is_current(guest: &str) -> bool {
    let mut parts = Path::new(guest).components();
    !guest.is_empty() && parts.all(|part| part == Component::CurDir)
}

/// Returns the current directory's absolute paths: the real path, and the one the shell shows,
/// which may contain symbolic links.
fn current_names() -> Vec<String> {
    let real = std::env::current_dir().ok();
    let shown = std::env::var_os("PWD").map(PathBuf::from).filter(|shown| {
        let leads_here = || Some(shown.canonicalize().ok()? == real.as_ref()?.canonicalize().ok()?);
        shown.is_absolute() && leads_here() == Some(true)
    });
    let mut names: Vec<PathBuf> = [shown, real].into_iter().flatten().collect();
    names.dedup();
    let is_plain = |name: &PathBuf| !name.components().any(|part| part == Component::ParentDir);
    let names = names.into_iter().filter(is_plain);
    names
        .filter_map(|name| name.into_os_string().into_string().ok())
        .collect()
}

fn grant_variables(config: &mut Config, rights: &Rights) -> Result<(), Failure> {
    if !rights.no_env {
        for (name, value) in std::env::vars_os() {
            match (name.to_str(), value.to_str()) {
                (Some(name), Some(value)) => _ = config.variable(name, value),
                _ => log::debug!(
                    "the variable {} is not passed on, because it is not UTF-8",
                    name.display()
                ),
            }
        }
    }
    for variable in &rights.env {
        let refuse = |why: &str| Err(not_started(format!("`--env {variable}`: {why}")));
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_string()),
            None => match std::env::var(variable) {
                Ok(value) => (variable.as_str(), value),
                Err(std::env::VarError::NotPresent) => {
                    return refuse("the variable is not set; use NAME=VALUE to set it");
                }
                Err(std::env::VarError::NotUnicode(_)) => return refuse("its value is not UTF-8"),
            },
        };
        if name.is_empty() {
            return refuse("the name is missing");
        }
        config.variable(name, &value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity;
    use clap::CommandFactory;
    use lunatic_vm::Limits;

    const FUNCTIONS: &[&str] = &[
        "lunatic::message::send",
        "lunatic::networking::tcp_bind",
        "wasi_snapshot_preview1::fd_write",
    ];

    #[test]
    fn a_typo_is_recognised() {
        let check = |written: &str, first: Option<&str>| {
            assert_eq!(
                near(FUNCTIONS.iter().copied(), written).first().copied(),
                first,
                "{written}"
            );
        };
        check("lunatic::mesage", Some("lunatic::message"));
        check("networking", Some("lunatic::networking"));
        check("fd_wriet", Some("wasi_snapshot_preview1::fd_write"));
        check(
            "wasi_snapshot_preview::fd_write",
            Some("wasi_snapshot_preview1::fd_write"),
        );
        check("something", None);
    }

    #[test]
    fn the_readme_and_the_help_text_state_the_machines_defaults() {
        let readme = include_str!("../../README.md");
        let mut limited = 0;
        for (limit, row) in [
            (Limit::Memory, "| memory | process | {} bytes |"),
            (Limit::TableElements, "| table elements | process | {} |"),
            (Limit::Files, "| open files | process | {} |"),
            (Limit::Handles, "| handles of each kind | process | {} |"),
            (
                Limit::MailboxMessages,
                "| messages waiting | mailbox | {} |",
            ),
            (
                Limit::MailboxBytes,
                "| bytes waiting | mailbox | {} bytes |",
            ),
            (Limit::MessageBytes, "| size | message | {} bytes |"),
            (Limit::Processes, "| processes | environment | {} |"),
            (Limit::Timers, "| timers | environment | {} |"),
            (Limit::Names, "| names | environment | {} |"),
            (Limit::Sockets, "| sockets | environment | {} |"),
            (Limit::Metrics, "| metrics | environment | {} |"),
            (
                Limit::HostMemory,
                "| held by the machine | process | {} bytes |",
            ),
            (
                Limit::TotalHostMemory,
                "| held by the machine | environment | {} bytes |",
            ),
            (Limit::Descriptors, "| descriptors | environment | {} |"),
        ] {
            let row = row.replace("{}", &Limits::default().get(limit).to_string());
            assert!(readme.contains(&row), "{row}");
            limited += 1;
        }
        let bounded = |limit: &&Limit| Limits::default().get(**limit) != u64::MAX;
        assert_eq!(
            Limit::ALL.iter().filter(bounded).count(),
            limited,
            "the others are unlimited"
        );

        let help = crate::command_line::CommandLine::command()
            .render_help()
            .to_string();
        let memory = help
            .split("[default: ")
            .find_map(|rest| quantity::bytes(rest.split_once(']')?.0).ok());
        assert_eq!(memory, Some(Limits::default().get(Limit::Memory)));
        assert!(help.contains(&format!(
            "[default: {}]",
            Limits::default().get(Limit::Processes)
        )));
    }

    fn rights(allow: &[&str], deny: &[&str], no_net: bool) -> Rights {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let (dir, read_dir, env) = (Vec::new(), Vec::new(), Vec::new());
        Rights {
            dir,
            read_dir,
            no_dir: false,
            env,
            no_env: false,
            no_net,
            allow: owned(allow),
            deny: owned(deny),
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let given = rights(
            &["lunatic::networking::resolve", "lunatic"],
            &["all", "lunatic"],
            true,
        );
        let expected = [
            (false, ""),
            (true, "lunatic"),
            (false, "lunatic"),
            (false, NETWORKING),
            (true, "lunatic::networking::resolve"),
        ];
        assert_eq!(rules(&given), expected);
    }
}
