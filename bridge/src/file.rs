//! Reads modules from files.

use crate::LoadError;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The maximum size of a module, in bytes. This is also wasmtime's limit.
const MAX_MODULE: u64 = 1 << 30;

/// Reads a module from a file, a pipe or any other readable source.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    within(path, MAX_MODULE).map_err(|error| LoadError::File {
        path: path.to_path_buf(),
        error,
    })
}

/// Reads a module from a regular file. Unlike other sources, a regular file can be read repeatedly,
/// and reading it never waits for a writer.
pub(crate) fn read_regular(path: &Path) -> Result<Vec<u8>, LoadError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let error = io::Error::new(
                ErrorKind::InvalidInput,
                "it is not a regular file, and only those can be watched",
            );
            Err(LoadError::File {
                path: path.to_path_buf(),
                error,
            })
        }
        _ => read(path),
    }
}

fn within(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let too_large = || {
        let text = format!("it has more than {most} bytes, the most that a module may have");
        io::Error::new(ErrorKind::FileTooLarge, text)
    };
    let file = File::open(path)?;
    let announced = file.metadata()?.len();
    if announced > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced as usize);
    // The length is checked again, because the file may grow in the meantime, and a pipe has no
    // length.
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
        fs::write(&path, [7; 100]).expect("the file can be written");
        assert_eq!(
            within(&path, 100).expect("the file does not exceed the limit"),
            [7; 100]
        );
        assert_eq!(
            within(&path, 99)
                .expect_err("the file exceeds the limit")
                .kind(),
            ErrorKind::FileTooLarge
        );
        // A sparse file takes no room on disk, but reading it would take a long time.
        File::create(&path)
            .and_then(|file| file.set_len(1 << 40))
            .expect("the file can be sparse");
        let error = read(&path).expect_err("no module may be that large");
        assert!(
            error
                .to_string()
                .contains("the most that a module may have"),
            "{error}"
        );
    }
}
