//! The token required to deploy.

use crate::bounded_file;
use std::fmt;
use std::path::{Path, PathBuf};
use subtle::{Choice, ConstantTimeEq};

/// The minimum length of a token and the maximum size of a token file, in bytes.
const SHORTEST: usize = 16;
const FILE_SIZE: u64 = 64 << 10;

/// The token required to deploy. It is never displayed, and only its hash is kept in memory.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Text(blake3::Hash),
    File(PathBuf),
}

/// Why a string or a file does not provide a valid token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is too easy to guess, or cannot be sent.
    #[error(
        "a token must have at least {SHORTEST} visible ASCII characters, such as the output of `openssl rand -hex 32`"
    )]
    Unfit,
    /// The file cannot be read.
    #[error("the token file `{}` cannot be read: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        why: String,
    },
}

impl Token {
    /// Creates a token from a string.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if the token is too short or cannot be sent.
    pub fn new(text: &str) -> Result<Token, TokenError> {
        Ok(Token(Source::Text(hash(text.trim())?)))
    }

    /// Uses a file with one token per line, any of which is accepted. The file is read again for
    /// each request, so removing a line revokes its token.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if the file cannot be read or contains no tokens.
    pub fn in_file(path: &Path) -> Result<Token, TokenError> {
        tokens(path)?;
        Ok(Token(Source::File(path.to_path_buf())))
    }

    /// Returns whether a string is the token, in an amount of time that does not depend on the
    /// string. May block to read a small file.
    pub(super) fn is(&self, text: &str) -> Result<bool, TokenError> {
        let asked = blake3::hash(text.as_bytes());
        let is_known = match &self.0 {
            Source::Text(hash) => hash.as_bytes().ct_eq(asked.as_bytes()),
            Source::File(path) => {
                let same = |hash: &blake3::Hash| hash.as_bytes().ct_eq(asked.as_bytes());
                tokens(path)?
                    .iter()
                    .fold(Choice::from(0), |known, hash| known | same(hash))
            }
        };
        Ok(is_known.into())
    }
}

fn tokens(path: &Path) -> Result<Vec<blake3::Hash>, TokenError> {
    let text = bounded_file::read_text(path, FILE_SIZE).map_err(|error| TokenError::File {
        path: path.to_path_buf(),
        why: error.to_string(),
    })?;
    let hashes: Result<Vec<_>, _> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(hash)
        .collect();
    match hashes {
        Ok(hashes) if hashes.is_empty() => Err(TokenError::Unfit),
        hashes => hashes,
    }
}

fn hash(text: &str) -> Result<blake3::Hash, TokenError> {
    if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Unfit);
    }
    Ok(blake3::hash(text.as_bytes()))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const ONE: &str = "correct-horse-battery-staple";
    const OTHER: &str = "0123456789abcdef";

    #[test]
    fn t150_a_token_is_recognized_only_by_its_text_and_never_shown() {
        let token = Token::new(&format!("{ONE}\n")).expect("the token is long enough");
        assert!(token.is(ONE).expect("no file has to be read"));
        for wrong in ["", OTHER, &ONE[1..], &format!("{ONE} ")] {
            assert!(!token.is(wrong).expect("no file has to be read"), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("horse"));
    }

    #[test]
    fn t150_a_string_that_can_be_guessed_is_not_a_token() {
        for text in [
            "",
            "secret",
            "two words of it are too many",
            "übermäßig-lang-und-doch",
        ] {
            assert!(Token::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn t150_a_token_that_is_removed_from_the_file_is_no_longer_accepted() {
        let mut file = tempfile::NamedTempFile::new().expect("there is enough disk space");
        writeln!(file, "{ONE}\n\n{OTHER}").expect("there is enough disk space");
        let token = Token::in_file(file.path()).expect("the file has two tokens");
        assert!(
            token.is(ONE).expect("the file is readable")
                && token.is(OTHER).expect("the file is readable")
        );
        std::fs::write(file.path(), OTHER).expect("there is enough disk space");
        assert!(
            !token.is(ONE).expect("the file is readable")
                && token.is(OTHER).expect("the file is readable")
        );
        std::fs::remove_file(file.path()).expect("the file exists");
        assert!(token.is(OTHER).is_err());
    }
}
