;; Functions in the simplest form: the argument is at an index, and the result overwrites it.
(module
  (memory (export "memory") 1)

  (func (export "echo") (param $index i32) (param $length i32) (result i32)
    (local.get $length))

  ;; Returns the address that the argument was written to, as a number.
  (func (export "index") (param $index i32) (param $length i32) (result i32)
    (call $number (local.get $index) (local.get $index)))

  (func (export "image_size") (param $index i32) (param $length i32) (param $width i32) (param $height i32) (result i32)
    (local $end i32)
    (local.set $end (call $text (local.get $index) (i32.const 0) (i32.const 9)))
    (local.set $end (i32.add (local.get $end) (call $number (local.get $end) (local.get $width))))
    (local.set $end (call $text (local.get $end) (i32.const 9) (i32.const 10)))
    (local.set $end (i32.add (local.get $end) (call $number (local.get $end) (local.get $height))))
    (local.set $end (call $text (local.get $end) (i32.const 19) (i32.const 1)))
    (i32.sub (local.get $end) (local.get $index)))

  (data (i32.const 0) "{\"width\":,\"height\":}")

  ;; Copies part of the text to an address and returns where the copy ends.
  (func $text (param $to i32) (param $from i32) (param $length i32) (result i32)
    (memory.copy (local.get $to) (local.get $from) (local.get $length))
    (i32.add (local.get $to) (local.get $length)))

  ;; Writes a number to an address and returns how many digits it has.
  (func $number (param $to i32) (param $number i32) (result i32)
    (local $rest i32) (local $length i32) (local $end i32)
    (local.set $rest (local.get $number))
    (loop $count
      (local.set $length (i32.add (local.get $length) (i32.const 1)))
      (br_if $count (local.tee $rest (i32.div_u (local.get $rest) (i32.const 10)))))
    (local.set $end (local.get $length))
    (loop $digit
      (local.set $end (i32.sub (local.get $end) (i32.const 1)))
      (i32.store8 (i32.add (local.get $to) (local.get $end))
        (i32.add (i32.rem_u (local.get $number) (i32.const 10)) (i32.const 48)))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $digit (local.get $end)))
    (local.get $length))

  ;; Every kind of failure.
  (func (export "spin") (param i32 i32) (result i32) (loop $again (br $again)) (i32.const 0))
  (func (export "trap") (param i32 i32) (result i32) unreachable)
  (func (export "outside") (param i32 i32) (result i32) (i32.load (i32.const -4)))
  (func (export "divide") (param i32 i32) (result i32) (i32.div_u (i32.const 1) (i32.const 0)))
  (func $deep (export "overflow") (param i32 i32) (result i32)
    (i32.add (call $deep (local.get 0) (local.get 1)) (i32.const 1)))
  (func (export "far") (param i32 i32) (result i32) (i32.const 0x7fffffff))
  (func (export "no_result") (param i32 i32)))
