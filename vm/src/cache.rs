//! Compiled code of modules and components on disk, so that a program starts at once the second time.
//!
//! An entry is named by what it was compiled from and with: a hash of the bytes, of wasmtime's version and of the
//! engine's settings. Compiled code is run as it is found, so the directory must be the user's alone, and an entry carries a
//! hash of itself: one that is damaged, half-written or foreign is compiled again.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use wasmtime::{Engine, component};

/// Where compiled code is kept, if anywhere.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: Option<PathBuf>,
}

/// What an entry begins with: a mark of the format and of how modules are written before they are compiled, then the hash of
/// what follows.
const MARK: &[u8; 8] = b"lunatic2";
const HEADER: usize = MARK.len() + blake3::OUT_LEN;

impl Cache {
    /// Keeps nothing.
    pub fn none() -> Cache {
        Cache { directory: None }
    }

    /// Keeps compiled code in a directory, which is made where it is missing, readable by nobody else.
    ///
    /// # Errors
    ///
    /// Where it cannot be made, belongs to another user, or others could write to it.
    pub fn at(directory: &Path) -> io::Result<Cache> {
        make_private(directory)?;
        Ok(Cache {
            directory: Some(directory.to_owned()),
        })
    }

    /// Returns compiled code, from the cache or by compiling what is written of the bytes for the engine.
    pub(crate) fn load<'a, T: Compiled>(
        &self,
        engine: &Engine,
        bytes: &'a [u8],
        written: impl FnOnce() -> Cow<'a, [u8]>,
    ) -> wasmtime::Result<T> {
        let Some(directory) = &self.directory else {
            return T::compile(engine, &written());
        };
        let path = directory.join(key(engine, bytes));
        if let Some(entry) = read(&path) {
            // SAFETY: the code is what `serialize` returned. The hash in front of it says that it is what `write` wrote,
            // and the directory, checked when the cache was opened, is written by this user alone.
            match unsafe { T::deserialize(engine, &entry[HEADER..]) } {
                Ok(compiled) => return Ok(compiled),
                Err(error) => {
                    log::debug!(
                        "compiling again, the cache entry {} is not usable: {error:#}",
                        path.display()
                    )
                }
            }
        }
        let compiled = T::compile(engine, &written())?;
        if let Err(error) = compiled
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| write(&path, &code))
        {
            log::debug!("compiled code was not kept as {}: {error}", path.display());
        }
        Ok(compiled)
    }
}

/// What can be kept: the code of a module or a component.
pub(crate) trait Compiled: Sized {
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;

    fn serialize(&self) -> wasmtime::Result<Vec<u8>>;

    /// # Safety
    ///
    /// The code is what [`Compiled::serialize`] returned, unchanged.
    unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self>;
}

impl Compiled for wasmtime::Module {
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        Self::new(engine, bytes)
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        self.serialize()
    }

    unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self> {
        // SAFETY: the caller says that `serialize` made the code.
        unsafe { Self::deserialize(engine, code) }
    }
}

impl Compiled for component::Component {
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        Self::new(engine, bytes)
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        self.serialize()
    }

    unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self> {
        // SAFETY: the caller says that `serialize` made the code.
        unsafe { Self::deserialize(engine, code) }
    }
}

/// Names the entry of what was compiled from these bytes.
fn key(engine: &Engine, bytes: &[u8]) -> String {
    struct Fed<'a>(&'a mut blake3::Hasher);
    impl std::hash::Hasher for Fed<'_> {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("only what is fed matters")
        }
    }
    let mut hasher = blake3::Hasher::new();
    std::hash::Hash::hash(
        &engine.precompile_compatibility_hash(),
        &mut Fed(&mut hasher),
    );
    hasher.update(bytes);
    hasher.finalize().to_hex().to_string()
}

/// Reads an entry whole; `None` where there is none or where it is not what was written.
fn read(path: &Path) -> Option<Vec<u8>> {
    let entry = fs::read(path).ok()?;
    let code = entry.get(HEADER..)?;
    let intact =
        entry.starts_with(MARK) && entry[MARK.len()..HEADER] == *blake3::hash(code).as_bytes();
    if !intact {
        log::debug!(
            "compiling again, the cache entry {} is damaged",
            path.display()
        );
        return None;
    }
    Some(entry)
}

/// Writes an entry so that a reader finds all of it or nothing.
fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let directory = path
        .parent()
        .expect("an entry lies in the cache's directory");
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(MARK)?;
    file.write_all(blake3::hash(code).as_bytes())?;
    file.write_all(code)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(unix)]
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let metadata = fs::metadata(directory)?;
    let refuse = |why: &str| {
        let text = format!(
            "{} {why}; compiled code is kept only where its user alone can write",
            directory.display()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user");
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return refuse("can be written by others");
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> io::Result<()> {
    // A user's own directories are private by default on the other systems.
    fs::create_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn entries(directory: &Path) -> Vec<PathBuf> {
        fs::read_dir(directory)
            .expect("it exists")
            .map(|entry| entry.expect("it can be listed").path())
            .collect()
    }

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn check_damage<T: Compiled>(bytes: &'static [u8]) {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        let cache = Cache::at(directory.path()).expect("the directory is new");
        let engine = Engine::default();
        let load = || cache.load::<T>(&engine, bytes, || bytes.into()).map(drop);
        load().expect("it can be compiled");
        let [path] = &entries(directory.path())[..] else {
            panic!("one entry")
        };
        let good = fs::read(path).expect("it was written");
        for damage in [
            &good[..good.len() / 2],
            &good[..HEADER - 1],
            &[],
            b"something else altogether, and longer than a header is",
        ] {
            fs::write(path, damage).expect("it can be overwritten");
            load().expect("it is compiled again");
            assert_eq!(fs::read(path).expect("it was written again"), good);
        }
        let mut flipped = good.clone();
        *flipped.last_mut().expect("it is not empty") ^= 1;
        fs::write(path, &flipped).expect("it can be overwritten");
        assert!(read(path).is_none());
    }

    #[test]
    fn t156_a_damaged_entry_is_compiled_again() {
        check_damage::<wasmtime::Module>(MODULE);
        check_damage::<component::Component>(COMPONENT);
    }

    #[test]
    fn what_is_kept_is_not_compiled_again() {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        let cache = Cache::at(directory.path()).expect("the directory is new");
        let engine = Engine::default();
        let compile = || Cow::Borrowed(COMPONENT);
        let refuse = || -> Cow<'static, [u8]> { panic!("it is in the cache") };
        cache
            .load::<component::Component>(&engine, COMPONENT, compile)
            .expect("it is one");
        cache
            .load::<component::Component>(&engine, COMPONENT, refuse)
            .expect("it is one");
    }

    #[test]
    fn another_engine_has_another_entry() {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        let cache = Cache::at(directory.path()).expect("the directory is new");
        cache
            .load::<wasmtime::Module>(&Engine::default(), MODULE, || MODULE.into())
            .expect("it is a module");
        let metered =
            Engine::new(wasmtime::Config::new().consume_fuel(true)).expect("the settings are good");
        cache
            .load::<wasmtime::Module>(&metered, MODULE, || MODULE.into())
            .expect("it is a module");
        assert_eq!(entries(directory.path()).len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))
            .expect("it is ours");
        let error = Cache::at(directory.path()).expect_err("others can write there");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
