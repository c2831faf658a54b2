//! Function names.

use std::fmt;
use std::sync::Arc;

/// The maximum length of a name, in bytes. A label in a host name has the same maximum length.
const MAX_LENGTH: usize = 63;

/// A function's name: `[a-z0-9][a-z0-9-]{0,62}`, or `owner/name` for a function from another
/// project.
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

/// The error for a string that is not a valid function name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a valid function name: a name must have 1 to 63 characters from a-z, 0-9 and -, and must not begin with -", lunatic_vm::printable(.0))]
pub struct NameError(String);

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the string is not a valid name.
    pub fn new(text: &str) -> Result<Name, NameError> {
        if is_name(text) {
            Ok(Name(text.into()))
        } else {
            Err(NameError(shortened(text)))
        }
    }

    /// Creates the name of a function from another project.
    ///
    /// # Errors
    ///
    /// [`NameError`] if either string is not a valid name.
    pub fn owned(owner: &str, name: &str) -> Result<Name, NameError> {
        let (owner, name) = (Name::new(owner)?, Name::new(name)?);
        Ok(Name(format!("{owner}/{name}").into()))
    }

    /// Returns the name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= MAX_LENGTH
        && !text.starts_with('-')
        && text.bytes().all(allowed)
}

/// Truncates a string, which may be as long as a request, to about the maximum length of a name.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_LENGTH + 1) {
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
    fn t151_paths_and_long_strings_are_not_names() {
        let long = "a".repeat(64);
        for text in [
            "", "-a", "../x", "a/b", "a.b", "A", "a b", "a\0", "é", "а", "%2e", &long,
        ] {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
        for text in ["a", "0", "con", "a-", "my-http-server", &long[1..]] {
            assert_eq!(Name::new(text).expect("the text is a name").as_str(), text);
        }
    }

    #[test]
    fn an_error_quotes_no_more_than_the_length_of_a_name() {
        let error = Name::new(&"é".repeat(10_000))
            .expect_err("é is not allowed")
            .to_string();
        assert!(error.len() < 400, "{error}");
    }
}
