//! What a guest's SQL may do, as decided when a statement is prepared.
//!
//! A statement may use only the database that was opened and temporary storage in memory. Anything
//! that would reach another file, load code, affect the whole machine or remove the database's own
//! protection is refused with an explanation.

use super::Control;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Pragmas that only report something, or only change how this connection uses its own database.
const ALLOWED: &[&str] = &[
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "automatic_index",
    "cache_size",
    "cache_spill",
    "case_sensitive_like",
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

/// Functions that reach beyond the database.
const FORBIDDEN_FUNCTIONS: &[&str] = &["load_extension", "fts3_tokenizer"];

/// Decides whether a statement may perform an action.
pub(super) fn authorize(control: &Control, context: &AuthContext<'_>) -> Authorization {
    let is_in =
        |names: &[&str], name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name));
    let refuse = |what: String| {
        control.refuse(what);
        Authorization::Deny
    };
    match context.action {
        // `VACUUM` attaches a database without a name, which is kept in memory.
        AuthAction::Attach { filename: "" } => Authorization::Allow,
        AuthAction::Attach { .. } => refuse(
            "a connection has only one database; open a separate connection for each further database".into(),
        ),
        AuthAction::Function { function_name } if is_in(FORBIDDEN_FUNCTIONS, function_name) => {
            refuse(format!(
                "the function `{function_name}` is not available to guests"
            ))
        }
        // SQLite would block a thread while waiting; the VM waits without blocking one.
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
            crate::printable::printable(pragma_name)
        )),
        // These are actions of newer SQLite versions, and names that are computed only when the
        // statement runs.
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
}
