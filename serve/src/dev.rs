//! A project that serves while it is worked on: what changes is built beside what serves, and takes its place when it is good.
//!
//! What counts is content. A file that is saved as it was changes nothing, and what a build writes among its own sources does
//! not begin another one for ever. What does not compile or cannot run is told, and what served before serves on; so it is
//! with a project file that is wrong.

mod watch;

use crate::build::sources::{self, Contents, Look, Sources};
use crate::server::Listening;
use crate::{
    BuildEvent, Builder, Built, Function, Functions, Gateway, Name, Project, ProjectError,
    ProjectFunction, Protocol, Server, Settings, SettingsError, StartError, Target, Version,
};
use blake3::Hash;
use lunatic_vm::Vm;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use watch::{Changes, Watch};

/// A project that serves while it is worked on, until it is dropped or [stopped](Dev::stop).
pub struct Dev {
    functions: Functions,
    server: Arc<Server>,
    watch: Arc<Watch>,
}

/// What happens meanwhile.
#[derive(Debug)]
#[non_exhaustive]
pub enum DevEvent<'d> {
    /// A function is built.
    Build(&'d Name, BuildEvent<'d>),
    /// From now on this version serves.
    Swapped(&'d Function, &'d Version),
    /// A function's settings cannot be had; it serves on as before.
    Settings(&'d Name, &'d SettingsError),
    /// The project file is wrong; everything goes on as the last right one said.
    Project(&'d ProjectError),
    /// Gateways wait for a function that was never built.
    Waiting(&'d Gateway, &'d Name),
    /// The gateways cannot be as the project file says; they go on as before.
    Gateways(&'d StartError),
    /// This is what listens now, and as what.
    Listening(&'d [Listening], &'d [Gateway]),
}

/// It cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// The project file is wrong.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The gateways cannot be started.
    #[error(transparent)]
    Gateways(#[from] StartError),
    /// The system gives no thread.
    #[error("no thread that waits for changes: {0}")]
    Thread(std::io::Error),
}

/// Is told what happens, from the threads on which it does.
type Tell = Box<dyn Fn(DevEvent<'_>) + Send + Sync>;

impl Dev {
    /// Builds a project, serves what was built, and goes on so. Blocks until everything was built once, or was found not to
    /// build. The machine must have been built with [`add_to_host`](crate::add_to_host).
    ///
    /// # Errors
    ///
    /// [`DevError`]; a function that does not build is none, as that will be mended.
    pub fn start(
        vm: &Vm,
        file: &Path,
        tell: impl Fn(DevEvent<'_>) + Send + Sync + 'static,
    ) -> Result<Dev, DevError> {
        let project = Project::read(file)?;
        let settings = project.settings()?;
        let functions = Functions::new(vm);
        let server = Arc::new(Server::builder(&functions).start()?);
        let (watch, changes) = Watch::begin();
        let watch = Arc::new(watch);
        let mut work = Work {
            vm: vm.clone(),
            functions: functions.clone(),
            server: server.clone(),
            watch: watch.clone(),
            tell: Box::new(tell),
            look: Look::default(),
            file: file.to_path_buf(),
            project_contents: Contents::new(),
            wrong: None,
            gateways: Vec::new(),
            are_gateways_due: true,
            plots: BTreeMap::new(),
            project,
        };
        work.project_contents = work.project_files().look(&mut work.look);
        work.sow(&settings);
        work.watch();
        work.build();
        work.serve()?;
        work.watch();
        let thread = std::thread::Builder::new().name("lunatic-dev".into());
        thread
            .spawn(move || work.run(&changes))
            .map_err(DevError::Thread)?;
        Ok(Dev {
            functions,
            server,
            watch,
        })
    }

    /// Returns the functions.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Returns the gateways that run.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Stops: as [`Server::stop`].
    pub fn stop(&self, within: Duration) -> bool {
        self.server.stop(within)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.watch.end();
    }
}

impl fmt::Debug for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dev")
            .field("functions", &self.functions)
            .finish_non_exhaustive()
    }
}

/// What a thread of its own does.
struct Work {
    vm: Vm,
    functions: Functions,
    server: Arc<Server>,
    watch: Arc<Watch>,
    tell: Tell,
    look: Look,
    file: PathBuf,
    project: Project,
    /// What was in the project's files when they were read last.
    project_contents: Contents,
    /// What was told of a project file that is wrong.
    wrong: Option<String>,
    /// Those that run.
    gateways: Vec<Gateway>,
    /// Whether those that run are not those that should.
    are_gateways_due: bool,
    plots: BTreeMap<Name, Plot>,
}

/// A function that is worked on.
struct Plot {
    function: ProjectFunction,
    settings: Settings,
    sources: Sources,
    /// What was in its sources when it was built last; `None` before.
    built_from: Option<Contents>,
    /// The sources that changed while it was built last.
    stirred: BTreeSet<PathBuf>,
    /// That of what was built last.
    hash: Option<Hash>,
}

impl Work {
    fn run(mut self, changes: &Changes) {
        while changes.wait() {
            self.project();
            self.build();
            if let Err(error) = self.serve() {
                (self.tell)(DevEvent::Gateways(&error));
            }
            self.watch();
        }
    }

    fn project_files(&self) -> Sources {
        Sources::of_files(self.project.files())
    }

    /// Reads the project file again where that may say something else.
    fn project(&mut self) {
        let contents = self.project_files().look(&mut self.look);
        // One that is wrong may become right by what it names.
        if contents == self.project_contents && self.wrong.is_none() {
            return;
        }
        self.project_contents = contents;
        let read = Project::read(&self.file).and_then(|project| Ok((project.settings()?, project)));
        match read {
            Ok((settings, project)) => {
                self.wrong = None;
                self.project = project;
                self.project_contents = self.project_files().look(&mut self.look);
                self.are_gateways_due = true;
                self.sow(&settings);
            }
            Err(error) => {
                let text = error.to_string();
                if self.wrong.as_ref() != Some(&text) {
                    (self.tell)(DevEvent::Project(&error));
                    self.wrong = Some(text);
                }
            }
        }
    }

    /// Takes the functions over that the project has now. One that is built as before keeps what was built.
    fn sow(&mut self, settings: &[Settings]) {
        let mut before = std::mem::take(&mut self.plots);
        for (function, settings) in self.project.functions().iter().zip(settings) {
            let name = function.name().clone();
            let old = before.remove(&name).filter(|old| {
                old.function.recipe() == function.recipe()
                    && old.function.sources() == function.sources()
            });
            let plot = match old {
                Some(old) => Plot {
                    function: function.clone(),
                    settings: settings.clone(),
                    ..old
                },
                None => Plot {
                    function: function.clone(),
                    settings: settings.clone(),
                    sources: sources::of(function, &[]),
                    built_from: None,
                    stirred: BTreeSet::new(),
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
            self.plots.insert(name, plot);
        }
    }

    /// Builds the functions whose sources have another content than when they were built.
    fn build(&mut self) {
        let mut due = Vec::new();
        let mut before = Vec::new();
        for plot in self.plots.values() {
            let contents = plot.sources.look(&mut self.look);
            if plot.built_from.as_ref() != Some(&contents) {
                due.push(plot.function.clone());
                before.push(contents);
            }
        }
        if due.is_empty() {
            return;
        }
        let tell = |name: &Name, event: BuildEvent<'_>| (self.tell)(DevEvent::Build(name, event));
        let results = Builder::new(&self.vm, &self.project).build(&due, &tell);
        for ((function, before), result) in due.iter().zip(before).zip(results) {
            let built = result.ok();
            let plot = self
                .plots
                .get_mut(function.name())
                .expect("it was taken from there");
            plot.harvest(before, built.as_ref(), &mut self.look);
            if let Some(built) = built {
                self.swap(&built);
            }
        }
    }

    /// Has what was built serve, unless it is what serves.
    fn swap(&mut self, built: &Built) {
        let settings = self.plots[built.name()].settings.clone();
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
        match self.functions.put(name, number, hash, code, settings) {
            Ok(version) => {
                let function = self
                    .functions
                    .get(name.as_str())
                    .expect("only this thread takes functions away");
                (self.tell)(DevEvent::Swapped(&function, &version));
            }
            Err(error) => (self.tell)(DevEvent::Settings(name, &error)),
        }
    }

    /// Has the gateways run that lead to functions which there are, and takes the functions away that are no more.
    fn serve(&mut self) -> Result<(), StartError> {
        let missing = |gateway: &Gateway| {
            targets(gateway)
                .into_iter()
                .find(|name| self.functions.get(name.as_str()).is_none())
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
                (self.tell)(DevEvent::Waiting(gateway, &name));
            }
        }
        self.server.reload(&ready)?;
        self.gateways = ready;
        for function in self.functions.all() {
            if !self.plots.contains_key(function.name()) {
                self.functions.remove(function.name().as_str());
            }
        }
        (self.tell)(DevEvent::Listening(
            &self.server.listening(),
            &self.gateways,
        ));
        Ok(())
    }

    /// Watches what there is now.
    fn watch(&self) {
        let mut directories = self.project_files().directories();
        for plot in self.plots.values() {
            directories.extend(plot.sources.directories());
        }
        self.watch.set(directories);
    }
}

impl Plot {
    /// Takes note of what was built, and from what.
    fn harvest(&mut self, before: Contents, built: Option<&Built>, look: &mut Look) {
        let last = self.built_from.take();
        // What cargo tells of other packages are sources that were not looked at before.
        let known = self.sources.clone();
        if let Some(built) = built {
            self.sources = sources::of(&self.function, built.elsewhere());
        }
        let after = self.sources.look(look);
        let of_known = if known == self.sources {
            after.clone()
        } else {
            known.look(look)
        };
        let stirred = differing(&before, &of_known);
        let hash = built.map(Built::hash);
        // Where only that led to this build which had changed during the one before, and nothing came of it, then the build
        // itself writes there: to build for it again would never end.
        let is_own_doing =
            last.is_some_and(|last| differing(&last, &before).is_subset(&self.stirred));
        let is_settled = stirred.is_empty()
            || (is_own_doing && hash == self.hash && stirred.is_subset(&self.stirred));
        self.built_from = Some(match is_settled {
            true => after,
            // As it was before, so that what changed meanwhile is seen; what was not looked at before is taken as it is.
            false => {
                let kept = before
                    .into_iter()
                    .filter(|(path, _)| after.contains_key(path) || !of_known.contains_key(path));
                let new = after
                    .iter()
                    .filter(|(path, _)| !of_known.contains_key(*path));
                new.map(|(path, hash)| (path.clone(), *hash))
                    .chain(kept)
                    .collect()
            }
        });
        (self.stirred, self.hash) = (stirred, hash);
    }
}

/// Returns the files whose content is not the same in both.
fn differing(one: &Contents, other: &Contents) -> BTreeSet<PathBuf> {
    let paths = one.keys().chain(other.keys());
    paths
        .filter(|path| one.get(*path) != other.get(*path))
        .cloned()
        .collect()
}

/// Returns the functions that a gateway leads to.
fn targets(gateway: &Gateway) -> Vec<Name> {
    match &gateway.protocol {
        Protocol::Tcp(tcp) => vec![tcp.function.clone()],
        Protocol::Http(http) => {
            let function = |target: &Target| match target {
                Target::Function(name) => Some(name.clone()),
                _ => None,
            };
            http.routes
                .iter()
                .filter_map(|route| function(&route.target))
                .collect()
        }
    }
}
