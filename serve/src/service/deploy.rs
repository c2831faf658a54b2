//! How a function comes to serve, goes back to an older version, and goes.
//!
//! Everything that can be refused comes first: nothing is stored and nothing changes until a version is compiled and was
//! started once. What is stored then is stored to the end, whether or not its client still waits.

use super::asked::Asked;
use super::manifest::{Manifest, Stored};
use super::refusal::Refusal;
use super::storage::StorageError;
use super::{Inner, RESERVED, Record, Skipped};
use crate::{Code, CodeError, Name, Settings, Version};
use bytes::Bytes;
use http::StatusCode;
use lunatic_vm::{CompileLimits, Exit, Process, SpawnError, Vm};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

/// Functions that are read at the start while others compile.
const READ_AHEAD: usize = 4;

/// How long a version may take until it is ready for its first request.
const START_TIME: Duration = Duration::from_secs(10);

/// What wasm begins with.
const MAGIC: &[u8] = b"\0asm";

/// What a deploy was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deployed {
    /// A version serves that did not before.
    New,
    /// It served already.
    Unchanged,
}

/// A version that is to be deployed.
pub(super) struct Order {
    pub(super) name: Name,
    pub(super) bytes: Bytes,
    pub(super) asked: Asked,
    /// The hash that the serving version is to have, or nothing is done.
    pub(super) expected: Option<String>,
}

/// The right to change a function.
type Turn = OwnedSemaphorePermit;

impl Inner {
    /// Has what is stored serve, and returns what cannot.
    pub(super) async fn load(self: &Arc<Inner>) -> Result<Vec<Skipped>, StorageError> {
        let mut loading = JoinSet::new();
        let mut skipped = Vec::new();
        for name in self.storage.names().await? {
            if loading.len() == self.config.compiles.get() + READ_AHEAD
                && let Some(loaded) = loading.join_next().await
            {
                skipped.extend(loaded.ok().flatten());
            }
            let inner = self.clone();
            loading.spawn(async move {
                let (manifest, loaded) = inner.load_one(&name).await;
                let broken = loaded.err();
                inner.known().insert(
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
        // What a manifest that cannot be read needs is not known, and may be wanted once it is repaired.
        if are_all_known && let Err(error) = self.storage.keep_blobs(&self.needed()).await {
            log::warn!("what is stored and no longer needed stays for now: {error}");
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
            // A project that is served too has the older right to its names.
            if self.functions.get(stored).is_some() {
                return Err("a function of the project has its name".to_string());
            }
            self.functions.serve(&version);
            Ok(())
        });
        (Some(manifest), served)
    }

    /// Makes the version ready that a manifest has serving.
    async fn restore(&self, name: &Name, manifest: &Manifest) -> Result<Arc<Version>, String> {
        let stored = manifest.current();
        let settings = self
            .settings(&stored.asked)
            .map_err(|refusal| refusal.sentence)?;
        // Before the bytes are there: only so many are in memory.
        let place = self.place_to_compile().await;
        let read = self.storage.blob(stored.hash, stored.size).await;
        let bytes =
            read.map_err(|error| format!("its wasm, {}, cannot be read: {error}", stored.hash))?;
        let code = self
            .compile(place, name, bytes.into())
            .await
            .map_err(|refusal| refusal.sentence)?;
        let prepared = self
            .functions
            .prepare(name, stored.number, stored.hash, code, settings);
        prepared.map_err(|error| error.to_string())
    }

    /// Deploys a version, or finds that it serves already.
    pub(super) async fn deploy(
        self: &Arc<Inner>,
        order: Order,
    ) -> Result<(Arc<Version>, Deployed), Refusal> {
        let Order {
            name,
            bytes,
            asked,
            expected,
        } = order;
        let settings = self.settings(&asked)?;
        let hashed = bytes.clone();
        let hash = tokio::task::spawn_blocking(move || blake3::hash(&hashed))
            .await
            .map_err(stopping)?;

        let turn = self.turn(&name).await;
        let serving = self
            .functions
            .get(name.as_str())
            .map(|function| function.version());
        let before = self.manifest(&name);
        self.check_place(&name)?;
        if let Some(expected) = expected {
            check_expected(&expected, serving.as_deref())?;
        }
        if let (Some(serving), Some(before)) = (&serving, &before)
            && before.current().hash == hash
            && before.current().asked == asked
        {
            return Ok((serving.clone(), Deployed::Unchanged));
        }

        let place = self.place_to_compile().await;
        let code = self.compile(place, &name, bytes.clone()).await?;
        let number = before.as_ref().map_or(1, |before| before.next());
        let version = self
            .functions
            .prepare(&name, number, hash, code, settings)
            .map_err(Refusal::bad_request)?;
        try_out(&version).await?;

        let deployed = jiff::Timestamp::try_from(SystemTime::now())
            .map_or_else(|_| String::new(), |now| format!("{now:.0}"));
        let stored = Stored {
            number,
            hash,
            size: bytes.len() as u64,
            deployed,
            asked,
        };
        let manifest = Manifest::with(before.as_deref(), stored, self.config.versions.get());
        self.finish(turn, Some(bytes), manifest, version.clone())
            .await?;
        Ok((version, Deployed::New))
    }

    /// Has an older version serve again, or the one before.
    pub(super) async fn roll_back(
        self: &Arc<Inner>,
        name: &Name,
        number: Option<u64>,
    ) -> Result<Arc<Version>, Refusal> {
        let turn = self.turn(name).await;
        let Some(before) = self.manifest(name) else {
            return Err(unknown(name));
        };
        self.check_place(name)?;
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
                "`{name}` has no version {number}; there are {}",
                kept.join(", ")
            );
            return Err(Refusal::not_found(sentence));
        };
        let version = self
            .restore(name, &manifest)
            .await
            .map_err(Refusal::unfit)?;
        try_out(&version).await?;
        self.finish(turn, None, manifest, version.clone()).await?;
        Ok(version)
    }

    /// Takes a function out. Requests that it is serving end as they would.
    pub(super) async fn remove(self: &Arc<Inner>, name: &Name) -> Result<(), Refusal> {
        let turn = self.turn(name).await;
        if !self.known().contains_key(name.as_str()) {
            return Err(unknown(name));
        }
        let (inner, name) = (self.clone(), name.clone());
        let removed = self.handle.spawn(async move {
            let _turn = turn;
            let _change = inner.change.acquire().await;
            inner.storage.delete_manifest(name.as_str()).await?;
            let record = inner.known().remove(name.as_str());
            // Where it does not serve, what serves under its name is another function.
            if record
                .as_ref()
                .is_some_and(|record| record.broken.is_none())
            {
                inner.functions.remove(name.as_str());
            }
            inner
                .clean_up(record.and_then(|record| record.manifest))
                .await;
            Ok(())
        });
        removed.await.map_err(stopping)?.map_err(not_stored)
    }

    /// Stores a version and has it serve, whether or not its client goes on waiting.
    async fn finish(
        self: &Arc<Inner>,
        turn: Turn,
        bytes: Option<Bytes>,
        manifest: Manifest,
        version: Arc<Version>,
    ) -> Result<(), Refusal> {
        let inner = self.clone();
        let finished = self.handle.spawn(async move {
            let _turn = turn;
            let _change = inner.change.acquire().await;
            let manifest = Arc::new(manifest);
            if let Err(error) = inner.store(bytes, &manifest, &version).await {
                // It may be there all the same, only not for certain to last. Then it is whole.
                let stored = inner.storage.manifest(version.name().as_str()).await;
                if !stored.is_ok_and(|stored| stored == *manifest) {
                    inner.clean_up(Some(manifest)).await;
                }
                return Err(error);
            }
            let record = Record {
                manifest: Some(manifest),
                broken: None,
            };
            inner.functions.serve(&version);
            let before = inner.known().insert(version.name().to_string(), record);
            inner
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

    /// Deletes the wasm of a manifest that no function needs.
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
                log::warn!("wasm that is no longer needed stays until the next start: {error}");
            }
        }
    }

    /// Waits until nobody else changes a function.
    async fn turn(&self, name: &Name) -> Turn {
        self.turns_of(name)
            .acquire_owned()
            .await
            .expect("it is never closed")
    }

    fn turns_of(&self, name: &Name) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of which this is the only holder are nobody's.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(1)))
            .clone()
    }

    fn settings(&self, asked: &Asked) -> Result<Settings, Refusal> {
        asked.settings(&self.config.defaults, &self.config.most)
    }

    /// Checks that a function may have a name.
    fn check_place(&self, name: &Name) -> Result<(), Refusal> {
        if name.as_str() == RESERVED {
            return Err(Refusal::bad_request(format!(
                "`{RESERVED}` is reserved; give the function another name"
            )));
        }
        let is_serving = self.functions.get(name.as_str()).is_some();
        let known = self.known();
        let record = known.get(name.as_str());
        if is_serving && record.is_none_or(|record| record.broken.is_some()) {
            let sentence = format!("`{name}` is a function of the project, which is changed there");
            return Err(Refusal::new(StatusCode::CONFLICT, sentence));
        }
        if record.is_none() && known.len() >= self.config.functions.get() {
            let sentence = format!(
                "there are {} functions, and no more may be; delete one",
                known.len()
            );
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, sentence));
        }
        Ok(())
    }

    async fn place_to_compile(&self) -> OwnedSemaphorePermit {
        self.compiles
            .clone()
            .acquire_owned()
            .await
            .expect("it is never closed")
    }

    /// Compiles a function, on a thread of its own. One that is not done in time is not waited for, and keeps its place until
    /// it is.
    async fn compile(
        &self,
        place: OwnedSemaphorePermit,
        name: &Name,
        bytes: Bytes,
    ) -> Result<Code, Refusal> {
        if !bytes.starts_with(MAGIC) && !bytes.starts_with(b"\x7fELF") {
            let sentence = "this is not wasm: at offset 0x0, where `\\0asm` has to stand, stands something else";
            return Err(Refusal::unfit(sentence));
        }
        let (vm, module) = (self.functions.vm().clone(), name.to_string());
        let (sender, compiled) = oneshot::channel();
        let compiling = std::thread::Builder::new()
            .name("deploy".into())
            .spawn(move || {
                // Whoever asked may be gone, which is no reason to be told.
                let _ = sender.send(checked(&vm, &module, &bytes));
                drop(place);
            });
        if let Err(error) = compiling {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("there is no thread to compile on: {error}"),
            ));
        }
        let within = self.config.compile_time;
        let Ok(compiled) = tokio::time::timeout(within, compiled).await else {
            return Err(Refusal::unfit(format!(
                "it is not compiled after {within:?}, which is as long as that may take"
            )));
        };
        let defect = |_| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "compiling it failed, by a defect of the compiler",
            )
        };
        match compiled.map_err(defect)? {
            Ok(Code::Program(_)) => {
                let sentence = "this is a program that takes connections; the service has functions that answer requests";
                Err(Refusal::unfit(sentence))
            }
            Ok(code) => Ok(code),
            Err(error @ CodeError::Precompiled) => Err(Refusal::unfit(error)),
            Err(error) => Err(Refusal::unfit(error)),
        }
    }
}

/// Compiles a function, unless it is seen before that this would take long.
fn checked(vm: &Vm, name: &str, bytes: &[u8]) -> Result<Code, CodeError> {
    if bytes.starts_with(MAGIC) {
        CompileLimits::default().check(bytes)?;
    }
    Code::new(vm, name, bytes)
}

/// Starts a version once, up to where its first request would come.
async fn try_out(version: &Version) -> Result<(), Refusal> {
    let environment = version.environment();
    let begun = match version.code() {
        Code::Spark(spark) => environment.drive(spark.module(), "deploy", |_| {
            Box::pin(async { Exit::Normal })
        }),
        Code::Program(module) => {
            environment.drive(module, "deploy", |_| Box::pin(async { Exit::Normal }))
        }
        Code::Component(component) => {
            environment.drive_component(component, "deploy", |_| Box::pin(async { Exit::Normal }))
        }
    };
    let process = Killed(begun.map_err(|error| match error {
        SpawnError::Ceiling(_) | SpawnError::Ending => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
        }
        error => Refusal::unfit(format!("it cannot be started: {error}")),
    })?);
    match tokio::time::timeout(START_TIME, process.0.exited()).await {
        Ok(Exit::Normal) => Ok(()),
        Ok(exit) => Err(Refusal::unfit(format!(
            "it cannot be started: the function {exit}"
        ))),
        Err(_) => Err(Refusal::unfit(format!(
            "it cannot be started: it was not ready within {START_TIME:?}"
        ))),
    }
}

/// A process that is killed when nobody waits for it any longer.
struct Killed(Process);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn check_expected(expected: &str, serving: Option<&Version>) -> Result<(), Refusal> {
    let expected = expected.trim().trim_matches('"');
    let is = match serving {
        Some(version) => expected == "*" || version.hash().to_hex().as_str() == expected,
        None => false,
    };
    if is {
        return Ok(());
    }
    let sentence = match serving {
        Some(version) => format!("another version serves: {}", version.hash()),
        None => "no version serves".to_string(),
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
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the service stops")
}
