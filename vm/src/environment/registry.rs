//! Process names. Each environment that has its own names keeps them in a plain table.
//!
//! A name belongs to a live process and disappears when the process exits. While the process is
//! alive, the name cannot be given to another process. Only the process that holds the name and the
//! process that registered it can revoke the registration. Therefore, no process can impersonate
//! another.

use lunatic_abi::Errno;
use lunatic_process::{LimitReached, Pid};
use semver::{Version, VersionReq};
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

/// A name with a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    text: Box<str>,
    version: Version,
}

/// The maximum length of a name, in bytes.
pub(crate) const MAX_NAME_LENGTH: usize = 1024;

/// The maximum length of a version or requirement, in bytes. Small, because each lookup compares
/// many versions.
pub(crate) const MAX_VERSION_LENGTH: usize = 128;

/// Why a name cannot be registered, found or revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The name is empty, is too long, or contains control characters.
    #[error("a name must be 1 to {MAX_NAME_LENGTH} bytes long and free of control characters")]
    BadName,
    /// The version is not a semantic version, or is too long.
    #[error("`{0}` is not a version such as `1.2.3`, of at most {MAX_VERSION_LENGTH} bytes")]
    BadVersion(String),
    /// The query is not a version requirement, or is too long.
    #[error("`{0}` is not a requirement such as `^1.2`, of at most {MAX_VERSION_LENGTH} bytes")]
    BadQuery(String),
    /// A live process holds the name.
    #[error("the name `{0}` is held by process {1}")]
    Taken(String, Pid),
    /// No process holds the name.
    #[error("no process is registered as `{0}`")]
    NotFound(String),
    /// The caller neither holds the name nor registered its holder.
    #[error(
        "only process {1}, which holds the name `{0}`, and the process that registered it can revoke it"
    )]
    NotOwner(String, Pid),
    /// The process is dead.
    #[error("process {0} does not exist")]
    NoProcess(Pid),
    /// The environment's limit is reached.
    #[error("{0}")]
    Limit(LimitReached),
}

impl RegistryError {
    /// Returns the error code that guests get.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            RegistryError::BadName => Errno::InvalidInput,
            RegistryError::BadVersion(_) | RegistryError::BadQuery(_) => Errno::BadVersion,
            RegistryError::Taken(..) => Errno::NameTaken,
            RegistryError::NotFound(_) => Errno::NameNotFound,
            RegistryError::NotOwner(..) => Errno::NotGranted,
            RegistryError::NoProcess(_) => Errno::NoProcess,
            RegistryError::Limit(_) => Errno::LimitReached,
        }
    }
}

impl Name {
    /// Creates a name with a version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::BadName`] or [`RegistryError::BadVersion`] if the name or the version is
    /// invalid.
    pub(crate) fn new(text: &str, version: &str) -> Result<Name, RegistryError> {
        let version = parse(version).map_err(RegistryError::BadVersion)?;
        Ok(Name {
            text: check(text)?.into(),
            version,
        })
    }

    /// Creates a name with the version 0.0.0, for the published interface, in which names have no
    /// version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::BadName`] if the name is invalid.
    pub(crate) fn unversioned(text: &str) -> Result<Name, RegistryError> {
        Ok(Name {
            text: check(text)?.into(),
            version: Version::new(0, 0, 0),
        })
    }

    /// Returns how many bytes a registration under the name occupies. The table and the process
    /// that holds the name each keep a copy of it.
    pub(crate) fn size(&self) -> u64 {
        let version = self.version.pre.len() + self.version.build.len();
        512 + 2 * (self.text.len() + version) as u64
    }

    /// Returns the name without its version.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Parses a version or a requirement. On failure, returns the beginning of the string.
fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    let is_short = text.len() <= MAX_VERSION_LENGTH;
    let parsed = is_short.then(|| text.parse().ok()).flatten();
    parsed.ok_or_else(|| {
        let begin = &text[..text.floor_char_boundary(MAX_VERSION_LENGTH)];
        begin.escape_debug().to_string()
    })
}

fn check(text: &str) -> Result<&str, RegistryError> {
    let good = (1..=MAX_NAME_LENGTH).contains(&text.len()) && !text.chars().any(char::is_control);
    if good {
        Ok(text)
    } else {
        Err(RegistryError::BadName)
    }
}

fn not_found(text: &str) -> RegistryError {
    RegistryError::NotFound(text.escape_debug().to_string())
}

/// A registration under a name.
#[derive(Clone, Copy, Debug)]
struct Holder {
    pid: Pid,
    /// The process that made the registration.
    registrar: Pid,
    /// How many registrations were made before this one.
    number: u64,
}

/// The names of one environment.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    names: HashMap<Box<str>, BTreeMap<Version, Holder>>,
    /// How many registrations have been made so far.
    registered: u64,
}

impl Registry {
    /// Registers a process under a name, and returns the number of the registration.
    pub(crate) fn register(
        &mut self,
        name: &Name,
        pid: Pid,
        registrar: Pid,
    ) -> Result<u64, RegistryError> {
        if let Some(holder) = self.holder_of(name) {
            return Err(RegistryError::Taken(name.text.to_string(), holder.pid));
        }
        let number = self.registered;
        self.registered += 1;
        let holder = Holder {
            pid,
            registrar,
            number,
        };
        self.names
            .entry(name.text.clone())
            .or_default()
            .insert(name.version.clone(), holder);
        Ok(number)
    }

    /// Returns whether the process has the name.
    pub(crate) fn holds(&self, name: &Name, pid: Pid) -> bool {
        self.holder_of(name).is_some_and(|holder| holder.pid == pid)
    }

    /// Returns the number of a process's registration under a name.
    pub(crate) fn number(&self, name: &Name, pid: Pid) -> Option<u64> {
        let holder = self.holder_of(name).filter(|holder| holder.pid == pid)?;
        Some(holder.number)
    }

    /// Returns the process that has a name, if `caller` may revoke the name. Only that process and
    /// the one that registered it may.
    pub(crate) fn holder(&self, name: &Name, caller: Pid) -> Result<Pid, RegistryError> {
        let holder = self
            .holder_of(name)
            .ok_or_else(|| RegistryError::NotFound(name.text.to_string()))?;
        if caller != holder.pid && caller != holder.registrar {
            return Err(RegistryError::NotOwner(name.text.to_string(), holder.pid));
        }
        Ok(holder.pid)
    }

    /// Removes a name from a process and returns whether the process had it.
    pub(crate) fn remove(&mut self, name: &Name, pid: Pid) -> bool {
        let Some(versions) = self.names.get_mut(&name.text) else {
            return false;
        };
        if versions
            .get(&name.version)
            .is_none_or(|holder| holder.pid != pid)
        {
            return false;
        }
        versions.remove(&name.version);
        if versions.is_empty() {
            self.names.remove(&name.text);
        }
        true
    }

    /// Finds the process registered under a name with the highest version that satisfies a
    /// requirement such as `^1.2`. The requirement `*` accepts any version.
    pub(crate) fn lookup(&self, text: &str, query: &str) -> Result<Pid, RegistryError> {
        let highest = self.satisfying(text, query)?.next_back();
        highest
            .map(|holder| holder.pid)
            .ok_or_else(|| not_found(text))
    }

    /// Finds the process most recently registered under a name with a version that satisfies the
    /// requirement.
    pub(crate) fn newest(&self, text: &str, query: &str) -> Result<Pid, RegistryError> {
        let newest = self
            .satisfying(text, query)?
            .max_by_key(|holder| holder.number);
        newest
            .map(|holder| holder.pid)
            .ok_or_else(|| not_found(text))
    }

    /// Returns the processes registered under a name with versions that satisfy a requirement,
    /// lowest version first.
    fn satisfying(
        &self,
        text: &str,
        query: &str,
    ) -> Result<impl DoubleEndedIterator<Item = &Holder>, RegistryError> {
        let any = query == "*";
        let requirement: VersionReq = parse(query).map_err(RegistryError::BadQuery)?;
        let versions = self.names.get(text).ok_or_else(|| not_found(text))?;
        Ok(versions
            .iter()
            .filter(move |(version, _)| any || requirement.matches(version))
            .map(|(_, holder)| holder))
    }

    fn holder_of(&self, name: &Name) -> Option<Holder> {
        self.names.get(&name.text)?.get(&name.version).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Pid = Pid::from_number(1);
    const OTHER: Pid = Pid::from_number(2);

    fn name(version: &str) -> Name {
        Name::new("db", version).expect("the tests use valid versions")
    }

    #[test]
    fn the_highest_matching_version_is_found() {
        let mut registry = Registry::default();
        for (version, pid) in [
            ("1.2.0", 10),
            ("2.0.0", 20),
            ("1.10.0", 11),
            ("3.0.0-beta", 30),
        ] {
            registry
                .register(&name(version), Pid::from_number(pid), ME)
                .expect("the versions differ");
        }
        for (query, pid) in [
            ("^1", 11),
            (">=1", 20),
            ("=1.2.0", 10),
            ("*", 30),
            ("3.0.0-beta", 30),
        ] {
            assert_eq!(
                registry.lookup("db", query),
                Ok(Pid::from_number(pid)),
                "{query}"
            );
        }
        assert_eq!(
            registry.lookup("db", "^4"),
            Err(RegistryError::NotFound("db".into()))
        );
        assert_eq!(
            registry.lookup("no", "^4"),
            Err(RegistryError::NotFound("no".into()))
        );
        assert_eq!(
            registry.lookup("db", "four"),
            Err(RegistryError::BadQuery("four".into()))
        );
    }

    #[test]
    fn the_newest_matching_registration_is_found() {
        let mut registry = Registry::default();
        for (version, pid) in [("1.2.0", 10), ("2.0.0", 20), ("1.1.0", 11)] {
            registry
                .register(&name(version), Pid::from_number(pid), ME)
                .expect("the versions differ");
        }
        for (query, pid) in [("^1", 11), (">=1.2", 20), ("=1.2.0", 10), ("*", 11)] {
            assert_eq!(
                registry.newest("db", query),
                Ok(Pid::from_number(pid)),
                "{query}"
            );
        }
        assert_eq!(
            registry.newest("db", "^4"),
            Err(RegistryError::NotFound("db".into()))
        );
        assert_eq!(
            registry.newest("db", "four"),
            Err(RegistryError::BadQuery("four".into()))
        );
    }

    #[test]
    fn t054_a_name_is_neither_taken_nor_removed_by_others() {
        let mut registry = Registry::default();
        registry
            .register(&name("1.0.0"), ME, ME)
            .expect("the name is free");
        assert_eq!(
            registry.register(&name("1.0.0"), OTHER, OTHER),
            Err(RegistryError::Taken("db".into(), ME))
        );
        assert_eq!(
            registry.holder(&name("1.0.0"), OTHER),
            Err(RegistryError::NotOwner("db".into(), ME))
        );
        assert_eq!(registry.lookup("db", "*"), Ok(ME));
        assert_eq!(registry.holder(&name("1.0.0"), ME), Ok(ME));
        assert_eq!(
            registry.holder(&name("2.0.0"), ME),
            Err(RegistryError::NotFound("db".into()))
        );
    }

    #[test]
    fn thousands_of_versions_of_one_name_are_found_and_removed() {
        let mut registry = Registry::default();
        let prerelease = "a".repeat(100);
        let versions = || (0..10_000).map(|number| name(&format!("1.0.0-{prerelease}{number}")));
        for version in versions() {
            registry
                .register(&version, ME, ME)
                .expect("the versions differ");
        }
        assert_eq!(registry.lookup("db", "*"), Ok(ME));
        assert!(registry.lookup("db", "^1").is_err());
        for version in versions() {
            assert!(registry.remove(&version, ME));
        }
        assert!(registry.names.is_empty());
    }

    #[test]
    fn a_registrar_can_revoke_the_name_of_another_process() {
        let mut registry = Registry::default();
        registry
            .register(&name("1.0.0"), OTHER, ME)
            .expect("the name is free");
        assert_eq!(registry.holder(&name("1.0.0"), ME), Ok(OTHER));
    }

    #[test]
    fn a_death_removes_only_the_name_of_the_dead_process() {
        let mut registry = Registry::default();
        registry
            .register(&name("1.0.0"), ME, ME)
            .expect("the name is free");
        assert!(!registry.remove(&name("1.0.0"), OTHER));
        assert!(registry.remove(&name("1.0.0"), ME));
        registry
            .register(&name("1.0.0"), OTHER, OTHER)
            .expect("the name is free again");
    }

    #[test]
    fn t056_a_name_must_be_short_printable_text() {
        for bad in [
            "",
            "a\0b",
            "\x1b[31mred",
            "line\nbreak",
            &"x".repeat(1 << 20),
        ] {
            assert_eq!(Name::unversioned(bad), Err(RegistryError::BadName));
        }
        assert!(Name::unversioned("with/slash and Ünïcode").is_ok());
        assert_eq!(
            Name::new("n", "1.x"),
            Err(RegistryError::BadVersion("1.x".into()))
        );
    }

    #[test]
    fn the_length_of_a_version_is_limited() {
        let long = format!("1.0.0-{}", "a".repeat(MAX_VERSION_LENGTH));
        assert!(matches!(
            Name::new("n", &long),
            Err(RegistryError::BadVersion(begin)) if begin.len() == MAX_VERSION_LENGTH
        ));
        let mut registry = Registry::default();
        registry
            .register(&name("1.0.0"), ME, ME)
            .expect("the name is free");
        assert!(matches!(
            registry.lookup("db", &long),
            Err(RegistryError::BadQuery(_))
        ));
    }
}
