//! Deploys functions, rolls them back, and removes them.
//!
//! Nothing is stored and nothing changes until a version has been compiled and started once. From
//! that point on, the deploy runs to completion even if its client stops waiting.

use super::manifest::{Manifest, StoredVersion};
use super::options::DeployOptions;
use super::refusal::Refusal;
use super::shared::{FunctionLock, RESERVED, Record, Shared, Skipped};
use super::storage::StorageError;
use crate::function::TryOutError;
use crate::{Code, Name, Settings, Version};
use bytes::Bytes;
use http::StatusCode;
use lunatic_vm::{Shortage, SpawnError};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinSet;

/// How many functions to read ahead at startup while others are being compiled.
const READ_AHEAD: usize = 4;

/// The first bytes of wasm.
const MAGIC: &[u8] = b"\0asm";

/// What a deploy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deployed {
    /// A new version is now serving.
    New,
    /// The version was already serving.
    Unchanged,
}

/// A version to deploy.
pub(super) struct DeployRequest {
    pub(super) name: Name,
    pub(super) bytes: Bytes,
    pub(super) options: DeployOptions,
    /// If the client specifies a precondition, the hash that the version currently serving must
    /// have, or `*` for any version.
    pub(super) expected: Option<String>,
}

impl Shared {
    /// Starts serving the stored functions and returns those that cannot serve.
    pub(super) async fn load(self: &Arc<Shared>) -> Result<Vec<Skipped>, StorageError> {
        let mut loading = JoinSet::new();
        let mut skipped = Vec::new();
        for name in self.storage.names().await? {
            if loading.len() == self.config.compiles.get() + READ_AHEAD
                && let Some(loaded) = loading.join_next().await
            {
                skipped.extend(loaded.ok().flatten());
            }
            let shared = self.clone();
            loading.spawn(async move {
                let (manifest, loaded) = shared.load_one(&name).await;
                let broken = loaded.err();
                shared.known().insert(
                    name.clone(),
                    Record {
                        manifest,
                        broken: broken.clone(),
                    },
                );
                broken.map(|why| Skipped { name, why })
            });
        }
        skipped.extend(loading.join_all().await.into_iter().flatten());
        skipped.sort_by(|one, other| one.name.cmp(&other.name));
        let are_all_known = self
            .known()
            .values()
            .all(|record| record.manifest.is_some());
        // An unreadable manifest may be repaired later, and then its wasm will be needed.
        if are_all_known && let Err(error) = self.storage.keep_blobs(&self.needed()).await {
            log::warn!("stored wasm that is no longer needed was not deleted: {error}");
        }
        Ok(skipped)
    }

    async fn load_one(&self, stored: &str) -> (Option<Arc<Manifest>>, Result<(), String>) {
        let name = match Name::new(stored) {
            Ok(name) => name,
            Err(error) => return (None, Err(error.to_string())),
        };
        let manifest = match self.storage.manifest(stored).await {
            Ok(manifest) => Arc::new(manifest),
            Err(error) => return (None, Err(format!("its manifest cannot be read: {error}"))),
        };
        let version = self.restore(&name, &manifest).await;
        let served = version.and_then(|version| {
            // If a project is being served as well, its names take precedence.
            if self.functions.get(stored).is_some() {
                return Err("the project has a function with the same name".to_string());
            }
            self.functions.serve(&version);
            Ok(())
        });
        (Some(manifest), served)
    }

    /// Prepares the version that should serve according to the manifest.
    async fn restore(&self, name: &Name, manifest: &Manifest) -> Result<Arc<Version>, String> {
        let stored = manifest.current();
        let settings = self
            .settings(&stored.options)
            .map_err(|refusal| refusal.sentence)?;
        // The permit is acquired before the wasm is read, to limit memory use.
        let permit = self.compile_permit().await;
        let read = self.storage.blob(stored.hash, stored.size).await;
        let bytes =
            read.map_err(|error| format!("its wasm, {}, cannot be read: {error}", stored.hash))?;
        let code = self
            .compile(permit, name, bytes.into())
            .await
            .map_err(|refusal| refusal.sentence)?;
        let prepared = self
            .functions
            .prepare(name, stored.number, stored.hash, code, settings);
        prepared.map_err(|error| error.to_string())
    }

    /// Deploys a version, unless it is already serving.
    pub(super) async fn deploy(
        self: &Arc<Shared>,
        order: DeployRequest,
    ) -> Result<(Arc<Version>, Deployed), Refusal> {
        let DeployRequest {
            name,
            bytes,
            options,
            expected,
        } = order;
        if self.functions.vm().shortage() >= Shortage::Compiles {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the machine is short of memory, so nothing can be deployed now; try again later",
            ));
        }
        let settings = self.settings(&options)?;
        let hashed = bytes.clone();
        let hash = tokio::task::spawn_blocking(move || blake3::hash(&hashed))
            .await
            .map_err(stopping)?;

        let lock = self.lock_function(&name).await;
        let serving = self
            .functions
            .get(name.as_str())
            .map(|function| function.version());
        let before = self.manifest(&name);
        self.check_name(&name)?;
        if let Some(expected) = expected {
            check_expected(&expected, serving.as_deref())?;
        }
        if let (Some(serving), Some(before)) = (&serving, &before)
            && before.current().hash == hash
            && before.current().options == options
        {
            return Ok((serving.clone(), Deployed::Unchanged));
        }

        let permit = self.compile_permit().await;
        let code = self.compile(permit, &name, bytes.clone()).await?;
        let cached = ForgetOnDrop(Some(code.clone()));
        let number = before.as_ref().map_or(1, |before| before.next());
        let version = self
            .functions
            .prepare(&name, number, hash, code, settings)
            .map_err(Refusal::bad_request)?;
        try_out(&version).await?;

        let deployed = jiff::Timestamp::try_from(SystemTime::now())
            .map_or_else(|_| String::new(), |now| format!("{now:.0}"));
        let stored = StoredVersion {
            number,
            hash,
            size: bytes.len() as u64,
            deployed,
            options,
        };
        let manifest = Manifest::with(before.as_deref(), stored, self.config.versions.get());
        self.finish(lock, Some(bytes), manifest, version.clone())
            .await?;
        cached.keep();
        Ok((version, Deployed::New))
    }

    /// Has an older version serve again, by default the previous one.
    pub(super) async fn roll_back(
        self: &Arc<Shared>,
        name: &Name,
        number: Option<u64>,
    ) -> Result<Arc<Version>, Refusal> {
        let lock = self.lock_function(name).await;
        let Some(before) = self.manifest(name) else {
            return Err(unknown(name));
        };
        self.check_name(name)?;
        let Some(number) = number.or_else(|| before.previous()) else {
            let sentence = format!("`{name}` has no version before {}", before.current);
            return Err(Refusal::new(StatusCode::CONFLICT, sentence));
        };
        let Some(manifest) = before.serving(number) else {
            let kept: Vec<_> = before
                .versions
                .iter()
                .map(|version| version.number.to_string())
                .collect();
            let sentence = format!(
                "`{name}` has no version {number}; it has {}",
                kept.join(", ")
            );
            return Err(Refusal::not_found(sentence));
        };
        let version = self
            .restore(name, &manifest)
            .await
            .map_err(Refusal::unfit)?;
        try_out(&version).await?;
        self.finish(lock, None, manifest, version.clone()).await?;
        Ok(version)
    }

    /// Removes a function. Requests in progress may finish.
    pub(super) async fn remove(self: &Arc<Shared>, name: &Name) -> Result<(), Refusal> {
        let lock = self.lock_function(name).await;
        if !self.known().contains_key(name.as_str()) {
            return Err(unknown(name));
        }
        let (shared, name) = (self.clone(), name.clone());
        let removed = self.spawn(async move {
            let _lock = lock;
            let _storage_lock = shared.storage_lock.acquire().await;
            shared.storage.delete_manifest(name.as_str()).await?;
            let record = shared.known().remove(name.as_str());
            // If the stored function is broken, the one in the table belongs to the project.
            if record
                .as_ref()
                .is_some_and(|record| record.broken.is_none())
            {
                shared.forget(&name, None);
                shared.functions.remove(name.as_str());
            }
            shared
                .clean_up(record.and_then(|record| record.manifest))
                .await;
            Ok(())
        });
        removed.await.map_err(stopping)?.map_err(not_stored)
    }

    /// Stores a version and has it serve, even if its client stops waiting.
    async fn finish(
        self: &Arc<Shared>,
        lock: FunctionLock,
        bytes: Option<Bytes>,
        manifest: Manifest,
        version: Arc<Version>,
    ) -> Result<(), Refusal> {
        let shared = self.clone();
        let finished = self.spawn(async move {
            let _lock = lock;
            let _storage_lock = shared.storage_lock.acquire().await;
            let manifest = Arc::new(manifest);
            if let Err(error) = shared.store(bytes, &manifest, &version).await {
                // The manifest may have been stored anyway, though perhaps not durably, in which
                // case its wasm is still needed.
                let stored = shared.storage.manifest(version.name().as_str()).await;
                if !stored.is_ok_and(|stored| stored == *manifest) {
                    shared.clean_up(Some(manifest)).await;
                }
                return Err(error);
            }
            let record = Record {
                manifest: Some(manifest),
                broken: None,
            };
            shared.forget(version.name(), Some(version.hash()));
            shared.functions.serve(&version);
            let before = shared.known().insert(version.name().to_string(), record);
            shared
                .clean_up(before.and_then(|before| before.manifest))
                .await;
            Ok(())
        });
        finished.await.map_err(stopping)?.map_err(not_stored)
    }

    async fn store(
        &self,
        bytes: Option<Bytes>,
        manifest: &Manifest,
        version: &Version,
    ) -> Result<(), StorageError> {
        if let Some(bytes) = bytes {
            self.storage.put_blob(version.hash(), bytes).await?;
        }
        self.storage.put_manifest(version.name(), manifest).await
    }

    /// Removes the compiled code of the version that is serving from the machine's cache, unless it
    /// has the given hash.
    fn forget(&self, name: &Name, except: Option<blake3::Hash>) {
        if let Some(function) = self.functions.get(name.as_str()) {
            let version = function.version();
            if except != Some(version.hash()) {
                version.code().forget();
            }
        }
    }

    /// Deletes a manifest's wasm files, except those that a function still needs.
    async fn clean_up(&self, manifest: Option<Arc<Manifest>>) {
        let Some(manifest) = manifest else { return };
        let needed = self.needed();
        let hashes: HashSet<_> = manifest
            .versions
            .iter()
            .map(|version| version.hash)
            .collect();
        for hash in hashes.difference(&needed) {
            if let Err(error) = self.storage.delete_blob(*hash).await {
                log::warn!("wasm that is no longer needed was not deleted: {error}");
            }
        }
    }

    fn settings(&self, options: &DeployOptions) -> Result<Settings, Refusal> {
        options.settings(&self.config.defaults, &self.config.deploy_limits)
    }

    /// Checks whether a function with the given name may be deployed.
    fn check_name(&self, name: &Name) -> Result<(), Refusal> {
        if name.as_str() == RESERVED {
            return Err(Refusal::bad_request(format!(
                "`{RESERVED}` is reserved; give the function another name"
            )));
        }
        let is_serving = self.functions.get(name.as_str()).is_some();
        let known = self.known();
        let record = known.get(name.as_str());
        if is_serving && record.is_none_or(|record| record.broken.is_some()) {
            let sentence = format!("`{name}` belongs to the project; change it there");
            return Err(Refusal::new(StatusCode::CONFLICT, sentence));
        }
        if record.is_none() && known.len() >= self.config.functions.get() {
            let sentence = format!(
                "the maximum number of functions ({}) has been reached; delete one",
                known.len()
            );
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, sentence));
        }
        Ok(())
    }

    async fn compile_permit(&self) -> OwnedSemaphorePermit {
        self.compiles
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    /// Compiles a function on its own thread. If compilation takes too long, the caller stops
    /// waiting, and the thread also stops if the compiler is a process that can be stopped.
    async fn compile(
        &self,
        permit: OwnedSemaphorePermit,
        name: &Name,
        bytes: Bytes,
    ) -> Result<Code, Refusal> {
        if !bytes.starts_with(MAGIC) && !bytes.starts_with(b"\x7fELF") {
            let sentence = "this is not wasm: at offset 0x0 there is no `\\0asm`";
            return Err(Refusal::unfit(sentence));
        }
        let (vm, module) = (self.functions.vm().clone(), name.to_string());
        let within = self.config.compile_time;
        let (sender, compiled) = oneshot::channel();
        let compiling = std::thread::Builder::new()
            .name("deploy".into())
            .spawn(move || {
                // The request may have timed out.
                let _ = sender.send(Code::of_client(&vm, &module, &bytes, within));
                drop(permit);
            });
        if let Err(error) = compiling {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("no thread can be started to compile the function: {error}"),
            ));
        }
        let Ok(compiled) = tokio::time::timeout(within, compiled).await else {
            return Err(Refusal::unfit(format!(
                "compiling the function took longer than {within:?}"
            )));
        };
        let defect = |_| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the compiler failed because of an internal error",
            )
        };
        match compiled.map_err(defect)? {
            Ok(Code::Program(module)) => {
                module.forget();
                let sentence = "this is a program that handles connections; the service runs only functions that answer requests";
                Err(Refusal::unfit(sentence))
            }
            Ok(code) => Ok(code),
            Err(error) => Err(Refusal::unfit(error)),
        }
    }
}

/// Removes code from the machine's cache when dropped, unless `keep` has been called.
struct ForgetOnDrop(Option<Code>);

impl ForgetOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for ForgetOnDrop {
    fn drop(&mut self) {
        if let Some(code) = &self.0 {
            code.forget();
        }
    }
}

/// Starts a version once, up to the point where it is ready for its first request.
async fn try_out(version: &Version) -> Result<(), Refusal> {
    version.try_out().await.map_err(|error| match error {
        TryOutError::Spawn(SpawnError::Ceiling(_) | SpawnError::Ending) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
        }
        error => Refusal::unfit(format!("the function cannot be started: {error}")),
    })
}

fn check_expected(expected: &str, serving: Option<&Version>) -> Result<(), Refusal> {
    let expected = expected.trim().trim_matches('"');
    let is_expected = match serving {
        Some(version) => expected == "*" || version.hash().to_hex().as_str() == expected,
        None => false,
    };
    if is_expected {
        return Ok(());
    }
    let sentence = match serving {
        Some(version) => format!("another version is being served: {}", version.hash()),
        None => "no version is being served".to_string(),
    };
    Err(Refusal::new(StatusCode::PRECONDITION_FAILED, sentence))
}

pub(super) fn unknown(name: &Name) -> Refusal {
    Refusal::not_found(format!("no function `{name}` is deployed"))
}

fn not_stored(error: StorageError) -> Refusal {
    let status = match error {
        StorageError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    log::error!("a function could not be stored: {error}");
    Refusal::new(status, error)
}

fn stopping(_: tokio::task::JoinError) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the service is stopping")
}
