//! A server receives requests, and each client waits for the reply to its own request.
//!
//! Note that `main` has no mailbox for replies: `request` waits for the reply to this request and
//! leaves all other messages in place. It also returns if there won't be a reply, because the
//! timeout expired or the server died.

use lunatic::{Mailbox, Request, RequestError, process};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Serialize, Deserialize)]
enum Question {
    Set(String, u32),
    Get(String),
    /// A question that is never answered.
    Meaning,
    /// A question that kills the server.
    Crash,
}

type Store = Mailbox<Request<Question, Option<u32>>>;

#[lunatic::main]
fn main(_: Mailbox<()>) {
    let store = process::spawn(serve).expect("a second process can be spawned");
    let get = |name: &str| store.request(Question::Get(name.to_owned()));

    store
        .request(Question::Set("apples".to_owned(), 3))
        .expect("the store is alive");
    println!("apples: {:?}", get("apples").expect("the store is alive"));
    println!("pears: {:?}", get("pears").expect("the store is alive"));

    let answer = store.request_timeout(Question::Meaning, Duration::from_millis(10));
    println!("meaning: {}", failure(answer));
    // A late reply is not mistaken for the reply to this request.
    println!("apples: {:?}", get("apples").expect("the store is alive"));

    println!("crash: {}", failure(store.request(Question::Crash)));
    println!("apples: {}", failure(get("apples")));
}

fn failure(answer: Result<Option<u32>, RequestError>) -> String {
    match answer {
        Ok(answer) => format!("an unexpected answer: {answer:?}"),
        Err(error) => error.to_string(),
    }
}

fn serve(mailbox: Store) {
    let mut values = BTreeMap::new();
    let mut unanswered = Vec::new();
    while let Ok(request) = mailbox.receive() {
        match request.data() {
            Question::Set(name, value) => {
                let before = values.insert(name.clone(), *value);
                request.reply(before);
            }
            Question::Get(name) => {
                let value = values.get(name).copied();
                request.reply(value);
            }
            Question::Meaning => unanswered.push(request),
            // A panic would also print a message.
            Question::Crash => std::process::exit(3),
        }
    }
}
