//! Has a component answer a request, according to its function's policy.

use super::grants::Grants;
use super::instance::Instance;
use super::instances::ONE;
use super::job::Job;
use super::pending::{self, PendingResponse};
use super::pool;
use super::spawn::spawn;
use crate::body::Body;
use crate::request_info::RequestInfo;
use crate::{Failure, Policy, Version};
use http::{Request, Response};
use lunatic_vm::{Component, Exit, LiveComponent};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Has a component answer a request.
pub(crate) async fn answer(
    version: &Arc<Version>,
    component: &Component,
    info: &Arc<RequestInfo>,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let (job, pending) = pending::begin(request, info, version.settings().deadline);
    match version.settings().policy {
        Policy::Fresh => {
            let grants = Grants::of(version);
            let process = spawn(version, component, |live| {
                Box::pin(serve_one(live, grants, job))
            })
            .await?;
            pending.owning(process).response().await
        }
        Policy::Pool(limit) => pooled(version, component, limit, job, pending).await,
        Policy::Single => pooled(version, component, ONE, job, pending).await,
    }
}

async fn pooled(
    version: &Arc<Version>,
    component: &Component,
    limit: NonZeroUsize,
    job: Job,
    pending: PendingResponse,
) -> Result<Response<Body>, Failure> {
    let settings = version.settings();
    let pool = version
        .instances()
        .pool(limit, settings.requests, settings.deadline);
    pool.queue(job)?;
    pool::recruit(version, component, &pool.shared);
    pending.response().await
}

/// Serves one request with its own instance.
async fn serve_one(live: &mut LiveComponent, grants: Grants, job: Job) -> Exit {
    let served = match Instance::begin(live, grants) {
        Ok(mut instance) => instance.serve(job).await,
        Err(exit) => Err(exit),
    };
    served.err().unwrap_or(Exit::Normal)
}
