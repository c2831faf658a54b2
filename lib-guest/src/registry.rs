//! Names by which processes find each other. A name belongs to a live process and is removed when
//! the process exits.

use crate::environment::Environment;
use crate::host;
use crate::process::handle::Process;
use lunatic_abi::{Errno, OWN};

/// Why a name was not registered or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The version is not a semantic version.
    #[error("the version is not a semantic version such as 1.2.0")]
    IncorrectSemver,
    /// The query is not a version requirement.
    #[error("the query is not a version requirement such as ^1.2")]
    IncorrectQuery,
    /// No live process has this name and version.
    #[error("no process is registered under this name and version")]
    NotFound,
    /// Another live process has this name and version.
    #[error("another process is registered under this name and version")]
    NameTaken,
    /// The process is dead.
    #[error("the process is dead")]
    NoProcess,
    /// The machine refused the request for another reason: the limit on names is reached, a right
    /// is missing, or the name is malformed.
    #[error("the machine refused the request ({0:?})")]
    Refused(Errno),
}

/// The names of an environment.
impl Environment {
    /// Registers a process under a name and a semantic version.
    ///
    /// # Errors
    ///
    /// Returns any [`RegistryError`] except [`RegistryError::IncorrectQuery`] and
    /// [`RegistryError::NotFound`].
    pub fn register<T>(
        &self,
        name: &str,
        version: &str,
        process: Process<T>,
    ) -> Result<(), RegistryError> {
        let result = host::environment::register(self.id(), name, version, process.id());
        check(result, RegistryError::IncorrectSemver)
    }

    /// Unregisters a name. `version` must be exactly the version under which it is registered.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::NotFound`] if the name is not registered with this version,
    /// [`RegistryError::IncorrectSemver`], or [`RegistryError::Refused`].
    pub fn unregister(&self, name: &str, version: &str) -> Result<(), RegistryError> {
        let result = host::environment::unregister(self.id(), name, version);
        check(result, RegistryError::IncorrectSemver)
    }

    /// Like [`lookup`], but searches this environment instead of the caller's own.
    pub fn lookup<T>(&self, name: &str, query: &str) -> Result<Option<Process<T>>, RegistryError> {
        lookup_in(self.id(), name, query)
    }
}

/// Finds the process that is registered under a name in the current process's environment, with the
/// newest version that satisfies a requirement such as `^1.2`.
///
/// The caller chooses the message type of the returned handle; the choice is not checked.
///
/// # Errors
///
/// Returns [`RegistryError::IncorrectQuery`] or [`RegistryError::Refused`]. If no process matches,
/// the result is `None`.
///
/// # Example
///
/// ```no_run
/// use lunatic::{lookup, process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<String>) {
///     let this = process::this(&mailbox);
///     process::this_env().register("log", "1.4.2", this).unwrap();
///     process::spawn(|_: Mailbox<()>| {
///         if let Some(log) = lookup::<String>("log", "^1.0").unwrap() {
///             log.send("found".into());
///         }
///     })
///     .unwrap();
///     assert_eq!(mailbox.receive().unwrap(), "found");
/// }
/// ```
pub fn lookup<T>(name: &str, query: &str) -> Result<Option<Process<T>>, RegistryError> {
    lookup_in(OWN, name, query)
}

fn lookup_in<T>(
    environment: u64,
    name: &str,
    query: &str,
) -> Result<Option<Process<T>>, RegistryError> {
    let mut process = 0;
    let result = host::environment::lookup(environment, name, query, &mut process);
    match check(result, RegistryError::IncorrectQuery) {
        Ok(()) => Ok(Some(Process::from_id(process))),
        Err(RegistryError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Interprets the machine's answer. `bad_version` is the error to return for a malformed version.
fn check(result: u32, bad_version: RegistryError) -> Result<(), RegistryError> {
    match Errno::from_number(result) {
        Some(Errno::Success) => Ok(()),
        Some(Errno::BadVersion) => Err(bad_version),
        Some(Errno::NameNotFound) => Err(RegistryError::NotFound),
        Some(Errno::NameTaken) => Err(RegistryError::NameTaken),
        Some(Errno::NoProcess) => Err(RegistryError::NoProcess),
        other => Err(RegistryError::Refused(other.unwrap_or(Errno::Other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_version_is_distinguished_from_a_malformed_query() {
        let malformed = Errno::BadVersion as u32;
        let check_query = check(malformed, RegistryError::IncorrectQuery);
        assert_eq!(check_query, Err(RegistryError::IncorrectQuery));
        let check_version = check(malformed, RegistryError::IncorrectSemver);
        assert_eq!(check_version, Err(RegistryError::IncorrectSemver));
    }

    #[test]
    fn an_answer_without_a_variant_keeps_its_number() {
        let limit = check(Errno::LimitReached as u32, RegistryError::IncorrectSemver);
        assert_eq!(limit, Err(RegistryError::Refused(Errno::LimitReached)));
        let unknown = check(9_999, RegistryError::IncorrectSemver);
        assert_eq!(unknown, Err(RegistryError::Refused(Errno::Other)));
        assert_eq!(check(0, RegistryError::IncorrectSemver), Ok(()));
    }
}
