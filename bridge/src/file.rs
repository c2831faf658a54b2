//! Reads modules from files.

use crate::LoadError;
use lunatic_watch::open_regular;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The maximum size of a module, in bytes. wasmtime has the same limit.
const MAX_MODULE: u64 = 1 << 30;

/// Reads a module from a file, a pipe or anything else that can be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    load(path, File::open(path), MAX_MODULE)
}

/// Reads a module from a regular file, the only kind of file that can be read repeatedly and
/// without ever waiting for a writer.
pub(crate) fn read_regular(path: &Path) -> Result<Vec<u8>, LoadError> {
    load(path, open_regular(path), MAX_MODULE)
}

fn load(path: &Path, file: io::Result<File>, most: u64) -> Result<Vec<u8>, LoadError> {
    file.and_then(|file| within(file, most))
        .map_err(|error| LoadError::File {
            path: path.to_path_buf(),
            error,
        })
}

fn within(file: File, most: u64) -> io::Result<Vec<u8>> {
    let too_large = || {
        let text = format!("it is larger than the maximum module size, {most} bytes");
        io::Error::new(ErrorKind::FileTooLarge, text)
    };
    let announced = file.metadata()?.len();
    if announced > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced as usize);
    // The length is checked again because the file may have grown in the meantime, and a pipe has
    // no length.
    match file.take(most + 1).read_to_end(&mut bytes)? as u64 {
        read if read > most => Err(too_large()),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_for_a_module_is_not_read() {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let path = directory.path().join("module.wasm");
        std::fs::write(&path, [7; 100]).expect("the file can be written");
        let within = |most| within(File::open(&path).expect("the file exists"), most);
        assert_eq!(
            within(100).expect("the file does not exceed the limit"),
            [7; 100]
        );
        let error = within(99).expect_err("the file exceeds the limit");
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        // A sparse file takes up no disk space, but reading it would take a long time.
        File::create(&path)
            .and_then(|file| file.set_len(1 << 40))
            .expect("sparse files are supported");
        let error = read(&path).expect_err("no module may be that large");
        assert!(
            error.to_string().contains("the maximum module size"),
            "{error}"
        );
    }
}
