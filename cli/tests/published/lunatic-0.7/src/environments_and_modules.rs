//! Environments: what processes in them may do, and modules that run there. The test lays `plugin.wasm` beside the
//! program.

use crate::mailbox;
use lunatic::process::{self, Process};
use lunatic::{Config, Environment, LinkMailbox, Mailbox, Message, Param};

/// Returns an environment with everything, and so much memory and compute.
fn environment(memory: u64, compute: Option<u64>) -> Environment {
    let mut config = Config::new(memory, compute);
    config.allow_namespace("");
    Environment::new(config).expect("there is room")
}

/// Runs a function in an environment, and prints what it sends, or that it died.
fn run(environment: &mut Environment, child: fn(Process<String>, Mailbox<()>)) {
    let module = environment.add_this_module().expect("it is a module");
    let plain = mailbox::<String>();
    let parent = process::this(&plain);
    let (_, tag, mailbox) = module.spawn_link_with(plain, parent, child).expect("it has room");
    print(&mailbox, |died| died == tag);
}

fn print(mailbox: &LinkMailbox<String>, is_expected: impl FnOnce(lunatic::Tag) -> bool) {
    match mailbox.receive() {
        Message::Normal(text) => println!("{}", text.expect("it is text")),
        Message::Signal(tag) => println!("the child died: {}", is_expected(tag)),
    }
}

pub fn a_missing_namespace_ends_the_child() {
    let mut config = Config::new(3_000_000, None);
    config.allow_namespace("lunatic::");
    let mut environment = Environment::new(config).expect("there is room");
    run(&mut environment, |parent, _| {
        println!("who may not print");
        parent.send("it printed".to_owned());
    });
    let mut config = Config::new(3_000_000, None);
    config.allow_namespace("lunatic::");
    config.allow_namespace("wasi_snapshot_preview1::fd_write");
    let mut environment = Environment::new(config).expect("there is room");
    run(&mut environment, |parent, _| {
        println!("who may print");
        parent.send("it printed".to_owned());
    });
}

pub fn memory_is_limited() {
    let mut environment = environment(3_000_000, None);
    run(&mut environment, |parent, _| parent.send(format!("{}", std::hint::black_box(vec![1u8; 100_000]).len())));
    run(&mut environment, |parent, _| parent.send(format!("{}", std::hint::black_box(vec![1u8; 3_000_000]).len())));
}

pub fn compute_is_limited() {
    let mut environment = environment(3_000_000, Some(5));
    run(&mut environment, |parent, _| parent.send("soon over".to_owned()));
    run(&mut environment, |parent, _| {
        (0..u64::MAX).for_each(|number| assert_eq!(std::hint::black_box(number), number));
        parent.send("never".to_owned());
    });
}

pub fn an_environment_has_what_it_was_given() {
    // No arguments, no variables, no directories.
    run(&mut environment(3_000_000, None), |parent, _| {
        let files = std::fs::read_dir(".").is_err();
        parent.send(format!("{:?} {:?} {files}", std::env::args().count(), std::env::vars().count()));
    });
}

pub fn a_directory_is_granted() {
    std::fs::write("file", "content").expect("the current directory is granted");
    let mut config = Config::new(3_000_000, None);
    config.allow_namespace("");
    config.preopen_dir(".").expect("this process has it");
    let refused = config.preopen_dir("/etc");
    println!("{}", refused.is_err_and(|error| !error.to_string().is_empty()));
    let mut environment = Environment::new(config).expect("there is room");
    run(&mut environment, |parent, _| {
        parent.send(std::fs::read_to_string("file").unwrap_or_else(|_| "none".to_owned()))
    });
}

/// The functions of the plugin print nothing and send nothing; but one of them fails.
pub fn an_export_runs_with_its_parameters() {
    let bytes = std::fs::read("plugin.wasm").expect("the test laid it there");
    let module = environment(3_000_000, None).add_module(&bytes).expect("it is a module");
    let parameters = [Param::I32(-1), Param::I64(i64::MIN), Param::V128(u128::MAX - 1)];
    module.spawn::<()>("check", &parameters).expect("it has the export");
    let (_, mailbox) =
        module.spawn_link::<(), (), _>(mailbox::<()>(), "check", &parameters).expect("it has the export");
    // Nothing comes of it; the next one fails for sure, and is not taken for it, as it is of another child.
    let wrong = [Param::I32(0), Param::I64(0), Param::V128(0)];
    let (_, mailbox) = module.spawn_link::<(), (), _>(mailbox, "check", &wrong).expect("it has the export");
    println!("{}", mailbox.receive().is_signal());
    let again = mailbox.receive_timeout(std::time::Duration::from_millis(1));
    println!("{}", again.is_signal());
}

pub fn an_invalid_module_is_an_error() {
    let mut environment = environment(3_000_000, None);
    for bytes in [&b""[..], b"no module", b"\0asm\x01\0\0\0\xff"] {
        println!("{}", environment.add_module(bytes).is_err_and(|error| !error.to_string().is_empty()));
    }
}

pub fn a_missing_export_is_an_error() {
    let bytes = std::fs::read("plugin.wasm").expect("the test laid it there");
    let module = environment(3_000_000, None).add_module(&bytes).expect("it is a module");
    let error = module.spawn::<()>("missing", &[]).err().map(|error| error.to_string());
    println!("{}", error.is_some_and(|text| text.contains("missing")));
}

pub fn the_environment_of_this_process_has_this_module() {
    run(&mut process::this_env(), |parent, _| parent.send(format!("{:?}", std::env::var("PUBLISHED_CLAIM"))));
}
