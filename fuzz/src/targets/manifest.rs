//! Manifests of stored functions. A manifest that was read, written and read again must be the
//! same.

pub(crate) fn run(bytes: &[u8]) {
    lunatic_serve::fuzzing::manifest(bytes);
}
