//! Building a project: from each function's recipe to code that was checked, several at the same time.
//!
//! What is built is kept below `.lunatic/build` of the project, under a name with the hash of its content. Cargo knows itself
//! what it need not do again; a command is run again when something that it is built from has another content.
//!
//! Nothing here draws: whoever builds is told what happens, and shows it.

mod cargo;
mod command;
mod output;
pub(crate) mod sources;
mod store;

use crate::{Code, CodeError, Name, Project, ProjectFunction, Recipe};
use lunatic_vm::Vm;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use store::Store;

/// The largest wasm that is read, in bytes.
const MAX_WASM: u64 = 256 << 20;

/// So many functions are built at the same time at most: cargo uses all cores for one.
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
    /// Files that it was built from and that lie elsewhere than it does.
    elsewhere: Vec<PathBuf>,
}

/// What happens while a function is built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildEvent<'b> {
    /// It began.
    Started,
    /// A line of what the compiler says.
    Line(&'b str),
    /// It was built.
    Built(&'b Built),
    /// It was not.
    Failed(&'b BuildError),
}

/// A function was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// What builds cannot be started.
    #[error("`{program}` cannot be started in `{}`: {error}", directory.display())]
    Start {
        /// What was to be started.
        program: String,
        /// Where.
        directory: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The compiler has no standard library for what is built for.
    #[error("there is no standard library for `{0}`")]
    Target(&'static str),
    /// What builds ended otherwise than well.
    #[error("`{program}` failed ({status})")]
    Failed {
        /// What was run.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// Cargo built nothing that can be run.
    #[error("the package in `{}` builds no wasm", .0.display())]
    NoBinary(PathBuf),
    /// Cargo built several.
    #[error("the package builds several binaries: {}", .0.join(", "))]
    Binaries(Vec<String>),
    /// A file cannot be read.
    #[error("`{}` cannot be read: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What was built is no function.
    #[error("`{}` is no function: {error}", path.display())]
    Code {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        error: CodeError,
    },
    /// What was built cannot be kept.
    #[error("`{}` cannot be written: {error}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it was not.
        error: io::Error,
    },
}

/// Builds functions. Blocks; each is built in an order of its own, and all of them though one fails.
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

/// Is told what happens, from the threads on which it does.
pub type Tell<'t> = &'t (dyn Fn(&Name, BuildEvent<'_>) + Sync);

/// What a recipe has led to.
struct Cooked {
    path: PathBuf,
    elsewhere: Vec<PathBuf>,
}

impl Builder {
    /// Describes how functions of a project are built, and where what comes of it is kept.
    pub fn new(vm: &Vm, project: &Project) -> Builder {
        let jobs = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let jobs = jobs.min(NonZeroUsize::new(MAX_JOBS).expect("it is not zero"));
        Builder {
            vm: vm.clone(),
            store: Store::of(project.directory()),
            jobs,
        }
    }

    /// Sets how many functions are built at the same time: as many as there are cores, and 4 at most, unless told otherwise.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Builder {
        self.jobs = jobs;
        self
    }

    /// Builds functions, and returns what came of each, in their order.
    pub fn build(
        &self,
        functions: &[ProjectFunction],
        tell: Tell<'_>,
    ) -> Vec<Result<Built, BuildError>> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<Built, BuildError>>>> =
            functions.iter().map(|_| Mutex::default()).collect();
        let work = || {
            while let Some(index) =
                Some(next.fetch_add(1, Ordering::SeqCst)).filter(|index| *index < functions.len())
            {
                let function = &functions[index];
                tell(function.name(), BuildEvent::Started);
                let result = self.build_one(function, tell);
                match &result {
                    Ok(built) => tell(function.name(), BuildEvent::Built(built)),
                    Err(error) => tell(function.name(), BuildEvent::Failed(error)),
                }
                *results[index].lock().expect("nobody panics with it") = Some(result);
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
                .expect("as above")
                .expect("each was built")
        };
        results.into_iter().map(result).collect()
    }

    fn build_one(&self, function: &ProjectFunction, tell: Tell<'_>) -> Result<Built, BuildError> {
        let begun = Instant::now();
        let name = function.name();
        let line = |line: &str| tell(name, BuildEvent::Line(line));
        let Cooked { path, elsewhere } = match function.recipe() {
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
                let sources = sources::of(function, &[]);
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
            Recipe::Wasm(path) => Cooked {
                path: path.clone(),
                elsewhere: Vec::new(),
            },
        };
        let bytes = read(&path)?;
        let hash = blake3::hash(&bytes);
        let code = Code::new(&self.vm, name.as_str(), &bytes)
            .map_err(|error| BuildError::Code { path, error })?;
        let file = self.store.keep(name, &hash, &bytes)?;
        let (size, time) = (bytes.len() as u64, begun.elapsed());
        Ok(Built {
            name: name.clone(),
            hash,
            code,
            file,
            size,
            time,
            elsewhere,
        })
    }
}

/// Reads a file that is no larger than wasm is.
fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    let unreadable = |error| BuildError::Read {
        path: path.to_path_buf(),
        error,
    };
    let mut bytes = Vec::new();
    let length = File::open(path)
        .and_then(|file| file.take(MAX_WASM + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if length as u64 > MAX_WASM {
        return Err(unreadable(io::Error::other(format!(
            "it is larger than {MAX_WASM} bytes"
        ))));
    }
    Ok(bytes)
}

impl Built {
    /// Returns the name of the function.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the hash of its wasm.
    pub fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// Returns what it runs.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Returns the file that its wasm is kept in.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the bytes of its wasm.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns how long it took to build and check it.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Returns the files that it was built from and that lie elsewhere than it does.
    pub(crate) fn elsewhere(&self) -> &[PathBuf] {
        &self.elsewhere
    }
}

impl BuildError {
    /// Returns what the compiler said, where it did.
    pub fn output(&self) -> Option<&str> {
        match self {
            BuildError::Failed { output, .. } => Some(output),
            _ => None,
        }
    }

    /// Returns what can be done about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            BuildError::Target(target) => Some(format!("`rustup target add {target}` installs it")),
            BuildError::Start { program, error, .. } if error.kind() == io::ErrorKind::NotFound => {
                let known = program == "cargo";
                Some(if known {
                    "Rust comes from https://rustup.rs".into()
                } else {
                    format!("`{program}` has to be in the PATH")
                })
            }
            BuildError::NoBinary(_) => Some(
                "it needs a `src/main.rs`, or a library with `crate-type = [\"cdylib\"]`".into(),
            ),
            BuildError::Binaries(_) => {
                Some("`binary = \"…\"` says which of them the function is".into())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} bytes, {})",
            self.name,
            self.size,
            &self.hash.to_hex()[..16]
        )
    }
}
