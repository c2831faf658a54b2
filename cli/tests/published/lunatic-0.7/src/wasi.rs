//! Tests what the standard library finds in a process.

pub fn arguments_are_those_of_the_command() {
    let arguments: Vec<String> = std::env::args().collect();
    println!("{:?}", &arguments[arguments.len() - 3..]);
}

pub fn variables_are_those_of_the_command() {
    println!("{:?}", std::env::var("PUBLISHED_CLAIM"));
}

pub fn a_file_is_written_and_read() {
    std::fs::write("file", "content").expect("the current directory is granted");
    println!("{}", std::fs::read_to_string("file").expect("the file was just written"));
}
