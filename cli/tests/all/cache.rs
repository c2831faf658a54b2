//! Tests the cache of compiled code.

use crate::guest::guest;
use crate::lunatic::{Ended, WorkDir};
use std::fs;
use std::path::PathBuf;

fn entries(dir: &WorkDir) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir.cache()) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("the cache can be listed").path())
        .collect()
}

#[test]
fn compiled_code_is_cached_once() {
    let dir = WorkDir::new();
    dir.write("guest.wat", guest("(call $exit (i32.const 5))"));
    dir.run(&["--no-cache", "guest.wat"]).check(5, &[]);
    assert_eq!(entries(&dir).len(), 0);
    dir.run(&["guest.wat"]).check(5, &[]);
    let [entry] = &entries(&dir)[..] else {
        panic!("the cache must have exactly one entry")
    };
    let written = fs::metadata(entry)
        .expect("the entry exists")
        .modified()
        .expect("the file system stores modification times");
    dir.run(&["guest.wat"]).check(5, &[]);
    assert_eq!(&entries(&dir), std::slice::from_ref(entry));
    assert_eq!(
        fs::metadata(entry)
            .expect("the entry exists")
            .modified()
            .expect("the file system stores modification times"),
        written
    );
}

#[test]
fn calls_use_the_cache_too() {
    let dir = WorkDir::new();
    dir.write(
        "echo.wat",
        r#"(module (memory (export "memory") 1)
        (func (export "echo") (param i32 i32) (result i32) (local.get 1)))"#,
    );
    let call = || dir.run(&["call", "echo.wat", "echo", "7"]).check(0, &[]);
    call();
    let [entry] = &entries(&dir)[..] else {
        panic!("the cache must have exactly one entry")
    };
    // The entry is read: if it is damaged, it is compiled again and restored.
    let good = fs::read(entry).expect("the entry exists");
    fs::write(entry, &good[..good.len() / 2]).expect("the entry can be written");
    call();
    assert!(fs::read(entry).expect("the entry exists") == good);
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let dir = WorkDir::new();
    dir.write("guest.wat", guest("(call $exit (i32.const 5))"));
    dir.run(&["guest.wat"]).check(5, &[]);
    let [entry] = &entries(&dir)[..] else {
        panic!("the cache must have exactly one entry")
    };
    let good = fs::read(entry).expect("the entry exists");
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(entry, &damaged).expect("the entry can be written");
    dir.run(&["guest.wat"]).check(5, &[]);
    assert!(
        fs::read(entry).expect("the entry exists") == good,
        "the entry must be restored"
    );
}

#[test]
fn an_unusable_cache_is_not_an_error() {
    let dir = WorkDir::new();
    dir.write("guest.wat", guest("(call $exit (i32.const 5))"));
    dir.write("file", "");
    let run = |filter: &str| {
        let mut command = dir.command(&["guest.wat"]);
        command
            .env("LUNATIC_CACHE", dir.path().join("file/cache"))
            .env("RUST_LOG", filter);
        Ended::from(
            command
                .output()
                .expect("the command was built with this test"),
        )
    };
    run("warn").check(5, &[]);
    run("lunatic=debug").check(5, &["compiled code is not cached"]);
}

#[cfg(unix)]
#[test]
fn the_cache_is_in_the_users_cache_directory() {
    let dir = WorkDir::new();
    dir.write("guest.wat", guest(""));
    let run = |home: &str, base: Option<&str>| {
        let mut command = dir.command(&["--no-dir", "guest.wat"]);
        command
            .env_remove("LUNATIC_CACHE")
            .env("HOME", dir.path().join(home))
            .env_remove("XDG_CACHE_HOME");
        if let Some(base) = base {
            command.env("XDG_CACHE_HOME", dir.path().join(base));
        }
        Ended::from(
            command
                .output()
                .expect("the command was built with this test"),
        )
        .check(0, &[]);
    };
    run("home", Some("base"));
    assert_eq!(
        fs::read_dir(dir.path().join("base/lunatic"))
            .expect("the cache was created")
            .count(),
        1
    );
    assert!(!dir.path().join("home").exists());
    run("home", None);
    assert_eq!(
        fs::read_dir(dir.path().join("home/.cache/lunatic"))
            .expect("the cache was created")
            .count(),
        1
    );
}

/// The guest is granted a directory that contains the cache, which happens if `lunatic` is run in
/// the user's home directory.
#[cfg(unix)]
#[test]
fn the_cache_is_not_used_in_a_directory_that_contains_it() {
    let dir = WorkDir::new();
    dir.write("guest.wat", guest("(call $exit (i32.const 5))"));
    let run = |flags: &[&str], home: &std::path::Path| {
        let mut command = dir.command(&[flags, &["-v", "guest.wat"]].concat());
        command.env("LUNATIC_CACHE", home.join("cache"));
        Ended::from(
            command
                .output()
                .expect("the command was built with this test"),
        )
    };
    let refuses = |flags: &[&str], home: &std::path::Path| {
        let ended = run(flags, home);
        assert_eq!(ended.status, Some(5), "{ended:?}");
        ended
            .stderr
            .contains("compiled code is no longer cached: guests that are granted `")
    };
    assert!(refuses(&[], dir.path()), "the current directory is granted");
    let home = dir.path().join("home");
    fs::create_dir(&home).expect("the directory is writable");
    std::os::unix::fs::symlink(&home, dir.path().join("link")).expect("the directory is writable");
    for grant in [
        "--dir=home",
        "--dir=link",
        "--read-dir=home",
        "--dir=home/cache",
    ] {
        assert!(!refuses(&["--no-dir"], &home));
        assert!(refuses(&["--no-dir", grant], &home), "{grant}");
    }
    assert!(!refuses(&["--no-dir", "--read-dir=home/cache"], &home));
}
