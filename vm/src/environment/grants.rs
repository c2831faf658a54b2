//! Which host functions an environment's processes may call.
//!
//! A machine's functions are numbered when it is built, and a set of grants has one bit per
//! function. Environments with the same set share linkers, and a child's set is a subset of its
//! creator's by construction.

use std::fmt;
use std::sync::Arc;

/// The namespaces of WASI preview 1 and of WASI preview 0, which has the same functions.
const WASI: &str = "wasi_snapshot_preview1::";
const OLDER_WASI: &str = "wasi_unstable::";

/// The function that spawns a process, and the other functions that do.
const SPAWN: &str = "lunatic::process::spawn";
const OTHER_SPAWNS: [&str; 4] = [
    "lunatic::distributed::spawn",
    "lunatic::environment::spawn",
    "lunatic::process::get_or_spawn",
    "lunatic::process::inherit_spawn",
];

/// The names of all functions that a machine provides, as `namespace::name`, in a fixed order.
#[derive(Debug)]
pub(crate) struct Catalogue {
    names: Vec<String>,
}

impl Catalogue {
    pub(crate) fn new(mut names: Vec<String>) -> Arc<Catalogue> {
        names.sort_unstable();
        names.dedup();
        Arc::new(Catalogue { names })
    }

    /// Returns the empty set of grants.
    pub(crate) fn nothing(self: &Arc<Catalogue>) -> Grants {
        Grants {
            catalogue: self.clone(),
            bits: vec![0; self.names.len().div_ceil(64)],
        }
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.names
            .binary_search_by(|known| known.as_str().cmp(name))
            .ok()
    }
}

/// A set of functions.
#[derive(Clone)]
pub(crate) struct Grants {
    catalogue: Arc<Catalogue>,
    bits: Vec<u64>,
}

impl Grants {
    /// Adds the functions whose `namespace::name` begins with a prefix, and returns how many match.
    pub(crate) fn allow(&mut self, prefix: &str) -> usize {
        self.change(prefix, |word, bit| *word |= bit)
    }

    /// Removes the functions whose `namespace::name` begins with a prefix, along with the other
    /// functions that do the same: their counterparts in an older version of WASI and, for
    /// `lunatic::process::spawn`, all functions that spawn. Returns how many functions match the
    /// prefix.
    pub(crate) fn deny(&mut self, prefix: &str) -> usize {
        let catalogue = self.catalogue.clone();
        for name in &catalogue.names {
            if name.starts_with(prefix)
                && let Some(function) = name.strip_prefix(WASI)
            {
                self.remove(&format!("{OLDER_WASI}{function}"));
            }
        }
        if SPAWN.starts_with(prefix) {
            OTHER_SPAWNS.iter().for_each(|name| self.remove(name));
        }
        self.change(prefix, |word, bit| *word &= !bit)
    }

    /// Removes a function, if the machine provides it.
    fn remove(&mut self, name: &str) {
        if let Some(number) = self.catalogue.number(name) {
            self.bits[number / 64] &= !(1 << (number % 64));
        }
    }

    fn change(&mut self, prefix: &str, change: impl Fn(&mut u64, u64)) -> usize {
        // The names are sorted, so those with a common prefix are adjacent.
        let start = self
            .catalogue
            .names
            .partition_point(|name| name.as_str() < prefix);
        let names = self.catalogue.names[start..]
            .iter()
            .take_while(|name| name.starts_with(prefix))
            .count();
        for number in start..start + names {
            change(&mut self.bits[number / 64], 1 << (number % 64));
        }
        names
    }

    /// Keeps only the grants that are also in another set.
    pub(crate) fn restrict_to(&mut self, other: &Grants) {
        for (word, limit) in self.bits.iter_mut().zip(&other.bits) {
            *word &= limit;
        }
    }

    /// Returns the names of all functions, granted or not.
    pub(crate) fn known(&self) -> impl Iterator<Item = &str> {
        self.catalogue.names.iter().map(String::as_str)
    }

    /// Returns whether a function is granted.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.catalogue
            .number(name)
            .is_some_and(|number| self.bits[number / 64] & 1 << (number % 64) != 0)
    }

    /// Returns whether a component's import is granted. It is granted if a granted name equals the
    /// import or is a prefix of it that ends before a `/` or `@`.
    pub(crate) fn allows_interface(&self, import: &str) -> bool {
        let ends = import
            .match_indices(['/', '@'])
            .map(|(end, _)| end)
            .chain([import.len()]);
        ends.into_iter().any(|end| self.allows(&import[..end]))
    }

    /// Returns whether any function whose name begins with a prefix is granted.
    pub(crate) fn allows_any(&self, prefix: &str) -> bool {
        let mut some = self.catalogue.nothing();
        some.allow(prefix);
        some.bits
            .iter()
            .zip(&self.bits)
            .any(|(one, other)| one & other != 0)
    }

    /// Returns the set as a lookup key.
    pub(crate) fn key(&self) -> &[u64] {
        &self.bits
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let granted: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        write!(f, "{granted} of {} functions", self.catalogue.names.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything(catalogue: &Arc<Catalogue>) -> Grants {
        let mut grants = catalogue.nothing();
        grants.allow("");
        grants
    }

    fn catalogue() -> Arc<Catalogue> {
        let names = [
            "wasi::environ_get",
            "wasi::environ_sizes_get",
            "wasi::fd_write",
            "lunatic::message::send",
        ];
        Catalogue::new(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_prefix_grants_what_begins_with_it() {
        let mut grants = catalogue().nothing();
        assert_eq!(grants.allow("wasi::environ"), 2);
        assert!(grants.allows("wasi::environ_get") && !grants.allows("wasi::fd_write"));
        assert_eq!(grants.allow("nothing::"), 0);
        assert_eq!(grants.deny("wasi::environ_s"), 1);
        assert!(!grants.allows("wasi::environ_sizes_get"));
        assert!(!grants.allows("no such function"));
    }

    #[test]
    fn denying_a_function_also_denies_its_older_counterpart() {
        let names = ["wasi_snapshot_preview1", "wasi_unstable"];
        let names = names
            .map(|namespace| ["fd_read", "fd_write"].map(|name| format!("{namespace}::{name}")));
        let catalogue = Catalogue::new(names.concat());
        for prefix in [
            "wasi_snapshot_preview1",
            "wasi_snap",
            "wasi_snapshot_preview1::fd_w",
            "wasi_snapshot_preview1::fd_write",
            "",
        ] {
            let mut grants = everything(&catalogue);
            grants.deny(prefix);
            assert!(!grants.allows("wasi_unstable::fd_write"), "{prefix}");
        }
        let mut grants = everything(&catalogue);
        grants.deny("wasi_snapshot_preview1::fd_write");
        assert!(grants.allows("wasi_unstable::fd_read"));
        grants.allow("wasi_unstable::fd_write");
        assert!(
            grants.allows("wasi_unstable::fd_write"),
            "the later `allow` must override the earlier `deny`"
        );
        grants.deny("wasi_unstable");
        assert!(grants.allows("wasi_snapshot_preview1::fd_read"));
    }

    #[test]
    fn denying_the_function_that_spawns_denies_every_way_to_spawn() {
        let others = OTHER_SPAWNS.map(String::from);
        let names = [
            &others[..],
            &[SPAWN, "lunatic::process::kill"].map(String::from),
        ];
        let catalogue = Catalogue::new(names.concat());
        for prefix in [SPAWN, "lunatic::process", "lunatic::p", ""] {
            let mut grants = everything(&catalogue);
            grants.deny(prefix);
            for name in OTHER_SPAWNS {
                assert!(!grants.allows(name), "{name} after denying `{prefix}`");
            }
        }
        let mut grants = everything(&catalogue);
        grants.deny(SPAWN);
        assert!(grants.allows("lunatic::process::kill"));
        grants.deny("lunatic::environment");
        grants.allow("lunatic::environment::spawn");
        assert!(
            grants.allows("lunatic::environment::spawn"),
            "the later `allow` must override the earlier `deny`"
        );
        let mut grants = everything(&catalogue);
        grants.deny("lunatic::process::get_or_spawn");
        assert!(grants.allows(SPAWN));
    }

    #[test]
    fn the_functions_that_spawn_exist() {
        let provided: Vec<String> = lunatic_abi::Generation::ALL
            .into_iter()
            .flat_map(lunatic_abi::Generation::host_functions)
            .map(|row| format!("{}::{}", row.namespace, row.name))
            .collect();
        let spawns = provided.iter().filter(|name| name.ends_with("spawn"));
        for name in spawns {
            let name = name.as_str();
            assert!(name == SPAWN || OTHER_SPAWNS.contains(&name), "{name}");
        }
        for name in OTHER_SPAWNS {
            assert!(provided.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn an_interface_is_granted_by_its_package_or_itself() {
        let catalogue = Catalogue::new(vec!["my:db".into(), "my:log/sink".into()]);
        let grants = everything(&catalogue);
        for granted in [
            "my:db/query@1.2.0",
            "my:db@1.0.0",
            "my:log/sink@0.1.0",
            "my:log/sink",
        ] {
            assert!(grants.allows_interface(granted), "{granted}");
        }
        for denied in ["my:dbx/query", "my:log/source", "other:db/query"] {
            assert!(!grants.allows_interface(denied), "{denied}");
        }
        assert!(!catalogue.nothing().allows_interface("my:db/query"));
    }

    #[test]
    fn the_empty_prefix_grants_everything() {
        assert!(everything(&catalogue()).allows("lunatic::message::send"));
    }

    #[test]
    fn a_child_keeps_only_what_its_creator_has() {
        let catalogue = catalogue();
        let mut outer = catalogue.nothing();
        outer.allow("wasi::");
        let mut inner = everything(&catalogue);
        inner.restrict_to(&outer);
        assert!(inner.allows("wasi::fd_write") && !inner.allows("lunatic::message::send"));
        assert!(inner.allows_any("wasi::") && !inner.allows_any("lunatic::"));
    }
}
