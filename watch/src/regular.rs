//! Opens files in directories that others may write to.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Opens a regular file for reading. Fails without blocking if there is anything else at the path.
/// Without this check, opening a FIFO would block until there is a writer, and a device might
/// provide endless data.
///
/// # Errors
///
/// The system's errors; `InvalidInput` for anything but a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let error = "this is not a regular file; only regular files are read";
    Err(io::Error::new(ErrorKind::InvalidInput, error))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn anything_but_a_regular_file_is_refused_at_once() {
        let place = tempfile::TempDir::new().expect("a temporary directory can be created");
        let file = place.path().join("file");
        std::fs::write(&file, "x").expect("the directory is writable");
        open_regular(&file).expect("the path is a regular file");
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("the directory is writable");
        open_regular(&link).expect("the link points to a regular file");
        let fifo = place.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RUSR).expect("the directory is writable");
        for other in [&fifo, Path::new("/dev/null"), place.path()] {
            let error = open_regular(other).expect_err("the path is not a regular file");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", other.display());
        }
    }
}
