//! Tests building, serving and developing projects, with files in directories and requests over
//! real sockets.

use lunatic_serve::{
    BuildError, BuildEvent, Builder, Code, Dev, DevEvent, Gateway, Name, Project, Recipe, Settings,
    Target,
};
use lunatic_vm::{Host, Vm};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// A timeout longer than any test should ever need to wait.
const NEVER: Duration = Duration::from_secs(120);

fn machine() -> Vm {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    Vm::builder()
        .host(host)
        .build()
        .expect("the VM can be built")
}

/// A directory with a project.
struct TestProject(TempDir);

impl TestProject {
    fn new(files: &[(&str, &str)]) -> TestProject {
        let place = TestProject(TempDir::new().expect("a temporary directory can be created"));
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("the file has a parent directory"))
            .expect("there is disk space");
        std::fs::write(path, text).expect("there is disk space");
    }

    fn project(&self) -> Project {
        Project::read(&self.path("lunatic.toml")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the artifacts' names.
    fn artifacts(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path(".lunatic/build")).expect("a function was built");
        let name = |file: std::fs::DirEntry| file.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = files
            .map(|file| name(file.expect("the directory is readable")))
            .collect();
        names.sort();
        names
    }
}

/// Returns a function that answers with the given text.
fn answering(text: &str) -> String {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let escaped: String = answer.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\{:02x}\00\00\00")
            (data (i32.const 16) "{escaped}")
            (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        answer.len()
    )
}

#[test]
fn a_function_that_fails_to_build_does_not_keep_the_others_from_being_built() {
    let place = TestProject::new(&[
        (
            "lunatic.toml",
            "[functions.a]\nwasm = \"a.wat\"\n[functions.b]\nwasm = \"b.wat\"\n[functions.c]\nwasm = \"c.wat\"\n[functions.d]\nwasm = \"d.wat\"\n",
        ),
        ("a.wat", &answering("a")),
        ("b.wat", "(module (func (export \"other\")))"),
        ("d.wat", &answering("d")),
    ]);
    let project = place.project();
    let told = Mutex::new(Vec::new());
    let results = Builder::new(&machine(), &project).build(project.functions(), &|name, event| {
        let what = match event {
            BuildEvent::Started => "begun",
            BuildEvent::Built(_) => "built",
            BuildEvent::Failed(_) => "failed",
            _ => return,
        };
        told.lock()
            .expect("no code panics while it holds this lock")
            .push(format!("{name} {what}"));
    });
    let [Ok(a), Err(b), Err(c), Ok(d)] = &results[..] else {
        panic!("{results:?}")
    };
    assert_eq!(
        (a.name().as_str(), a.size()),
        ("a", answering("a").len() as u64)
    );
    assert!(
        b.to_string()
            .contains("exports neither `_start` nor `main`"),
        "t163: {b}"
    );
    assert!(matches!(c, BuildError::Read { .. }), "{c}");
    assert_eq!(
        std::fs::read_to_string(d.file()).expect("the artifact is kept"),
        answering("d")
    );
    let mut told = told
        .into_inner()
        .expect("no code panics while it holds this lock");
    told.sort();
    assert_eq!(
        told,
        [
            "a begun", "a built", "b begun", "b failed", "c begun", "c failed", "d begun",
            "d built"
        ]
    );
}

/// Creates a project with a function in Rust.
fn of_rust(main: &str) -> TestProject {
    TestProject::new(&[
        ("lunatic.toml", "[functions.hello]\npath = \"hello\"\n"),
        (
            "hello/Cargo.toml",
            "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
        ),
        ("hello/src/main.rs", main),
    ])
}

#[test]
fn cargo_builds_a_package_or_reports_why_it_cannot() {
    let vm = machine();
    let place = of_rust("fn main() { println!(\"hello\"); }");
    let project = place.project();
    let build = || {
        Builder::new(&vm, &project)
            .build(project.functions(), &|_, _| {})
            .remove(0)
    };
    let first = build().unwrap_or_else(|error| panic!("{error}: {:?}", error.output()));
    assert!(matches!(first.code(), Code::Spark(_)), "{first:?}");
    assert!(
        place
            .path("hello/target/wasm32-wasip1/release/hello.wasm")
            .is_file()
    );
    let second = build().expect("the second build succeeds");
    assert_eq!((first.hash(), first.file()), (second.hash(), second.file()));

    place.write(
        "hello/src/main.rs",
        "fn main() { let number: u32 = \"text\"; }",
    );
    let error = build().expect_err("the package does not compile");
    assert!(
        error
            .output()
            .is_some_and(|output| output.contains("mismatched types")),
        "{error:?}"
    );
    assert_eq!(
        place
            .artifacts()
            .iter()
            .filter(|name| name.starts_with("hello-"))
            .count(),
        1,
        "the earlier artifact is kept"
    );

    place.write("hello/src/main.rs", "fn main() {}");
    place.write("hello/src/bin/other.rs", "fn main() {}");
    let error = build().expect_err("the package has two binaries");
    assert!(
        matches!(&error, BuildError::Binaries(names) if names.len() == 2),
        "{error}"
    );
    assert!(
        error.help().is_some_and(|help| help.contains("binary = ")),
        "{error:?}"
    );
}

#[test]
#[cfg(unix)]
fn a_command_runs_again_only_when_its_sources_change() {
    let vm = machine();
    let place = TestProject::new(&[
        (
            "lunatic.toml",
            "[functions.a]\npath = \"a\"\ncommand = [\"./build.sh\", \"a b\"]\noutput = \"out/a.wat\"\n",
        ),
        ("a/source.wat", &answering("a")),
        (
            "a/build.sh",
            "#!/bin/sh\nset -e\nmkdir -p out\necho ran >> .runs\necho \"saying $1\"\ncp source.wat out/a.wat\n",
        ),
    ]);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(
        place.path("a/build.sh"),
        std::fs::Permissions::from_mode(0o700),
    )
    .expect("the file exists");
    let project = place.project();
    assert!(matches!(
        project.functions()[0].recipe(),
        Recipe::Command { .. }
    ));
    let said = Mutex::new(Vec::new());
    let build = || {
        let tell = |_: &Name, event: BuildEvent<'_>| {
            if let BuildEvent::Line(line) = event {
                said.lock()
                    .expect("no code panics while it holds this lock")
                    .push(line.to_string());
            }
        };
        Builder::new(&vm, &project)
            .build(project.functions(), &tell)
            .remove(0)
    };
    let runs = || {
        std::fs::read_to_string(place.path("a/.runs"))
            .expect("the command ran")
            .lines()
            .count()
    };
    let first = build().unwrap_or_else(|error| panic!("{error}"));
    let second = build().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((runs(), first.hash()), (1, second.hash()));
    assert_eq!(
        *said
            .lock()
            .expect("no code panics while it holds this lock"),
        ["saying a b"],
        "an argument is not split by a shell"
    );

    place.write("a/source.wat", &answering("b"));
    let third = build().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(runs(), 2);
    assert_ne!(third.hash(), first.hash());
    assert!(
        !first.file().exists() && third.file().exists(),
        "{:?}",
        place.artifacts()
    );

    place.write("a/build.sh", "#!/bin/sh\necho it is broken >&2\nexit 3\n");
    let error = build().expect_err("the command fails");
    assert_eq!(error.output(), Some("it is broken\n"));
    assert!(error.to_string().contains("exit status: 3"), "{error}");
}

#[test]
fn a_missing_command_is_reported() {
    let place = TestProject::new(&[(
        "lunatic.toml",
        "[functions.a]\ncommand = [\"lunatic-test-no-such\"]\noutput = \"a.wasm\"\n",
    )]);
    let project = place.project();
    let error = Builder::new(&machine(), &project)
        .build(project.functions(), &|_, _| {})
        .remove(0)
        .expect_err("the command does not exist");
    assert!(
        error
            .help()
            .is_some_and(|help| help.contains("must be in the PATH")),
        "{error}"
    );
}

/// A project under development, and the events it reports.
struct Development {
    place: TestProject,
    dev: Dev,
    events: Receiver<String>,
}

impl Development {
    fn start(files: &[(&str, &str)]) -> Development {
        let place = TestProject::new(files);
        let (sender, events) = channel();
        let dev = Dev::start(&machine(), &place.path("lunatic.toml"), move |event| {
            let text = match event {
                DevEvent::Build(name, BuildEvent::Failed(error)) => {
                    format!("{name} failed: {error}")
                }
                DevEvent::Build(name, BuildEvent::Built(_)) => format!("{name} built"),
                DevEvent::Swapped(_, version) => {
                    format!("{} serves {}", version.name(), version.number())
                }
                DevEvent::Project(error) => format!("project: {error}"),
                DevEvent::NotStarted(name, error) => format!("{name} does not start: {error}"),
                DevEvent::Waiting(gateway, name) => format!("{} waits for {name}", gateway.name),
                DevEvent::Gateways(error) => format!("gateways: {error}"),
                DevEvent::Listening(listening, _) => format!("{} listen", listening.len()),
                _ => return,
            };
            // At the end of the test, the receiver no longer exists.
            let _ = sender.send(text);
        });
        Development {
            place,
            dev: dev.unwrap_or_else(|error| panic!("{error}")),
            events,
        }
    }

    /// Waits for an event whose text contains `what`.
    #[track_caller]
    fn wait_for(&self, what: &str) {
        let mut all = Vec::new();
        loop {
            let event = self
                .events
                .recv_timeout(NEVER)
                .unwrap_or_else(|_| panic!("`{what}` is not among {all:#?}"));
            if event.contains(what) {
                return;
            }
            all.push(event);
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.dev.server().listening()[0].address)
            .expect("the server is listening");
        stream
            .set_read_timeout(Some(NEVER))
            .expect("the socket is open");
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .expect("the server is reading");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the server answers");
        answer
            .split_once("\r\n\r\n")
            .map_or(answer.clone(), |(_, body)| body.to_string())
    }
}

const GATEWAY: &str = "[gateways.web]\ntype = \"http\"\nport = 0\nfunction = \"a\"\n";

fn one() -> String {
    format!("[functions.a]\nwasm = \"a.wat\"\n{GATEWAY}")
}

#[test]
fn t162_a_good_change_is_served_a_bad_change_is_not_and_no_request_fails() {
    let work = Development::start(&[("lunatic.toml", &one()), ("a.wat", &answering("first"))]);
    work.wait_for("a serves 1");
    assert_eq!(work.get("/"), "first");

    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = Vec::new();
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                answers.push(work_get(&work.dev));
            }
            answers
        });
        work.place.write("a.wat", &answering("second"));
        work.wait_for("a serves 2");
        assert_eq!(work.get("/"), "second");
        // The file is incomplete, as it may be for a moment while an editor saves it.
        work.place.write("a.wat", &answering("third")[..100]);
        work.wait_for("a failed");
        assert_eq!(work.get("/"), "second");
        // This module does not have an entry point. The next one imports a function that does not
        // exist.
        work.place
            .write("a.wat", "(module (func (export \"main_\")))");
        work.wait_for("exports neither");
        work.place.write(
            "a.wat",
            "(module (import \"env\" \"nothing\" (func)) (func (export \"_start\")))",
        );
        work.wait_for("a failed");
        assert_eq!(work.get("/"), "second");
        // This module compiles but does not start.
        work.place.write(
            "a.wat",
            "(module (func $trap unreachable) (start $trap) (func (export \"_start\")))",
        );
        work.wait_for("a does not start: the function trapped");
        assert_eq!(work.get("/"), "second");
        std::fs::remove_file(work.place.path("a.wat")).expect("the file exists");
        work.wait_for("a failed");
        assert_eq!(work.get("/"), "second");
        // The file is replaced by another one, as in many deployments.
        work.place.write("new.wat", &answering("third"));
        std::fs::rename(work.place.path("new.wat"), work.place.path("a.wat"))
            .expect("the file exists");
        work.wait_for("a serves 3");
        assert_eq!(work.get("/"), "third");
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        let answers = asking
            .join()
            .expect("the thread that sends requests does not panic");
        let good = ["first", "second", "third"];
        assert!(
            answers.iter().all(|answer| good.contains(&answer.as_str())),
            "{answers:?}"
        );
    });
    assert!(work.dev.stop(NEVER));
}

fn work_get(dev: &Dev) -> String {
    let mut stream =
        TcpStream::connect(dev.server().listening()[0].address).expect("the server is listening");
    stream
        .set_read_timeout(Some(NEVER))
        .expect("the socket is open");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .expect("the server is reading");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the server answers");
    answer
        .split_once("\r\n\r\n")
        .map_or(answer.clone(), |(_, body)| body.to_string())
}

#[test]
fn t162_saving_an_unchanged_file_does_nothing() {
    let work = Development::start(&[("lunatic.toml", &one()), ("a.wat", &answering("first"))]);
    work.wait_for("a serves 1");
    for _ in 0..1000 {
        work.place.write("a.wat", &answering("first"));
    }
    work.place.write("a.wat", &answering("second"));
    work.wait_for("a serves 2");
    let function = work.dev.functions().get("a").expect("the function exists");
    assert_eq!(function.version().number(), 2);
}

#[test]
#[cfg(unix)]
fn t162_a_build_that_writes_to_its_source_directory_does_not_repeat_forever() {
    let script = "date +%N$$ >> log.txt; head -c 8 /dev/urandom > noise; cp source.wat a.wat";
    let toml = format!(
        "[functions.a]\npath = \"a\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\noutput = \"a.wat\"\n{GATEWAY}"
    );
    let work = Development::start(&[
        ("lunatic.toml", &toml),
        ("a/source.wat", &answering("first")),
    ]);
    work.wait_for("a serves 1");
    // The number of builds until the project settles is limited, and later changes are noticed.
    work.place.write("a/source.wat", &answering("second"));
    work.wait_for("a serves 2");
    let other = format!("{toml}[functions.b]\nwasm = \"b.wat\"\n");
    work.place.write("b.wat", &answering("b"));
    work.place.write("lunatic.toml", &other);
    work.wait_for("b serves 1");
    let runs = std::fs::read_to_string(work.place.path("a/log.txt"))
        .expect("the command ran")
        .lines()
        .count();
    assert!(runs <= 6, "the project was built {runs} times");
    work.place.write("b.wat", &answering("B"));
    work.wait_for("b serves 2");
    let later = std::fs::read_to_string(work.place.path("a/log.txt"))
        .expect("the command ran")
        .lines()
        .count();
    assert!(later <= 6, "the project was built {later} times");
}

#[test]
fn a_valid_change_to_the_project_file_takes_effect_and_an_invalid_one_does_not() {
    let work = Development::start(&[
        ("lunatic.toml", &one()),
        ("a.wat", &answering("a")),
        ("b.wat", &answering("b")),
    ]);
    work.wait_for("1 listen");
    let two = format!(
        "{}[gateways.web.routes]\n\"/b\" = \"b\"\n[functions.b]\nwasm = \"b.wat\"\n",
        one()
    );
    work.place.write("lunatic.toml", &two);
    work.wait_for("1 listen");
    assert_eq!((work.get("/"), work.get("/b")), ("a".into(), "b".into()));

    work.place
        .write("lunatic.toml", &two.replace("\"b\"\n", "\"c\"\n"));
    work.wait_for("there is no function `c`");
    assert_eq!(work.get("/b"), "b");

    work.place.write(
        "lunatic.toml",
        &format!("{two}environment = {{ memory = \"1MiB\" }}\n"),
    );
    work.wait_for("b serves 2");
    work.wait_for("1 listen");
    let settings = work
        .dev
        .functions()
        .get("b")
        .expect("the function exists")
        .version()
        .settings()
        .clone();
    assert_eq!(
        settings,
        Settings {
            memory: 1 << 20,
            ..Settings::default()
        }
    );

    work.place.write("lunatic.toml", &one());
    work.wait_for("1 listen");
    assert!(work.dev.functions().get("b").is_none());
    assert_eq!(work.get("/b"), "a");
}

#[test]
fn a_gateway_waits_for_a_function_that_has_not_compiled_yet() {
    let toml = format!(
        "{}[functions.b]\nwasm = \"b.wat\"\n[gateways.other]\ntype = \"http\"\nport = 0\nfunction = \"b\"\n",
        one()
    );
    let work = Development::start(&[
        ("lunatic.toml", &toml),
        ("a.wat", &answering("a")),
        ("b.wat", "(module"),
    ]);
    work.wait_for("other waits for b");
    work.wait_for("1 listen");
    assert_eq!(work.get("/"), "a");
    work.place.write("b.wat", &answering("b"));
    work.wait_for("2 listen");
}

#[test]
#[cfg(unix)]
fn t162_the_target_of_a_link_is_watched() {
    let place = [
        ("lunatic.toml", one()),
        ("versions/1.wat", answering("first")),
        ("versions/2.wat", answering("second")),
    ];
    let files: Vec<(&str, &str)> = place
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let link = |root: &Path, version: &str| {
        let draft = root.join("draft");
        std::os::unix::fs::symlink(root.join("versions").join(version), &draft)
            .expect("there is disk space");
        std::fs::rename(draft, root.join("a.wat")).expect("the file exists");
    };
    let place = TestProject::new(&files);
    link(place.0.path(), "1.wat");
    let (sender, events) = channel();
    let dev = Dev::start(&machine(), &place.path("lunatic.toml"), move |event| {
        if let DevEvent::Swapped(_, version) = event {
            // At the end of the test, the receiver no longer exists.
            let _ = sender.send(version.number());
        }
    });
    let dev = dev.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (events.recv_timeout(NEVER), work_get(&dev).as_str()),
        (Ok(1), "first")
    );
    link(place.0.path(), "2.wat");
    assert_eq!(
        (events.recv_timeout(NEVER), work_get(&dev).as_str()),
        (Ok(2), "second")
    );
    place.write("versions/2.wat", &answering("third"));
    assert_eq!(
        (events.recv_timeout(NEVER), work_get(&dev).as_str()),
        (Ok(3), "third")
    );
}

#[test]
fn the_gateways_of_a_project_are_connected_to_its_functions() {
    let place = TestProject::new(&[("lunatic.toml", &one()), ("a.wat", &answering("a"))]);
    let project = place.project();
    let [
        Gateway {
            protocol: lunatic_serve::Protocol::Http(http),
            ..
        },
    ] = project.gateways()
    else {
        panic!("{project:?}")
    };
    assert_eq!(
        http.routes[0].target,
        Target::Function(Name::new("a").expect("the name is valid"))
    );
}
