//! Manifests of stored functions: what is read is written as something that reads the same.

pub(crate) fn run(bytes: &[u8]) {
    lunatic_serve::fuzzing::manifest(bytes);
}
