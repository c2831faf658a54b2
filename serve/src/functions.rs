//! A machine's functions.

use crate::function::Shared;
use crate::metrics::Metrics;
use crate::private::{PrivateDirectories, PrivateDirectory};
use crate::turnstile::Turnstile;
use crate::{Code, Log, Name, Settings, SettingsError, Version};
use lunatic_vm::Vm;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

/// A machine's functions. Cheap to clone; all clones refer to the same table.
#[derive(Clone)]
pub struct Functions(Arc<Table>);

/// A weak handle to a table of functions.
#[derive(Clone, Default)]
pub(crate) struct WeakFunctions(Weak<Table>);

struct Table {
    vm: Vm,
    metrics: Metrics,
    functions: Mutex<BTreeMap<Name, Arc<Function>>>,
    private: PrivateDirectories,
}

/// A named function. Its code can be replaced while it is serving. Each request is served to
/// completion by the version that was current when it arrived.
pub struct Function {
    shared: Arc<Shared>,
    /// The requests that are being served and those that are waiting.
    requests: Turnstile,
    current: RwLock<Arc<Version>>,
}

impl Function {
    /// Returns the function's name.
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Returns the function's log, which all versions share.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Returns the version that serves new requests.
    pub fn version(&self) -> Arc<Version> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the turnstile where requests wait for their turn.
    pub(crate) fn requests(&self) -> &Turnstile {
        &self.requests
    }

    /// Has another version serve new requests. Requests in progress finish on the version they
    /// started with.
    fn replace(&self, version: Arc<Version>) {
        self.log().replaced(version.number());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

impl Functions {
    /// Creates an empty table. The machine must have been built with
    /// [`add_to_host`](crate::add_to_host).
    pub fn new(vm: &Vm) -> Functions {
        Functions(Arc::new(Table {
            vm: vm.clone(),
            metrics: Metrics::new(),
            functions: Mutex::default(),
            private: PrivateDirectories::default(),
        }))
    }

    /// Returns the machine.
    pub fn vm(&self) -> &Vm {
        &self.0.vm
    }

    /// Returns the metrics of all functions.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns a function.
    pub fn get(&self, name: &str) -> Option<Arc<Function>> {
        self.table().get(name).cloned()
    }

    /// Returns all functions, by name.
    pub fn all(&self) -> Vec<Arc<Function>> {
        self.table().values().cloned().collect()
    }

    /// Adds a function, or a new version of a function, which then serves all new requests.
    ///
    /// # Errors
    ///
    /// Fails if the environment cannot be created. Nothing has changed in that case.
    pub fn put(
        &self,
        name: &Name,
        number: u64,
        hash: blake3::Hash,
        code: Code,
        settings: Settings,
    ) -> Result<Arc<Version>, SettingsError> {
        let version = self.prepare(name, number, hash, code, settings)?;
        self.serve(&version);
        Ok(version)
    }

    /// Creates a version that can be tried out but does not serve yet. The caller must not prepare
    /// more than one version of a function at a time.
    ///
    /// # Errors
    ///
    /// Fails if the environment cannot be created.
    pub(crate) fn prepare(
        &self,
        name: &Name,
        number: u64,
        hash: blake3::Hash,
        code: Code,
        settings: Settings,
    ) -> Result<Arc<Version>, SettingsError> {
        for directory in &settings.directories {
            self.check_directory(&directory.host)?;
        }
        let shared = match self.get(name.as_str()) {
            Some(function) => function.shared.clone(),
            None => Arc::new(Shared::new(name, &self.0.metrics)),
        };
        Version::new(&self.0.vm, shared, number, hash, code, settings).map(Arc::new)
    }

    /// Has a version serve new requests.
    pub(crate) fn serve(&self, version: &Arc<Version>) {
        let mut functions = self.table();
        if let Some(function) = functions.get(version.name()) {
            return function.replace(version.clone());
        }
        version.log().replaced(version.number());
        let function = Function {
            shared: version.shared().clone(),
            requests: Turnstile::default(),
            current: RwLock::new(version.clone()),
        };
        functions.insert(version.name().clone(), Arc::new(function));
    }

    /// Removes a function. Requests in progress finish normally.
    pub fn remove(&self, name: &str) -> Option<Arc<Function>> {
        self.table().remove(name)
    }

    /// Makes a directory private: functions cannot access it, and gateways do not serve its files.
    ///
    /// # Errors
    ///
    /// Fails if a function already has access to the directory.
    pub(crate) fn keep_private(&self, directory: &Path) -> Result<(), (Name, PrivateDirectory)> {
        self.0.private.add(directory);
        for function in self.all() {
            for directory in &function.version().settings().directories {
                self.check_directory(&directory.host)
                    .map_err(|error| (function.name().clone(), error))?;
            }
        }
        Ok(())
    }

    /// Checks that a directory contains nothing private.
    pub(crate) fn check_directory(&self, directory: &Path) -> Result<(), PrivateDirectory> {
        self.0.private.check(directory)
    }

    /// Returns a handle that does not keep the table alive.
    pub(crate) fn downgrade(&self) -> WeakFunctions {
        WeakFunctions(Arc::downgrade(&self.0))
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Function>>> {
        self.0
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl WeakFunctions {
    pub(crate) fn upgrade(&self) -> Option<Functions> {
        self.0.upgrade().map(Functions)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Functions").field(&self.all()).finish()
    }
}
