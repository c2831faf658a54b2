//! The cache of compiled code.

use crate::guest::guest;
use crate::lunatic::{Ended, Place};
use std::fs;
use std::path::PathBuf;

fn entries(place: &Place) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place.path().join("cache")) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect()
}

#[test]
fn compiled_code_is_kept_once() {
    let place = Place::new();
    place.write("guest.wat", guest("(call $exit (i32.const 5))"));
    place.run(&["--no-cache", "guest.wat"]).check(5, &[]);
    assert_eq!(entries(&place).len(), 0);
    place.run(&["guest.wat"]).check(5, &[]);
    let [entry] = &entries(&place)[..] else {
        panic!("one entry")
    };
    let written = fs::metadata(entry)
        .expect("it is there")
        .modified()
        .expect("the file system keeps times");
    place.run(&["guest.wat"]).check(5, &[]);
    assert_eq!(&entries(&place), std::slice::from_ref(entry));
    assert_eq!(
        fs::metadata(entry)
            .expect("it is there")
            .modified()
            .expect("as above"),
        written
    );
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let place = Place::new();
    place.write("guest.wat", guest("(call $exit (i32.const 5))"));
    place.run(&["guest.wat"]).check(5, &[]);
    let [entry] = &entries(&place)[..] else {
        panic!("one entry")
    };
    let good = fs::read(entry).expect("it is there");
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(entry, &damaged).expect("it can be written");
    place.run(&["guest.wat"]).check(5, &[]);
    assert!(
        fs::read(entry).expect("it is there") == good,
        "the entry is whole again"
    );
}

#[test]
fn a_cache_that_cannot_be_used_is_no_error() {
    let place = Place::new();
    place.write("guest.wat", guest("(call $exit (i32.const 5))"));
    place.write("file", "");
    let run = |filter: &str| {
        let mut command = place.command(&["guest.wat"]);
        command
            .env("LUNATIC_CACHE", place.path().join("file/cache"))
            .env("RUST_LOG", filter);
        Ended::from(command.output().expect("it was built"))
    };
    run("warn").check(5, &[]);
    run("lunatic=debug").check(5, &["compiled code is not kept"]);
}

#[cfg(unix)]
#[test]
fn the_cache_lies_where_the_system_wants_it() {
    let place = Place::new();
    place.write("guest.wat", guest(""));
    let run = |home: &str, base: Option<&str>| {
        let mut command = place.command(&["guest.wat"]);
        command
            .env_remove("LUNATIC_CACHE")
            .env("HOME", place.path().join(home))
            .env_remove("XDG_CACHE_HOME");
        if let Some(base) = base {
            command.env("XDG_CACHE_HOME", place.path().join(base));
        }
        Ended::from(command.output().expect("it was built")).check(0, &[]);
    };
    run("home", Some("base"));
    assert_eq!(
        fs::read_dir(place.path().join("base/lunatic"))
            .expect("it was made")
            .count(),
        1
    );
    assert!(!place.path().join("home").exists());
    run("home", None);
    assert_eq!(
        fs::read_dir(place.path().join("home/.cache/lunatic"))
            .expect("it was made")
            .count(),
        1
    );
}
