//! Maps a request's path to the target that answers it.
//!
//! Before a path is matched, it is decoded once, and `.`, `..` and empty segments are resolved,
//! because the recipient may interpret it that way. The function sees the path as requested. This
//! file does not access files or functions.

use crate::{Name, Route, Target};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::path::PathBuf;

/// A gateway's routes, longest first.
#[derive(Debug)]
pub(super) struct Routes(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    /// The path without a trailing slash: "" for `/`.
    prefix: String,
    target: Target,
}

/// The target that answers a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RouteMatch<'a> {
    /// A function, which sees the unmodified path.
    Function(&'a Name),
    /// A function chosen by name. It sees the rest of the path, which is empty or begins with a
    /// slash.
    Named { name: Cow<'a, str>, rest: &'a str },
    /// A file in a directory. The path is decoded and normalized and begins with a slash.
    File {
        directory: &'a PathBuf,
        prefix: &'a str,
        path: Cow<'a, str>,
    },
    /// Nothing. The response is this text.
    Notice(&'a str),
}

/// Why a request has no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    NotFound,
    /// The path leads above `/`, contains NUL, or can be read in two ways that have different
    /// targets.
    Ambiguous,
}

/// Why routes are invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("the route path `{}` is invalid: it must begin with `/`, must not end with `/`, and must not contain an empty segment, `.`, `..`, `?` or `#`", lunatic_vm::printable(.0))]
    Path(String),
    #[error("two routes have the path `{}`", lunatic_vm::printable(.0))]
    Twice(String),
}

impl Routes {
    pub(super) fn new(routes: &[Route]) -> Result<Routes, RouteError> {
        let mut entries: Vec<Entry> = Vec::new();
        for Route { path, target } in routes {
            let is_normal = normal(path).is_ok_and(|normal| *normal == *path.as_bytes());
            if !is_normal || path.contains(['?', '#', '%']) || path.ends_with('/') && path != "/" {
                return Err(RouteError::Path(path.clone()));
            }
            let prefix = path.trim_end_matches('/').to_string();
            if entries.iter().any(|entry| entry.prefix == prefix) {
                return Err(RouteError::Twice(path.clone()));
            }
            entries.push(Entry {
                prefix,
                target: target.clone(),
            });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.prefix.len()));
        Ok(Routes(entries))
    }

    /// If all paths lead to a single function, returns that function.
    pub(super) fn only_function(&self) -> Option<&Name> {
        match &self.0[..] {
            [
                Entry {
                    prefix,
                    target: Target::Function(name),
                },
            ] if prefix.is_empty() => Some(name),
            _ => None,
        }
    }

    /// Returns the target that answers requests for a path.
    pub(super) fn find<'a>(&'a self, path: &'a str) -> Result<RouteMatch<'a>, NoRoute> {
        let normal = normal(path)?;
        let fits = |entry: &&Entry| {
            let rest = normal.strip_prefix(entry.prefix.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let Entry { prefix, target } = self.0.iter().find(fits).ok_or(NoRoute::NotFound)?;
        match target {
            Target::Function(name) => Ok(RouteMatch::Function(name)),
            Target::Named => named(path, &normal, prefix),
            Target::Notice(text) => Ok(RouteMatch::Notice(text)),
            Target::Files(directory) => Ok(RouteMatch::File {
                directory,
                prefix,
                path: below(normal, prefix)?,
            }),
        }
    }
}

/// Splits off the name. The name must also follow the route's prefix in the path as requested,
/// because the rest is passed on unmodified.
fn named<'a>(path: &'a str, normal: &[u8], prefix: &str) -> Result<RouteMatch<'a>, NoRoute> {
    let wanted = &normal[prefix.len()..];
    let wanted = wanted
        .strip_prefix(b"/")
        .filter(|wanted| !wanted.is_empty())
        .ok_or(NoRoute::NotFound)?;
    let wanted = wanted
        .split(|&byte| byte == b'/')
        .next()
        .unwrap_or_default();

    let mut rest = path;
    for part in prefix.split('/').skip(1).map(str::as_bytes).chain([wanted]) {
        rest = rest.strip_prefix('/').ok_or(NoRoute::Ambiguous)?;
        let (asked, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if *Cow::from(percent_decode_str(asked)) != *part {
            return Err(NoRoute::Ambiguous);
        }
        rest = after;
    }
    let name = String::from_utf8(wanted.to_vec()).map_err(|_| NoRoute::NotFound)?;
    Ok(RouteMatch::Named {
        name: name.into(),
        rest,
    })
}

fn below<'a>(normal: Cow<'a, [u8]>, prefix: &str) -> Result<Cow<'a, str>, NoRoute> {
    // Files whose names are not UTF-8 cannot be requested.
    let path = match normal {
        Cow::Borrowed(path) => Cow::Borrowed(
            std::str::from_utf8(&path[prefix.len()..]).map_err(|_| NoRoute::NotFound)?,
        ),
        Cow::Owned(mut path) => Cow::Owned(
            String::from_utf8(path.split_off(prefix.len())).map_err(|_| NoRoute::NotFound)?,
        ),
    };
    Ok(if path.is_empty() {
        Cow::Borrowed("/")
    } else {
        path
    })
}

/// Returns whether a path begins with a slash and needs no decoding or resolving.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains('%') && !path.contains("//") && !path.contains("/.")
}

/// Decodes a path and resolves `.`, `..` and empty segments. A trailing slash is kept.
fn normal(path: &str) -> Result<Cow<'_, [u8]>, NoRoute> {
    if is_plain(path) {
        return Ok(Cow::Borrowed(path.as_bytes()));
    }
    let decoded = Cow::from(percent_decode_str(path));
    if !decoded.starts_with(b"/") || decoded.contains(&0) {
        return Err(NoRoute::Ambiguous);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for part in decoded.split(|&byte| byte == b'/').skip(1) {
        ends_open = matches!(part, b"" | b"." | b"..");
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or(NoRoute::Ambiguous)?;
            }
            part => parts.push(part),
        }
    }
    let mut normal = Vec::with_capacity(decoded.len());
    for part in &parts {
        normal.push(b'/');
        normal.extend_from_slice(part);
    }
    if ends_open || parts.is_empty() {
        normal.push(b'/');
    }
    Ok(Cow::Owned(normal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("the text is a name")
    }

    fn routes(targets: &[(&str, Target)]) -> Routes {
        let route = |(path, target): &(&str, Target)| Route {
            path: path.to_string(),
            target: target.clone(),
        };
        Routes::new(&targets.iter().map(route).collect::<Vec<_>>()).expect("the routes are valid")
    }

    fn functions() -> Routes {
        let function = |text| Target::Function(name(text));
        routes(&[
            ("/", function("root")),
            ("/a", function("a")),
            ("/a/b", function("ab")),
        ])
    }

    #[test]
    fn the_longest_matching_path_wins_and_matches_only_at_a_slash() {
        let routes = functions();
        let rows = [
            ("/", "root"),
            ("/a", "a"),
            ("/a/", "a"),
            ("/ab", "root"),
            ("/a/b", "ab"),
            ("/a/bc", "a"),
            ("/a/b/c?", "ab"),
            ("/A", "root"),
        ];
        for (path, wanted) in rows {
            assert_eq!(
                routes.find(path),
                Ok(RouteMatch::Function(&name(wanted))),
                "{path}"
            );
        }
    }

    #[test]
    fn t143_a_path_leads_to_the_same_target_as_its_decoded_and_normalized_form() {
        let routes = functions();
        let rows = [
            ("/a/../x", "root"),
            ("/a/%2e%2e/x", "root"),
            ("/a/%2E./x", "root"),
            ("/x/..%2fa", "a"),
            ("//a//b", "ab"),
            ("/./a/./b/.", "ab"),
            ("/%61", "a"),
            ("/a%2fb", "ab"),
            ("/%2561", "root"),
            ("/a/%ff", "a"),
            ("/a/ü", "a"),
        ];
        for (path, wanted) in rows {
            assert_eq!(
                routes.find(path),
                Ok(RouteMatch::Function(&name(wanted))),
                "{path}"
            );
        }
        for path in ["/..", "/a/../..", "/%2e%2e/a", "/a%00", "*", ""] {
            let error = routes.find(path).expect_err(path);
            assert!(
                error == NoRoute::Ambiguous || !path.starts_with('/'),
                "{path}"
            );
        }
    }

    #[test]
    fn t143_a_name_is_split_off_only_where_every_reader_sees_it() {
        let routes = routes(&[("/f", Target::Named)]);
        let found = |path: &'static str| match routes.find(path) {
            Ok(RouteMatch::Named { name, rest }) => Ok((name.to_string(), rest)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(found("/f/m"), Ok(("m".into(), "")));
        assert_eq!(found("/f/m/"), Ok(("m".into(), "/")));
        assert_eq!(found("/f/m/x%2fy/../z"), Ok(("m".into(), "/x%2fy/../z")));
        assert_eq!(found("/f/%6d/x"), Ok(("m".into(), "/x")));
        for path in ["/f", "/f/", "/g/m"] {
            assert_eq!(found(path), Err(NoRoute::NotFound), "{path}");
        }
        for path in [
            "/f//m",
            "//f/m",
            "/f/m/../n",
            "/f%2fm",
            "/f/m%2fx",
            "/f/../f/m",
            "/./f/m",
            "/f/m/../../f/n",
        ] {
            assert_eq!(found(path), Err(NoRoute::Ambiguous), "{path}");
        }
    }

    #[test]
    fn an_invalid_path_is_refused_as_a_route() {
        for path in [
            "", "a", "/a/", "//", "/a//b", "/a/../b", "/.", "/a?b", "/a#b", "/%61",
        ] {
            let route = Route {
                path: path.into(),
                target: Target::Named,
            };
            assert!(
                matches!(Routes::new(&[route]), Err(RouteError::Path(_))),
                "{path}"
            );
        }
        let twice = [Target::Named, Target::Named].map(|target| Route {
            path: "/a".into(),
            target,
        });
        assert!(matches!(Routes::new(&twice), Err(RouteError::Twice(_))));
    }

    proptest! {
        #[test]
        fn t143_no_path_leaves_the_directory_of_a_route(path in "(/|\\.|%2e|%2f|%00|a|b|%25|\\\\){0,12}") {
            let path = format!("/s{path}");
            let routes = routes(&[("/s", Target::Files("files".into()))]);
            if let Ok(RouteMatch::File { path, .. }) = routes.find(&path) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(path.split('/').all(|part| part != ".." && part != "."));
                prop_assert!(!path.contains("//") && !path.contains('\0'));
            }
        }

        #[test]
        fn t143_a_normalized_path_is_not_changed_again(path in "(/|\\.|%2e|%2f|a|b|%25){0,12}") {
            let path = format!("/{path}");
            if let Ok(once) = normal(&path) {
                let text = percent_encoding::percent_encode(&once, percent_encoding::NON_ALPHANUMERIC).to_string();
                let again = normal(&text.replace("%2F", "/")).map(Cow::into_owned);
                prop_assert_eq!(again, Ok(once.into_owned()));
            }
        }
    }
}
