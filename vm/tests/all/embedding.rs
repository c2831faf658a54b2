//! What an embedder can do, done: the example is a test too. It asserts what it prints.

#[path = "../../examples/embedding.rs"]
mod example;

#[test]
fn the_example_does_what_it_says() {
    example::main().expect("the example runs to its end");
}
