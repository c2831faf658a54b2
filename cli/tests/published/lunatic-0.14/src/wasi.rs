//! Tests what the standard library finds in a process: arguments, variables, files and
//! clocks.

use std::time::{Instant, SystemTime};

pub fn arguments_are_those_of_the_command() {
    let arguments: Vec<String> = std::env::args().collect();
    println!("{:?}", &arguments[1..]);
}

pub fn variables_are_those_of_the_command() {
    println!("{:?}", std::env::var("PUBLISHED_CLAIM"));
}

pub fn a_file_is_written_and_read() {
    std::fs::write("file", "content").expect("the current directory is granted");
    println!("{}", std::fs::read_to_string("file").expect("the file was just written"));
    println!("{}", std::fs::read_to_string("../file").is_err());
}

pub fn a_directory_is_listed() {
    std::fs::create_dir("directory").expect("the current directory is granted");
    std::fs::write("directory/a", "").expect("the directory was just created");
    let entries = std::fs::read_dir("directory").expect("the directory was just created");
    println!("{:?}", entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>());
}

pub fn clocks_and_random_numbers_are_available() {
    let start = Instant::now();
    println!("{}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).is_ok());
    println!("{}", Instant::now() >= start);
    // The hasher's keys are random numbers from the system.
    let one = std::collections::hash_map::RandomState::new();
    println!("{}", std::hash::BuildHasher::hash_one(&one, 1) == std::hash::BuildHasher::hash_one(&one, 1));
}
