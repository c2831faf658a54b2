//! Caches the compiled code of modules and components on disk, so that a program starts immediately
//! the next time it is run.
//!
//! Compiled code is run without further checks. Therefore, only the owner may have access to the
//! directory, and each entry is authenticated by a keyed hash. The secret key is stored next to the
//! directory. A machine whose guests are granted access to the directory or the key does not use
//! the cache. If an entry is damaged or its hash is invalid, its module or component is recompiled.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

mod directory;
mod entries;

use directory::Directory;
use entries::Entries;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{Engine, component};

/// A cache of compiled code. It may be disabled.
#[derive(Clone, Debug)]
pub struct Cache {
    open: Option<Arc<Open>>,
}

#[derive(Debug)]
struct Open {
    directory: Directory,
    entries: Entries,
    /// Set once a guest is granted a directory through which it could read the key or write
    /// entries.
    is_exposed: AtomicBool,
}

/// The origin of cached code. Each origin has its own size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// The host's programs and functions.
    Host,
    /// Modules that guests compile.
    Guests,
}

impl Cache {
    /// Returns a disabled cache, which stores nothing.
    pub fn none() -> Cache {
        Cache { open: None }
    }

    /// Opens the cache in a directory. If the directory does not exist, creates it and makes it
    /// accessible only to the current user. The key that authenticates the entries is stored next
    /// to the directory, in a file with the same name and the extension `key`.
    ///
    /// The cache uses at most 512 MiB and 65,536 files, of which at most 32 MiB and 4,096 files are
    /// for modules that guests compile. The least recently used entries are removed first.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be created, belongs to another user, is writable by others, is
    /// inside a directory that everybody can write to, or is reached through a symbolic link. Also
    /// fails if a guest of another running machine has been granted a directory that contains the
    /// key.
    pub fn at(directory: &Path) -> io::Result<Cache> {
        let directory = Directory::open(directory)?;
        Ok(Cache {
            open: Some(Arc::new(Open {
                entries: Entries::new(directory.path()),
                directory,
                is_exposed: AtomicBool::new(false),
            })),
        })
    }

    /// Returns the compiled code for `bytes`, either from the cache or by calling `compile`.
    pub(crate) fn load<T: Compiled, E>(
        &self,
        engine: &Engine,
        share: Share,
        bytes: &[u8],
        compile: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(open) = self.usable() else {
            return compile();
        };
        let name = name(engine, share, bytes);
        if let Some(code) = open.read(&name) {
            // SAFETY: the code is what `serialize` returned for a module with this name, because
            // its hash was computed with a key that only this user can read and that no guest has
            // been granted.
            match unsafe { T::deserialize(engine, &code) } {
                Ok(compiled) => return Ok(compiled),
                Err(error) => {
                    log::debug!("recompiling, because `{name}` cannot be used: {error:#}");
                }
            }
        }
        let compiled = compile()?;
        // The cache may have been exposed by a grant in the meantime.
        if let Some(open) = self.usable() {
            let kept = compiled
                .serialize()
                .map_err(io::Error::other)
                .and_then(|code| open.write(share, &name, &code));
            if let Err(error) = kept {
                log::debug!("compiled code could not be stored as `{name}`: {error}");
            }
        }
        Ok(compiled)
    }

    /// Removes the compiled code for `bytes`.
    pub(crate) fn forget(&self, engine: &Engine, share: Share, bytes: &[u8]) {
        if let Some(open) = self.usable() {
            open.entries.remove(&name(engine, share, bytes));
        }
    }

    /// Stops using the cache if granting a directory to guests lets them read the key or write
    /// entries. Guests can read everything inside the directory and, if `can_write` is set, write
    /// there too.
    ///
    /// If guests can read the key, it is deleted, so that code that they write to the cache is
    /// never run.
    pub(crate) fn granted(&self, directory: &File, path: &Path, can_write: bool) {
        let Some(open) = &self.open else { return };
        let exposure = open.directory.exposure(directory);
        if !(exposure.key || can_write && exposure.entries) {
            return;
        }
        if !open.is_exposed.swap(true, Ordering::SeqCst) {
            log::debug!(
                target: "lunatic::process",
                "compiled code is no longer cached: guests that are granted `{}` can reach the \
                 cache `{}`",
                path.display(),
                open.directory.path().display()
            );
        }
        if exposure.key {
            open.directory.abandon_key(directory);
        }
    }

    fn usable(&self) -> Option<&Open> {
        self.open
            .as_deref()
            .filter(|open| !open.is_exposed.load(Ordering::SeqCst))
    }
}

impl Open {
    /// Reads an entry's code if the entry is authentic.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.entries.read(name, &self.directory.known_key()?)
    }

    fn write(&self, share: Share, name: &str, code: &[u8]) -> io::Result<()> {
        self.entries
            .write(share, name, code, &self.directory.key()?)
    }
}

/// Compiled code that can be cached: a module or a component.
pub(crate) trait Compiled: Sized {
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;

    fn serialize(&self) -> wasmtime::Result<Vec<u8>>;

    /// # Safety
    ///
    /// The code must be exactly what [`Compiled::serialize`] returned.
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

/// Returns the name of the entry for code compiled from these bytes: a hash of the bytes, the
/// wasmtime version and the engine's settings.
fn name(engine: &Engine, share: Share, bytes: &[u8]) -> String {
    struct HashInto<'a>(&'a mut blake3::Hasher);
    impl std::hash::Hasher for HashInto<'_> {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("`Hash` implementations call only the methods that write bytes")
        }
    }
    let mut hasher = blake3::Hasher::new();
    std::hash::Hash::hash(
        &engine.precompile_compatibility_hash(),
        &mut HashInto(&mut hasher),
    );
    hasher.update(bytes);
    let prefix = match share {
        Share::Host => "",
        Share::Guests => entries::OF_GUESTS,
    };
    format!("{prefix}{}", hasher.finalize().to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A directory that contains a cache directory.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Home {
            Home(tempfile::tempdir().expect("a temporary directory can be created"))
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn directory(&self) -> PathBuf {
            self.path().join("cache")
        }

        fn key(&self) -> PathBuf {
            self.path().join("cache.key")
        }

        fn cache(&self) -> Cache {
            Cache::at(&self.directory()).expect("only this user can reach the directory")
        }

        fn entries(&self) -> Vec<PathBuf> {
            fs::read_dir(self.directory())
                .expect("the cache creates its directory")
                .map(|entry| entry.expect("the directory can be listed").path())
                .collect()
        }
    }

    /// Loads code and returns whether it had to be compiled.
    fn is_compiled<T: Compiled>(cache: &Cache, share: Share, bytes: &[u8]) -> bool {
        let engine = Engine::default();
        let mut is_compiled = false;
        let compile = || {
            is_compiled = true;
            T::compile(&engine, bytes)
        };
        let loaded: wasmtime::Result<T> = cache.load(&engine, share, bytes, compile);
        loaded.map(drop).expect("the bytes are valid");
        is_compiled
    }

    fn compiles(cache: &Cache) -> bool {
        is_compiled::<wasmtime::Module>(cache, Share::Host, MODULE)
    }

    fn grant(cache: &Cache, directory: &Path, can_write: bool) {
        let file = File::open(directory).expect("the directory exists");
        cache.granted(&file, directory, can_write);
    }

    fn check_damage<T: Compiled>(bytes: &'static [u8]) {
        let home = Home::new();
        let cache = home.cache();
        assert!(is_compiled::<T>(&cache, Share::Host, bytes));
        let [path] = &home.entries()[..] else {
            panic!("expected exactly one entry")
        };
        let good = fs::read(path).expect("`load` wrote the entry");
        let mut flipped = good.clone();
        *flipped.last_mut().expect("the file has a header") ^= 1;
        let hash = blake3::hash(&good[40..]);
        let unsigned = [b"lunatic3", &hash.as_bytes()[..], &good[40..]];
        for damage in [
            &good[..good.len() / 2],
            &good[..20],
            &[],
            b"something else altogether, and longer than a header is",
            &flipped,
            &unsigned.concat(),
        ] {
            fs::write(path, damage).expect("the directory is writable");
            assert!(is_compiled::<T>(&cache, Share::Host, bytes));
            assert!(!is_compiled::<T>(&cache, Share::Host, bytes));
        }
    }

    #[test]
    fn t156_a_damaged_or_forged_entry_is_compiled_again() {
        check_damage::<wasmtime::Module>(MODULE);
        check_damage::<component::Component>(COMPONENT);
    }

    #[test]
    fn what_is_kept_is_not_compiled_again() {
        let home = Home::new();
        for share in [Share::Host, Share::Guests] {
            assert!(is_compiled::<component::Component>(
                &home.cache(),
                share,
                COMPONENT
            ));
            assert!(!is_compiled::<component::Component>(
                &home.cache(),
                share,
                COMPONENT
            ));
        }
    }

    #[test]
    fn forgetting_code_removes_its_entry() {
        let home = Home::new();
        let cache = home.cache();
        compiles(&cache);
        cache.forget(&Engine::default(), Share::Host, MODULE);
        assert!(home.entries().is_empty());
    }

    #[expect(clippy::disallowed_methods, reason = "this test needs a second engine")]
    #[test]
    fn each_engine_has_its_own_entry() {
        let home = Home::new();
        let cache = home.cache();
        compiles(&cache);
        let metered = Engine::new(wasmtime::Config::new().consume_fuel(true))
            .expect("the settings are valid");
        cache
            .load(&metered, Share::Host, MODULE, || {
                wasmtime::Module::compile(&metered, MODULE)
            })
            .expect("the bytes are a valid module");
        assert_eq!(home.entries().len(), 2);
    }

    #[test]
    fn an_entry_stored_under_the_name_of_another_is_compiled_again() {
        let home = Home::new();
        let cache = home.cache();
        compiles(&cache);
        let other = wat::parse_str("(module (func))").expect("the module text is well-formed");
        is_compiled::<wasmtime::Module>(&cache, Share::Host, &other);
        let [one, two] = &home.entries()[..] else {
            panic!("expected two entries")
        };
        let swapped = [one, two].map(|path| fs::read(path).expect("`load` wrote the entries"));
        fs::write(one, &swapped[1]).expect("the directory is writable");
        fs::write(two, &swapped[0]).expect("the directory is writable");
        assert!(compiles(&cache));
    }

    fn refusal(directory: &Path) -> String {
        let error = Cache::at(directory).expect_err("an unsafe directory must be refused");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        error.to_string()
    }

    #[test]
    fn a_directory_that_others_can_write_to_or_replace_is_refused() {
        let home = Home::new();
        let set_mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .expect("this user owns the path")
        };
        home.cache();
        set_mode(&home.directory(), 0o777);
        assert!(refusal(&home.directory()).contains("is writable by others"));
        set_mode(&home.directory(), 0o700);
        set_mode(home.path(), 0o777);
        assert!(refusal(&home.directory()).contains("is writable by everybody"));
        // In a sticky directory like `/tmp`, others can only add files.
        set_mode(home.path(), 0o1777);
        home.cache();
    }

    #[test]
    fn a_directory_behind_a_link_is_refused() {
        let home = Home::new();
        fs::create_dir(home.path().join("real")).expect("this user owns the directory");
        symlink("real", home.path().join("link")).expect("this user owns the directory");
        for path in ["link", "link/cache"] {
            assert!(refusal(&home.path().join(path)).contains("is a symbolic link"));
        }
        symlink("/dev/null", home.key()).expect("this user owns the directory");
        Cache::at(&home.directory()).expect_err("a key that is a link must be refused");
    }

    #[test]
    fn the_key_is_private_and_apart_from_the_entries() {
        let home = Home::new();
        compiles(&home.cache());
        let mode = |path: &Path| {
            let metadata = fs::metadata(path).expect("the cache created the path");
            metadata.permissions().mode() & 0o7777
        };
        assert_eq!((mode(&home.key()), mode(&home.directory())), (0o400, 0o700));
        assert_eq!(home.entries().len(), 1);
    }

    #[test]
    fn a_key_that_this_machine_did_not_write_is_not_used() {
        let home = Home::new();
        compiles(&home.cache());
        // What a guest could write: the same bytes, but with the default mode of a new file.
        let bytes = fs::read(home.key()).expect("the cache created the key");
        fs::remove_file(home.key()).expect("this user owns the directory");
        fs::write(home.key(), bytes).expect("this user owns the directory");
        assert!(
            compiles(&home.cache()),
            "a key that others can read must not be used"
        );
    }

    #[test]
    fn the_cache_is_disabled_if_guests_can_write_entries_or_read_the_key() {
        for (granted, can_write, is_used, has_key) in [
            ("", true, false, false),
            ("", false, false, false),
            ("cache", true, false, true),
            ("cache", false, true, true),
            ("other", true, true, true),
        ] {
            let home = Home::new();
            let cache = home.cache();
            compiles(&cache);
            fs::create_dir(home.path().join("other")).expect("this user owns the directory");
            grant(&cache, &home.path().join(granted), can_write);
            assert_eq!(!compiles(&cache), is_used, "{granted} {can_write}");
            assert_eq!(home.key().exists(), has_key, "{granted} {can_write}");
        }
    }

    #[test]
    fn a_grant_through_a_link_counts() {
        let home = Home::new();
        let cache = home.cache();
        let link = home.path().join("link");
        symlink(home.directory(), &link).expect("this user owns the directory");
        grant(&cache, &link, true);
        assert!(compiles(&cache) && compiles(&cache));
        assert!(home.entries().is_empty());
    }

    /// Reruns a test from this file in its own mount and user namespaces, if the system allows it.
    #[cfg(target_os = "linux")]
    fn in_own_namespace(test: &str) {
        let program = std::env::current_exe().expect("the path of the test binary is known");
        let own = |program: &Path| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "--"]);
            command.arg(program);
            command
        };
        let is_allowed = own(Path::new("true")).output();
        if !is_allowed.is_ok_and(|output| output.status.success()) {
            return;
        }
        let run = own(&program)
            .args(["--exact", test, "--nocapture"])
            .env("IN_OWN_NAMESPACE", "1")
            .output()
            .expect("the command was run before");
        assert!(run.status.success(), "{run:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_grant_through_another_mount_counts() {
        if std::env::var_os("IN_OWN_NAMESPACE").is_none() {
            in_own_namespace("cache::tests::a_grant_through_another_mount_counts");
            return;
        }
        let bind = |from: &Path, to: &Path| {
            let status = std::process::Command::new("mount")
                .arg("--bind")
                .args([from, to])
                .status();
            assert!(status.expect("`mount` is installed").success());
        };
        // `real/inner` is bind-mounted at `seen`, hiding what was there before.
        for (granted, can_write, is_used, has_key) in [
            ("real", true, false, false),
            ("real", false, false, false),
            ("real/inner/cache", true, false, true),
            ("real/inner/cache", false, true, true),
            ("seen", false, false, false),
            ("elsewhere/again", false, false, false),
            ("elsewhere", true, false, false),
            ("other", true, true, true),
        ] {
            let home = Home::new();
            for directory in ["real/inner", "seen/inner", "elsewhere/again", "other"] {
                fs::create_dir_all(home.path().join(directory)).expect("the directory is ours");
            }
            bind(&home.path().join("real/inner"), &home.path().join("seen"));
            bind(
                &home.path().join("real"),
                &home.path().join("elsewhere/again"),
            );
            let key = home.path().join("seen/cache.key");
            let cache = Cache::at(&home.path().join("seen/cache")).expect("the directory is ours");
            compiles(&cache);
            grant(&cache, &home.path().join(granted), can_write);
            assert_eq!(!compiles(&cache), is_used, "{granted} {can_write}");
            assert_eq!(key.exists(), has_key, "{granted} {can_write}");
        }
    }

    #[test]
    fn no_key_is_made_while_guests_of_another_machine_could_read_it() {
        let home = Home::new();
        let exposed = home.cache();
        grant(&exposed, home.path(), false);
        assert!(refusal(&home.directory()).contains("is granted to a program that is running"));
        drop(exposed);
        assert!(compiles(&home.cache()));
        assert!(!compiles(&home.cache()));
    }
}
