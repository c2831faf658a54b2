//! Says how the library is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A node that purges the module lets go of the library, whose threads and signal handlers are still there then.
    // Elsewhere than with ELF, a library with variables of its own for each thread stays loaded anyway.
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        if std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple") {
            // What a node provides is found when the node loads the library.
            println!("cargo:rustc-cdylib-link-arg=-undefined");
            println!("cargo:rustc-cdylib-link-arg=dynamic_lookup");
        } else {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
    }
}
