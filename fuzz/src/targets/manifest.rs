//! Manifests of stored functions. A manifest that is read, written and read back must stay the
//! same.

pub(crate) fn run(bytes: &[u8]) {
    lunatic_serve::fuzzing::manifest(bytes);
}
