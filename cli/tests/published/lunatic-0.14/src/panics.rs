//! Tests panics that are caught even though the stack is not unwound.

use lunatic::panic::catch_panic;
use lunatic::spawn_link;
use std::time::Duration;

pub fn a_panic_is_caught() {
    println!("{:?}", catch_panic(|| -> u32 { panic!("it fails") }));
    println!("{:?}", catch_panic(|| assert_eq!(std::hint::black_box(1), 2)));
    println!("{:?}", catch_panic(|| 3));
}

pub fn a_capture_survives_if_nothing_panics() {
    let greeting = "hello".to_owned();
    println!("{:?}", catch_panic(move || greeting));
}

pub fn a_function_may_wait_before_its_panic_is_caught() {
    let caught = catch_panic(|| {
        let sum = spawn_link!(@task || 1 + 2).result();
        lunatic::sleep(Duration::from_millis(1));
        println!("{sum}");
        panic!("after waiting");
    });
    println!("{:?}", caught as Result<(), _>);
    println!("{}", spawn_link!(@task || 3 + 4).result());
}

#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    std::hint::black_box(deeper(std::hint::black_box(depth) + 1)) + 1
}

pub fn a_stack_overflow_is_caught() {
    println!("{:?}", catch_panic(|| deeper(0)));
    println!("still here");
}
