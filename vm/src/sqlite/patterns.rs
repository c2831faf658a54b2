//! `LIKE` and `GLOB` patterns. Matching them gives the same results as in SQLite, but counts the
//! steps.

/// How many steps are taken between checks for whether to stop.
const STEPS: u64 = 4096;

/// One element of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Element {
    /// Any number of characters.
    Any,
    /// One character.
    One,
    /// The given character.
    Character(char),
    /// One character that is in one of the given ranges, or in none of them.
    Set {
        ranges: Vec<(char, char)>,
        is_inverted: bool,
    },
    /// An element that matches nothing, because the pattern is malformed at this point.
    Nothing,
}

impl Element {
    /// Returns how many steps a comparison takes in addition to the first one.
    fn size(&self) -> u64 {
        match self {
            Element::Set { ranges, .. } => ranges.len() as u64,
            _ => 0,
        }
    }
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    elements: Vec<Element>,
    /// Whether the case of ASCII letters is ignored.
    ignores_case: bool,
}

/// The error for a search that was stopped before its result was known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stopped;

impl Pattern {
    /// Parses a `LIKE` pattern. The character after an escape stands for itself.
    pub(super) fn like(pattern: &str, escape: Option<char>, ignores_case: bool) -> Pattern {
        let mut elements = Vec::new();
        let mut rest = pattern.chars();
        while let Some(character) = rest.next() {
            elements.push(match character {
                _ if Some(character) == escape => {
                    rest.next().map_or(Element::Nothing, Element::Character)
                }
                '%' => Element::Any,
                '_' => Element::One,
                other => Element::Character(other),
            });
        }
        Pattern {
            elements,
            ignores_case,
        }
    }

    /// Parses a `GLOB` pattern.
    pub(super) fn glob(pattern: &str) -> Pattern {
        let mut elements = Vec::new();
        let mut rest = pattern.chars();
        while let Some(character) = rest.next() {
            elements.push(match character {
                '*' => Element::Any,
                '?' => Element::One,
                '[' => set(&mut rest),
                other => Element::Character(other),
            });
        }
        Pattern {
            elements,
            ignores_case: false,
        }
    }

    /// Returns whether the whole text matches. `go_on` is called from time to time with the number
    /// of steps since the last call, and returns whether to continue.
    pub(super) fn matches(
        &self,
        text: &str,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<bool, Stopped> {
        let (mut at, mut rest) = (0, text.chars());
        // Where the search continues if the elements after the last `Any` do not match.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        let mut steps = 0;
        loop {
            if steps >= STEPS && !go_on(std::mem::take(&mut steps)) {
                return Err(Stopped);
            }
            steps += 1;
            if let Some(Element::Any) = self.elements.get(at) {
                at += 1;
                if at == self.elements.len() {
                    return Ok(true);
                }
                retry = Some((at, rest.clone()));
                continue;
            }
            let mut next = rest.clone();
            let is_match = match (self.elements.get(at), next.next()) {
                (None, None) => return Ok(true),
                // Only `Any` can match an empty string, so no shorter rest matches either.
                (Some(_), None) => return Ok(false),
                (None, Some(_)) => false,
                (Some(element), Some(character)) => {
                    steps += element.size();
                    self.is_match(element, character)
                }
            };
            if is_match {
                (at, rest) = (at + 1, next);
                continue;
            }
            let Some((after, from)) = &mut retry else {
                return Ok(false);
            };
            if from.next().is_none() {
                return Ok(false);
            }
            (at, rest) = (*after, from.clone());
        }
    }

    fn is_match(&self, element: &Element, character: char) -> bool {
        match element {
            Element::One => true,
            Element::Character(expected) if self.ignores_case => {
                expected.eq_ignore_ascii_case(&character)
            }
            Element::Character(expected) => *expected == character,
            Element::Set {
                ranges,
                is_inverted,
            } => {
                let is_in = ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&character));
                is_in != *is_inverted
            }
            Element::Any | Element::Nothing => false,
        }
    }
}

/// Parses the part of a set that follows the `[`. A `]` in the first position belongs to the set.
fn set(rest: &mut std::str::Chars<'_>) -> Element {
    let is_inverted = rest.as_str().starts_with('^');
    if is_inverted {
        rest.next();
    }
    let mut ranges = Vec::new();
    if rest.as_str().starts_with(']') {
        rest.next();
        ranges.push((']', ']'));
    }
    // The character that becomes the start of a range if a `-` follows.
    let mut first = None;
    loop {
        let Some(character) = rest.next() else {
            return Element::Nothing;
        };
        let is_range = character == '-' && !rest.as_str().is_empty();
        match first {
            _ if character == ']' => break,
            Some(start) if is_range && !rest.as_str().starts_with(']') => {
                let last = rest.next().expect("the rest is not empty");
                ranges.push((start, last));
                first = None;
            }
            _ => {
                ranges.push((character, character));
                first = Some(character);
            }
        }
    }
    Element::Set {
        ranges,
        is_inverted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(pattern: &str, text: &str) -> bool {
        Pattern::like(pattern, Some('!'), true)
            .matches(text, |_| true)
            .expect("the search is not stopped")
    }

    fn glob(pattern: &str, text: &str) -> bool {
        Pattern::glob(pattern)
            .matches(text, |_| true)
            .expect("the search is not stopped")
    }

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("%b", "abc", false),
            ("a_c", "abc", true),
            ("A_C", "abc", true),
            ("a__c", "abc", false),
            ("%_", "", false),
            ("%a%a%", "aba", true),
            ("%ab%ab", "abaab", true),
            ("100!%", "100%", true),
            ("100!%", "1000", false),
            ("ä", "Ä", false),
            ("%!", "a!", false),
        ] {
            assert_eq!(like(pattern, text), expected, "{text} LIKE {pattern}");
        }
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("A*c", "abc", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[^]x]", "]", false),
            ("[a-]", "-", true),
            ("[a", "a", false),
            ("*[0-9]", "abc7", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{text} GLOB {pattern}");
        }
    }

    #[test]
    fn the_steps_are_counted_and_the_search_can_be_stopped() {
        let (pattern, text) = (format!("%{}b", "_a".repeat(100)), "a".repeat(1_000_000));
        let pattern = Pattern::like(&pattern, None, true);
        let mut counted = 0;
        let stopped = pattern.matches(&text, |steps| {
            counted += steps;
            counted < 100_000
        });
        assert_eq!(stopped, Err(Stopped));
        assert!(counted < 100_000 + STEPS);
    }
}
