//! Problems in project files, with their positions.

use lunatic_vm::printable;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that has been read. Problems quote its lines.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A byte range in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A problem in a project file.
#[derive(Clone, Debug)]
pub struct Problem {
    source: Arc<Source>,
    /// Where the problem is, or `None` if it concerns the whole file.
    span: Option<Span>,
    message: String,
    help: Option<String>,
}

/// The error for a project file that cannot be used. The message lists each problem with its file,
/// line and column, the quoted line and how to fix it.
#[derive(Clone, Debug)]
pub struct ProjectError {
    problems: Vec<Problem>,
}

/// The maximum number of problems to show.
const MAX_SHOWN: usize = 20;

/// The maximum number of characters of a line to show.
const MAX_WIDTH: usize = 160;

impl Problem {
    /// Creates a problem at the given place.
    pub(super) fn new(
        source: &Arc<Source>,
        span: Option<Span>,
        message: String,
        help: Option<String>,
    ) -> Problem {
        Problem {
            source: source.clone(),
            span,
            message,
            help,
        }
    }

    /// Returns the file that has the problem.
    pub fn file(&self) -> &Path {
        &self.source.path
    }

    /// Returns the line and the column where the problem begins. Both are counted from 1;
    /// columns are counted in characters. Returns `None` if the problem concerns the whole file.
    pub fn place(&self) -> Option<(usize, usize)> {
        let start = self.start()?;
        let before = &self.source.text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before[before.rfind('\n').map_or(0, |end| end + 1)..]
            .chars()
            .count()
            + 1;
        Some((line, column))
    }

    /// Returns the problem's description.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns how to fix the problem.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Returns the byte offset where the problem begins, moved back to the start of a character.
    fn start(&self) -> Option<usize> {
        let text = &self.source.text;
        let start = self.span?.start.min(text.len());
        (0..=start)
            .rev()
            .find(|start| text.is_char_boundary(*start))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", printable(&self.message))?;
        let path = self.source.path.display().to_string();
        let mut margin = 1;
        match (self.place(), self.start(), self.span) {
            (Some((line, column)), Some(start), Some(span)) => {
                let text = &self.source.text;
                let whole = text.lines().nth(line - 1).unwrap_or_default();
                // Terminals differ in tab width. Replacing each tab with a space keeps the marks
                // aligned.
                let shown: String = whole
                    .chars()
                    .take(MAX_WIDTH)
                    .collect::<String>()
                    .replace('\t', " ");
                let width = text
                    .get(start..span.end.min(text.len()))
                    .map_or(1, |marked| {
                        marked.lines().next().map_or(1, |line| line.chars().count())
                    });
                let before = (column - 1).min(MAX_WIDTH);
                let marks = "^".repeat(width.clamp(1, (MAX_WIDTH - before).max(1)));
                margin = line.to_string().len();
                writeln!(f, "{:margin$}--> {}:{line}:{column}", "", printable(&path))?;
                writeln!(f, "{:margin$} |", "")?;
                writeln!(f, "{line} | {}", printable(&shown))?;
                write!(f, "{:margin$} | {:before$}{marks}", "", "")?;
            }
            _ => write!(f, "{:margin$}--> {}", "", printable(&path))?,
        }
        match &self.help {
            Some(help) => write!(f, "\n{:margin$} = help: {}", "", printable(help)),
            None => Ok(()),
        }
    }
}

impl ProjectError {
    /// Fails if there are any problems. Sorts them by file and position.
    pub(super) fn of(mut problems: Vec<Problem>) -> Result<(), ProjectError> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by_key(|problem| problem.span.map(|span| span.start));
        // Both sorts are stable, so files stay in the order in which they were read.
        let mut files: Vec<PathBuf> = Vec::new();
        for problem in &problems {
            if !files.iter().any(|file| file == problem.file()) {
                files.push(problem.file().to_path_buf());
            }
        }
        problems.sort_by_key(|problem| files.iter().position(|file| file == problem.file()));
        Err(ProjectError { problems })
    }

    /// Creates an error for a problem that concerns a whole file.
    pub(super) fn of_file(path: &Path, message: String) -> ProjectError {
        let source = Arc::new(Source {
            path: path.to_path_buf(),
            text: String::new(),
        });
        ProjectError {
            problems: vec![Problem::new(&source, None, message, None)],
        }
    }

    /// Returns the problems.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

impl fmt::Display for ProjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().take(MAX_SHOWN).enumerate() {
            if number > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        match self.problems.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            1 => f.write_str("\n\nerror: 1 more problem is not shown"),
            more => write!(f, "\n\nerror: {more} more problems are not shown"),
        }
    }
}

impl std::error::Error for ProjectError {}

/// The minimum similarity, from 0 to 1, between a word and the one to suggest for it.
const MIN_SIMILARITY: f64 = 0.7;

/// Suggests the word that was probably meant, or else lists all words. `kind` is a plural noun for
/// them.
pub(super) fn suggestion<'a>(
    written: &str,
    kind: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> String {
    let mut words: Vec<&str> = words.into_iter().collect();
    words.sort_unstable();
    let similarity = |word: &str| strsim::normalized_damerau_levenshtein(word, written);
    let near = words
        .iter()
        .copied()
        .max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    match near {
        None => format!("there are no {kind}"),
        Some(near) if similarity(near) >= MIN_SIMILARITY => format!("did you mean `{near}`?"),
        Some(_) => format!("expected {}", list(&words)),
    }
}

/// Joins alternatives into a phrase: "`a`", "`a` or `b`", or "one of `a`, `b` or `c`".
pub(super) fn list(words: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("`{}`", word.as_ref()))
        .collect();
    match quoted.split_last() {
        Some((last, [first])) => format!("{first} or {last}"),
        Some((last, others @ [_, ..])) => format!("one of {} or {last}", others.join(", ")),
        _ => quoted.join(""),
    }
}
