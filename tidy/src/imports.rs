//! Finds out which files in a crate use which others.
//!
//! Paths are followed as the compiler follows them, through `use`, globs and re-exports, to the
//! file that defines the name. Method calls are not followed, because the name of the method's type
//! usually occurs in the file too. Tests in source files are ignored.

use crate::circles::circles;
use crate::tree::root;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// A crate's files, and what each of them uses from the others.
pub struct Crate {
    files: Vec<String>,
    uses: BTreeMap<(usize, usize), BTreeSet<String>>,
}

impl Crate {
    /// Reads the crate in a directory of the workspace: its library or, if it does not have one,
    /// its program.
    ///
    /// # Panics
    ///
    /// Panics if a file is missing or is not valid Rust.
    pub fn read(directory: &str) -> Crate {
        let source = root().join(directory).join("src");
        let main = ["lib.rs", "main.rs"]
            .map(|name| source.join(name))
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("{directory} has neither src/lib.rs nor src/main.rs"));
        let mut reader = Reader::default();
        let file = reader.file(&main);
        let module = reader.module(file, None, source);
        reader.items(module, tokens(&main));
        reader.finish()
    }

    /// Returns the files' paths, relative to the root of the workspace.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Returns all sets of files that import each other in a cycle, largest first.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let names =
            |circle: Vec<usize>| circle.into_iter().map(|file| &*self.files[file]).collect();
        circles(&self.edges()).into_iter().map(names).collect()
    }

    /// Returns the imports between the given files, in the form `from → to: names`.
    pub fn ties(&self, among: &[&str]) -> Vec<String> {
        let is_among = |file: usize| among.contains(&&*self.files[file]);
        let ties = self.uses.iter();
        let ties = ties.filter(|((from, to), _)| is_among(*from) && is_among(*to));
        ties.map(|((from, to), names)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            format!(
                "{} → {}: {}",
                self.files[*from],
                self.files[*to],
                names.join(", ")
            )
        })
        .collect()
    }

    /// Returns the shortest chain of imports from a file that `from` accepts to a file that `to`
    /// accepts, or `None` if there is no such chain.
    pub fn way(&self, from: impl Fn(&str) -> bool, to: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
        let edges = self.edges();
        let mut before: Vec<Option<usize>> = vec![None; self.files.len()];
        let mut seen: Vec<bool> = self.files.iter().map(|file| from(file)).collect();
        let mut open: VecDeque<usize> = (0..seen.len()).filter(|&file| seen[file]).collect();
        while let Some(file) = open.pop_front() {
            if to(&self.files[file]) && !from(&self.files[file]) {
                let chain = std::iter::successors(Some(file), |&file| before[file]);
                let mut chain: Vec<&str> = chain.map(|file| &*self.files[file]).collect();
                chain.reverse();
                return Some(chain);
            }
            for &next in &edges[file] {
                if !std::mem::replace(&mut seen[next], true) {
                    before[next] = Some(file);
                    open.push_back(next);
                }
            }
        }
        None
    }

    fn edges(&self) -> Vec<Vec<usize>> {
        let mut edges = vec![Vec::new(); self.files.len()];
        for &(from, to) in self.uses.keys() {
            edges[from].push(to);
        }
        edges
    }
}

/// What a name refers to.
#[derive(Clone, Copy)]
enum Item {
    Module(usize),
    /// Any other item, defined in this file.
    Definition(usize),
}

struct Module {
    file: usize,
    parent: Option<usize>,
    /// Where the files of its child modules are.
    directory: PathBuf,
    items: HashMap<String, Item>,
    /// The names introduced by `use`, and the path that each stands for.
    aliases: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Every path in the code, including single names.
    mentions: BTreeSet<Vec<String>>,
}

#[derive(Default)]
struct Reader {
    files: Vec<PathBuf>,
    modules: Vec<Module>,
}

fn tokens(path: &Path) -> Vec<TokenTree> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tokens: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    tokens.into_iter().collect()
}

/// Returns whether an attribute excludes its item from the crate that users get.
fn is_for_tests(attribute: &str) -> bool {
    let attribute = attribute.replace(' ', "");
    attribute.starts_with("cfg(test)") || attribute.starts_with("cfg(all(test,")
}

fn punctuation(token: Option<&TokenTree>) -> Option<char> {
    match token {
        Some(TokenTree::Punct(punctuation)) => Some(punctuation.as_char()),
        _ => None,
    }
}

fn identifier(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(name)) => Some(name.to_string()),
        _ => None,
    }
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    }
}

impl Reader {
    fn file(&mut self, path: &Path) -> usize {
        self.files.push(path.to_owned());
        self.files.len() - 1
    }

    fn module(&mut self, file: usize, parent: Option<usize>, directory: PathBuf) -> usize {
        self.modules.push(Module {
            file,
            parent,
            directory,
            items: HashMap::new(),
            aliases: HashMap::new(),
            globs: Vec::new(),
            mentions: BTreeSet::new(),
        });
        self.modules.len() - 1
    }

    /// Reads a module's items.
    fn items(&mut self, module: usize, tokens: Vec<TokenTree>) {
        self.read(module, tokens, true);
    }

    /// Reads tokens. If `are_items` is set, they are the module's items and not the body of an
    /// item, and their definitions become the module's own.
    fn read(&mut self, module: usize, tokens: Vec<TokenTree>, are_items: bool) {
        let mut at = 0;
        let mut skips_next = false;
        let mut path = None;
        while at < tokens.len() {
            let token = &tokens[at];
            let next = tokens.get(at + 1);
            if let (Some('#'), Some(attribute)) =
                (punctuation(Some(token)), group(next, Delimiter::Bracket))
            {
                let text: String = attribute.iter().map(|token| format!("{token} ")).collect();
                skips_next |= is_for_tests(&text);
                if text.starts_with("path = ") {
                    path = text.split('"').nth(1).map(str::to_string);
                }
                self.read(module, attribute, false);
                at += 2;
                continue;
            }
            if skips_next {
                at = end_of_item(&tokens, at);
                (skips_next, path) = (false, None);
                continue;
            }
            match identifier(Some(token)).as_deref() {
                Some("mod") => {
                    if let Some(name) = identifier(next) {
                        self.child(module, &name, path.take(), tokens.get(at + 2));
                        at += 3;
                        continue;
                    }
                }
                Some("use") => {
                    let end = end_of_item(&tokens, at);
                    self.imports(module, &tokens[at + 1..end], Vec::new());
                    at = end;
                    continue;
                }
                Some(
                    "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static",
                ) if are_items => {
                    if let Some(name) = identifier(next)
                        .filter(|name| !matches!(name.as_str(), "fn" | "unsafe" | "mut"))
                    {
                        self.define(module, name);
                    }
                }
                Some("macro_rules") => {
                    if let Some(name) = identifier(tokens.get(at + 2)) {
                        self.define(module, name);
                    }
                }
                _ => {}
            }
            match token {
                TokenTree::Group(group) => {
                    // This group is the body of an implementation or function, or a macro's input.
                    self.read(module, group.stream().into_iter().collect(), false);
                    at += 1;
                }
                TokenTree::Ident(name) => {
                    let mut mention = vec![name.to_string()];
                    at += 1;
                    while let (Some(':'), Some(':'), Some(name)) = (
                        punctuation(tokens.get(at)),
                        punctuation(tokens.get(at + 1)),
                        identifier(tokens.get(at + 2)),
                    ) {
                        mention.push(name);
                        at += 3;
                    }
                    self.modules[module].mentions.insert(mention);
                }
                _ => at += 1,
            }
        }
    }

    fn define(&mut self, module: usize, name: String) {
        let file = self.modules[module].file;
        self.modules[module]
            .items
            .insert(name, Item::Definition(file));
    }

    fn child(&mut self, parent: usize, name: &str, path: Option<String>, body: Option<&TokenTree>) {
        let directory = self.modules[parent].directory.join(name);
        let (child, body) = match group(body, Delimiter::Brace) {
            Some(body) => {
                let file = self.modules[parent].file;
                (self.module(file, Some(parent), directory), body)
            }
            None => {
                let path = match path {
                    Some(path) => {
                        let file = &self.files[self.modules[parent].file];
                        file.parent().expect("a file is in a directory").join(path)
                    }
                    None => directory.with_extension("rs"),
                };
                let file = self.file(&path);
                (self.module(file, Some(parent), directory), tokens(&path))
            }
        };
        self.modules[parent]
            .items
            .insert(name.to_string(), Item::Module(child));
        self.items(child, body);
    }

    /// Reads the tree after `use`, which continues `path`.
    fn imports(&mut self, module: usize, tokens: &[TokenTree], path: Vec<String>) {
        for tree in tokens.split(|token| punctuation(Some(token)) == Some(',')) {
            let mut path = path.clone();
            let mut alias = None;
            let mut at = 0;
            while at < tree.len() {
                if let Some(name) = identifier(tree.get(at)) {
                    if name == "as" {
                        alias = identifier(tree.get(at + 1));
                        break;
                    }
                    path.push(name);
                } else if punctuation(tree.get(at)) == Some('*') {
                    self.modules[module].globs.push(std::mem::take(&mut path));
                } else if let Some(inner) = group(tree.get(at), Delimiter::Brace) {
                    self.imports(module, &inner, std::mem::take(&mut path));
                }
                at += 1;
            }
            if path.last().is_some_and(|name| name == "self") && path.len() > 1 {
                path.pop();
            }
            let Some(last) = path.last().cloned() else {
                continue;
            };
            self.modules[module].mentions.insert(path.clone());
            let alias = alias.unwrap_or(last);
            if path.len() > 1 || alias != path[0] {
                self.modules[module].aliases.insert(alias, path);
            }
        }
    }

    /// Finds the item that a path refers to, if it is in this crate.
    fn resolve(&self, module: usize, path: &[String], depth: usize) -> Option<Item> {
        let (first, mut rest) = path.split_first()?;
        let mut item = match first.as_str() {
            "crate" => Item::Module(0),
            "self" => Item::Module(module),
            "super" => Item::Module(self.modules[module].parent?),
            name => self.look_up(module, name, depth)?,
        };
        while let (Item::Module(inner), Some((name, after))) = (item, rest.split_first()) {
            item = match name.as_str() {
                "super" => Item::Module(self.modules[inner].parent?),
                name => self.look_up(inner, name, depth)?,
            };
            rest = after;
        }
        Some(item)
    }

    fn look_up(&self, module: usize, name: &str, depth: usize) -> Option<Item> {
        // The aliases in modules that import each other with globs refer to each other, so
        // following them would never end.
        let depth = depth.checked_sub(1)?;
        let found = &self.modules[module];
        if let Some(&item) = found.items.get(name) {
            return Some(item);
        }
        if let Some(path) = found.aliases.get(name) {
            return self.resolve(module, path, depth);
        }
        found
            .globs
            .iter()
            .find_map(|path| match self.resolve(module, path, depth)? {
                Item::Module(inner) if inner != module => self.look_up(inner, name, depth),
                _ => None,
            })
    }

    fn finish(self) -> Crate {
        let mut uses: BTreeMap<(usize, usize), BTreeSet<String>> = BTreeMap::new();
        for (number, module) in self.modules.iter().enumerate() {
            for mention in &module.mentions {
                let Some(Item::Definition(file)) = self.resolve(number, mention, 16) else {
                    continue;
                };
                if file != module.file {
                    let name = mention.last().expect("a path has a name").clone();
                    uses.entry((module.file, file)).or_default().insert(name);
                }
            }
        }
        let root = root();
        let name = |path: PathBuf| {
            let path = path.strip_prefix(&root).unwrap_or(&path).to_owned();
            path.to_string_lossy().into_owned()
        };
        Crate {
            files: self.files.into_iter().map(name).collect(),
            uses,
        }
    }
}

/// Returns the position after the item that begins at `at`. The item ends with a `;` or with
/// braces.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let is_end = |token: &TokenTree| {
        punctuation(Some(token)) == Some(';') || group(Some(token), Delimiter::Brace).is_some()
    };
    let is_import = identifier(tokens.get(at)).is_some_and(|word| word == "use");
    let mut end = at;
    while end < tokens.len() {
        let is_over = match is_import {
            true => punctuation(tokens.get(end)) == Some(';'),
            false => is_end(&tokens[end]),
        };
        end += 1;
        if is_over {
            break;
        }
    }
    end
}
