//! What a guest's SQL may do, as decided when a statement is prepared.
//!
//! A statement may use only the database that was opened and temporary storage in memory. Anything
//! that would access another file, load code, affect the whole machine or remove the database's own
//! protection is rejected with an explanation.

use super::control::{Control, MAX_FUNCTION_CALLS};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Pragmas that only report something, or only change how this connection uses its own database.
const ALLOWED: &[&str] = &[
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "automatic_index",
    "cache_size",
    "cache_spill",
    "cell_size_check",
    "checkpoint_fullfsync",
    "collation_list",
    "compile_options",
    "count_changes",
    "data_version",
    "database_list",
    "default_cache_size",
    "defer_foreign_keys",
    "empty_result_callbacks",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "full_column_names",
    "fullfsync",
    "function_list",
    "ignore_check_constraints",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "journal_mode",
    "journal_size_limit",
    "legacy_alter_table",
    "legacy_file_format",
    "locking_mode",
    "max_page_count",
    "module_list",
    "optimize",
    "page_count",
    "page_size",
    "pragma_list",
    "query_only",
    "quick_check",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "short_column_names",
    "shrink_memory",
    "synchronous",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
    "wal_autocheckpoint",
    "wal_checkpoint",
];

/// Pragmas that programs set for speed and that have no effect here: files are not mapped,
/// temporary data is kept in memory, and there is one thread.
const IGNORED: &[&str] = &["mmap_size", "temp_store", "threads"];

/// Pragmas that may be read but not set.
const READ_ONLY: &[&str] = &["schema_version", "trusted_schema", "writable_schema"];

/// The functions that a guest may call, and those that `ALTER TABLE` calls. They run in time linear
/// in the size of their arguments, or they stop when the call is interrupted. Other functions reach
/// beyond the database, belong to virtual tables that are not available, or take too long, such as
/// `json_patch` with two large objects.
const FUNCTIONS: &[&str] = &[
    "->",
    "->>",
    "abs",
    "avg",
    "changes",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "dense_rank",
    "first_value",
    "format",
    "glob",
    "group_concat",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_insert",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_array_insert",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "julianday",
    "lag",
    "last_insert_rowid",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "lower",
    "ltrim",
    "max",
    "min",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "printf",
    "quote",
    "random",
    "randomblob",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "soundex",
    "sqlite_add_constraint",
    "sqlite_compileoption_get",
    "sqlite_compileoption_used",
    "sqlite_drop_column",
    "sqlite_drop_constraint",
    "sqlite_fail",
    "sqlite_find_constraint",
    "sqlite_rename_column",
    "sqlite_rename_quotefix",
    "sqlite_rename_table",
    "sqlite_rename_test",
    "sqlite_source_id",
    "sqlite_version",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "subtype",
    "sum",
    "time",
    "timediff",
    "total",
    "total_changes",
    "trim",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unistr_quote",
    "unixepoch",
    "unlikely",
    "upper",
    "zeroblob",
];

/// Table functions that, if given a path, search the document once for each of its characters.
const JSON_TREES: &[&str] = &["json_tree", "jsonb_tree"];

/// Returns whether a pragma's value means true.
fn is_true(value: &str) -> bool {
    let is = |yes: &&str| value.eq_ignore_ascii_case(yes);
    ["on", "yes", "true"].iter().any(is) || value.parse().is_ok_and(|number: i64| number != 0)
}

/// Decides whether a statement may perform an action.
pub(super) fn authorize(control: &Control, context: &AuthContext<'_>) -> Authorization {
    let is_in =
        |names: &[&str], name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name));
    let refuse = |what: String| {
        control.refuse(what);
        Authorization::Deny
    };
    // The statement is prepared again outside the step, where it is checked.
    if control.is_preparing_again() {
        return Authorization::Deny;
    }
    match context.action {
        // `VACUUM` attaches a database without a name, which is kept in memory.
        AuthAction::Attach { filename: "" } => Authorization::Allow,
        AuthAction::Attach { .. } => refuse(
            "a connection has only one database; open another connection for each additional database".into(),
        ),
        AuthAction::Function { function_name } if !is_in(FUNCTIONS, function_name) => {
            refuse(format!(
                "the function `{}` is not available to guests",
                lunatic_process::printable(function_name)
            ))
        }
        AuthAction::Function { .. } if !control.count_function() => refuse(format!(
            "a statement can call at most {MAX_FUNCTION_CALLS} functions; split the statement"
        )),
        AuthAction::Read { table_name, .. } if is_in(JSON_TREES, table_name) => {
            if context.accessor.is_some() {
                return refuse(format!(
                    "`{table_name}` is not available in views and triggers"
                ));
            }
            control.note_json_tree();
            Authorization::Allow
        }
        // This pragma would make SQLite switch back to its own `LIKE`.
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } if is_in(&["case_sensitive_like"], pragma_name) => {
            if let Some(value) = pragma_value {
                control.set_like_case_sensitive(is_true(value));
            }
            Authorization::Ignore
        }
        // SQLite would block a thread while waiting; the VM waits without blocking a thread.
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } if is_in(&["busy_timeout"], pragma_name) => {
            if let Some(milliseconds) = pragma_value.and_then(|value| value.parse().ok()) {
                control.set_busy_timeout(milliseconds);
            }
            Authorization::Ignore
        }
        AuthAction::Pragma { pragma_name, .. } if is_in(ALLOWED, pragma_name) => {
            Authorization::Allow
        }
        AuthAction::Pragma { pragma_name, .. } if is_in(IGNORED, pragma_name) => {
            Authorization::Ignore
        }
        AuthAction::Pragma {
            pragma_name,
            pragma_value: None,
        } if is_in(READ_ONLY, pragma_name) => Authorization::Allow,
        AuthAction::Pragma { pragma_name, .. } => refuse(format!(
            "`PRAGMA {}` is not available to guests",
            lunatic_process::printable(pragma_name)
        )),
        // This covers actions added in newer SQLite versions, and names that are computed only when
        // the statement runs.
        AuthAction::Unknown { .. } => {
            refuse("what this statement does cannot be determined when it is prepared".into())
        }
        _ => Authorization::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pragma_is_listed_twice() {
        let all: Vec<&str> = [ALLOWED, IGNORED, READ_ONLY].concat();
        for (index, name) in all.iter().enumerate() {
            assert!(!all[..index].contains(name), "{name} is listed twice");
        }
    }

    /// The SQLite functions that guests cannot call. They belong to virtual tables, reach beyond
    /// the database, or take too long.
    const REFUSED: &[&str] = &[
        "bm25",
        "fts3_tokenizer",
        "fts5",
        "fts5_get_locale",
        "fts5_insttoken",
        "fts5_locale",
        "fts5_source_id",
        "highlight",
        "json_patch",
        "jsonb_patch",
        "load_extension",
        "match",
        "matchinfo",
        "offsets",
        "optimize",
        "rtreecheck",
        "rtreedepth",
        "rtreenode",
        "snippet",
        "sqlite_log",
    ];

    #[test]
    fn each_function_of_sqlite_is_available_or_refused_on_purpose() {
        let connection = rusqlite::Connection::open_in_memory().expect("memory is available");
        let names = "SELECT DISTINCT name FROM pragma_function_list";
        let mut names = connection.prepare(names).expect("the SQL is valid");
        let names = names.query_map([], |row| row.get(0));
        let names: Result<Vec<String>, _> =
            names.expect("the statement has no parameters").collect();
        for name in names.expect("function names are UTF-8") {
            let name = name.as_str();
            assert!(
                FUNCTIONS.contains(&name) != REFUSED.contains(&name),
                "does `{name}` run in time linear in its arguments, or stop when the call is interrupted?"
            );
        }
    }
}
