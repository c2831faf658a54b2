//! Tests for files: which host files a program can reach.

use crate::support::Lab;
use crate::wasi::{errno, program, run};
use lunatic_vm::{Access, Config, Exit, Limit, Vm};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// Flags for opening: create a file, truncate a file, require a directory.
pub(crate) const CREATE: u32 = 1;
pub(crate) const DIRECTORY: u32 = 2;
pub(crate) const TRUNCATE: u32 = 8;

/// The rights to read and to write.
pub(crate) const READ: u64 = 1 << 1;
pub(crate) const WRITE: u64 = 1 << 6;

/// A program that makes calls on directory 3, one after another, and reports the error code of
/// each call.
#[derive(Default)]
pub(crate) struct Script {
    data: String,
    code: String,
    length: usize,
    pub(crate) calls: usize,
}

impl Script {
    /// Creates a script whose data starts with the given data segments. Strings that are added
    /// later are stored starting at address 5096.
    pub(crate) fn starting_with(data: &str) -> Script {
        Script {
            data: data.to_string(),
            length: 1000,
            ..Script::default()
        }
    }

    /// Stores a string in the program's data, and returns its address and length as two call
    /// arguments.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let at = 4096 + self.length;
        let _ = writeln!(self.data, "(data (i32.const {at}) \"{text}\")");
        self.length += text.len();
        format!("(i32.const {at}) (i32.const {})", text.len())
    }

    pub(crate) fn call(&mut self, call: &str) -> &mut Script {
        self.calls += 1;
        let _ = writeln!(self.code, "(call $said {call})");
        self
    }

    /// Opens a path in a directory, following links, and stores the descriptor at address 16.
    fn open_in(&mut self, directory: u32, path: &str, how: u32, rights: u64) -> &mut Script {
        let path = self.text(path);
        self.call(&format!(
            "(call $path_open (i32.const {directory}) (i32.const 1) {path} (i32.const {how}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 16))"
        ))
    }

    pub(crate) fn open(&mut self, path: &str, how: u32, rights: u64) -> &mut Script {
        self.open_in(3, path, how, rights)
    }

    /// Makes a call whose parameters are directory 3 and one path.
    pub(crate) fn on_path(&mut self, function: &str, path: &str) -> &mut Script {
        let path = self.text(path);
        self.call(&format!("(call ${function} (i32.const 3) {path})"))
    }

    pub(crate) fn rename(&mut self, from: &str, to_directory: u32, to: &str) -> &mut Script {
        let (from, to) = (self.text(from), self.text(to));
        self.call(&format!(
            "(call $path_rename (i32.const 3) {from} (i32.const {to_directory}) {to})"
        ))
    }

    pub(crate) fn link(&mut self, from: &str, to_directory: u32, to: &str) -> &mut Script {
        let (from, to) = (self.text(from), self.text(to));
        self.call(&format!(
            "(call $path_link (i32.const 3) (i32.const 0) {from} (i32.const {to_directory}) {to})"
        ))
    }

    /// Makes a call that returns the metadata of a path.
    pub(crate) fn stat(&mut self, path: &str, follow: bool) -> &mut Script {
        let (path, follow) = (self.text(path), u32::from(follow));
        self.call(&format!(
            "(call $path_filestat_get (i32.const 3) (i32.const {follow}) {path} (i32.const 1024))"
        ))
    }

    pub(crate) fn set_times(&mut self, path: &str, follow: bool) -> &mut Script {
        let (path, follow) = (self.text(path), u32::from(follow));
        self.call(&format!(
            "(call $path_filestat_set_times (i32.const 3) (i32.const {follow}) {path} (i64.const 1) (i64.const 1) (i32.const 5))"
        ))
    }

    pub(crate) fn symlink(&mut self, contents: &str, path: &str) -> &mut Script {
        let (contents, path) = (self.text(contents), self.text(path));
        self.call(&format!(
            "(call $path_symlink {contents} (i32.const 3) {path})"
        ))
    }

    pub(crate) fn read_link(&mut self, path: &str) -> &mut Script {
        let path = self.text(path);
        self.call(&format!(
            "(call $path_readlink (i32.const 3) {path} (i32.const 1024) (i32.const 100) (i32.const 16))"
        ))
    }

    pub(crate) fn program(&self) -> String {
        program(&format!(
            "{}(func (export \"main\") {})",
            self.data, self.code
        ))
    }

    /// Runs the program and returns the error codes.
    pub(crate) fn run(&self, lab: &Lab, change: impl FnOnce(&mut Config)) -> Vec<i64> {
        let exit = run(lab, &self.program(), change);
        assert!(exit.is_normal(), "{exit}");
        (0..self.calls).map(|_| lab.hear()).collect()
    }
}

pub(crate) fn grant(config: &mut Config, path: &Path, access: Access) {
    config
        .preopen(path, ".", access)
        .expect("the directory exists");
}

/// A directory named `granted`, which contains a file and a directory, and a secret file next to
/// it.
pub(crate) fn house() -> TempDir {
    let house = tempfile::tempdir().expect("a temporary directory can be created");
    fs::create_dir_all(house.path().join("granted/inner")).expect("the test owns the directory");
    fs::write(house.path().join("granted/file"), "content").expect("the test owns the directory");
    fs::write(house.path().join("secret"), "secret").expect("the test owns the directory");
    house
}

/// Returns the names, contents and modification times of a directory's entries.
fn picture(path: &Path) -> Vec<(String, Option<Vec<u8>>, std::time::SystemTime)> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).expect("the test owns the directory") {
        let entry = entry.expect("the test owns the directory");
        let metadata = entry.metadata().expect("the entry exists");
        let content = metadata
            .is_file()
            .then(|| fs::read(entry.path()).expect("the test owns the file"));
        let modified = metadata.modified().expect("the file system stores times");
        entries.push((
            entry.file_name().to_string_lossy().into_owned(),
            content,
            modified,
        ));
    }
    entries.sort();
    entries
}

#[test]
fn a_granted_directory_can_be_read_and_written() {
    let (lab, house) = (Lab::new(), house());
    let mut script = Script::default();
    script
        .open("file", 0, READ)
        .call("(call $read (i32.load (i32.const 16)) (i32.const 1024) (i32.const 100))");
    script.call("(i32.load (i32.const 8))");
    script.open("inner/../inner/new", CREATE, WRITE);
    script.call("(call $write (i32.load (i32.const 16)) (i32.const 1024) (i32.const 7))");
    let errors = script.run(&lab, |config| {
        grant(config, &house.path().join("granted"), Access::Write)
    });
    assert_eq!(errors, [0, 0, 7, 0, 0]);
    assert_eq!(
        fs::read(house.path().join("granted/inner/new")).expect("the guest created the file"),
        b"content"
    );
}

#[cfg(unix)]
#[test]
fn t090_no_path_leads_out_of_a_granted_directory() {
    use std::os::unix::fs::symlink;
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    symlink("..", granted.join("up")).expect("the test owns the directory");
    symlink("../secret", granted.join("relative")).expect("the test owns the directory");
    symlink(house.path().join("secret"), granted.join("absolute"))
        .expect("the test owns the directory");
    let absolute = house.path().join("secret").display().to_string();
    let mut script = Script::default();
    for path in [
        "../secret",
        "inner/../../secret",
        "./..//secret",
        absolute.as_str(),
        &format!("/{absolute}"),
        "/secret",
        "up/secret",
        "up",
        "..",
        "relative",
        "relative/",
        "absolute",
        "file/",
        "file/..",
    ] {
        script.open(path, 0, READ);
        script.open(path, CREATE | TRUNCATE, WRITE);
    }
    script
        .link("../secret", 3, "stolen")
        .link("file", 3, "../planted")
        .link("up/secret", 3, "stolen");
    script
        .rename("../secret", 3, "stolen")
        .rename("file", 3, "../planted")
        .rename("file", 3, "up/planted");
    script
        .on_path("path_unlink_file", "../secret")
        .on_path("path_create_directory", "../planted");
    script
        .on_path("path_create_directory", "up/planted")
        .on_path("path_remove_directory", "up/granted/inner");
    let errors = script.run(&lab, |config| grant(config, &granted, Access::Write));
    assert!(
        errors.iter().all(|&error| error != errno::SUCCESS),
        "{errors:?}"
    );
    let mut outside: Vec<_> = picture(house.path())
        .into_iter()
        .map(|(name, content, _)| (name, content))
        .collect();
    outside.retain(|(name, _)| name != "granted");
    assert_eq!(outside, [("secret".into(), Some(b"secret".to_vec()))]);
    assert!(granted.join("file").exists() && granted.join("inner").exists());
}

#[cfg(unix)]
#[test]
fn t090_a_link_that_is_swapped_during_a_call_does_not_lead_outside() {
    use std::os::unix::fs::symlink;
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    let text = program(
        r#"(data (i32.const 4096) "swap/secret")
        (func (export "main") (local $left i32)
            (local.set $left (i32.const 2000))
            (loop $again
                (if (i32.eqz (call $path_open (i32.const 3) (i32.const 1) (i32.const 4096) (i32.const 11) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
                    (then unreachable))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $again (local.get $left))))"#,
    );
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for target in ["inner", ".."].into_iter().cycle() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let next = granted.join("next");
                symlink(target, &next).expect("the test owns the directory");
                fs::rename(&next, granted.join("swap")).expect("the test owns the directory");
            }
        });
        let exit = run(&lab, &text, |config| grant(config, &granted, Access::Read));
        is_over.store(true, Ordering::SeqCst);
        assert!(exit.is_normal(), "the guest reached a file outside: {exit}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn t091_links_in_proc_do_not_lead_outside() {
    let lab = Lab::new();
    let mut script = Script::default();
    for path in ["root/etc", "cwd", "exe", "fd/0"] {
        script.open(path, 0, READ);
    }
    let errors = script.run(&lab, |config| {
        grant(config, Path::new("/proc/self"), Access::Read)
    });
    assert!(
        errors.iter().all(|&error| error != errno::SUCCESS),
        "{errors:?}"
    );
}

#[cfg(target_os = "linux")]
pub(crate) fn named_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .expect("the test owns the directory");
}

/// Opens a named pipe for reading and writing, so that neither end keeps waiting for the other.
#[cfg(target_os = "linux")]
fn release(path: &Path) -> fs::File {
    fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("the pipe exists")
}

#[cfg(target_os = "linux")]
#[test]
fn t091_processes_that_wait_for_a_named_pipe_do_not_hold_up_other_processes() {
    let lab = Lab::with(Vm::builder().workers(1));
    let house = house();
    let granted = house.path().join("granted");
    named_pipe(&granted.join("pipe"));
    let mut waits = Script::default();
    waits
        .open("pipe", 0, READ)
        .call("(call $read (i32.load (i32.const 16)) (i32.const 1024) (i32.const 100))");
    let environment = lab.environment_with(|config| grant(config, &granted, Access::Read));
    let module = lab.module(&waits.program());
    let waiting: Vec<_> = (0..70)
        .map(|_| {
            environment
                .spawn(&module, "main", &[])
                .expect("no limit applies")
        })
        .collect();
    for _ in &waiting {
        assert_eq!(lab.hear(), 0);
    }
    let mut reads = Script::default();
    reads.open("file", 0, READ);
    assert_eq!(
        reads.run(&lab, |config| grant(config, &granted, Access::Read)),
        [0]
    );
    for process in &waiting {
        process.kill();
        assert!(matches!(lab.exit(process), Exit::Killed));
    }
    drop(release(&granted.join("pipe")));
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_reader_of_a_named_pipe_closes_the_pipe() {
    use rustix::fs::{Mode, OFlags, open};

    let lab = Lab::with(Vm::builder().workers(1));
    let house = house();
    let granted = house.path().join("granted");
    let pipe = granted.join("pipe");
    named_pipe(&pipe);
    let mut waits = Script::default();
    waits
        .open("pipe", 0, READ)
        .call("(call $read (i32.load (i32.const 16)) (i32.const 1024) (i32.const 100))");
    let environment = lab.environment_with(|config| grant(config, &granted, Access::Read));
    let process = environment
        .spawn(&lab.module(&waits.program()), "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear(), 0);
    lab.wait_until_idle();
    process.kill();
    assert!(matches!(lab.exit(&process), Exit::Killed));
    // A thread that was still waiting would keep the pipe open for reading.
    let writer = open(&pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
    assert_eq!(writer.err(), Some(rustix::io::Errno::NXIO));
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_of_a_named_pipe_returns_the_bytes_that_are_there() {
    use std::io::Write;

    let lab = Lab::new();
    let house = house();
    let granted = house.path().join("granted");
    named_pipe(&granted.join("pipe"));
    let mut pipe = release(&granted.join("pipe"));
    pipe.write_all(b"abc").expect("the pipe has room");
    // Two vectors, of 1 and 100 bytes.
    let mut reads = Script::default();
    reads.open("pipe", 0, READ);
    for _ in 0..2 {
        reads.call(
            "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1))
            (i32.store (i32.const 8) (i32.const 1030)) (i32.store (i32.const 12) (i32.const 100))
            (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 2) (i32.const 20))",
        );
        reads.call("(i32.load (i32.const 20))");
    }
    let said = reads.run(&lab, |config| grant(config, &granted, Access::Read));
    assert_eq!(said[..3], [0, 0, 1]);
    assert_eq!(said[3..], [0, 1]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_opens_a_named_pipe_for_writing_waits_for_a_reader() {
    use std::io::Read;

    let lab = Lab::with(Vm::builder().workers(1));
    let house = house();
    let granted = house.path().join("granted");
    named_pipe(&granted.join("pipe"));
    let mut writes = Script::default();
    writes.open("pipe", 0, WRITE);
    let bytes = writes.text("bytes");
    writes.call(&format!("(call $write (i32.load (i32.const 16)) {bytes})"));
    let environment = lab.environment_with(|config| grant(config, &granted, Access::Write));
    let process = environment
        .spawn(&lab.module(&writes.program()), "main", &[])
        .expect("no limit applies");
    // This waits for the writer.
    let mut reader = fs::File::open(granted.join("pipe")).expect("the pipe exists");
    let mut read = String::new();
    reader
        .read_to_string(&mut read)
        .expect("the bytes are text");
    assert_eq!(read, "bytes");
    assert!(lab.exit(&process).is_normal());
}

#[test]
fn a_position_that_the_kernel_reads_as_negative_is_an_error() {
    let lab = Lab::new();
    let house = house();
    let mut script = Script::default();
    script.open("file", 0, READ | WRITE);
    for function in ["fd_pread", "fd_pwrite"] {
        for at in [-1i64, i64::MIN] {
            script.call(&format!(
                "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 9))
                (call ${function} (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i64.const {at}) (i32.const 20))"
            ));
        }
    }
    let (seek, from_start, from_current) = ("(call $fd_seek (i32.load (i32.const 16))", 0, 1);
    script.call(&format!(
        "{seek} (i64.const {}) (i32.const {from_start}) (i32.const 24))",
        i64::MAX
    ));
    script.call(&format!(
        "{seek} (i64.const 1) (i32.const {from_current}) (i32.const 24))"
    ));
    let said = script.run(&lab, |config| {
        grant(config, &house.path().join("granted"), Access::Write);
    });
    let invalid = errno::INVAL;
    assert_eq!(said, [0, invalid, invalid, invalid, invalid, 0, invalid]);
}

/// A path that ends with a slash or with `..` names a directory. If looking up that directory
/// fails, any operation on the path fails for the same reason.
#[test]
fn a_path_that_must_be_a_directory_is_looked_up_as_one() {
    const EXIST: i64 = 20;
    const ISDIR: i64 = 31;
    const LOOP: i64 = 32;
    const NOTDIR: i64 = 54;

    let house = house();
    let granted = house.path().join("granted");
    for (to, name) in [
        ("inner", "to-inner"),
        ("file", "to-file"),
        ("nothing", "to-nothing"),
        ("circle", "circle"),
        ("..", "out"),
    ] {
        std::os::unix::fs::symlink(to, granted.join(name)).expect("the test owns the directory");
    }
    for (path, unlink, symlink, link, make, remove) in [
        ("inner/", ISDIR, EXIST, EXIST, EXIST, 0),
        ("to-inner/", ISDIR, EXIST, EXIST, EXIST, NOTDIR),
        ("file/", NOTDIR, NOTDIR, NOTDIR, EXIST, NOTDIR),
        ("to-file/", NOTDIR, NOTDIR, NOTDIR, EXIST, NOTDIR),
        (
            "to-nothing/",
            errno::NOENT,
            errno::NOENT,
            errno::NOENT,
            EXIST,
            NOTDIR,
        ),
        ("circle/", LOOP, LOOP, LOOP, EXIST, NOTDIR),
        ("out/", errno::PERM, errno::PERM, errno::PERM, EXIST, NOTDIR),
        (
            "nothing/",
            errno::NOENT,
            errno::NOENT,
            errno::NOENT,
            0,
            errno::NOENT,
        ),
        (
            "..",
            errno::PERM,
            errno::PERM,
            errno::PERM,
            errno::PERM,
            errno::PERM,
        ),
        (
            "inner/../..",
            errno::PERM,
            errno::PERM,
            errno::PERM,
            errno::PERM,
            errno::PERM,
        ),
        ("file/..", NOTDIR, NOTDIR, NOTDIR, NOTDIR, NOTDIR),
        (
            "nothing/..",
            errno::NOENT,
            errno::NOENT,
            errno::NOENT,
            errno::NOENT,
            errno::NOENT,
        ),
        (".", ISDIR, EXIST, EXIST, EXIST, errno::INVAL),
    ] {
        for (operation, wanted) in [
            ("unlink", unlink),
            ("symlink", symlink),
            ("link", link),
            ("make", make),
            ("remove", remove),
        ] {
            let lab = Lab::new();
            let mut script = Script::default();
            match operation {
                "unlink" => script.on_path("path_unlink_file", path),
                "symlink" => script.symlink("file", path),
                "link" => script.link("file", 3, path),
                "make" => script.on_path("path_create_directory", path),
                _ => script.on_path("path_remove_directory", path),
            };
            let said = script.run(&lab, |config| grant(config, &granted, Access::Write));
            assert_eq!(said, [wanted], "{operation} {path}");
            let _ = fs::create_dir(granted.join("inner"));
            let _ = fs::remove_dir(granted.join("nothing"));
        }
    }
}

#[test]
fn t092_a_read_only_directory_cannot_be_changed() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    let writable = house.path().join("writable");
    fs::create_dir(&writable).expect("the test owns the directory");
    let before = (picture(&granted), picture(&granted.join("inner")));
    let mut script = Script::default();
    script
        .open("new", CREATE, READ)
        .open("new", CREATE, WRITE)
        .open("file", 0, WRITE)
        .open("file", 0, READ | WRITE);
    script
        .open("file", TRUNCATE, READ)
        .open("file", TRUNCATE, WRITE)
        .open("inner/new", CREATE, WRITE);
    script
        .on_path("path_create_directory", "new")
        .on_path("path_remove_directory", "inner");
    script
        .on_path("path_unlink_file", "file")
        .rename("file", 3, "other")
        .link("file", 3, "other");
    // Files cannot be moved or linked to a writable directory either.
    script.rename("file", 4, "file").link("file", 4, "file");
    let (target, name, file) = (
        script.text("file"),
        script.text("symbolic"),
        script.text("file"),
    );
    script.call(&format!(
        "(call $path_symlink {target} (i32.const 3) {name})"
    ));
    script.call(&format!(
        "(call $path_filestat_set_times (i32.const 3) (i32.const 1) {file} (i64.const 1) (i64.const 1) (i32.const 5))"
    ));
    let refused = script.calls;
    // Reading works, and a file that is open for reading cannot be written to.
    script.open("file", 0, READ);
    script.call("(call $write (i32.load (i32.const 16)) (i32.const 1024) (i32.const 1))");
    script.call("(call $fd_filestat_set_size (i32.load (i32.const 16)) (i64.const 0))");
    script.call("(call $fd_filestat_set_times (i32.load (i32.const 16)) (i64.const 1) (i64.const 1) (i32.const 5))");
    // A subdirectory does not grant more rights than its parent directory.
    script.open("inner", DIRECTORY, READ | WRITE);
    let errors = script.run(&lab, |config| {
        grant(config, &granted, Access::Read);
        config
            .preopen(&writable, "writable", Access::Write)
            .expect("the directory exists");
    });
    assert!(
        errors[..refused]
            .iter()
            .all(|&error| error != errno::SUCCESS),
        "{errors:?}"
    );
    assert_eq!(errors[refused], errno::SUCCESS);
    assert!(
        errors[refused + 1..]
            .iter()
            .all(|&error| error != errno::SUCCESS),
        "{errors:?}"
    );
    assert_eq!((picture(&granted), picture(&granted.join("inner"))), before);
    assert!(picture(&writable).is_empty());
}

#[cfg(unix)]
#[test]
fn t093_a_grant_is_for_the_directory_itself_and_not_for_its_path() {
    use std::os::unix::fs::symlink;
    let (lab, house) = (Lab::new(), house());
    let (granted, link) = (house.path().join("granted"), house.path().join("link"));
    symlink("granted", &link).expect("the test owns the directory");
    let mut config = lab.vm.config();
    config.allow("");
    grant(&mut config, &link, Access::Write);
    fs::remove_file(&link).expect("the test owns the directory");
    symlink("/", &link).expect("the test owns the directory");
    let environment = lab.vm.environment(config);
    let mut script = Script::default();
    script.open("file", 0, READ);
    let module = lab.module(&script.program());
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear(), errno::SUCCESS);
    fs::remove_dir_all(&granted).expect("the test owns the directory");
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&process).is_normal());
    assert_ne!(lab.hear(), errno::SUCCESS);
}

#[test]
fn t095_a_process_can_open_as_many_files_as_its_environment_allows() {
    let (lab, house) = (Lab::new(), house());
    let mut script = Script::default();
    for _ in 0..4 {
        script.open("file", 0, READ);
    }
    script
        .call("(call $fd_close (i32.load (i32.const 16)))")
        .open("file", 0, READ);
    let errors = script.run(&lab, |config| {
        grant(config, &house.path().join("granted"), Access::Read);
        config.limit(Limit::Files, 3);
    });
    assert_eq!(errors, [0, 0, 0, errno::MFILE, 0, 0]);
}

#[test]
fn t095_a_preview_0_process_can_open_as_many_files_as_its_environment_allows() {
    let (lab, house) = (Lab::new(), house());
    let mut script = Script::default();
    for _ in 0..3 {
        script.open("file", 0, READ);
    }
    let text = script
        .program()
        .replace("wasi_snapshot_preview1", "wasi_unstable");
    let exit = run(&lab, &text, |config| {
        grant(config, &house.path().join("granted"), Access::Read);
        config.limit(Limit::Files, 2);
    });
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [0, 0, errno::MFILE]);
}

#[cfg(target_os = "linux")]
#[test]
fn t096_a_write_to_a_full_disk_fails_with_an_error() {
    let lab = Lab::new();
    let mut script = Script::default();
    script
        .open("full", 0, WRITE)
        .call("(call $write (i32.load (i32.const 16)) (i32.const 1024) (i32.const 100))");
    assert_eq!(
        script.run(&lab, |config| grant(
            config,
            Path::new("/dev"),
            Access::Write
        )),
        [0, errno::NOSPC]
    );
}

#[test]
fn t096_a_file_with_a_one_terabyte_hole_takes_no_space_or_is_refused() {
    let (lab, house) = (Lab::new(), house());
    let mut script = Script::default();
    script.open("hole", CREATE, WRITE);
    script.call("(call $fd_filestat_set_size (i32.load (i32.const 16)) (i64.const 1099511627776))");
    script.call("(call $fd_filestat_set_size (i32.load (i32.const 16)) (i64.const -1))");
    let errors = script.run(&lab, |config| {
        grant(config, &house.path().join("granted"), Access::Write)
    });
    assert_eq!(errors[0], errno::SUCCESS);
    assert_ne!(errors[2], errno::SUCCESS, "no file can be that long");
}

#[test]
fn t029_a_large_directory_can_be_listed_in_small_pieces() {
    let (lab, house) = (Lab::new(), house());
    let granted = house.path().join("granted");
    for number in 0..300 {
        fs::write(granted.join(format!("file-{number:04}")), "")
            .expect("the test owns the directory");
    }
    // The guest lists the directory through a buffer of 4096 bytes and reports the number of
    // entries. The last entry in a full buffer may be cut off. The next piece then begins with that
    // entry.
    let text = program(
        r#"(func (export "main") (local $used i32) (local $at i32) (local $cookie i64) (local $count i64)
            (loop $piece
                (if (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 4096) (local.get $cookie) (i32.const 16)) (then unreachable))
                (local.set $used (i32.load (i32.const 16)))
                (local.set $at (i32.const 0))
                (block $end (loop $entry
                    (br_if $end (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $used)))
                    (br_if $end (i32.gt_u
                        (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load (i32.add (local.get $at) (i32.const 1040))))
                        (local.get $used)))
                    (local.set $cookie (i64.load (i32.add (local.get $at) (i32.const 1024))))
                    (local.set $count (i64.add (local.get $count) (i64.const 1)))
                    (local.set $at (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load (i32.add (local.get $at) (i32.const 1040)))))
                    (br $entry)))
                (br_if $piece (i32.eq (local.get $used) (i32.const 4096))))
            (call $say (local.get $count)))"#,
    );
    let exit = run(&lab, &text, |config| grant(config, &granted, Access::Read));
    assert!(exit.is_normal(), "{exit}");
    // The entries are the new files, the file and the directory that existed before, and `.` and
    // `..`, which always exist.
    assert_eq!(lab.hear(), 300 + 2 + 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_granted_directory_takes_no_descriptor_per_process() {
    let (lab, house) = (Lab::new(), house());
    let granted = house
        .path()
        .join("granted")
        .canonicalize()
        .expect("the entry exists");
    // Other tests open files at the same time, so only the descriptors of this directory are
    // counted.
    let descriptors = || {
        let links = fs::read_dir("/proc/self/fd")
            .expect("Linux lists open descriptors")
            .flatten();
        links
            .filter(|link| fs::read_link(link.path()).is_ok_and(|to| to == granted))
            .count()
    };
    let environment = lab.environment_with(|config| grant(config, &granted, Access::Read));
    let mut script = Script::default();
    script.open("file", 0, READ);
    script
        .call("(call $fd_close (i32.load (i32.const 16)))")
        .call("(call $sleep (i64.const -1))");
    let module = lab.module(&script.program());
    let before = descriptors();
    assert!((1..=2).contains(&before), "{before}");
    let processes: Vec<_> = (0..1000)
        .map(|_| {
            environment
                .spawn(&module, "main", &[])
                .expect("no limit applies")
        })
        .collect();
    for _ in 0..2 * processes.len() {
        assert_eq!(lab.hear(), 0);
    }
    assert_eq!(descriptors(), before);
    environment.end();
    lab.wait_for("all processes to end", environment.ended());
    drop((processes, environment));
    // A worker may hold the last process for a moment after its exit has been reported.
    lab.wait_for("the directory to be closed", async {
        while descriptors() > 0 {
            futures_lite::future::yield_now().await;
        }
    });
}
