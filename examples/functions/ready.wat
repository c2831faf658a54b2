;; A function that doesn't have to be built. It writes its response to standard output.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\2d\00\00\00")
  (data (i32.const 16) "HTTP/1.1 200 OK\0d\0acontent-length: 7\0d\0a\0d\0aready.\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
