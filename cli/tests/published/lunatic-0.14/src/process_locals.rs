//! Tests process-local values, the counterpart of thread-local values.

use lunatic::{process_local, spawn_link};
use std::cell::{Cell, RefCell};

process_local! {
    static COUNT: Cell<u32> = Cell::new(1);
    static WORDS: RefCell<Vec<String>> = RefCell::new(vec!["first".to_owned()]);
}

pub fn every_process_has_its_own() {
    println!("{}", COUNT.replace(2));
    WORDS.with_borrow_mut(|mut words| words.push("second".to_owned()));
    let child = spawn_link!(@task || (COUNT.get(), WORDS.take()));
    println!("{:?}", child.result());
    println!("{} {:?}", COUNT.get(), WORDS.take());
}
