//! `lunatic functions`: lists a service's functions.

use crate::client;
use crate::command_line::Functions;
use crate::failure::{Failure, Outcome};
use crate::stdout;
use lunatic_vm::printable;
use serde_json::Value;

/// The tables' headings.
const COLUMNS: [&str; 7] = [
    "NAME", "STATE", "VERSION", "KIND", "POLICY", "DEPLOYED", "HASH",
];
const VERSION_COLUMNS: [&str; 5] = ["VERSION", "SERVING", "SIZE", "DEPLOYED", "HASH"];

/// How many digits of a hash to show.
const DIGITS: usize = 12;

/// Prints all functions, or a single function with its versions.
pub(crate) fn functions(functions: &Functions) -> Outcome {
    let path = match &functions.name {
        Some(name) => format!("/functions/{}", client::segment(name)),
        None => "/functions".to_string(),
    };
    let answer = client::block_on(async {
        client::read(client::ask(&functions.deployer, &path, "application/json").await?).await
    })?;
    let value: Value = serde_json::from_slice(&answer)
        .map_err(|error| Failure::new(format!("the response is not JSON: {error}")))?;
    let text = match (&functions.name, functions.json) {
        (_, true) => format!("{value:#}\n"),
        (None, _) => table(
            &COLUMNS,
            value["functions"].as_array().into_iter().flatten().map(row),
        ),
        (Some(_), _) => {
            let all = table(&COLUMNS, std::iter::once(row(&value)));
            let versions = value["versions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(version_row);
            format!("{all}\n{}", table(&VERSION_COLUMNS, versions))
        }
    };
    stdout::print(text.as_bytes())?;
    Ok(0)
}

fn row(function: &Value) -> Vec<String> {
    let mut row: Vec<_> = ["name", "state", "version", "kind", "policy", "deployed"]
        .map(|key| cell(&function[key]))
        .into();
    row.push(hash(&function["hash"]));
    if let Some(why) = function["error"].as_str() {
        row.push(printable(why).into_owned());
    }
    row
}

fn version_row(version: &Value) -> Vec<String> {
    let is_serving = version["serving"].as_bool().unwrap_or_default();
    let is_serving = if is_serving { "*" } else { "" }.to_string();
    let [number, size, deployed] = ["version", "size", "deployed"].map(|key| cell(&version[key]));
    vec![number, is_serving, size, deployed, hash(&version["hash"])]
}

fn hash(value: &Value) -> String {
    cell(value).chars().take(DIGITS).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_string(),
        Value::String(text) => printable(&text.replace('\n', " ")).into_owned(),
        other => other.to_string(),
    }
}

/// Formats rows below a heading, making each column as wide as its widest cell. Cells beyond the
/// last column are appended to the line.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|column| (*column).to_string()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows[0].len();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| match widths.get(column) {
                Some(width) => format!("{cell:width$}"),
                None => cell.clone(),
            });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let functions = [
            json!({ "name": "hello", "state": "serving", "version": 12, "kind": "spark", "policy": "fresh",
                    "deployed": "2026-01-31T12:00:00Z", "hash": "0123456789abcdef" }),
            json!({ "name": "a-longer-name", "state": "broken", "version": null, "error": "it is \u{1b}[2Jnot there" }),
        ];
        let expected = "\
NAME           STATE    VERSION  KIND   POLICY  DEPLOYED              HASH
hello          serving  12       spark  fresh   2026-01-31T12:00:00Z  0123456789ab
a-longer-name  broken   -        -      -       -                     -             it is \\u{1b}[2Jnot there
";
        assert_eq!(table(&COLUMNS, functions.iter().map(row)), expected);
    }
}
