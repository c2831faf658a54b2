//! The state shared by all requests to a service.

use super::config::ServiceConfig;
use super::manifest::Manifest;
use super::storage::Storage;
use crate::{Functions, Name};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};

/// A name that deployed functions cannot have, because a client that posts to `/deploy` at the
/// invoke address meant the deploy address.
pub(super) const RESERVED: &str = "deploy";

/// The maximum number of clients that can follow logs concurrently.
const FOLLOWERS: usize = 64;

/// The state shared by all requests to a service.
pub(super) struct Shared {
    pub(super) functions: Functions,
    pub(super) storage: Storage,
    pub(super) config: ServiceConfig,
    /// The stored functions, by name.
    known: Mutex<BTreeMap<String, Record>>,
    /// The locks of functions that are being changed or are about to be.
    function_locks: Mutex<HashMap<Name, Arc<Semaphore>>>,
    /// Held while the storage changes, so that newly stored wasm is not mistaken for unneeded wasm
    /// and deleted.
    pub(super) storage_lock: Semaphore,
    pub(super) deploys: Semaphore,
    /// Limits how many deploys are accepted, including those that are waiting.
    pub(super) accepted: Semaphore,
    pub(super) compiles: Arc<Semaphore>,
    pub(super) followers: Arc<Semaphore>,
    /// Set when responses that follow logs must end.
    pub(super) is_ending: watch::Sender<bool>,
    handle: &'static Handle,
    /// Tasks that continue without their clients.
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What is known about a stored function.
#[derive(Clone)]
pub(super) struct Record {
    /// `None` if the manifest cannot be read.
    pub(super) manifest: Option<Arc<Manifest>>,
    /// Why the function is not serving, if it is not.
    pub(super) broken: Option<String>,
}

/// A stored function that is not serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The function's name, or whatever is stored in its place.
    pub name: String,
    /// Why the function is not serving.
    pub why: String,
}

/// The right to change a function.
pub(super) type FunctionLock = OwnedSemaphorePermit;

impl Shared {
    pub(super) fn new(
        functions: Functions,
        storage: Storage,
        config: ServiceConfig,
        handle: &'static Handle,
    ) -> Shared {
        Shared {
            functions,
            storage,
            known: Mutex::default(),
            function_locks: Mutex::default(),
            storage_lock: Semaphore::new(1),
            deploys: Semaphore::new(config.deploys.get()),
            accepted: Semaphore::new(config.deploys.get() + config.waiting),
            compiles: Arc::new(Semaphore::new(config.compiles.get())),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            is_ending: watch::Sender::new(false),
            handle,
            tasks: Mutex::default(),
            config,
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the manifest of a stored function.
    pub(super) fn manifest(&self, name: &Name) -> Option<Arc<Manifest>> {
        self.known()
            .get(name.as_str())
            .and_then(|record| record.manifest.clone())
    }

    /// Returns the hashes of all wasm that is still needed.
    pub(super) fn needed(&self) -> HashSet<blake3::Hash> {
        let known = self.known();
        let manifests = known.values().filter_map(|record| record.manifest.as_ref());
        manifests
            .flat_map(|manifest| manifest.versions.iter().map(|version| version.hash))
            .collect()
    }

    /// Runs a task to completion, unless the service is dropped first.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let task = self.handle.spawn(task);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        task
    }

    pub(super) fn abort_tasks(&self) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Waits until no other request is changing a function.
    pub(super) async fn lock_function(&self, name: &Name) -> FunctionLock {
        let lock = {
            let mut locks = self
                .function_locks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // A lock that only this map holds is not in use.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(1)))
                .clone()
        };
        lock.acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }
}
