//! Tests environments: what processes in an environment may do, and which modules run in it.
//! The test creates `plugin.wasm` in the program's directory.

use crate::mailbox;
use lunatic::process::{self, Process};
use lunatic::{Config, Environment, LinkMailbox, Mailbox, Message, Param};

/// Returns an environment that grants everything, with the given limits on memory and compute.
fn environment(memory: u64, compute: Option<u64>) -> Environment {
    let mut config = Config::new(memory, compute);
    config.allow_namespace("");
    Environment::new(config).expect("the limits allow this")
}

/// Runs a function in an environment. Prints what the process sends, or that it died.
fn run(environment: &mut Environment, child: fn(Process<String>, Mailbox<()>)) {
    let module = environment.add_this_module().expect("the module is valid");
    let plain = mailbox::<String>();
    let parent = process::this(&plain);
    let (_, tag, mailbox) = module.spawn_link_with(plain, parent, child).expect("the limits allow another process");
    print(&mailbox, |died| died == tag);
}

fn print(mailbox: &LinkMailbox<String>, is_expected: impl FnOnce(lunatic::Tag) -> bool) {
    match mailbox.receive() {
        Message::Normal(text) => println!("{}", text.expect("the reply is text")),
        Message::Signal(tag) => println!("the child died: {}", is_expected(tag)),
    }
}

pub fn a_missing_namespace_ends_the_child() {
    let mut config = Config::new(3_000_000, None);
    config.allow_namespace("lunatic::");
    let mut environment = Environment::new(config).expect("the limits allow this");
    run(&mut environment, |parent, _| {
        println!("who may not print");
        parent.send("it printed".to_owned());
    });
    let mut config = Config::new(3_000_000, None);
    config.allow_namespace("lunatic::");
    config.allow_namespace("wasi_snapshot_preview1::fd_write");
    let mut environment = Environment::new(config).expect("the limits allow this");
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
    run(&mut environment, |parent, _| parent.send("finished quickly".to_owned()));
    run(&mut environment, |parent, _| {
        (0..u64::MAX).for_each(|number| assert_eq!(std::hint::black_box(number), number));
        parent.send("never".to_owned());
    });
}

pub fn an_environment_has_what_it_was_given() {
    // The environment has no arguments, variables or directories.
    run(&mut environment(3_000_000, None), |parent, _| {
        let files = std::fs::read_dir(".").is_err();
        parent.send(format!("{:?} {:?} {files}", std::env::args().count(), std::env::vars().count()));
    });
}

pub fn a_directory_is_granted() {
    std::fs::write("file", "content").expect("the current directory is granted");
    let mut config = Config::new(3_000_000, None);
    config.allow_namespace("");
    config.preopen_dir(".").expect("this process has the directory");
    let refused = config.preopen_dir("/etc");
    println!("{}", refused.is_err_and(|error| !error.to_string().is_empty()));
    let mut environment = Environment::new(config).expect("the limits allow this");
    run(&mut environment, |parent, _| {
        parent.send(std::fs::read_to_string("file").unwrap_or_else(|_| "none".to_owned()))
    });
}

/// The plugin's functions do not print or send anything. One of them fails.
pub fn an_export_runs_with_its_parameters() {
    let bytes = std::fs::read("plugin.wasm").expect("the test has created the file");
    let module = environment(3_000_000, None).add_module(&bytes).expect("the module is valid");
    let parameters = [Param::I32(-1), Param::I64(i64::MIN), Param::V128(u128::MAX - 1)];
    module.spawn::<()>("check", &parameters).expect("the module has this export");
    let (_, mailbox) =
        module.spawn_link::<(), (), _>(mailbox::<()>(), "check", &parameters).expect("the module has this export");
    // The process above does not cause a signal. The next process must fail, and only its signal
    // arrives.
    let wrong = [Param::I32(0), Param::I64(0), Param::V128(0)];
    let (_, mailbox) = module.spawn_link::<(), (), _>(mailbox, "check", &wrong).expect("the module has this export");
    println!("{}", mailbox.receive().is_signal());
    let again = mailbox.receive_timeout(std::time::Duration::from_millis(1));
    println!("{}", again.is_signal());
}

pub fn an_invalid_module_is_an_error() {
    let mut environment = environment(3_000_000, None);
    for bytes in [&b""[..], b"not a module", b"\0asm\x01\0\0\0\xff"] {
        println!("{}", environment.add_module(bytes).is_err_and(|error| !error.to_string().is_empty()));
    }
}

pub fn a_missing_export_is_an_error() {
    let bytes = std::fs::read("plugin.wasm").expect("the test has created the file");
    let module = environment(3_000_000, None).add_module(&bytes).expect("the module is valid");
    let error = module.spawn::<()>("missing", &[]).err().map(|error| error.to_string());
    println!("{}", error.is_some_and(|text| text.contains("missing")));
}

pub fn the_environment_of_this_process_has_this_module() {
    run(&mut process::this_env(), |parent, _| parent.send(format!("{:?}", std::env::var("PUBLISHED_CLAIM"))));
}
