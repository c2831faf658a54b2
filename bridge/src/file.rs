//! Files that modules are read from.

use crate::LoadError;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// No module is larger, in bytes: wasmtime has the same bound.
const MAX_MODULE: u64 = 1 << 30;

/// Reads a module from a file, a pipe or whatever is there.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    within(path, MAX_MODULE).map_err(|error| LoadError::File {
        path: path.to_path_buf(),
        error,
    })
}

/// Reads a module from a file that may be looked at again and again, and whose reader never waits for a writer.
pub(crate) fn read_regular(path: &Path) -> Result<Vec<u8>, LoadError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let error = io::Error::new(
                ErrorKind::InvalidInput,
                "it is no regular file, and no other can be watched",
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
        let text = format!("it has more than {most} bytes, and no module does");
        io::Error::new(ErrorKind::FileTooLarge, text)
    };
    let file = File::open(path)?;
    let announced = file.metadata()?.len();
    if announced > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced as usize);
    // It may grow meanwhile, and a pipe announces nothing.
    match file.take(most + 1).read_to_end(&mut bytes)? as u64 {
        read if read > most => Err(too_large()),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_far_as_a_module_may_go() {
        let directory = tempfile::tempdir().expect("there is room for files");
        let path = directory.path().join("module.wasm");
        fs::write(&path, [7; 100]).expect("the file can be written");
        assert_eq!(within(&path, 100).expect("it is not larger"), [7; 100]);
        assert_eq!(
            within(&path, 99).expect_err("it is larger").kind(),
            ErrorKind::FileTooLarge
        );
        // A file that takes no room, and would be read for long.
        File::create(&path)
            .and_then(|file| file.set_len(1 << 40))
            .expect("it can have holes");
        let error = read(&path).expect_err("no module is so large");
        assert!(error.to_string().contains("no module does"), "{error}");
    }
}
