//! WASI preview 1 for the processes of an environment.
//!
//! The environment has one template: arguments, variables, opened directories. A process gets a context from it on its
//! first WASI call; one that never makes such a call pays nothing, and no process costs a descriptor.

use super::{Config, Limits};
use lunatic_abi::Limit;
use std::io;
use std::path::{Path, PathBuf};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiView};

/// What a process may do below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read files and list directories.
    Read,
    /// Change, create and remove them too.
    Write,
}

/// A directory could not be granted.
#[derive(Debug, thiserror::Error)]
#[error("the directory {} cannot be granted: {error}", path.display())]
pub struct PreopenError {
    path: PathBuf,
    error: io::Error,
}

impl PreopenError {
    pub(crate) fn not_granted(guest: &str) -> PreopenError {
        let error = io::Error::new(io::ErrorKind::PermissionDenied, "it lies in no directory of the environment's own");
        PreopenError { path: guest.into(), error }
    }
}

/// A directory of the host, opened, under a path of the guest's.
#[derive(Clone)]
pub(crate) struct Preopen {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) access: Access,
}

impl std::fmt::Debug for Preopen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} as {} ({:?})", self.host.display(), self.guest, self.access)
    }
}

impl Preopen {
    pub(crate) fn open(host: &Path, guest: &str, access: Access) -> Result<Preopen, PreopenError> {
        let fail = |error| PreopenError { path: host.to_owned(), error };
        let host = host.canonicalize().map_err(fail)?;
        Ok(Preopen { host, guest: guest.to_string(), access })
    }

    /// Returns the directory that a guest means by a path, if the path leads into this one.
    pub(crate) fn within(&self, guest: &str) -> Option<Result<Preopen, PreopenError>> {
        let rest = Path::new(guest).strip_prefix(&self.guest).ok()?;
        let opened = Preopen::open(&self.host.join(rest), guest, self.access);
        Some(opened.and_then(|inner| match inner.host.starts_with(&self.host) {
            true => Ok(inner),
            false => Err(PreopenError::not_granted(guest)),
        }))
    }
}

/// What all contexts of an environment begin with.
pub(crate) struct WasiTemplate {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    files: WasiFilesystemCtx,
    open_files: usize,
}

/// The largest answer to one request for random bytes.
const MAX_RANDOM: u64 = 1 << 20;

/// A process's context.
pub(crate) type Wasi = WasiP1Ctx;

impl WasiTemplate {
    pub(crate) fn new(config: &Config) -> WasiTemplate {
        let mut builder = WasiCtxBuilder::new();
        for preopen in &config.preopens {
            let permissions = match preopen.access {
                Access::Read => FsPerms::ReadOnly,
                Access::Write => FsPerms::ReadWrite,
            };
            if let Err(error) = builder.preopened_dir(&preopen.host, &preopen.guest, permissions) {
                log::warn!("the directory {} is gone: {error}", preopen.host.display());
            }
        }
        let mut context = builder.build();
        WasiTemplate {
            arguments: config.arguments.clone(),
            variables: config.variables.clone(),
            files: context.filesystem().clone(),
            open_files: open_files(&config.limits),
        }
    }

    /// Makes a context for a process whose guest is a component: what its environment does not grant is not in it.
    pub(crate) fn component_context(&self, grants: &super::Grants) -> Wasi {
        let mut builder = WasiCtxBuilder::new();
        builder.max_random_size(MAX_RANDOM);
        if grants.allows("wasi:cli") {
            builder.args(&self.arguments).envs(&self.variables).inherit_stdio();
        }
        if grants.allows("wasi:sockets") {
            builder.inherit_network().allow_ip_name_lookup(true);
        }
        let mut context = builder.build_p1();
        let view = context.ctx();
        if grants.allows("wasi:filesystem") {
            *view.ctx.filesystem() = self.files.clone();
        }
        view.table.set_max_capacity(self.open_files);
        context
    }

    /// Makes a context for a process.
    pub(crate) fn context(&self) -> Wasi {
        let mut builder = WasiCtxBuilder::new();
        builder.args(&self.arguments).envs(&self.variables).inherit_stdio().max_random_size(MAX_RANDOM);
        let mut context = builder.build_p1();
        let view = context.ctx();
        *view.ctx.filesystem() = self.files.clone();
        view.table.set_max_capacity(self.open_files);
        context
    }
}

/// Returns how many entries a context's table may have: the files, and what stands for the three standard streams.
fn open_files(limits: &Limits) -> usize {
    usize::try_from(limits.get(Limit::Files)).unwrap_or(usize::MAX).saturating_add(16)
}
