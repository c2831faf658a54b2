//! The service's HTTP interface.
//!
//! ```text
//! POST   /deploy/NAME                           the body is the wasm; `PUT` works too
//! GET    /functions                             all functions
//! GET    /functions/NAME                        one function, with its versions
//! POST   /functions/NAME/rollback?version=N     to version N; without N, to the previous version
//! DELETE /functions/NAME
//! GET    /functions/NAME/logs?follow            text, or JSON with `accept: application/json`
//! GET    /metrics                               for Prometheus
//! GET    /healthz
//! ```

use super::deploy::{DeployRequest, Deployed, unknown};
use super::options::DeployOptions;
use super::refusal::Refusal;
use super::shared::{Record, Shared};
use super::{guard, upload};
use crate::body::{Body, BodyError};
use crate::gateway::http::setup::Responder;
use crate::{Code, Follower, Line, Name, Policy, Settings, Version};
use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, IF_MATCH, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// How many log lines to send by default.
const LINES: usize = 100;

/// Returns the responder for a service's requests.
pub(super) fn responder(shared: &Arc<Shared>) -> Responder {
    let shared = shared.clone();
    Arc::new(move |request| {
        let shared = shared.clone();
        Box::pin(async move { answer(shared, request).await.unwrap_or_else(refused) })
    })
}

async fn answer(shared: Arc<Shared>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_string();
    // This path does not require a token, because it reveals only that the service is running.
    if path == "/healthz" {
        return allowed(&head.method, &[Method::GET, Method::HEAD])
            .map(|()| text(StatusCode::OK, "ok\n".into()));
    }
    guard::check(shared.config.token.as_ref(), &head.uri, &head.headers).await?;
    let query = head.uri.query().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["metrics"] => {
            allowed(&head.method, &[Method::GET])?;
            Ok(metrics(&shared))
        }
        ["deploy", name] => {
            allowed(&head.method, &[Method::POST, Method::PUT])?;
            let deployed = deploy(&shared, name, query, &head.headers, body).await;
            shared.functions.metrics().deployed(match &deployed {
                Ok((_, Deployed::New)) => "deployed",
                Ok((_, Deployed::Unchanged)) => "unchanged",
                Err(refusal) if refusal.status.is_client_error() => "refused",
                Err(_) => "failed",
            });
            let (version, deployed) = deployed?;
            let status = if deployed == Deployed::New {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            Ok(json(status, &named(&version)))
        }
        ["functions"] => {
            allowed(&head.method, &[Method::GET])?;
            Ok(json(StatusCode::OK, &json!({ "functions": list(&shared) })))
        }
        ["functions", name] if head.method == Method::DELETE => {
            // A function stored under an invalid name can be deleted only in the storage itself.
            let name = name_of(name)?;
            shared.remove(&name).await?;
            Ok(json(
                StatusCode::OK,
                &json!({ "name": name.as_str(), "deleted": true }),
            ))
        }
        ["functions", name] => {
            allowed(&head.method, &[Method::GET, Method::DELETE])?;
            Ok(json(StatusCode::OK, &describe(&shared, &name_of(name)?)?))
        }
        ["functions", name, "rollback"] => {
            allowed(&head.method, &[Method::POST])?;
            let version = shared
                .roll_back(&name_of(name)?, version_of(query)?)
                .await?;
            Ok(json(StatusCode::OK, &named(&version)))
        }
        ["functions", name, "logs"] => {
            allowed(&head.method, &[Method::GET])?;
            logs(&shared, &name_of(name)?, query, &head.headers)
        }
        _ => Err(Refusal::not_found(
            "there is nothing here; functions are deployed with a POST to /deploy/NAME",
        )),
    }
}

async fn deploy(
    shared: &Arc<Shared>,
    name: &str,
    query: &str,
    fields: &HeaderMap,
    body: Body,
) -> Result<(Arc<Version>, Deployed), Refusal> {
    let name = name_of(name)?;
    let options = DeployOptions::parse(query, fields)?;
    let expected = match fields.get(IF_MATCH) {
        Some(field) => Some(
            field
                .to_str()
                .map_err(|_| Refusal::bad_request("`if-match` must be a hash"))?
                .to_string(),
        ),
        None => None,
    };
    let busy = || Refusal::busy("too many deploys are in progress; try again");
    let _accepted = shared.accepted.try_acquire().map_err(|_| busy())?;
    let permit = tokio::time::timeout(shared.config.upload_time, shared.deploys.acquire()).await;
    let _permit = permit.map_err(|_| busy())?;
    let bytes = upload::read(body, shared.config.size, shared.config.upload_time).await?;
    shared
        .deploy(DeployRequest {
            name,
            bytes,
            options,
            expected,
        })
        .await
}

fn metrics(shared: &Shared) -> Response<Body> {
    let functions = &shared.functions;
    let mut page = text(
        StatusCode::OK,
        functions.metrics().text() + &functions.vm().metrics(),
    );
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    page.headers_mut().insert(CONTENT_TYPE, format);
    page
}

fn named(version: &Version) -> Value {
    json!({ "name": version.name().as_str(), "version": version.number(), "hash": version.hash().to_hex().as_str() })
}

/// Returns all functions that are serving, no matter where they come from, and all functions that
/// are stored but not serving.
fn list(shared: &Shared) -> Vec<Value> {
    let mut names: Vec<String> = shared.known().keys().cloned().collect();
    names.extend(
        shared
            .functions
            .all()
            .iter()
            .map(|function| function.name().to_string()),
    );
    names.sort();
    names.dedup();
    names
        .iter()
        .filter_map(|name| summary(shared, name))
        .collect()
}

fn summary(shared: &Shared, name: &str) -> Option<Value> {
    let record = shared.known().get(name).cloned();
    let manifest = record.as_ref().and_then(|record| record.manifest.clone());
    if let Some(Record {
        broken: Some(why), ..
    }) = record
    {
        let version = manifest.map(|manifest| manifest.current);
        return Some(json!({ "name": name, "state": "broken", "version": version, "error": why }));
    }
    // The function may have been removed in the meantime.
    let version = shared.functions.get(name)?.version();
    let mut summary = named(&version);
    summary["state"] = "serving".into();
    summary["origin"] = if manifest.is_some() {
        "deployed"
    } else {
        "project"
    }
    .into();
    summary["kind"] = match version.code() {
        Code::Spark(_) => "spark",
        Code::Component(_) => "component",
        Code::Program(_) => "program",
    }
    .into();
    summary["policy"] = policy(version.settings().policy).into();
    if let Some(manifest) = manifest {
        summary["size"] = manifest.current().size.into();
        summary["deployed"] = manifest.current().deployed.clone().into();
        summary["versions"] = manifest
            .versions
            .iter()
            .map(|version| version.number)
            .collect();
    }
    Some(summary)
}

fn describe(shared: &Shared, name: &Name) -> Result<Value, Refusal> {
    let mut described = summary(shared, name.as_str()).ok_or_else(|| unknown(name))?;
    if let Some(manifest) = shared.manifest(name) {
        let versions = manifest.versions.iter().map(|version| {
            json!({
                "version": version.number,
                "hash": version.hash.to_hex().as_str(),
                "size": version.size,
                "deployed": version.deployed,
                "serving": version.number == manifest.current,
            })
        });
        described["versions"] = versions.collect();
    }
    if let Some(function) = shared.functions.get(name.as_str()) {
        described["settings"] = settings(function.version().settings());
    }
    Ok(described)
}

/// Returns a function's settings, leaving out values that may be secret.
fn settings(settings: &Settings) -> Value {
    let variables: Vec<_> = settings.variables.iter().map(|(name, _)| name).collect();
    let outbound: Vec<_> = settings
        .outbound
        .iter()
        .map(|rule| rule.to_string())
        .collect();
    json!({
        "policy": policy(settings.policy),
        "memory": settings.memory,
        "compute": settings.compute,
        "processes": settings.processes,
        "deadline": settings.deadline.as_secs_f64(),
        "body": settings.body,
        "requests": settings.requests,
        "outbound": outbound,
        "variables": variables,
        "client-secret": settings.client_secret.is_some(),
    })
}

fn policy(policy: Policy) -> String {
    match policy {
        Policy::Fresh => "fresh".to_string(),
        Policy::Pool(instances) => format!("pool:{instances}"),
        Policy::Single => "single".to_string(),
    }
}

fn logs(
    shared: &Arc<Shared>,
    name: &Name,
    query: &str,
    fields: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let function = shared
        .functions
        .get(name.as_str())
        .ok_or_else(|| unknown(name))?;
    let follows = parameter(query, "follow").is_some_and(|value| value != "false");
    let lines = match parameter(query, "lines") {
        Some(lines) => lines
            .parse()
            .map_err(|_| Refusal::bad_request("`lines` must be a whole number"))?,
        None => LINES,
    };
    let format = match fields
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"application/"))
    {
        true => Format::Json,
        false => Format::Text,
    };
    let body = if follows {
        let permit = shared.followers.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| Refusal::busy("too many clients are following logs; try again"))?;
        let (kept, follower) = function.log().follow();
        // The function is dropped, so that the log ends when the function is deleted.
        drop(function);
        let first = format.lines(newest(&kept, lines));
        follow(
            first,
            format,
            LogStream {
                follower,
                is_ending: shared.is_ending.subscribe(),
                _permit: permit,
            },
        )
    } else {
        full(format.lines(newest(&function.log().lines(), lines)))
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The format to send log lines in.
#[derive(Clone, Copy)]
enum Format {
    Text,
    Json,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; charset=utf-8",
            Format::Json => "application/x-ndjson",
        }
    }

    fn lines(self, lines: &[Arc<Line>]) -> Bytes {
        let mut text = String::new();
        for line in lines {
            text += &match self {
                Format::Text => line.to_string(),
                Format::Json => {
                    serde_json::to_string(&**line).expect("a line can be serialized as JSON")
                }
            };
            text.push('\n');
        }
        text.into()
    }
}

/// The state of a response that follows a log.
struct LogStream {
    follower: Follower,
    is_ending: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

fn follow(first: Bytes, format: Format, following: LogStream) -> Body {
    let begin = (Some(first), following);
    let frames = futures_lite::stream::unfold(begin, move |(first, mut following)| async move {
        if let Some(first) = first.filter(|first| !first.is_empty()) {
            return Some((Ok::<_, BodyError>(Frame::data(first)), (None, following)));
        }
        let lines = tokio::select! {
            lines = following.follower.next() => lines?,
            // This fails if the service has been dropped.
            _ = following.is_ending.wait_for(|is_ending| *is_ending) => return None,
        };
        Some((Ok(Frame::data(format.lines(&lines))), (None, following)))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn newest(lines: &[Arc<Line>], count: usize) -> &[Arc<Line>] {
    &lines[lines.len().saturating_sub(count)..]
}

fn name_of(text: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(Refusal::bad_request)
}

fn version_of(query: &str) -> Result<Option<u64>, Refusal> {
    let Some(version) = parameter(query, "version") else {
        return Ok(None);
    };
    version
        .parse()
        .map(Some)
        .map_err(|_| Refusal::bad_request("`version` must be a whole number"))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .into_iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn allowed(method: &Method, methods: &[Method]) -> Result<(), Refusal> {
    if methods.contains(method) {
        return Ok(());
    }
    Err(Refusal::not_allowed(methods))
}

fn refused(refusal: Refusal) -> Response<Body> {
    let Refusal {
        status,
        sentence,
        allow,
    } = refusal;
    let mut response = json(
        status,
        &json!({ "error": lunatic_vm::printable_lines(&sentence) }),
    );
    let fields = response.headers_mut();
    if let Some(allow) = allow {
        fields.insert(ALLOW, allow);
    }
    if status == StatusCode::UNAUTHORIZED {
        fields.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"lunatic\""),
        );
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = text(status, format!("{value}\n"));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
