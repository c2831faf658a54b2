//! Tests tasks, which are children that return a result.

use crate::PATIENCE;
use lunatic::spawn_link;
use std::time::Duration;

pub fn a_task_has_a_result() {
    println!("{}", spawn_link!(@task || 33).result());
    println!("{}", spawn_link!(@task |a = 2, b = { 3 }| a + b).result());
    let (greeting, name) = ("hello".to_owned(), "world".to_owned());
    println!("{}", spawn_link!(@task |greeting, name| format!("{greeting} {name}")).result());
    let refused = spawn_link!(@task || {
        Err("no")?;
        Ok(1)
    });
    println!("{:?}", refused.result() as Result<i32, String>);
}

pub fn a_parent_dies_with_a_task_that_fails() {
    let task = spawn_link!(@task |fails = true| {
        assert!(!fails, "the task fails");
        1
    });
    println!("{}", task.result());
}

pub fn a_task_can_time_out() {
    let slow = spawn_link!(@task || lunatic::sleep(PATIENCE));
    println!("{}", slow.result_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_timed_out()));
    let quick = spawn_link!(@task || 5);
    println!("{:?}", quick.result_timeout(PATIENCE).ok());
}

pub fn tasks_can_be_nested() {
    println!("{}", sum(200));
}

fn sum(number: u32) -> u32 {
    if number == 0 {
        return 0;
    }
    number + spawn_link!(@task |rest = { number - 1 }| sum(rest)).result()
}
