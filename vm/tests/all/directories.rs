//! Tests for files and directories: calls on paths below a granted directory.

use crate::files::{CREATE, DIRECTORY, READ, Script, TRUNCATE, WRITE, grant, house};
use crate::support::Lab;
use crate::wasi::{errno, program, run};
use lunatic_vm::Access;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Lists directory 3 through a buffer of 400 bytes at address 1024, and calls `$entry` with the
/// address of each entry's header. The entry's name is 24 bytes after this address. Entries that
/// are cut off are requested again, as libraries do.
const LIST: &str = r#"
    (func $list (local $used i32) (local $at i32) (local $end i32) (local $cookie i64)
        (loop $page
            (if (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 400) (local.get $cookie) (i32.const 16)) (then unreachable))
            (local.set $used (i32.load (i32.const 16)))
            (local.set $at (i32.const 0))
            (block $cut (loop $next
                (br_if $cut (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $used)))
                (local.set $end (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load (i32.add (local.get $at) (i32.const 1040)))))
                (br_if $cut (i32.gt_u (local.get $end) (local.get $used)))
                (local.set $cookie (i64.load (i32.add (local.get $at) (i32.const 1024))))
                (call $entry (i32.add (local.get $at) (i32.const 1024)))
                (local.set $at (local.get $end))
                (br $next)))
            (br_if $page (i32.eq (local.get $used) (i32.const 400)))))"#;

fn listing(entry: &str) -> String {
    program(&format!(
        r#"(func $entry (param $at i32) {entry})
        {LIST}
        (func (export "main") (call $list))"#
    ))
}

#[test]
fn names_that_are_removed_while_they_are_listed_are_all_removed() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    for number in 0..1500 {
        fs::write(granted.join(format!("file {number}")), "").expect("the test owns the directory");
    }
    let text = listing(
        "(drop (call $path_unlink_file (i32.const 3)
            (i32.add (local.get $at) (i32.const 24)) (i32.load offset=16 (local.get $at))))",
    );
    let exit = run(&lab, &text, |config| grant(config, &granted, Access::Write));
    assert!(exit.is_normal(), "{exit}");
    let left: Vec<_> = fs::read_dir(&granted)
        .expect("the test owns the directory")
        .map(|entry| entry.expect("the test owns the directory").file_name())
        .collect();
    assert_eq!(left, ["inner"]);
}

#[test]
fn names_that_are_created_while_others_are_listed_do_not_change_the_listing() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    for number in 0..100 {
        fs::write(granted.join(format!("file {number}")), "").expect("the test owns the directory");
    }
    // For each name, creates a directory whose name differs in the last letter.
    let text = listing(
        r#"(local $last i32)
        (call $say (i64.load (local.get $at)))
        (local.set $last (i32.add (i32.add (local.get $at) (i32.const 23)) (i32.load offset=16 (local.get $at))))
        (i32.store8 (local.get $last) (i32.add (i32.load8_u (local.get $last)) (i32.const 64)))
        (drop (call $path_create_directory (i32.const 3)
            (i32.add (local.get $at) (i32.const 24)) (i32.load offset=16 (local.get $at))))"#,
    );
    let exit = run(&lab, &text, |config| grant(config, &granted, Access::Write));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(
        lab.hear_all::<104>(),
        std::array::from_fn(|number| number as i64 + 1)
    );
    let names = fs::read_dir(&granted).expect("the test owns the directory");
    assert!(names.count() > 180, "the guest created too few directories");
}

#[test]
fn a_name_that_is_not_text_is_listed_and_can_be_used() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    fs::write(granted.join(OsStr::from_bytes(b"not \xff text")), "")
        .expect("a name may contain any byte");
    let text = listing(
        r#"(call $say (i64.extend_i32_u (i32.load8_u offset=20 (local.get $at))))
        (if (i32.eq (i32.load offset=16 (local.get $at)) (i32.const 10)) (then
            (if (call $path_unlink_file (i32.const 3) (i32.add (local.get $at) (i32.const 24)) (i32.const 10))
                (then unreachable))))"#,
    );
    let exit = run(&lab, &text, |config| grant(config, &granted, Access::Write));
    assert!(exit.is_normal(), "{exit}");
    let mut kinds = lab.hear_all::<5>();
    kinds.sort_unstable();
    // There are three directories, including `.` and `..`, and two files.
    assert_eq!(kinds, [3, 3, 3, 4, 4]);
    assert_eq!(
        fs::read_dir(&granted)
            .expect("the directory can be listed")
            .count(),
        2
    );
}

#[test]
fn a_slash_after_a_name_says_that_it_is_a_directory() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    symlink("inner", granted.join("link")).expect("the test owns the directory");
    symlink("file", granted.join("to-file")).expect("the test owns the directory");
    let mut script = Script::default();
    script.on_path("path_create_directory", "new/");
    script.on_path("path_create_directory", "new//deep//");
    script.on_path("path_remove_directory", "new/deep/");
    script.rename("new/", 3, "renamed/");
    script.on_path("path_remove_directory", "renamed/");
    script
        .open("inner/", DIRECTORY, READ)
        .open("link/", 0, READ);
    script.stat("inner/", true).stat("link/", false);
    let fine = script.calls;
    script.open("file/", 0, READ).open("file/", CREATE, WRITE);
    script
        .open("absent/", CREATE, WRITE)
        .open("to-file/", 0, READ);
    script.stat("file/", true).stat("to-file/", false);
    script.on_path("path_unlink_file", "file/");
    script.on_path("path_unlink_file", "link/");
    script.on_path("path_unlink_file", "inner/");
    script.on_path("path_unlink_file", "inner");
    script.on_path("path_remove_directory", "file");
    script.on_path("path_remove_directory", "link");
    script.on_path("path_remove_directory", "link/");
    script
        .rename("file/", 3, "other")
        .rename("file", 3, "other/");
    script.link("file/", 3, "other").link("file", 3, "other/");
    let errors = script.run(&lab, |config| grant(config, &granted, Access::Write));
    assert_eq!(errors[..fine], vec![errno::SUCCESS; fine], "{errors:?}");
    assert!(
        errors[fine..].iter().all(|&error| error != errno::SUCCESS),
        "{errors:?}"
    );
    let mut names: Vec<_> = fs::read_dir(&granted)
        .expect("the test owns the directory")
        .map(|entry| entry.expect("the test owns the directory").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["file", "inner", "link", "to-file"]);
}

#[test]
fn no_call_on_a_path_that_ends_with_a_slash_follows_a_link_that_leads_out() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    fs::create_dir(house.path().join("outside")).expect("the test owns the directory");
    symlink("../outside", granted.join("out")).expect("the test owns the directory");
    symlink("../absent", granted.join("nowhere")).expect("the test owns the directory");
    let mut script = Script::default();
    for path in ["out/", "out/.", "out/..", "out/../secret", "nowhere/", ".."] {
        script.open(path, 0, READ).open(path, DIRECTORY, READ);
        script.stat(path, true).set_times(path, true);
        script.on_path("path_create_directory", path);
        script.on_path("path_remove_directory", path);
        script.on_path("path_unlink_file", path);
        script.rename(path, 3, "stolen").link(path, 3, "stolen");
        script.symlink("file", path).read_link(path);
    }
    script.stat("out/", false).set_times("out/", false);
    let errors = script.run(&lab, |config| grant(config, &granted, Access::Write));
    assert!(
        errors.iter().all(|&error| error != errno::SUCCESS),
        "{errors:?}"
    );
    assert!(house.path().join("outside").exists() && !house.path().join("absent").exists());
}

#[test]
fn absolute_links_are_followed_in_what_guests_know_as_the_root() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    symlink("/inner", granted.join("link")).expect("the test owns the directory");
    symlink("/../../../secret", granted.join("out")).expect("the test owns the directory");
    fs::write(granted.join("inner/deep"), "").expect("the test owns the directory");
    let mut script = Script::default();
    script.open("link/deep", 0, READ).stat("link/deep", true);
    script.open("link/new", CREATE, WRITE);
    script.rename("link/new", 3, "link/renamed");
    script.symlink("/inner/renamed", "inner/absolute");
    script.open("inner/absolute", 0, READ);
    script.open("out", 0, READ);
    let change = |guest: &'static str| {
        let granted = granted.clone();
        move |config: &mut lunatic_vm::Config| {
            config
                .preopen(&granted, guest, Access::Write)
                .expect("the directory exists");
        }
    };
    let errors = script.run(&lab, change("/"));
    assert_eq!(errors, [0, 0, 0, 0, 0, 0, errno::NOENT]);
    // In any other directory, absolute links lead out of the directory.
    let errors = script.run(&lab, change("/elsewhere"));
    assert!(
        errors.iter().all(|&error| error != errno::SUCCESS),
        "{errors:?}"
    );
}

#[test]
fn a_path_that_is_not_found_is_looked_up_below_the_root_if_the_root_is_granted() {
    let (lab, house) = (Lab::new(), house());
    let root = house.path();
    fs::create_dir(root.join("etc")).expect("the test owns the directory");
    fs::write(root.join("etc/hosts"), "").expect("the test owns the directory");
    symlink("/etc/hosts", root.join("granted/link")).expect("the test owns the directory");
    let mut script = Script::default();
    // Libraries strip the leading slash from absolute paths.
    script.open("etc/hosts", 0, READ).open("file", 0, READ);
    script.open("link", 0, READ).open("link", 0, WRITE);
    script.open("etc/absent", 0, READ);
    script
        .open("etc/new", CREATE, WRITE)
        .open("../etc/hosts", 0, READ);
    let granted = |access| {
        move |config: &mut lunatic_vm::Config| {
            for (path, guest) in [("granted", "."), ("granted", "/granted"), (".", "/")] {
                let access = if guest == "/" { access } else { Access::Write };
                config
                    .preopen(&root.join(path), guest, access)
                    .expect("the directory exists");
            }
        }
    };
    let errors = script.run(&lab, granted(Access::Write));
    assert_eq!(errors, [0, 0, 0, 0, errno::NOENT, 0, 0]);
    assert!(root.join("etc/new").exists());
    // The root is now read-only, so paths in a writable directory are not looked up below it.
    let errors = script.run(&lab, granted(Access::Read));
    let (noent, perm) = (errno::NOENT, errno::PERM);
    assert_eq!(errors, [noent, 0, perm, perm, noent, noent, perm]);
}

#[test]
fn files_are_read_and_written_where_the_guest_says() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    let fd = "(i32.load (i32.const 16))";
    let seek = |offset: i64, whence: u32| {
        format!("(call $fd_seek {fd} (i64.const {offset}) (i32.const {whence}) (i32.const 24))")
    };
    // Each of these calls has one vector, which covers the first `length` bytes at address 4096.
    let text = "(data (i32.const 4096) \"abcdef\")";
    let one = |function: &str, length: u32, rest: &str| {
        format!(
            "(block (result i32) (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const {length}))
                (call ${function} {fd} (i32.const 0) (i32.const 1) {rest} (i32.const 8)))"
        )
    };
    let mut script = Script::starting_with(text);
    script.open("new", CREATE, READ | WRITE);
    script.call(&one("fd_write", 6, ""));
    script.call(&one("fd_pwrite", 3, "(i64.const 4)"));
    script.call(&seek(-2, 1)).call(&one("fd_write", 1, ""));
    script.call(&seek(-1, 2)).call(&one("fd_write", 1, ""));
    script.call(&seek(100, 0)).call(&one("fd_read", 1, ""));
    script.call("(i32.load (i32.const 8))");
    script.call(&one("fd_pread", 6, "(i64.const 5)"));
    script.call("(i32.load (i32.const 8))");
    script
        .call(&seek(-1, 0))
        .call(&seek(-101, 1))
        .call(&seek(0, 3));
    let errors = script.run(&lab, |config| grant(config, &granted, Access::Write));
    assert_eq!(
        errors,
        [
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            2,
            errno::INVAL,
            errno::INVAL,
            errno::INVAL
        ]
    );
    assert_eq!(
        fs::read(granted.join("new")).expect("the guest created the file"),
        b"abcdaba"
    );
}

#[test]
fn preview_0_numbers_the_origins_of_a_seek_in_another_order() {
    let (lab, house) = (Lab::new(), house());
    let mut script = Script::default();
    script.open("file", 0, READ);
    for whence in [1, 0, 2] {
        script.call(&format!(
            "(call $fd_seek (i32.load (i32.const 16)) (i64.const 1) (i32.const {whence}) (i32.const 24))"
        ));
        script.call("(i32.load (i32.const 24))");
    }
    let text = script
        .program()
        .replace("wasi_snapshot_preview1", "wasi_unstable");
    let exit = run(&lab, &text, |config| {
        grant(config, &house.path().join("granted"), Access::Read);
    });
    assert!(exit.is_normal(), "{exit}");
    // The seeks are relative to the end (which is at 7 bytes), to the current position, and to the
    // start.
    assert_eq!(lab.hear_all(), [0, 0, 8, 0, 9, 0, 1]);
}

#[test]
fn appended_data_goes_to_the_end_whatever_the_position() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    let fd = "(i32.load (i32.const 16))";
    let mut script = Script::default();
    let path = script.text("file");
    script.call(&format!(
        "(call $path_open (i32.const 3) (i32.const 1) {path} (i32.const 0) (i64.const 64) (i64.const 0) (i32.const 1) (i32.const 16))"
    ));
    script.call(&format!(
        "(call $write {fd} (i32.const 4096) (i32.const 2))"
    ));
    script.call(&format!(
        "(call $fd_seek {fd} (i64.const 0) (i32.const 1) (i32.const 24))"
    ));
    script.call("(i32.load (i32.const 24))");
    // The flags of an open file can be changed.
    script.call(&format!("(call $fd_fdstat_set_flags {fd} (i32.const 0))"));
    script.call(&format!(
        "(call $fd_seek {fd} (i64.const 0) (i32.const 0) (i32.const 24))"
    ));
    script.call(&format!(
        "(call $write {fd} (i32.const 4096) (i32.const 1))"
    ));
    script.call(&format!("(call $fd_fdstat_set_flags {fd} (i32.const 2))"));
    let errors = script.run(&lab, |config| grant(config, &granted, Access::Write));
    assert_eq!(errors, [0, 0, 0, 9, 0, 0, 0, errno::INVAL]);
    assert_eq!(
        fs::read(granted.join("file")).expect("the file exists"),
        b"fontentfi"
    );
}

#[test]
fn all_vectors_are_used_and_empty_ones_cost_nothing() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    // First 300,000 empty vectors, followed by one of 3 bytes. Then two vectors that refer to the
    // same memory.
    let text = program(
        r#"(data (i32.const 600) "new") (data (i32.const 1000) "abc")
        (func (export "main") (local $fd i32)
            (drop (memory.grow (i32.const 64)))
            (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 600) (i32.const 3) (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
            (local.set $fd (i32.load (i32.const 16)))
            (i32.store (i32.const 2465536) (i32.const 1000))
            (i32.store (i32.const 2465540) (i32.const 3))
            (call $said (call $fd_write (local.get $fd) (i32.const 65536) (i32.const 300001) (i32.const 8)))
            (call $said (i32.load (i32.const 8)))
            (i32.store (i32.const 0) (i32.const 1000)) (i32.store (i32.const 4) (i32.const 2))
            (i32.store (i32.const 8) (i32.const 1000)) (i32.store (i32.const 12) (i32.const 2))
            (call $said (call $fd_pread (local.get $fd) (i32.const 0) (i32.const 2) (i64.const 0) (i32.const 24)))
            (call $said (i32.load (i32.const 24)))
            (call $said (i32.load8_u (i32.const 1000)))
            ;; One vector is outside the memory.
            (i32.store (i32.const 12) (i32.const -1))
            (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 2) (i32.const 24))))"#,
    );
    let exit = run(&lab, &text, |config| grant(config, &granted, Access::Write));
    assert!(exit.to_string().contains("bad pointer"), "{exit}");
    assert_eq!(lab.hear_all(), [0, 3, 0, 3, i64::from(b'c')]);
    assert_eq!(
        fs::read(granted.join("new")).expect("the guest created the file"),
        b"abc"
    );
}

#[test]
fn hostile_sizes_are_refused_before_anything_is_copied() {
    let (lab, house) = (Lab::new(), house());
    // A 60 MB path, and a path of the maximum length that is outside the memory.
    let text = program(
        r#"(func (export "main")
            (drop (memory.grow (i32.const 1000)))
            (memory.fill (i32.const 65536) (i32.const 97) (i32.const 62914560))
            (call $said (call $path_open (i32.const 3) (i32.const 0) (i32.const 65536) (i32.const 60000000) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
            (call $said (call $path_create_directory (i32.const 3) (i32.const 65536) (i32.const 60000000)))
            (call $said (call $path_symlink (i32.const 65536) (i32.const 60000000) (i32.const 3) (i32.const 65536) (i32.const 1)))
            (call $said (call $path_create_directory (i32.const 3) (i32.const 65536) (i32.const 0)))
            (call $said (call $path_create_directory (i32.const 3) (i32.const 0) (i32.const 4)))
            (call $said (call $poll_oneoff (i32.const 65536) (i32.const 65536) (i32.const 1000000) (i32.const 16)))
            (call $said (call $poll_oneoff (i32.const 65536) (i32.const 65536) (i32.const 0) (i32.const 16)))
            (drop (call $path_create_directory (i32.const 3) (i32.const 65536) (i32.const -1))))"#,
    );
    let exit = run(&lab, &text, |config| {
        grant(config, &house.path().join("granted"), Access::Write);
    });
    assert!(exit.to_string().contains("bad pointer"), "{exit}");
    assert_eq!(
        lab.hear_all(),
        [
            errno::NAMETOOLONG,
            errno::NAMETOOLONG,
            errno::NAMETOOLONG,
            errno::NOENT,
            errno::INVAL,
            errno::INVAL,
            errno::INVAL
        ]
    );
}

#[test]
fn descriptors_are_renumbered_and_closed() {
    let (lab, house) = (Lab::new(), house());
    let mut script = Script::default();
    script.open("file", 0, READ);
    script.call("(call $fd_renumber (i32.const 4) (i32.const 0))");
    script.call("(call $read (i32.const 0) (i32.const 1024) (i32.const 100))");
    script.call("(i32.load (i32.const 8))");
    script.call("(call $read (i32.const 4) (i32.const 1024) (i32.const 100))");
    script.call("(call $fd_renumber (i32.const 0) (i32.const 77))");
    script
        .call("(call $fd_close (i32.const 0))")
        .call("(call $fd_close (i32.const 0))");
    // Granted directories can be closed as well.
    script
        .call("(call $fd_close (i32.const 3))")
        .open("file", 0, READ);
    let errors = script.run(&lab, |config| {
        grant(config, &house.path().join("granted"), Access::Read);
    });
    assert_eq!(
        errors,
        [
            0,
            0,
            0,
            7,
            errno::BADF,
            errno::BADF,
            0,
            errno::BADF,
            0,
            errno::BADF
        ]
    );
}

#[test]
fn a_truncated_file_keeps_its_position() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    let fd = "(i32.load (i32.const 16))";
    let mut script = Script::default();
    script.open("file", TRUNCATE, READ | WRITE);
    script.call(&format!(
        "(call $write {fd} (i32.const 4096) (i32.const 4))"
    ));
    script.call(&format!("(call $fd_filestat_set_size {fd} (i64.const 1))"));
    script.call(&format!(
        "(call $write {fd} (i32.const 4096) (i32.const 1))"
    ));
    let errors = script.run(&lab, |config| grant(config, &granted, Access::Write));
    assert_eq!(errors, [0, 0, 0, 0]);
    assert_eq!(
        fs::read(granted.join("file")).expect("the file exists"),
        b"f\0\0\0f"
    );
}

#[test]
fn a_named_pipe_is_read_as_a_stream() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    crate::files::named_pipe(&granted.join("pipe"));
    let mut script = Script::default();
    script.open("pipe", 0, READ);
    script.call("(call $read (i32.load (i32.const 16)) (i32.const 1024) (i32.const 100))");
    script.call("(i32.load (i32.const 8))");
    script.call(
        "(call $fd_seek (i32.load (i32.const 16)) (i64.const 0) (i32.const 1) (i32.const 24))",
    );
    let path = granted.join("pipe");
    let errors = std::thread::scope(|scope| {
        scope.spawn(|| fs::write(path, "ok").expect("the guest reads"));
        script.run(&lab, |config| grant(config, &granted, Access::Read))
    });
    assert_eq!(errors, [0, 0, 2, errno::SPIPE]);
}

#[test]
fn a_directory_that_the_kernel_provides_can_be_listed() {
    let lab = Lab::new();
    let text = listing("(call $say (i64.const 1))");
    let exit = run(&lab, &text, |config| {
        grant(config, Path::new("/proc/self/ns"), Access::Read);
    });
    assert!(exit.is_normal(), "{exit}");
    lab.hear_all::<6>();
}
