//! Keeps the compiled code of modules and components on disk, so that a program starts immediately
//! from its second run on.
//!
//! A file is named after its inputs: a hash of the source bytes, the wasmtime version and the
//! engine settings. Compiled code is run without further checks, so the directory must be writable
//! only by its owner, and each file carries a hash of its contents: if a file is damaged,
//! half-written or foreign, the module is compiled again.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use wasmtime::{Engine, component};

/// The directory for compiled code, if code is cached at all.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: Option<PathBuf>,
}

/// The start of every file, followed by the hash of the code. It changes whenever the format
/// changes, or the way modules are rewritten before compilation.
const MAGIC: &[u8; 8] = b"lunatic2";
const HEADER: usize = MAGIC.len() + blake3::OUT_LEN;

impl Cache {
    /// Returns a cache that keeps nothing.
    pub fn none() -> Cache {
        Cache { directory: None }
    }

    /// Returns a cache that keeps compiled code in a directory. A missing directory is created,
    /// accessible only to the current user.
    ///
    /// # Errors
    ///
    /// If the directory cannot be created, belongs to another user, or is writable by others.
    pub fn at(directory: &Path) -> io::Result<Cache> {
        make_private(directory)?;
        Ok(Cache {
            directory: Some(directory.to_owned()),
        })
    }

    /// Returns the compiled code of `bytes`, either from the cache or by compiling the output of
    /// `rewritten` for the engine.
    pub(crate) fn load<'a, T: Compiled>(
        &self,
        engine: &Engine,
        bytes: &'a [u8],
        rewritten: impl FnOnce() -> Cow<'a, [u8]>,
    ) -> wasmtime::Result<T> {
        let Some(directory) = &self.directory else {
            return T::compile(engine, &rewritten());
        };
        let path = directory.join(key(engine, bytes));
        if let Some(file) = read(&path) {
            // SAFETY: the code is what `serialize` returned: the hash in front of it proves that
            // `write` wrote it, and opening the cache checked that only this user can write to the
            // directory.
            match unsafe { T::deserialize(engine, &file[HEADER..]) } {
                Ok(compiled) => return Ok(compiled),
                Err(error) => {
                    log::debug!(
                        "compiling again, since the cached code {} is not usable: {error:#}",
                        path.display()
                    )
                }
            }
        }
        let compiled = T::compile(engine, &rewritten())?;
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

/// Compiled code that can be cached, from a module or a component.
pub(crate) trait Compiled: Sized {
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;

    fn serialize(&self) -> wasmtime::Result<Vec<u8>>;

    /// # Safety
    ///
    /// The code is what [`Compiled::serialize`] returned, unchanged.
    unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self>;
}

macro_rules! compiled {
    ($($kind:ty),*) => {$(
        impl Compiled for $kind {
            fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
                Self::new(engine, bytes)
            }

            fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
                self.serialize()
            }

            unsafe fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self> {
                // SAFETY: the caller guarantees that the code came from `serialize`.
                unsafe { Self::deserialize(engine, code) }
            }
        }
    )*};
}

compiled!(wasmtime::Module, component::Component);

/// Returns the name of the file for the code compiled from these bytes.
fn key(engine: &Engine, bytes: &[u8]) -> String {
    struct HashInto<'a>(&'a mut blake3::Hasher);
    impl std::hash::Hasher for HashInto<'_> {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("only the bytes written are used")
        }
    }
    let mut hasher = blake3::Hasher::new();
    std::hash::Hash::hash(
        &engine.precompile_compatibility_hash(),
        &mut HashInto(&mut hasher),
    );
    hasher.update(bytes);
    hasher.finalize().to_hex().to_string()
}

/// Reads a whole file, or returns `None` if it is missing or damaged.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = fs::read(path).ok()?;
    let code = file.get(HEADER..)?;
    let intact =
        file.starts_with(MAGIC) && file[MAGIC.len()..HEADER] == *blake3::hash(code).as_bytes();
    if !intact {
        log::debug!(
            "compiling again, since the cached code {} is damaged",
            path.display()
        );
        return None;
    }
    Some(file)
}

/// Writes a file atomically: readers see either all of it or nothing.
fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let directory = path
        .parent()
        .expect("the path was joined to the cache's directory");
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(MAGIC)?;
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
            "{} {why}; compiled code is kept only where no other user can write",
            directory.display()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user");
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return refuse("is writable by others");
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> io::Result<()> {
    // On other systems a user's own directories are private by default.
    fs::create_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn files(directory: &Path) -> Vec<PathBuf> {
        fs::read_dir(directory)
            .expect("the directory was created above")
            .map(|entry| entry.expect("the directory is writable").path())
            .collect()
    }

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn check_damage<T: Compiled>(bytes: &'static [u8]) {
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let cache = Cache::at(directory.path()).expect("the directory is new");
        let engine = Engine::default();
        let load = || cache.load::<T>(&engine, bytes, || bytes.into()).map(drop);
        load().expect("the bytes are valid");
        let [path] = &files(directory.path())[..] else {
            panic!("expected exactly one file")
        };
        let good = fs::read(path).expect("`load` wrote it");
        for damage in [
            &good[..good.len() / 2],
            &good[..HEADER - 1],
            &[],
            b"something else altogether, and longer than a header is",
        ] {
            fs::write(path, damage).expect("the directory is writable");
            load().expect("damaged code is compiled again");
            assert_eq!(fs::read(path).expect("`load` wrote it again"), good);
        }
        let mut flipped = good.clone();
        *flipped.last_mut().expect("the file has a header") ^= 1;
        fs::write(path, &flipped).expect("the directory is writable");
        assert!(read(path).is_none());
    }

    #[test]
    fn t156_a_damaged_entry_is_compiled_again() {
        check_damage::<wasmtime::Module>(MODULE);
        check_damage::<component::Component>(COMPONENT);
    }

    #[test]
    fn what_is_kept_is_not_compiled_again() {
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let cache = Cache::at(directory.path()).expect("the directory is new");
        let engine = Engine::default();
        let compile = || Cow::Borrowed(COMPONENT);
        let refuse = || -> Cow<'static, [u8]> { panic!("compiled despite being cached") };
        cache
            .load::<component::Component>(&engine, COMPONENT, compile)
            .expect("the bytes are a valid component");
        cache
            .load::<component::Component>(&engine, COMPONENT, refuse)
            .expect("the bytes are a valid component");
    }

    #[expect(clippy::disallowed_methods, reason = "this is another engine")]
    #[test]
    fn another_engine_has_another_file() {
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let cache = Cache::at(directory.path()).expect("the directory is new");
        cache
            .load::<wasmtime::Module>(&Engine::default(), MODULE, || MODULE.into())
            .expect("the bytes are a valid module");
        let metered =
            Engine::new(wasmtime::Config::new().consume_fuel(true)).expect("the settings are good");
        cache
            .load::<wasmtime::Module>(&metered, MODULE, || MODULE.into())
            .expect("the bytes are a valid module");
        assert_eq!(files(directory.path()).len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))
            .expect("the directory is writable");
        let error = Cache::at(directory.path()).expect_err("others can write there");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
