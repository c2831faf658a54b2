//! Decides which requests the service accepts.
//!
//! Without a token, any program on this computer may deploy, including a browser, and any web page
//! could make a browser send requests. Requests from web pages are therefore refused. So are
//! requests to host names, because anyone can make a name resolve to this computer.

use super::refusal::Refusal;
use super::token::Token;
use http::StatusCode;
use http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use http::uri::{Authority, Uri};
use std::net::{IpAddr, Ipv6Addr};

/// Checks a request's head.
pub(super) async fn check(
    token: Option<&Token>,
    uri: &Uri,
    fields: &HeaderMap,
) -> Result<(), Refusal> {
    match token {
        // A web page does not know the token.
        Some(token) => has_token(token.clone(), fields).await,
        None => is_no_page(uri, fields),
    }
}

async fn has_token(token: Token, fields: &HeaderMap) -> Result<(), Refusal> {
    let unauthorized = |sentence: &str| Refusal::new(StatusCode::UNAUTHORIZED, sentence);
    let Some(field) = fields.get(AUTHORIZATION) else {
        return Err(unauthorized(
            "a token is needed: send `authorization: Bearer TOKEN`",
        ));
    };
    let text = field.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, text)) = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(unauthorized(
            "the field `authorization` must be `Bearer TOKEN`",
        ));
    };
    let text = text.trim().to_string();
    match tokio::task::spawn_blocking(move || token.is(&text)).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(unauthorized("the token is wrong")),
        Ok(Err(error)) => {
            log::error!("no client can deploy: {error}");
            Err(unauthorized(
                "tokens cannot be checked now; the reason is in the service's log",
            ))
        }
        Err(_) => Err(unauthorized(
            "tokens cannot be checked while the service is stopping",
        )),
    }
}

fn is_no_page(uri: &Uri, fields: &HeaderMap) -> Result<(), Refusal> {
    let forbidden = |sentence: &str| Err(Refusal::new(StatusCode::FORBIDDEN, sentence));
    if fields.contains_key(ORIGIN)
        || fields
            .get("sec-fetch-site")
            .is_some_and(|site| site != "none")
    {
        return forbidden("web pages cannot use this service without a token");
    }
    let named = uri
        .authority()
        .cloned()
        .or_else(|| fields.get(HOST)?.to_str().ok()?.parse::<Authority>().ok());
    match named {
        Some(authority) if is_this_computer(authority.host()) => Ok(()),
        _ => forbidden("reach this service through `localhost` or an IP address, or send a token"),
    }
}

/// Returns whether a host is an address or `localhost`, neither of which can be made to resolve to
/// another computer.
fn is_this_computer(host: &str) -> bool {
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_address = host.parse::<IpAddr>().is_ok()
        || inside.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    is_address || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_let_in(fields: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.insert(*name, value.parse().expect("the values below are valid"));
        }
        is_no_page(&Uri::from_static("/functions"), &map).is_ok()
    }

    #[test]
    fn t183_pages_and_host_names_are_refused() {
        for host in [
            "localhost",
            "localhost:8002",
            "127.0.0.1:8002",
            "[::1]:8002",
            "LOCALHOST",
        ] {
            assert!(is_let_in(&[("host", host)]), "{host}");
            assert!(
                !is_let_in(&[("host", host), ("origin", "http://localhost:3000")]),
                "{host}"
            );
            assert!(
                !is_let_in(&[("host", host), ("sec-fetch-site", "cross-site")]),
                "{host}"
            );
        }
        assert!(is_let_in(&[
            ("host", "localhost"),
            ("sec-fetch-site", "none")
        ]));
        assert!(!is_let_in(&[]));
        for host in [
            "attacker.example",
            "localhost.attacker.example:8002",
            "127.0.0.1.nip.io",
            "",
        ] {
            assert!(!is_let_in(&[("host", host)]), "{host}");
        }
    }
}
