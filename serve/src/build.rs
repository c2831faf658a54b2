//! Builds a project: turns each function's recipe into checked code, several functions at a time.
//!
//! Artifacts are stored in the project's `.lunatic/build`, each named after the hash of its
//! contents. Cargo itself tracks what is up to date. A command runs again when the contents of its
//! sources have changed.
//!
//! This module does not print anything. It reports events to the caller, which displays them.

mod artifact;
mod cargo;
mod command;
mod error;
mod output;
pub(crate) mod sources;
mod store;

use crate::{Code, Name, Project, ProjectFunction, Recipe};
use artifact::Artifact;
use lunatic_vm::Vm;
use sources::Sources;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use store::Store;

pub use error::BuildError;

/// The default maximum number of functions to build concurrently. It is small because cargo uses
/// all cores for each function.
const MAX_JOBS: usize = 4;

/// A function that was built and checked.
#[derive(Debug)]
pub struct Built {
    name: Name,
    hash: blake3::Hash,
    code: Code,
    file: PathBuf,
    size: u64,
    time: Duration,
    /// Sources outside the function's own directory.
    external_sources: Vec<PathBuf>,
}

/// An event that occurs while a function is being built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildEvent<'b> {
    /// The build has started.
    Started,
    /// A line of the compiler's output.
    Line(&'b str),
    /// The function was built.
    Built(&'b Built),
    /// The function was not built.
    Failed(&'b BuildError),
}

/// Builds functions. If one fails, the others are still built.
///
/// ```no_run
/// use lunatic_serve::{BuildEvent, Builder, Project};
/// use lunatic_vm::{Host, Vm};
///
/// let mut host = Host::default();
/// lunatic_serve::add_to_host(&mut host);
/// let vm = Vm::builder().host(host).build()?;
/// let project = Project::read("lunatic.toml".as_ref())?;
/// let results = Builder::new(&vm, &project).build(project.functions(), &|name, event| {
///     if let BuildEvent::Built(built) = event {
///         println!("{name}: {} bytes in {:?}", built.size(), built.time());
///     }
/// });
/// assert!(results.iter().all(Result::is_ok));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    vm: Vm,
    store: Store,
    jobs: NonZeroUsize,
}

/// A callback for events, called on the build threads.
pub type OnBuildEvent<'t> = &'t (dyn Fn(&Name, BuildEvent<'_>) + Sync);

impl Builder {
    /// Creates a builder for a project's functions. It stores artifacts in the project's directory.
    pub fn new(vm: &Vm, project: &Project) -> Builder {
        let jobs = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let jobs = jobs.min(NonZeroUsize::new(MAX_JOBS).expect("the constant is not zero"));
        Builder {
            vm: vm.clone(),
            store: Store::of(project.directory()),
            jobs,
        }
    }

    /// Sets how many functions to build concurrently. The default is the number of cores, up to 4.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Builder {
        self.jobs = jobs;
        self
    }

    /// Builds functions and returns one result per function, in the same order. Blocks until every
    /// build has succeeded or failed.
    pub fn build(
        &self,
        functions: &[ProjectFunction],
        on_event: OnBuildEvent<'_>,
    ) -> Vec<Result<Built, BuildError>> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<Built, BuildError>>>> =
            functions.iter().map(|_| Mutex::default()).collect();
        let work = || {
            while let Some(index) =
                Some(next.fetch_add(1, Ordering::SeqCst)).filter(|index| *index < functions.len())
            {
                let function = &functions[index];
                on_event(function.name(), BuildEvent::Started);
                let result = self.build_one(function, on_event);
                match &result {
                    Ok(built) => on_event(function.name(), BuildEvent::Built(built)),
                    Err(error) => on_event(function.name(), BuildEvent::Failed(error)),
                }
                *results[index]
                    .lock()
                    .expect("no thread panics while it holds a result") = Some(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.jobs.get().min(functions.len()) {
                scope.spawn(work);
            }
            work();
        });
        let result = |slot: Mutex<Option<_>>| {
            slot.into_inner()
                .expect("no thread panics while it holds a result")
                .expect("the threads took every index")
        };
        results.into_iter().map(result).collect()
    }

    fn build_one(
        &self,
        function: &ProjectFunction,
        on_event: OnBuildEvent<'_>,
    ) -> Result<Built, BuildError> {
        let start = Instant::now();
        let name = function.name();
        let line = |line: &str| on_event(name, BuildEvent::Line(line));
        let Artifact {
            path,
            external_sources,
        } = match function.recipe() {
            Recipe::Cargo {
                directory,
                target,
                profile,
                binary,
            } => cargo::build(directory, target, profile, binary.as_deref(), &line)?,
            Recipe::Command {
                directory,
                command,
                output,
            } => {
                let sources = Sources::new(function, &[]);
                command::build(
                    &self.store,
                    name,
                    directory,
                    command,
                    output,
                    &sources,
                    &line,
                )?
            }
            Recipe::Wasm(path) => Artifact::new(path),
        };
        let bytes = artifact::read(&path)?;
        let hash = blake3::hash(&bytes);
        let code = Code::new(&self.vm, name.as_str(), &bytes)
            .map_err(|error| BuildError::Code { path, error })?;
        let file = self.store.keep(name, &hash, &bytes)?;
        let (size, time) = (bytes.len() as u64, start.elapsed());
        Ok(Built {
            name: name.clone(),
            hash,
            code,
            file,
            size,
            time,
            external_sources,
        })
    }
}

impl Built {
    /// Returns the function's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the hash of the function's wasm.
    pub fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// Returns the function's code.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Returns the path of the file that contains the wasm.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the size of the wasm, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns how long it took to build and check the function.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Returns the sources outside the function's own directory.
    pub(crate) fn external_sources(&self) -> &[PathBuf] {
        &self.external_sources
    }
}
