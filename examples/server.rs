//! A server with state, and clients that call its functions.
//!
//! Note how `main` calls the functions in the server's `impl` block, even though the server is a
//! different process. A `#[call]` waits for its answer, which may be sent much later, during
//! another call (`wait_for`). A `#[cast]` does not wait and can be delayed; the server uses this to
//! wake itself up. At the end, the server is stopped and exits normally.

use lunatic::server::{Handle, Reply};
use lunatic::{Mailbox, Server, Task};
use std::collections::BTreeMap;
use std::time::Duration;

/// Stores strings under names, some of them for a limited time.
struct Store {
    texts: BTreeMap<String, String>,
    waiting: Vec<(String, Reply<String>)>,
}

#[lunatic::server]
impl Store {
    #[init]
    fn init(names: Vec<String>) -> Result<Self, String> {
        match names.iter().find(|name| name.is_empty()) {
            Some(_) => Err("a name is empty".to_string()),
            None => Ok(Self {
                texts: names
                    .into_iter()
                    .map(|name| (name, String::new()))
                    .collect(),
                waiting: vec![],
            }),
        }
    }

    /// Stores a string under a name, and returns the previous string.
    #[call]
    fn set(&mut self, name: String, text: String) -> Option<String> {
        for (_, reply) in self.waiting.extract_if(.., |(wanted, _)| *wanted == name) {
            reply.send(text.clone());
        }
        self.texts.insert(name, text)
    }

    /// Stores a string for a limited time.
    #[call]
    fn set_for(&mut self, name: String, text: String, time: Duration) {
        self.set(name.clone(), text);
        Handle::<Self>::this()
            .forget_after(time, name)
            .expect("the timer can be set");
    }

    #[call]
    fn get(&self, name: String) -> Option<String> {
        self.texts.get(&name).cloned()
    }

    /// Waits until a string is stored under a name, and returns it.
    #[call]
    fn wait_for(&mut self, name: String, reply: Reply<String>) {
        match self.texts.get(&name) {
            Some(text) => reply.send(text.clone()),
            None => self.waiting.push((name, reply)),
        }
    }

    #[cast]
    fn forget(&mut self, name: String) {
        self.texts.remove(&name);
    }

    #[terminate]
    fn terminate(self) {
        println!(
            "the store ends with {:?}",
            self.texts.keys().collect::<Vec<_>>()
        );
    }
}

#[lunatic::main]
fn main(_: Mailbox<()>) {
    let refused = Store::start(vec![String::new()]).expect_err("a name is empty");
    println!("no store: {refused}");

    let store = Store::start(vec!["apples".to_string()]).expect("the server can be started");
    let set = |name: &str, text: &str| {
        store
            .set(name.to_string(), text.to_string())
            .expect("the store is alive")
    };
    println!("apples were {:?}", set("apples", "red"));

    // A handle can be sent like any other value.
    let pears = Task::spawn(store, |store| {
        store
            .wait_for("pears".to_string())
            .expect("the store is alive")
    });
    let pears = pears.expect("the task can be spawned");
    set("pears", "green");
    println!(
        "pears are {}",
        pears.result().expect("the task does not fail")
    );

    store
        .set_for(
            "milk".to_string(),
            "fresh".to_string(),
            Duration::from_millis(10),
        )
        .expect("the store is alive");
    while store
        .get("milk".to_string())
        .expect("the store is alive")
        .is_some()
    {}
    println!("milk is forgotten");

    println!("the store {}", store.stop());
    println!(
        "apples: {}",
        store
            .get("apples".to_string())
            .expect_err("the store was stopped")
    );
}
