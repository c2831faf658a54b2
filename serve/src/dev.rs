//! Serves a project during development: when a function's sources change, the function is rebuilt
//! and, if that succeeds, swapped in.
//!
//! Only the contents of files matter. Saving an unchanged file has no effect, and a build that
//! writes to its own source directories does not trigger an endless series of builds. If code does
//! not compile or cannot run, that is reported, and the previous version keeps serving. The same
//! goes for an invalid project file.

use crate::build::sources::{Contents, FileHashes, Sources};
use crate::function::TryOutError;
use crate::runtime;
use crate::server::Listening;
use crate::{
    BuildEvent, Builder, Built, Function, Functions, Gateway, Name, Project, ProjectError,
    ProjectFunction, Server, Settings, SettingsError, StartError, Version,
};
use blake3::Hash;
use lunatic_vm::Vm;
use lunatic_watch::{StopOnDrop, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How often to check for changes even if the system does not report any.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A project served during development, until this value is dropped or [stopped](Dev::stop).
pub struct Dev {
    functions: Functions,
    server: Arc<Server>,
    _stop: StopOnDrop,
}

/// An event that occurs while a project is served.
#[derive(Debug)]
#[non_exhaustive]
pub enum DevEvent<'d> {
    /// A function's build event.
    Build(&'d Name, BuildEvent<'d>),
    /// This version now serves new requests.
    Swapped(&'d Function, &'d Version),
    /// A function's settings cannot be granted. The function keeps its previous settings.
    Settings(&'d Name, &'d SettingsError),
    /// A version cannot be started. The function keeps its previous version, if it has one.
    NotStarted(&'d Name, &'d TryOutError),
    /// The project file is invalid. The last valid version stays in effect.
    Project(&'d ProjectError),
    /// A gateway is waiting for a function that has never been built.
    Waiting(&'d Gateway, &'d Name),
    /// The gateways cannot be changed to match the project file. They stay as they were.
    Gateways(&'d StartError),
    /// These gateways are now listening on these addresses.
    Listening(&'d [Listening], &'d [Gateway]),
}

/// Why a project cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// The project file is invalid.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The gateways cannot be started.
    #[error(transparent)]
    Gateways(#[from] StartError),
    /// The thread that watches for changes cannot be started.
    #[error("the thread that watches for changes cannot be started: {0}")]
    Thread(std::io::Error),
}

/// A callback for events, called on the thread where the event occurs.
type OnEvent = Box<dyn Fn(DevEvent<'_>) + Send + Sync>;

impl Dev {
    /// Builds and serves a project, and keeps it up to date. Blocks until every function has been
    /// built or has failed to build. The machine must have been built with
    /// [`add_to_host`](crate::add_to_host).
    ///
    /// # Errors
    ///
    /// [`DevError`] if the project file is invalid or the gateways or threads cannot be started. A
    /// function that fails to build is not an error, because it can still be fixed.
    pub fn start(
        vm: &Vm,
        file: &Path,
        on_event: impl Fn(DevEvent<'_>) + Send + Sync + 'static,
    ) -> Result<Dev, DevError> {
        let project = Project::read(file)?;
        let settings = project.settings()?;
        let functions = Functions::new(vm);
        let server = Arc::new(Server::builder(&functions).start()?);
        let (watch, stop) = Watch::new(POLL_INTERVAL);
        let mut worker = Worker {
            vm: vm.clone(),
            runtime: runtime::handle().map_err(DevError::Thread)?,
            functions: functions.clone(),
            server: server.clone(),
            watch,
            on_event: Box::new(on_event),
            hashes: FileHashes::default(),
            file: file.to_path_buf(),
            project_contents: Contents::new(),
            reported_fault: None,
            gateways: Vec::new(),
            are_gateways_due: true,
            tracked: BTreeMap::new(),
            project,
        };
        worker.project_contents = worker.project_files().contents(&mut worker.hashes);
        worker.update_functions(&settings);
        worker.watch();
        worker.build();
        worker.serve()?;
        worker.watch();
        let thread = std::thread::Builder::new().name("lunatic-dev".into());
        thread
            .spawn(move || worker.run())
            .map_err(DevError::Thread)?;
        Ok(Dev {
            functions,
            server,
            _stop: stop,
        })
    }

    /// Returns the functions.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Returns the gateways' server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Stops the gateways, like [`Server::stop`].
    pub fn stop(&self, within: Duration) -> bool {
        self.server.stop(within)
    }
}

impl fmt::Debug for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dev")
            .field("functions", &self.functions)
            .finish_non_exhaustive()
    }
}

/// The state of the thread that watches for changes.
struct Worker {
    vm: Vm,
    runtime: &'static Handle,
    functions: Functions,
    server: Arc<Server>,
    watch: Watch,
    on_event: OnEvent,
    hashes: FileHashes,
    file: PathBuf,
    project: Project,
    /// What the project files contained when last read.
    project_contents: Contents,
    /// The last problem reported about the project file, until the file is fixed.
    reported_fault: Option<String>,
    /// The running gateways.
    gateways: Vec<Gateway>,
    /// Set when the project's gateways may differ from those that are running.
    are_gateways_due: bool,
    tracked: BTreeMap<Name, Tracked>,
}

/// A function and the state of its last build.
struct Tracked {
    function: ProjectFunction,
    settings: Settings,
    sources: Sources,
    /// What the function's sources contained at the last build, or `None` before the first build.
    built_from: Option<Contents>,
    /// The sources that changed during the last build.
    changed_during_build: BTreeSet<PathBuf>,
    /// The hash of the last build's artifact, if it succeeded.
    hash: Option<Hash>,
}

impl Worker {
    fn run(mut self) {
        while self.watch.wait().is_some() {
            self.read_project();
            self.build();
            if let Err(error) = self.serve() {
                (self.on_event)(DevEvent::Gateways(&error));
            }
            self.watch();
        }
    }

    fn project_files(&self) -> Sources {
        Sources::of_files(self.project.files())
    }

    /// Reads the project file again if its meaning may have changed.
    fn read_project(&mut self) {
        let contents = self.project_files().contents(&mut self.hashes);
        // An invalid project file may become valid without being edited, for example because a file
        // that it mentions is created.
        if contents == self.project_contents && self.reported_fault.is_none() {
            return;
        }
        self.project_contents = contents;
        let read = Project::read(&self.file).and_then(|project| Ok((project.settings()?, project)));
        match read {
            Ok((settings, project)) => {
                self.reported_fault = None;
                self.project = project;
                self.project_contents = self.project_files().contents(&mut self.hashes);
                self.are_gateways_due = true;
                self.update_functions(&settings);
            }
            Err(error) => {
                let text = error.to_string();
                if self.reported_fault.as_ref() != Some(&text) {
                    (self.on_event)(DevEvent::Project(&error));
                    self.reported_fault = Some(text);
                }
            }
        }
    }

    /// Adopts the project's functions. A function whose recipe and sources are unchanged does not
    /// need to be rebuilt.
    fn update_functions(&mut self, settings: &[Settings]) {
        let mut before = std::mem::take(&mut self.tracked);
        for (function, settings) in self.project.functions().iter().zip(settings) {
            let name = function.name().clone();
            let old = before.remove(&name).filter(|old| {
                old.function.recipe() == function.recipe()
                    && old.function.sources() == function.sources()
            });
            let tracked = match old {
                Some(old) => Tracked {
                    function: function.clone(),
                    settings: settings.clone(),
                    ..old
                },
                None => Tracked {
                    function: function.clone(),
                    settings: settings.clone(),
                    sources: Sources::new(function, &[]),
                    built_from: None,
                    changed_during_build: BTreeSet::new(),
                    hash: None,
                },
            };
            if let Some(version) = self
                .functions
                .get(name.as_str())
                .map(|function| function.version())
                && version.settings() != settings
            {
                let (number, hash, code) =
                    (version.number() + 1, version.hash(), version.code().clone());
                self.put(&name, number, hash, code, settings.clone());
            }
            self.tracked.insert(name, tracked);
        }
    }

    /// Builds the functions whose sources have changed since they were last built.
    fn build(&mut self) {
        let mut due = Vec::new();
        let mut before = Vec::new();
        for entry in self.tracked.values() {
            let contents = entry.sources.contents(&mut self.hashes);
            if entry.built_from.as_ref() != Some(&contents) {
                due.push(entry.function.clone());
                before.push(contents);
            }
        }
        if due.is_empty() {
            return;
        }
        let on_event =
            |name: &Name, event: BuildEvent<'_>| (self.on_event)(DevEvent::Build(name, event));
        let results = Builder::new(&self.vm, &self.project).build(&due, &on_event);
        for ((function, before), result) in due.iter().zip(before).zip(results) {
            let built = result.ok();
            let entry = self
                .tracked
                .get_mut(function.name())
                .expect("all functions that are due are tracked");
            entry.record_build(before, built.as_ref(), &mut self.hashes);
            if let Some(built) = built {
                self.swap(&built);
            }
        }
    }

    /// Puts the built version into service, unless it is already serving.
    fn swap(&mut self, built: &Built) {
        let settings = self.tracked[built.name()].settings.clone();
        let current = self
            .functions
            .get(built.name().as_str())
            .map(|function| function.version());
        let number = match current {
            Some(current) if current.hash() == built.hash() && *current.settings() == settings => {
                return;
            }
            Some(current) => current.number() + 1,
            None => 1,
        };
        self.put(
            built.name(),
            number,
            built.hash(),
            built.code().clone(),
            settings,
        );
    }

    fn put(&self, name: &Name, number: u64, hash: Hash, code: crate::Code, settings: Settings) {
        let version = match self.functions.prepare(name, number, hash, code, settings) {
            Ok(version) => version,
            Err(error) => return (self.on_event)(DevEvent::Settings(name, &error)),
        };
        match self.runtime.block_on(version.try_out()) {
            Ok(()) => {
                self.functions.serve(&version);
                let function = self
                    .functions
                    .get(name.as_str())
                    .expect("only this thread removes functions");
                (self.on_event)(DevEvent::Swapped(&function, &version));
            }
            Err(error) => (self.on_event)(DevEvent::NotStarted(name, &error)),
        }
    }

    /// Runs the gateways whose functions exist, and removes functions that are no longer in the
    /// project.
    fn serve(&mut self) -> Result<(), StartError> {
        let missing = |gateway: &Gateway| {
            let mut names = gateway.protocol.functions();
            let missing = names.find(|name| self.functions.get(name.as_str()).is_none());
            missing.cloned()
        };
        let (ready, waiting): (Vec<Gateway>, Vec<Gateway>) = self
            .project
            .gateways()
            .iter()
            .cloned()
            .partition(|gateway| missing(gateway).is_none());
        if !self.are_gateways_due && ready.len() == self.gateways.len() {
            return Ok(());
        }
        self.are_gateways_due = false;
        for gateway in &waiting {
            if let Some(name) = missing(gateway) {
                (self.on_event)(DevEvent::Waiting(gateway, &name));
            }
        }
        self.server.reload(&ready)?;
        self.gateways = ready;
        for function in self.functions.all() {
            if !self.tracked.contains_key(function.name()) {
                self.functions.remove(function.name().as_str());
            }
        }
        (self.on_event)(DevEvent::Listening(
            &self.server.listening(),
            &self.gateways,
        ));
        Ok(())
    }

    /// Watches the directories that currently exist.
    fn watch(&mut self) {
        let mut directories = self.project_files().directories();
        for entry in self.tracked.values() {
            directories.extend(entry.sources.directories());
        }
        self.watch.set(directories);
    }
}

impl Tracked {
    /// Records the result of a build and what it was built from.
    fn record_build(&mut self, before: Contents, built: Option<&Built>, hashes: &mut FileHashes) {
        let last = self.built_from.take();
        // A build may report external sources that have not been tracked so far.
        let known = self.sources.clone();
        if let Some(built) = built {
            self.sources = Sources::new(&self.function, built.external_sources());
        }
        let after = self.sources.contents(hashes);
        let after_known = if known == self.sources {
            after.clone()
        } else {
            known.contents(hashes)
        };
        let changed = differing(&before, &after_known);
        let hash = built.map(Built::hash);
        // If this build was triggered only by files that changed during the last build, and it
        // changed the same files again and produced the same artifact, then the build writes those
        // files itself, and rebuilding would never end.
        let is_own_doing = last
            .is_some_and(|last| differing(&last, &before).is_subset(&self.changed_during_build));
        let is_settled = changed.is_empty()
            || (is_own_doing && hash == self.hash && changed.is_subset(&self.changed_during_build));
        self.built_from = Some(match is_settled {
            true => after,
            // The contents from before the build are recorded, so that changes made during the
            // build trigger another one. New sources are recorded as they are now.
            false => {
                let kept = before.into_iter().filter(|(path, _)| {
                    after.contains_key(path) || !after_known.contains_key(path)
                });
                let new = after
                    .iter()
                    .filter(|(path, _)| !after_known.contains_key(*path));
                new.map(|(path, hash)| (path.clone(), *hash))
                    .chain(kept)
                    .collect()
            }
        });
        (self.changed_during_build, self.hash) = (changed, hash);
    }
}

/// Returns the files whose contents differ.
fn differing(one: &Contents, other: &Contents) -> BTreeSet<PathBuf> {
    let paths = one.keys().chain(other.keys());
    paths
        .filter(|path| one.get(*path) != other.get(*path))
        .cloned()
        .collect()
}
