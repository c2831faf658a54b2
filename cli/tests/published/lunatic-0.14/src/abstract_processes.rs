//! Tests abstract processes: their state, and the handlers for messages and requests.

use crate::{mailbox, PATIENCE};
use lunatic::ap::handlers::{DeferredRequest, Message, Request};
use lunatic::ap::{
    AbstractProcess, Config, DeferredRequestHandler, DeferredResponse, MessageHandler, ProcessRef, RequestHandler,
    StartupError, State,
};
use lunatic::serializer::{Bincode, Json};
use lunatic::{abstract_process, spawn_link, Mailbox, Process, ProcessConfig, Tag};
use std::time::Duration;

/// An abstract process that stores words and returns them on request.
struct Words(Vec<String>);

#[derive(serde::Serialize, serde::Deserialize)]
struct Add(String);

#[derive(serde::Serialize, serde::Deserialize)]
struct All;

/// A request that is answered with the first word, as soon as there is one.
#[derive(serde::Serialize, serde::Deserialize)]
struct First;

/// A request that is never answered.
#[derive(serde::Serialize, serde::Deserialize)]
struct Never;

impl AbstractProcess for Words {
    type Arg = Vec<String>;
    type State = Words;
    type Serializer = Json;
    type Handlers = (Message<Add>, Request<All>, DeferredRequest<First>, DeferredRequest<Never>);
    type StartupError = ();

    fn init(_: Config<Self>, words: Vec<String>) -> Result<Words, ()> {
        Ok(Words(words))
    }
}

impl MessageHandler<Add> for Words {
    fn handle(mut state: State<Self>, add: Add) {
        state.0.push(add.0);
    }
}

impl RequestHandler<All> for Words {
    type Response = Vec<String>;

    fn handle(state: State<Self>, _: All) -> Vec<String> {
        state.0.clone()
    }
}

impl DeferredRequestHandler<First> for Words {
    type Response = String;

    fn handle(state: State<Self>, _: First, answer: DeferredResponse<String, Self>) {
        let word = state.0[0].clone();
        spawn_link!(|word, answer| answer.send_response(word));
    }
}

impl DeferredRequestHandler<Never> for Words {
    type Response = ();

    fn handle(_: State<Self>, _: Never, _: DeferredResponse<(), Self>) {}
}

fn words() -> ProcessRef<Words> {
    Words::link().start(vec!["one".to_owned()]).expect("the process starts")
}

pub fn messages_and_requests_are_handled_in_order() {
    let words = words();
    words.send(Add("two".to_owned()));
    println!("{:?}", words.request(All));
    words.send(Add("three".to_owned()));
    println!("{:?}", words.request(All));
}

pub fn a_deferred_request_can_be_answered_by_another_process() {
    println!("{}", words().deferred_request(First));
}

pub fn a_request_can_time_out() {
    let words = words();
    println!("{:?}", words.with_timeout(Duration::from_millis(1)).deferred_request(Never));
    println!("{:?}", words.with_timeout(PATIENCE).request(All));
}

pub fn a_message_can_be_sent_after_a_delay() {
    let words = words();
    words.with_delay(PATIENCE).send(Add("never".to_owned()));
    words.with_delay(Duration::from_millis(1)).send(Add("later".to_owned()));
    while words.request(All).len() < 2 {
        lunatic::sleep(Duration::from_millis(1));
    }
    println!("{:?}", words.request(All));
}

/// An abstract process whose start fails or panics, depending on its argument.
#[derive(Debug)]
struct Starting;

impl AbstractProcess for Starting {
    type Arg = bool;
    type State = ();
    type Serializer = Bincode;
    type Handlers = ();
    type StartupError = String;

    fn init(_: Config<Self>, panics: bool) -> Result<(), String> {
        assert!(!panics, "the start fails");
        Err("not today".to_owned())
    }
}

pub fn a_process_that_does_not_start_reports_why() {
    println!("{}", Starting::start(false) == Err(StartupError::Custom("not today".to_owned())));
    println!("{}", Starting::start(true) == Err(StartupError::InitPanicked));
}

struct Counter {
    count: u32,
    observer: Process<String>,
}

#[abstract_process]
impl Counter {
    #[init]
    fn init(_: Config<Self>, observer: Process<String>) -> Result<Self, ()> {
        Ok(Self { count: 0, observer })
    }

    #[terminate]
    fn terminate(self) {
        self.observer.send(format!("terminated at {}", self.count));
    }

    #[handle_message]
    fn add(&mut self, first: u32, second: u32) {
        self.count += first + second;
    }

    #[handle_request]
    fn count(&self) -> u32 {
        self.count
    }
}

pub fn a_shutdown_calls_terminate() {
    let mailbox = mailbox::<String>();
    let counter = Counter::link().start(mailbox.this()).expect("the process starts");
    counter.add(1, 2);
    counter.shutdown();
    println!("{}", mailbox.receive());
}

pub fn the_macro_generates_the_handlers() {
    let mailbox = mailbox::<String>();
    let counter = Counter::link().start(mailbox.this()).expect("the process starts");
    counter.add(1, 2);
    counter.add(3, 4);
    println!("{}", counter.count());
    println!("{:?}", counter.with_timeout(PATIENCE).count());
}

struct Watching {
    told: Option<bool>,
    tag: Tag,
}

#[abstract_process]
impl Watching {
    #[init]
    fn init(config: Config<Self>, _: ()) -> Result<Self, ()> {
        config.die_if_link_dies(false);
        let tag = Tag::new();
        Process::spawn_link_tag((), tag, |_, _: Mailbox<()>| panic!("the child fails"));
        Ok(Self { told: None, tag })
    }

    #[handle_link_death]
    fn link_died(&mut self, tag: Tag) {
        self.told = Some(tag == self.tag);
    }

    #[handle_request]
    fn told(&self) -> Option<bool> {
        self.told
    }
}

pub fn a_link_death_is_handled() {
    let watching = Watching::start(()).expect("the process starts");
    let told = loop {
        match watching.told() {
            Some(told) => break told,
            None => lunatic::sleep(Duration::from_millis(1)),
        }
    };
    println!("{told}");
}

pub fn a_name_can_be_registered_only_once() {
    let words = Words::start_as(&"words", vec![]).expect("the name is free");
    println!("{}", ProcessRef::<Words>::lookup(&"words") == Some(words));
    println!("{}", Words::start_as(&"words", vec![]) == Err(StartupError::NameAlreadyRegistered(words)));
    // With a different type, the same name is a different name.
    let observer = mailbox::<String>().this();
    println!("{}", Counter::start_as(&"words", observer).is_ok());
}

struct Variable;

#[abstract_process]
impl Variable {
    #[init]
    fn init(_: Config<Self>, _: ()) -> Result<Self, ()> {
        Ok(Self)
    }

    #[handle_request]
    fn get(&self, name: String) -> Option<String> {
        std::env::var(name).ok()
    }
}

pub fn an_abstract_process_has_a_config() {
    let mut config = ProcessConfig::new().expect("the main process may create configurations");
    config.add_environment_variable("COLOUR", "blue");
    let variable = Variable::configure(&config).start(()).expect("the process starts");
    println!("{:?} {:?}", variable.get("COLOUR".to_owned()), variable.get("PATH".to_owned()));
}
