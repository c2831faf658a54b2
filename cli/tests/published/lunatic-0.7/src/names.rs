//! Tests process names, which have versions.

use crate::mailbox;
use lunatic::process;
use lunatic::{lookup, Config, Environment, Mailbox};

/// Looks up a process and returns the number it answers with.
fn ask(query: &str) -> String {
    match lookup::<u32>("counter", query) {
        Err(error) => error.to_string(),
        Ok(None) => "nobody".to_owned(),
        Ok(Some(found)) => {
            found.send(0);
            mailbox::<u32>().receive().expect("a number arrives").to_string()
        }
    }
}

fn counter((parent, number): (process::Process<u32>, u32), mailbox: Mailbox<u32>) {
    loop {
        mailbox.receive().expect("a number arrives");
        parent.send(number);
    }
}

/// Registers counters that answer with their positions in the list.
fn register(versions: &[&str]) {
    let plain = mailbox::<u32>();
    for (number, version) in versions.iter().enumerate() {
        let child = process::spawn_with((process::this(&plain), number as u32), counter).expect("this process may spawn");
        process::this_env().register("counter", version, child).expect("the version is valid");
    }
}

pub fn the_newest_matching_version_is_found() {
    register(&["1.0.0", "1.2.0", "2.0.0"]);
    for query in ["^1", "=1.0.0", ">=1", "^3", "no query"] {
        println!("{query}: {}", ask(query));
    }
    println!("{}", lookup::<u32>("nobody", "^1").expect("the query is valid").is_none());
}

pub fn a_name_can_be_released() {
    register(&["1.0.0", "1.1.0"]);
    println!("{}", ask("^1"));
    process::this_env().unregister::<u32>("counter", "1.1.0").expect("the version is registered");
    println!("{}", ask("^1"));
    println!("{:?}", process::this_env().unregister::<u32>("counter", "1.1.0").err());
    // A second registration of the same version replaces the first.
    register(&["1.5.0", "1.5.0"]);
    println!("{}", ask("^1"));
}

pub fn an_invalid_version_is_an_error() {
    let plain = mailbox::<u32>();
    let error = process::this_env().register("counter", "no version", process::this(&plain)).err();
    println!("{error:?}");
    register(&["1.0.0"]);
    println!("{:?}", process::this_env().unregister::<u32>("counter", "no version").err());
}

pub fn every_environment_has_its_own_names() {
    let mut config = Config::new(3_000_000, None);
    config.allow_namespace("");
    let environment = Environment::new(config).expect("the limits allow this");
    let plain = mailbox::<u32>();
    environment.register("counter", "1.0.0", process::this(&plain)).expect("the version is valid");
    println!("{}", ask("^1"));
    let mut environment = environment;
    let module = environment.add_this_module().expect("the module is valid");
    module
        .spawn(|_: Mailbox<()>| lookup::<u32>("counter", "^1").expect("the query is valid").expect("the name is registered").send(7))
        .expect("the limits allow another process");
    println!("{}", plain.receive().expect("a number arrives"));
}
