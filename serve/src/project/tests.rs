//! What project files mean, and how problems in them are reported.

use super::*;
use crate::{HttpGateway, Name, Policy, Protocol, Route, Target};
use std::time::Duration;
use tempfile::TempDir;

/// Creates a directory with a cargo package `hello` and the given files.
fn place(files: &[(&str, &str)]) -> TempDir {
    let place = TempDir::new().expect("there is enough disk space");
    for (name, text) in files.iter().chain(&[("hello/Cargo.toml", "")]) {
        let path = place.path().join(name);
        std::fs::create_dir_all(path.parent().expect("the file is inside the directory"))
            .expect("there is enough disk space");
        std::fs::write(path, text).expect("there is enough disk space");
    }
    place
}

fn read(files: &[(&str, &str)]) -> Result<Project, String> {
    let place = place(files);
    let file = Project::find(place.path()).expect("the directory has a project");
    let root = format!("{}/", place.path().display());
    Project::read(&file).map_err(|error| error.to_string().replace(&root, ""))
}

fn http(project: &Project) -> &HttpGateway {
    match &project.gateways()[0].protocol {
        Protocol::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

/// The example in Embly's documentation.
const EMBLY: &str = "\
functions:
  - name: listener
    path: ./hello
    language: rust
gateways:
  - name: index
    type: http
    port: 8082
    function: listener
";

#[test]
fn emblys_file_is_read() {
    let project = read(&[("embly-project.yml", EMBLY)]).unwrap_or_else(|error| panic!("{error}"));
    let [function] = project.functions() else {
        panic!("{project:?}")
    };
    assert_eq!(function.name().as_str(), "listener");
    let Recipe::Cargo {
        directory,
        target,
        profile,
        binary,
    } = function.recipe()
    else {
        panic!("{function:?}")
    };
    assert!(directory.ends_with("hello"), "{directory:?}");
    assert_eq!(
        (*target, profile.as_str(), binary),
        ("wasm32-wasip1", "release", &None)
    );
    let [gateway] = project.gateways() else {
        panic!("{project:?}")
    };
    assert_eq!(
        (gateway.name.as_str(), gateway.address),
        (
            "index",
            "127.0.0.1:8082".parse().expect("the text is an address")
        )
    );
    let listener = Name::new("listener").expect("`listener` is a name");
    assert_eq!(
        http(&project).routes,
        [Route {
            path: "/".into(),
            target: Target::Function(listener)
        }]
    );
}

#[test]
fn a_path_in_emblys_file_is_relative_to_its_context() {
    let yaml = "functions: [{ name: a, context: inner, path: hello, language: rust }]\n";
    let project = read(&[("embly-project.yml", yaml), ("inner/hello/Cargo.toml", "")])
        .expect("the file is valid");
    let Recipe::Cargo { directory, .. } = project.functions()[0].recipe() else {
        panic!("{project:?}")
    };
    assert!(directory.ends_with("inner/hello"), "{directory:?}");
    assert!(project.functions()[0].sources()[0].ends_with("inner"));
}

#[test]
fn every_field_is_read() {
    let toml = r#"
        [functions.hello]
        path = "hello"
        environment = "small"
        policy = { pool = 4 }

        [functions.page]
        path = "hello"
        language = "rust"
        target = "wasm32-wasip2"
        profile = "dev"
        binary = "page"
        policy = "single"
        environment = { memory = 65536, deadline = 2 }

        [functions.ready]
        wasm = "ready.wasm"

        [functions.other]
        command = ["make", "other.wasm"]
        output = "other.wasm"
        path = "."
        sources = ["hello"]

        [environments.small]
        memory = "64MiB"
        compute = 1000
        processes = 7
        host-memory = "8MiB"
        total-host-memory = "1GiB"
        descriptors = 99
        deadline = "500ms"
        body = "1KiB"
        requests = 9
        namespaces = ["lunatic::networking"]
        outbound = ["https://*.example.com"]
        private-addresses = true
        files = { "/data" = { path = "hello" }, "/out" = { path = ".", write = true } }
        variables = { GREETING = "hello" }
        secrets = { TOKEN = { file = "token" } }
        client-secret = { file = "token" }

        [gateways.web]
        type = "http"
        port = 0
        function = "hello"
        routes = { "/page" = "page", "/static" = { files = "hello" } }
        limits = { connections = 5, requests = 6, head-time = "1s", head-size = "8KiB", fields = 7, idle = "3s" }
        tls = { certificates = "token", key = "token" }

        [gateways.raw]
        type = "tcp"
        address = "::"
        port = 7000
        function = "hello"
        limits = { connections = 3, idle = "9s", life = "1h" }
    "#;
    let place = place(&[("lunatic.toml", toml), ("token", "very secret\n")]);
    let project =
        Project::read(&place.path().join("lunatic.toml")).unwrap_or_else(|error| panic!("{error}"));
    let [hello, page, ready, other] = project.functions() else {
        panic!("{project:?}")
    };

    let settings = hello.settings().expect("the secrets exist");
    assert_eq!(
        settings.policy,
        Policy::Pool(4.try_into().expect("4 is not zero"))
    );
    assert_eq!(
        (settings.memory, settings.compute, settings.processes),
        (64 << 20, Some(1000), 7)
    );
    assert_eq!(
        (
            settings.host_memory,
            settings.total_host_memory,
            settings.descriptors
        ),
        (8 << 20, 1 << 30, 99)
    );
    assert_eq!(
        (settings.deadline, settings.body, settings.requests.get()),
        (Duration::from_millis(500), 1024, 9)
    );
    assert_eq!(settings.namespaces, ["lunatic::networking"]);
    assert_eq!(
        settings.outbound,
        ["https://*.example.com".parse().expect("the text is a rule")]
    );
    assert!(settings.private_addresses);
    let access: Vec<_> = settings
        .directories
        .iter()
        .map(|known| (known.guest.as_str(), known.access))
        .collect();
    assert_eq!(
        access,
        [
            ("/data", lunatic_vm::Access::Read),
            ("/out", lunatic_vm::Access::Write)
        ]
    );
    let variables = [
        ("GREETING".to_string(), "hello".to_string()),
        ("TOKEN".to_string(), "very secret".to_string()),
    ];
    assert_eq!(settings.variables, variables);
    assert_eq!(settings.client_secret.as_deref(), Some("very secret"));
    assert!(!format!("{settings:?} {project:?}").contains("very secret"));

    let Recipe::Cargo {
        target,
        profile,
        binary,
        ..
    } = page.recipe()
    else {
        panic!("{page:?}")
    };
    assert_eq!(
        (*target, profile.as_str(), binary.as_deref()),
        ("wasm32-wasip2", "dev", Some("page"))
    );
    let settings = page.settings().expect("the function has no secrets");
    assert_eq!((settings.policy, settings.memory), (Policy::Single, 65_536));
    assert_eq!(settings.deadline, Duration::from_secs(2));

    assert_eq!(
        *ready.recipe(),
        Recipe::Wasm(place.path().join("ready.wasm"))
    );
    let Recipe::Command {
        command, output, ..
    } = other.recipe()
    else {
        panic!("{other:?}")
    };
    assert_eq!(command, &["make", "other.wasm"]);
    assert!(
        output.starts_with(place.path()) && output.ends_with("other.wasm"),
        "{output:?}"
    );

    let [web, raw] = project.gateways() else {
        panic!("{project:?}")
    };
    assert_eq!(
        (web.address.port(), raw.address),
        (0, "[::]:7000".parse().expect("the text is an address"))
    );
    let web = http(&project);
    assert_eq!(web.routes.len(), 3);
    assert_eq!(
        (
            web.limits.connections,
            web.limits.requests,
            web.limits.fields
        ),
        (5, 6, 7)
    );
    assert_eq!(
        (web.limits.head_size, web.limits.head_time),
        (8192, Duration::from_secs(1))
    );
    let Protocol::Tcp(raw) = &raw.protocol else {
        panic!("{raw:?}")
    };
    assert_eq!((raw.connections, raw.idle), (3, Duration::from_secs(9)));
    assert_eq!(raw.life, Some(Duration::from_secs(3600)));
}

#[test]
fn a_problem_is_shown_with_its_position() {
    let toml = "[functions.hello]\npath = \"hello\"\npolcy = \"fresh\"\n";
    let expected = "\
error: unknown field `polcy`
 --> lunatic.toml:3:1
  |
3 | polcy = \"fresh\"
  | ^^^^^
  = help: did you mean `policy`?";
    assert_eq!(
        read(&[("lunatic.toml", toml)]).expect_err("the file is faulty"),
        expected
    );
}

/// Checks a file's problems. Each one is formatted on a single line, with its position and how to
/// fix it.
#[track_caller]
fn check(toml: &str, expected: &[&str]) {
    check_files(&[("lunatic.toml", toml)], expected);
}

#[track_caller]
fn check_files(files: &[(&str, &str)], expected: &[&str]) {
    let error = read(files).expect_err("the file is faulty");
    let mut problems: Vec<String> = Vec::new();
    for line in error.lines() {
        if let Some(message) = line.strip_prefix("error: ") {
            problems.push(message.to_string());
        } else if let Some((_, place)) = line.split_once("--> ") {
            let last = problems.last_mut().expect("each place follows a message");
            *last = format!("{place}: {last}");
        } else if let Some((_, help)) = line.split_once(" = help: ") {
            let last = problems.last_mut().expect("each remedy follows a message");
            *last = format!("{last}; {help}");
        }
    }
    assert_eq!(problems, expected, "\n{error}");
}

const HELLO: &str = "[functions.hello]\npath = \"hello\"\n";

#[test]
fn anything_but_toml_is_refused() {
    check(
        "[functions",
        &["lunatic.toml:1:11: unclosed table, expected `]`"],
    );
    check(
        "[functions.a]\nwasm = \"a\"\nwasm = \"b\"\n[functions.a]\n",
        &[
            "lunatic.toml:3:1: duplicate key",
            "lunatic.toml:4:12: duplicate key",
        ],
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    check(
        "",
        &[
            "lunatic.toml:1:1: the project has no functions; a function is a table: `[functions.hello]` with `path = \"hello\"`",
        ],
    );
    check(
        "[function.a]\nwasm = \"a\"\n[functions.B]\nwasm = \"a\"\nx = 1\n[functions.c]\nwasm = 1\n[functions]\nd = 1\n",
        &[
            "lunatic.toml:1:2: unknown field `function`; did you mean `functions`?",
            "lunatic.toml:3:12: `B` is not a valid function name: a name must have 1 to 63 characters from a-z, 0-9 and -, and must not begin with -",
            "lunatic.toml:5:1: unknown field `x`; expected one of `binary`, `command`, `environment`, `language`, `output`, `path`, `policy`, `profile`, `sources`, `target` or `wasm`",
            "lunatic.toml:7:8: expected path string, found `1`",
            "lunatic.toml:9:5: expected a table, found `1`",
        ],
    );
}

#[test]
fn quantities_are_checked() {
    let environment = |fields: &str| format!("{HELLO}[environments.a]\n{fields}\n");
    check(
        &environment("memory = \"64MB\""),
        &[
            "lunatic.toml:4:10: `64MB` is not a size like \"64MiB\": `MB` is not a unit of size; write for example 65536, 512KiB, 64MiB or 1GiB",
        ],
    );
    check(
        &environment("memory = 0"),
        &["lunatic.toml:4:10: `0` is not a size like \"64MiB\": it must be greater than zero"],
    );
    check(
        &environment("deadline = \"1d\""),
        &[
            "lunatic.toml:4:12: `1d` is not a duration like \"30s\": `d` is not a unit of time; write for example 500ms, 10s, 5m or 1h",
        ],
    );
    check(
        &environment("outbound = [\"a.example\", \"ftp://b.example\"]"),
        &[
            "lunatic.toml:4:26: `ftp://b.example` is not an outbound rule: the scheme must be `http` or `https`",
        ],
    );
    check(
        &environment("compute = -1"),
        &["lunatic.toml:4:11: expected a nonzero u64, found `-1`"],
    );
    check(
        &environment("deadline = true"),
        &["lunatic.toml:4:12: expected a duration like \"30s\", found `true`"],
    );
}

#[test]
fn recipes_are_checked() {
    check(
        "[functions.a]\n[functions.b]\npath = \"nowhere\"\n[functions.c]\npath = \".\"\n[functions.d]\npath = \"hello\"\nlanguage = \"go\"\n",
        &[
            "lunatic.toml:1:12: the function does not specify what it runs; set its `path` (a cargo package), its `wasm` file, or a `command` and its `output`",
            "lunatic.toml:3:8: there is no directory `nowhere`; paths are relative to this file",
            "lunatic.toml:5:8: `.` is not a cargo package: it has no Cargo.toml; for any other language, set the `command` that builds it and its `output`",
            "lunatic.toml:8:12: `go` cannot be built without a `command`; only `rust` can; for any other language, set the `command` that builds it and the `output` that it writes",
        ],
    );
    check(
        "[functions.a]\ncommand = []\n[functions.b]\ncommand = [\"make\"]\n[functions.c]\ncommand = [\"make\"]\nwasm = \"c\"\n[functions.d]\npath = \"hello\"\nwasm = \"d\"\n[functions.e]\ncommand = [\"make\"]\ntarget = \"wasm32-wasip1\"\n",
        &[
            "lunatic.toml:2:11: the command is empty; write `command = [\"make\", \"all\"]`",
            "lunatic.toml:4:11: the `output` of the command is missing; name the file, relative to the directory that the command runs in: `output = \"a.wasm\"`",
            "lunatic.toml:7:8: a function can have a `wasm` file or a `command`, but not both; remove one of the two",
            "lunatic.toml:9:8: a function with a `wasm` file is not built; remove this, or remove `wasm`",
            "lunatic.toml:13:10: `target` is for functions that cargo builds, but this one has a `command`; remove one of the two",
        ],
    );
    check(
        &format!("{HELLO}target = \"wasm32-wasi\"\n"),
        &["lunatic.toml:3:10: unknown value `wasm32-wasi`; did you mean `wasm32-wasip2`?"],
    );
}

#[test]
fn names_and_paths_are_checked() {
    check(
        &format!(
            "{HELLO}environment = \"smal\"\n[environments.small]\n[environments.small.files]\n\"/a\" = {{ path = \"nowhere\" }}\n[functions.b]\nwasm = \"b\"\nenvironment = \"small\"\n"
        ),
        &[
            "lunatic.toml:3:15: there is no environment `smal`; did you mean `small`?",
            "lunatic.toml:6:17: there is no directory `nowhere`; paths are relative to this file",
        ],
    );
    check(
        &format!(
            "{HELLO}[gateways.a]\ntype = \"http\"\nport = 1\nfunction = \"helo\"\n[gateways.b]\ntype = \"http\"\nport = 2\n[gateways.b.routes]\n\"/x\" = \"something\"\n\"/y\" = {{ files = \"nowhere\" }}\n\"z\" = \"hello\"\n"
        ),
        &[
            "lunatic.toml:6:12: there is no function `helo`; did you mean `hello`?",
            "lunatic.toml:11:8: there is no function `something`; expected `hello`",
            "lunatic.toml:12:18: there is no directory `nowhere`; paths are relative to this file",
            "lunatic.toml:13:1: `z` is not a route; a route must begin with `/`",
        ],
    );
}

#[test]
fn gateways_are_checked() {
    check(
        &format!(
            "{HELLO}[gateways.a]\ntype = \"udp\"\nport = 1\n[gateways.b]\ntype = \"http\"\nfunction = \"hello\"\n[gateways.c]\ntype = \"http\"\nport = 70000\n[gateways.d]\ntype = \"http\"\nport = 80\naddress = \"localhost\"\n"
        ),
        &[
            "lunatic.toml:4:8: unknown gateway type `udp`; expected `http` or `tcp`",
            "lunatic.toml:6:11: `port` is missing",
            "lunatic.toml:11:8: expected u16, found `70000`",
            "lunatic.toml:15:11: invalid IP address syntax",
        ],
    );
    check(
        &format!(
            "{HELLO}[gateways.a]\ntype = \"http\"\nport = 80\nfunction = \"hello\"\n[gateways.b]\ntype = \"tcp\"\nport = 80\naddress = \"0.0.0.0\"\nfunction = \"hello\"\nlimits = {{ fields = 1 }}\n[gateways.c]\ntype = \"http\"\nport = 0\nlimits = {{ life = 1 }}\n[gateways.d]\ntype = \"tcp\"\nport = 0\n"
        ),
        &[
            "lunatic.toml:9:8: port 80 is already used by the gateway `a`; choose another port; 0 stands for any free port",
            "lunatic.toml:12:21: `fields` is for gateways of type `http`; remove it",
            "lunatic.toml:13:11: the gateway does not lead to a function; set its `function`, or `routes` such as `\"/\" = \"hello\"`",
            "lunatic.toml:16:19: `life` is for gateways of type `tcp`; a request's time is limited by the `deadline` of its function's environment",
            "lunatic.toml:17:11: the gateway does not lead to a function; set the `function` that receives its connections",
        ],
    );
}

#[test]
fn a_missing_secret_is_reported_at_its_reference() {
    let toml = format!(
        "{HELLO}[functions.hello.environment.secrets]\nA = {{ env = \"LUNATIC_TEST_NOT_SET\" }}\nB = {{ file = \"nowhere\" }}\n"
    );
    let place = place(&[("lunatic.toml", &toml)]);
    let project =
        Project::read(&place.path().join("lunatic.toml")).unwrap_or_else(|error| panic!("{error}"));
    let error = project.functions()[0]
        .settings()
        .expect_err("the secrets are missing");
    let [variable, file] = error.problems() else {
        panic!("{error}")
    };
    assert_eq!(variable.place(), Some((4, 5)));
    assert!(
        variable.message().contains("`LUNATIC_TEST_NOT_SET`"),
        "{error}"
    );
    assert!(file.message().contains("nowhere"), "{error}");
}

#[test]
fn a_service_is_read_with_its_secrets() {
    let toml = format!(
        "{HELLO}[service]\ndeploy = \"0.0.0.0:9002\"\nstorage = {{ s3 = {{ bucket = \"b\", access_key_id = {{ file = \"id\" }} }} }}\n\
         token = {{ file = \"token\" }}\nenvironment = {{ memory = \"1MiB\" }}\n"
    );
    let files = [
        ("lunatic.toml", toml.as_str()),
        ("token", "a-token-that-is-long-enough\n"),
        ("id", "an id"),
    ];
    let place = place(&files);
    let project =
        Project::read(&place.path().join("lunatic.toml")).unwrap_or_else(|error| panic!("{error}"));
    let config = project
        .service()
        .unwrap_or_else(|error| panic!("{error}"))
        .expect("the file describes a service");
    assert_eq!(
        (
            config.deploy.port(),
            config.invoke.port(),
            config.defaults.memory
        ),
        (9002, 8000, 1 << 20)
    );
    assert!(config.token.is_some());
    let crate::StorageSettings::S3(options) = &config.storage else {
        panic!("{config:?}")
    };
    assert_eq!(
        options.get("access_key_id").map(String::as_str),
        Some("an id")
    );

    std::fs::write(place.path().join("token"), "short\n").expect("there is enough disk space");
    std::fs::remove_file(place.path().join("id")).expect("the file exists");
    let error = project
        .service()
        .expect_err("one secret is missing and the other is too short");
    let places: Vec<_> = error.problems().iter().map(Problem::place).collect();
    assert_eq!(places, [Some((5, 50)), Some((6, 9))], "{error}");
}

#[test]
fn functions_of_dependencies_carry_the_name_of_their_owner() {
    let foo = "[functions.foo]\nwasm = \"foo.wasm\"\n[gateways.ignored]\ntype = \"http\"\nport = 1\nfunction = \"foo\"\n";
    let toml = format!(
        "{HELLO}[dependencies]\nmaxmcd = {{ path = \"theirs\" }}\n[gateways.a]\ntype = \"http\"\nport = 0\nfunction = \"maxmcd/foo\"\n"
    );
    let project = read(&[("lunatic.toml", &toml), ("theirs/lunatic.toml", foo)])
        .unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = project
        .functions()
        .iter()
        .map(|function| function.name().as_str())
        .collect();
    assert_eq!(names, ["maxmcd/foo", "hello"]);
    let Recipe::Wasm(wasm) = project.functions()[0].recipe() else {
        panic!("{project:?}")
    };
    assert!(wasm.ends_with("theirs/foo.wasm"), "{wasm:?}");
    assert_eq!((project.gateways().len(), project.files().len()), (1, 2));

    let wrong = "[functions.foo]\nwasm = 1\n";
    check_files(
        &[
            ("lunatic.toml", &toml.replace("maxmcd/foo", "maxmcd/bar")),
            ("theirs/lunatic.toml", foo),
        ],
        &["lunatic.toml:8:12: there is no function `maxmcd/bar`; did you mean `maxmcd/foo`?"],
    );
    check_files(
        &[
            ("lunatic.toml", &toml.replace("maxmcd/foo", "hello")),
            ("theirs/lunatic.toml", wrong),
        ],
        &["theirs/lunatic.toml:2:8: expected path string, found `1`"],
    );
    check_files(
        &[("lunatic.toml", &toml.replace("maxmcd/foo", "hello"))],
        &[
            "lunatic.toml:4:19: there is no project in `theirs`; the directory of a dependency must contain `lunatic.toml` or `embly-project.yml`",
        ],
    );
}

#[test]
fn projects_that_depend_on_each_other_are_refused() {
    let depends = |on: &str| format!("{HELLO}[dependencies]\n{on} = {{ path = \"../{on}\" }}\n");
    let root = format!("{HELLO}[dependencies]\na = {{ path = \"a\" }}\n");
    check_files(
        &[
            ("lunatic.toml", &root),
            ("a/lunatic.toml", &depends("b")),
            ("a/hello/Cargo.toml", ""),
            ("b/lunatic.toml", &depends("a")),
            ("b/hello/Cargo.toml", ""),
        ],
        &[
            "a/../b/lunatic.toml:4:1: projects depend on each other in a cycle: a -> b -> a; remove one of these dependencies",
        ],
    );
    check_files(
        &[
            ("lunatic.toml", &format!("{root}b = {{ path = \"b\" }}\n")),
            (
                "a/lunatic.toml",
                &format!("{HELLO}[dependencies]\nb = {{ path = \"../other\" }}\n"),
            ),
            ("a/hello/Cargo.toml", ""),
            ("b/lunatic.toml", HELLO),
            ("b/hello/Cargo.toml", ""),
            ("other/lunatic.toml", HELLO),
            ("other/hello/Cargo.toml", ""),
        ],
        &[&format!(
            "lunatic.toml:5:1: another project is already called `b`: `{}`; give one of them another name",
            "other"
        )],
    );
}

#[test]
fn problems_in_emblys_file_have_positions_too() {
    check_files(
        &[(
            "embly-project.yml",
            &EMBLY
                .replace("function: listener", "function: listner")
                .replace("type: http", "type: udp"),
        )],
        &["embly-project.yml:7:11: unknown gateway type `udp`; expected `http` or `tcp`"],
    );
    check_files(
        &[(
            "embly-project.yml",
            &EMBLY
                .replace("function: listener", "function: listner")
                .replace("language", "lang"),
        )],
        &[
            "embly-project.yml:2:5: `language` is missing",
            "embly-project.yml:4:5: unknown field `lang`; expected one of `context`, `language`, `name` or `path`",
        ],
    );
    check_files(
        &[(
            "embly-project.yml",
            &EMBLY.replace("function: listener", "function: listner"),
        )],
        &["embly-project.yml:9:15: there is no function `listner`; did you mean `listener`?"],
    );
    check_files(
        &[("embly-project.yml", "gateways: []\n")],
        &[
            "embly-project.yml:1:1: the project has no functions; a function is an entry under `functions:` with `name`, `path` and `language`",
        ],
    );
    check_files(
        &[(
            "embly-project.yml",
            &format!(
                "{EMBLY}  - name: index\n    type: tcp\n    port: 8083\n    function: listener\n"
            ),
        )],
        &["embly-project.yml:10:11: there are two gateways named `index`; names must be unique"],
    );
}

#[test]
fn a_yaml_bomb_is_refused_immediately() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let deep = format!("functions: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    let wide = format!("functions: [{}]\n", "x, ".repeat(50_000));
    let large = format!("# {}\n", "x".repeat(2 << 20));
    for yaml in [laughs, deep, wide, large] {
        let error = read(&[("embly-project.yml", &yaml)]).expect_err("the file exceeds a limit");
        assert!(
            error.contains("this YAML cannot be read") || error.contains("it is larger than"),
            "{error}"
        );
        assert!(error.len() < 2000, "{error}");
    }
}

#[test]
fn the_nearest_file_above_is_found() {
    let place = place(&[
        ("lunatic.toml", HELLO),
        ("embly-project.yml", EMBLY),
        ("inner/embly-project.yml", EMBLY),
    ]);
    let found = |below: &str| {
        Project::find(&place.path().join(below))
            .map(|file| file.canonicalize().expect("the file exists"))
    };
    let root = place.path().canonicalize().expect("the file exists");
    assert_eq!(found("hello"), Some(root.join("lunatic.toml")));
    assert_eq!(found("inner"), Some(root.join("inner/embly-project.yml")));
}
