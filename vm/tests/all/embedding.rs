//! Runs the embedding example as a test. The example asserts everything that it prints.

#[path = "../../examples/embedding.rs"]
mod example;

#[test]
fn the_embedding_example_passes_its_own_checks() {
    example::main().expect("the example succeeds");
}
