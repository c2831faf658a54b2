//! A server keeps a state, and clients call it by functions.
//!
//! Look at `main`: it calls what stands in the server's `impl` block, though the server is another process. A `#[call]`
//! waits for its answer, which may come much later and is then somebody else's cause (`wait_for`); a `#[cast]` does not
//! wait, and can be put off, which is how the server wakes itself. When it ends, it ends well.

use lunatic::server::{Handle, Reply};
use lunatic::{Mailbox, Server, Task};
use std::collections::BTreeMap;
use std::time::Duration;

/// Keeps texts under names, some of them for a time.
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

    /// Keeps a text; returns the one that was there.
    #[call]
    fn set(&mut self, name: String, text: String) -> Option<String> {
        for (_, reply) in self.waiting.extract_if(.., |(wanted, _)| *wanted == name) {
            reply.send(text.clone());
        }
        self.texts.insert(name, text)
    }

    /// Keeps a text for so long.
    #[call]
    fn set_for(&mut self, name: String, text: String, time: Duration) {
        self.set(name.clone(), text);
        Handle::<Self>::this()
            .forget_after(time, name)
            .expect("there is room for a timer");
    }

    #[call]
    fn get(&self, name: String) -> Option<String> {
        self.texts.get(&name).cloned()
    }

    /// Waits until there is a text under a name.
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
    let refused = Store::start(vec![String::new()]).expect_err("it says why it does not start");
    println!("no store: {refused}");

    let store = Store::start(vec!["apples".to_string()]).expect("there is room for a server");
    let set = |name: &str, text: &str| {
        store
            .set(name.to_string(), text.to_string())
            .expect("the store is alive")
    };
    println!("apples were {:?}", set("apples", "red"));

    // A handle goes wherever a message goes.
    let pears = Task::spawn(store, |store| {
        store
            .wait_for("pears".to_string())
            .expect("the store is alive")
    });
    let pears = pears.expect("there is room for a task");
    set("pears", "green");
    println!(
        "pears are {}",
        pears.result().expect("the task gets its answer")
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
            .expect_err("nobody is there")
    );
}
