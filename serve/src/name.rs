//! Names of functions.

use std::fmt;
use std::sync::Arc;

/// The longest name, in bytes; the longest label of a host name too.
const LONGEST: usize = 63;

/// The name of a function: `[a-z0-9][a-z0-9-]{0,62}`, or two of those as `owner/name` where it belongs to another project.
///
/// ```
/// use lunatic_serve::Name;
///
/// assert_eq!(Name::new("my-http-server")?.as_str(), "my-http-server");
/// assert!(Name::new("../escape").is_err());
/// assert_eq!(Name::owned("maxmcd", "foo")?.as_str(), "maxmcd/foo");
/// # Ok::<(), lunatic_serve::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// It is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no name of a function: one has 1 to 63 of a-z, 0-9 and -, and does not begin with -", lunatic_vm::printable(.0))]
pub struct NameError(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn new(text: &str) -> Result<Name, NameError> {
        if is_name(text) {
            Ok(Name(text.into()))
        } else {
            Err(NameError(shortened(text)))
        }
    }

    /// Returns the name of a function of another project.
    ///
    /// # Errors
    ///
    /// Where one of the two is no name.
    pub fn owned(owner: &str, name: &str) -> Result<Name, NameError> {
        let (owner, name) = (Name::new(owner)?, Name::new(name)?);
        Ok(Name(format!("{owner}/{name}").into()))
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= LONGEST && !text.starts_with('-') && text.bytes().all(allowed)
}

/// What is no name may be as long as a request.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST + 1) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t151_what_leads_elsewhere_or_is_too_long_is_no_name() {
        let long = "a".repeat(64);
        for text in [
            "", "-a", "../x", "a/b", "a.b", "A", "a b", "a\0", "é", "а", "%2e", &long,
        ] {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
        for text in ["a", "0", "con", "a-", "my-http-server", &long[1..]] {
            assert_eq!(Name::new(text).expect("it is one").as_str(), text);
        }
    }

    #[test]
    fn an_error_is_no_longer_than_a_name() {
        let error = Name::new(&"é".repeat(10_000))
            .expect_err("it is none")
            .to_string();
        assert!(error.len() < 400, "{error}");
    }
}
