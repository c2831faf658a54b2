//! Guests in text format.

/// Returns a program whose main process runs `body`. The program has functions to print from its
/// memory, read into its memory, exit, and spawn an export.
pub(crate) fn guest(body: &str) -> String {
    with(body, "")
}

/// Like [`guest`], but adds `more` to the module.
pub(crate) fn with(body: &str, more: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $prestat_name (param i32 i32 i32) (result i32)))
            (import "lunatic::process" "spawn" (func $spawn_in (param i64 i64 i64 i32 i32 i32 i32 i32) (result i32)))
            (import "lunatic::process" "process_id" (func $this (result i64)))
            (import "lunatic::process" "kill" (func $kill (param i64)))
            (import "lunatic::message" "receive" (func $receive_tagged (param i32 i32 i64) (result i32)))
            (memory (export "memory") 8)
            (global $own i64 (i64.const -1))
            (global $forever i64 (i64.const -1))

            ;; Writes bytes to a stream, and returns the result of the WASI function.
            (func $write (param $stream i32) (param $address i32) (param $length i32) (result i32)
                (i32.store (i32.const 16) (local.get $address))
                (i32.store (i32.const 20) (local.get $length))
                (call $fd_write (local.get $stream) (i32.const 16) (i32.const 1) (i32.const 24)))
            (func $print (param $address i32) (param $length i32)
                (drop (call $write (i32.const 1) (local.get $address) (local.get $length))))
            ;; Reads from standard input, and returns the number of bytes. Traps if the call fails.
            (func $read (param $address i32) (param $length i32) (result i32)
                (i32.store (i32.const 16) (local.get $address))
                (i32.store (i32.const 20) (local.get $length))
                (if (call $fd_read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 24)) (then unreachable))
                (i32.load (i32.const 24)))
            ;; Spawns a process that runs the export whose name is in memory. The process is linked
            ;; if there is a tag.
            (func $spawn (param $tag i64) (param $name i32) (param $length i32) (result i32)
                (call $spawn_in (local.get $tag) (global.get $own) (global.get $own)
                    (local.get $name) (local.get $length) (i32.const 0) (i32.const 0) (i32.const 40)))
            (func $receive (result i32)
                (call $receive_tagged (i32.const 0) (i32.const 0) (global.get $forever)))
            {more}
            (func (export "_start") {body}))"#
    )
}

/// Returns a data segment with text at address 1024, and the instructions that print it.
pub(crate) fn print(text: &str) -> (String, String) {
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    (
        format!("(data (i32.const 1024) \"{escaped}\")"),
        format!("(call $print (i32.const 1024) (i32.const {}))", text.len()),
    )
}
