//! The settings that a deploy requests.
//!
//! The service limits them. A deploy cannot request access to the computer or its network
//! (directories, private addresses, namespaces): the service's defaults grant such access to all
//! functions or none.

use super::refusal::Refusal;
use crate::{OutboundRule, Policy, Settings, quantity};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

/// The most that a deploy can request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployLimits {
    /// The maximum memory per process, in bytes. 4 GiB by default, which is the maximum for wasm.
    pub memory: u64,
    /// The maximum time that a request may take. An hour by default.
    pub deadline: Duration,
    /// The maximum size of a request's body, in bytes. 1 GiB by default.
    pub body: u64,
    /// The maximum number of concurrent requests. 10,000 by default.
    pub requests: NonZeroUsize,
    /// The maximum number of live processes. 100,000 by default.
    pub processes: u64,
    /// The maximum number of instances in a pool. 64 by default.
    pub pool: NonZeroUsize,
    /// Whether a deploy can request hosts to call over HTTP. True by default; private addresses are
    /// always refused.
    pub outbound: bool,
}

/// The header fields for variables and the secret, which do not belong in a URL because URLs are
/// logged.
pub(super) const VARIABLE: &str = "x-variable";
pub(super) const CLIENT_SECRET: &str = "x-client-secret";

/// The keys that a deploy's query can have.
const QUERY: &str = "policy, memory, compute, deadline, body, requests, processes and outbound";

/// The maximum total size of a function's variables, in bytes, and their maximum number.
const VARIABLES_SIZE: usize = 64 << 10;
const VARIABLES: usize = 100;

/// The maximum number of hosts that can be requested.
const HOSTS: usize = 100;

/// The options that a deploy requests. Defaults apply to everything else. Must not be displayed,
/// because options may contain secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DeployOptions {
    /// `fresh`, `single` or `pool:N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    /// The limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_in_microseconds: Option<u64>,
    /// The limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<NonZeroUsize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbound: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

impl DeployOptions {
    /// Reads the options from a deploy's query and header fields.
    pub(super) fn parse(query: &str, fields: &HeaderMap) -> Result<DeployOptions, Refusal> {
        let mut options = DeployOptions::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(key)?, decoded(value)?);
            options
                .set(&key, &value)
                .map_err(|why| Refusal::bad_request(format!("`{key}={value}`: {why}")))?;
        }
        for field in fields.get_all(VARIABLE) {
            let (name, value) = text(VARIABLE, field)?
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| {
                    Refusal::bad_request(format!(
                        "a field `{VARIABLE}` must have the form `NAME=VALUE`"
                    ))
                })?;
            options
                .variables
                .insert(name.to_string(), value.to_string());
        }
        if let Some(field) = fields.get(CLIENT_SECRET) {
            options.client_secret = Some(text(CLIENT_SECRET, field)?.to_string());
        }
        let size: usize = options
            .variables
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if options.variables.len() > VARIABLES || size > VARIABLES_SIZE {
            let most = format!(
                "a function can have at most {VARIABLES} variables with {VARIABLES_SIZE} bytes in total"
            );
            return Err(Refusal::bad_request(most));
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "policy" => {
                policy(value)?;
                self.policy = Some(value.to_string());
            }
            "memory" => self.memory = Some(quantity::bytes(value)?),
            "compute" => self.compute = Some(count(value)?.get() as u64),
            "deadline" => {
                let deadline = quantity::duration(value)?.as_micros();
                self.deadline_in_microseconds =
                    Some(u64::try_from(deadline).map_err(|_| "the deadline is too long")?);
            }
            "body" => self.body = Some(quantity::bytes(value)?),
            "requests" => self.requests = Some(count(value)?),
            "processes" => self.processes = Some(count(value)?.get() as u64),
            "outbound" => {
                for host in value.split(',').filter(|host| !host.is_empty()) {
                    host.parse::<OutboundRule>()
                        .map_err(|error| error.to_string())?;
                    let hosts = self.outbound.get_or_insert_default();
                    if hosts.len() == HOSTS {
                        return Err(format!("at most {HOSTS} hosts can be requested"));
                    }
                    hosts.push(host.to_string());
                }
            }
            _ => {
                return Err(format!(
                    "there is no such setting; the settings are {QUERY}"
                ));
            }
        }
        Ok(())
    }

    /// Returns the function's settings: these options, and the defaults for everything else.
    pub(super) fn settings(
        &self,
        defaults: &Settings,
        limits: &DeployLimits,
    ) -> Result<Settings, Refusal> {
        let mut settings = defaults.clone();
        if let Some(text) = &self.policy {
            settings.policy = policy(text).map_err(Refusal::bad_request)?;
            if let Policy::Pool(instances) = settings.policy {
                within("instances in a pool", instances.get(), limits.pool.get())?;
            }
        }
        let memory = "bytes of memory";
        choose(&mut settings.memory, self.memory, memory, limits.memory)?;
        if let Some(compute) = self.compute {
            settings.compute = Some(compute);
        }
        if let Some(microseconds) = self.deadline_in_microseconds {
            let deadline = Duration::from_micros(microseconds);
            within(
                "seconds until the deadline",
                deadline.as_secs(),
                limits.deadline.as_secs(),
            )?;
            settings.deadline = deadline;
        }
        let body = "bytes in a body";
        choose(&mut settings.body, self.body, body, limits.body)?;
        let requests = "requests at the same time";
        choose(
            &mut settings.requests,
            self.requests,
            requests,
            limits.requests,
        )?;
        let processes = "processes";
        choose(
            &mut settings.processes,
            self.processes,
            processes,
            limits.processes,
        )?;
        if let Some(hosts) = &self.outbound {
            if !limits.outbound {
                return Err(Refusal::bad_request(
                    "deploys on this service cannot request `outbound` hosts",
                ));
            }
            let rules: Result<Vec<_>, _> = hosts
                .iter()
                .map(|host| host.parse::<OutboundRule>())
                .collect();
            settings.outbound = rules.map_err(Refusal::bad_request)?;
            // The defaults grant private addresses only for the hosts that they list.
            settings.private_addresses = false;
        }
        for (name, value) in &self.variables {
            settings.variables.retain(|(other, _)| other != name);
            settings.variables.push((name.clone(), value.clone()));
        }
        if let Some(secret) = &self.client_secret {
            settings.client_secret = Some(secret.clone());
        }
        Ok(settings)
    }
}

/// If the deploy requests a value for a setting, uses it.
fn choose<T: Copy + PartialOrd + std::fmt::Display>(
    setting: &mut T,
    requested: Option<T>,
    what: &str,
    most: T,
) -> Result<(), Refusal> {
    if let Some(requested) = requested {
        within(what, requested, most)?;
        *setting = requested;
    }
    Ok(())
}

fn within<T: PartialOrd + std::fmt::Display>(what: &str, asked: T, most: T) -> Result<(), Refusal> {
    if asked <= most {
        return Ok(());
    }
    Err(Refusal::bad_request(format!(
        "{asked} {what} are more than this service allows: at most {most}"
    )))
}

fn policy(text: &str) -> Result<Policy, String> {
    match (text, text.strip_prefix("pool:")) {
        ("fresh", _) => Ok(Policy::Fresh),
        ("single", _) => Ok(Policy::Single),
        (_, Some(instances)) => Ok(Policy::Pool(count(instances)?)),
        _ => Err("a policy must be `fresh`, `single` or, for example, `pool:4`".to_string()),
    }
}

/// Parses a number greater than zero.
fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "it must be a whole number of at least 1".to_string())
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded
        .map_err(|_| Refusal::bad_request("the query is not UTF-8"))?
        .into_owned())
}

fn text<'a>(name: &str, field: &'a http::HeaderValue) -> Result<&'a str, Refusal> {
    std::str::from_utf8(field.as_bytes())
        .map_err(|_| Refusal::bad_request(format!("the field `{name}` is not UTF-8")))
}

impl Default for DeployLimits {
    fn default() -> DeployLimits {
        DeployLimits {
            memory: 4 << 30,
            deadline: Duration::from_secs(3600),
            body: 1 << 30,
            requests: NonZeroUsize::new(10_000).expect("10,000 is not zero"),
            processes: 100_000,
            pool: NonZeroUsize::new(64).expect("64 is not zero"),
            outbound: true,
        }
    }
}
