//! Sets linker flags for the library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // If a node purged the module, it would unload the library while the library's threads and
    // signal handlers are still running. On systems without ELF, a library with thread-local
    // variables stays loaded anyway.
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        if std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple") {
            // The node's symbols are resolved when it loads the library.
            println!("cargo:rustc-cdylib-link-arg=-undefined");
            println!("cargo:rustc-cdylib-link-arg=dynamic_lookup");
        } else {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
    }
}
