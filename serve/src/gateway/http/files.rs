//! Serves the files in a directory through `tower-http`, which handles ranges and conditional
//! requests.
//!
//! Directories are not listed, and nothing outside the directory is served: neither a path nor a
//! symbolic link leads out of it, even if a function creates the link while the server is running.
//! Only regular files are served. Names that begin with a dot are not served, except for
//! `.well-known`, and neither is a file that a link leads to through such a name.

use super::reply::short_response;
use crate::body::Body;
use cap_primitives::fs::{OpenOptions, OpenOptionsExt};
use http::header::{HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tower_http::services::ServeFile;
use tower_service::Service;

/// The characters to percent-encode in a path: all except letters, digits and those listed here.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The file to serve in place of a directory.
const INDEX: &str = "index.html";

/// Resolves the links in a directory's path. Must be called before any function runs, because a
/// function may be able to replace a part of the path with a link.
pub(super) fn without_links(directory: &Path) -> PathBuf {
    directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_path_buf())
}

/// Responds with a file. The directory's path must not contain links. The file's path must be
/// decoded and normalized, and the route's `prefix` removed from its front.
pub(super) async fn serve(
    directory: PathBuf,
    prefix: &str,
    path: String,
    request: Request<Body>,
) -> Response<Body> {
    if is_hidden(Path::new(&path)) {
        return error(StatusCode::NOT_FOUND);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return error(StatusCode::METHOD_NOT_ALLOWED);
    }
    let (head, _) = request.into_parts();
    let wanted = path.clone();
    let found = tokio::task::spawn_blocking(move || find(&directory, &wanted)).await;
    let (file, name) = match found {
        Ok(Ok(Found::File(file, name))) => (file, name),
        Ok(Ok(Found::Directory)) => return redirect(prefix, &path, head.uri.query()),
        Ok(Err(error)) => {
            log::debug!("`{}` is not served: {error}", lunatic_vm::printable(&path));
            return self::error(StatusCode::NOT_FOUND);
        }
        Err(_) => return error(StatusCode::INTERNAL_SERVER_ERROR),
    };
    // The file that was opened is served, even if its path now leads to a different one.
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    // The service is always ready.
    let served = ServeFile::new_with_mime(opened, &mime)
        .call(Request::from_parts(head, ()))
        .await;
    served
        .unwrap_or_else(|never| match never {})
        .map(|body| body.map_err(Into::into).boxed_unsync())
}

/// Returns whether a part of a path is a name that is not served.
fn is_hidden(path: &Path) -> bool {
    path.as_os_str()
        .as_bytes()
        .split(|&byte| byte == b'/')
        .any(|part| part.starts_with(b".") && part != b".well-known")
}

/// The result of looking up a path.
enum Found {
    /// A file and the name it was found under.
    File(File, PathBuf),
    /// A directory that was requested without a trailing slash. Relative links in its index file
    /// would be wrong, so the client is redirected.
    Directory,
}

fn find(directory: &Path, path: &str) -> io::Result<Found> {
    let directory = open_directory(directory)?;
    let name = match path.trim_matches('/') {
        "" => Path::new("."),
        name => Path::new(name),
    };
    let file = open_below(&directory, name)?;
    let kind = file.metadata()?.file_type();
    match (kind.is_dir(), path.ends_with('/')) {
        (true, false) => return Ok(Found::Directory),
        (true, true) => {
            let name = name.join(INDEX);
            let file = open_below(&directory, &name)?;
            if file.metadata()?.is_file() {
                return Ok(Found::File(file, name));
            }
        }
        (false, false) if kind.is_file() => return Ok(Found::File(file, name.to_path_buf())),
        (false, _) => {}
    }
    Err(io::Error::new(
        ErrorKind::NotFound,
        "it is not a regular file",
    ))
}

/// Opens the directory itself, unless part of its path has become a link.
fn open_directory(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, ResolveFlags, openat2};
        use rustix::io::Errno;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // The kernel lacks this system call or a sandbox blocks it.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return Ok(opened?.into()),
        }
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Opens a file for reading, without blocking on a FIFO. Neither the path nor a link in it may lead
/// out of the directory, which is checked as part of opening the file. The file itself may not have
/// a hidden name, no matter which link leads to it.
fn open_below(directory: &File, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = cap_primitives::fs::open(directory, path, &options)?;
    let place = path_of(&file)?;
    match place.strip_prefix(path_of(directory)?) {
        Ok(below) if !is_hidden(below) => Ok(file),
        _ => Err(io::Error::new(
            ErrorKind::NotFound,
            "a link leads to a hidden name",
        )),
    }
}

/// Returns the path of a file that is open. It contains no links.
fn path_of(file: &File) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn redirect(prefix: &str, path: &str, query: Option<&str>) -> Response<Body> {
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let [prefix, path] = [prefix, path].map(|part| utf8_percent_encode(part, ENCODED));
    let Ok(location) = HeaderValue::try_from(format!("{prefix}{path}/{query}")) else {
        return error(StatusCode::NOT_FOUND);
    };
    let mut response = error(StatusCode::TEMPORARY_REDIRECT);
    response.headers_mut().insert(LOCATION, location);
    response
}

fn error(status: StatusCode) -> Response<Body> {
    let text = status.canonical_reason().unwrap_or_default().to_lowercase();
    short_response(status, &text)
}
