//! What an instance is granted.

use crate::metrics::FunctionMetrics;
use crate::{Name, Outbound, Version};
use std::sync::Arc;

/// What an instance is granted in addition to its environment's grants. Does not keep the version
/// alive.
#[derive(Clone)]
pub(super) struct Grants {
    pub(super) function: Name,
    pub(super) outbound: Arc<Outbound>,
    pub(super) client_secret: Option<String>,
    pub(super) metrics: Arc<FunctionMetrics>,
}

impl Grants {
    pub(super) fn of(version: &Version) -> Grants {
        Grants {
            function: version.name().clone(),
            outbound: version.outbound().clone(),
            client_secret: version.settings().client_secret.clone(),
            metrics: version.metrics().clone(),
        }
    }
}
