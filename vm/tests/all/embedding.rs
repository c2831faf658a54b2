//! What an embedder can do: the example is a test too, since it asserts what it prints.

#[path = "../../examples/embedding.rs"]
mod example;

#[test]
fn the_example_does_what_it_says() {
    example::main().expect("the example checks its own results");
}
