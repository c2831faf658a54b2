defmodule Wasmtube.Guests do
  @moduledoc "The modules that the tests call."

  @doc "Functions that return a length, and functions that fail in every possible way."
  def hello_world, do: "test/modules/hello_world.wat"

  @doc "Functions written for Wasmtube: the `wasm_test` package, compiled once by cargo."
  def wasm_test do
    target = Path.join(Mix.Project.build_path(), "wasm_test")
    build("../tests/wasm_test", ["build", "--locked", "--release"], target)
    Path.join(target, "wasm32-unknown-unknown/release/wasm_test.wasm")
  end

  @doc "Functions exported by the guest library's `#[lunatic::export]`: `examples/functions.rs`, compiled by cargo."
  def functions do
    target = Path.join(Mix.Project.build_path(), "functions")
    arguments = ~w(build --locked --release --package lunatic-examples --lib --target wasm32-unknown-unknown)
    build("../..", arguments, target)
    Path.join(target, "wasm32-unknown-unknown/release/functions.wasm")
  end

  # Profile settings for these tests, if any, are not meant for the module.
  defp build(directory, arguments, target) do
    environment = for {name, _} <- System.get_env(), String.starts_with?(name, "CARGO_PROFILE"), do: {name, nil}

    {said, status} =
      System.cmd("cargo", arguments ++ ["--quiet"],
        cd: directory,
        env: [{"CARGO_TARGET_DIR", target} | environment],
        stderr_to_stdout: true
      )

    if status != 0, do: raise("if the target is not installed, run `rustup target add wasm32-unknown-unknown`\n#{said}")
  end

  @doc "A module whose `version` function returns a number, optionally with more functions."
  def version(version, more \\ "") do
    """
    (module
      (memory (export "memory") 1)
      (data (i32.const 0) "#{String.pad_leading(to_string(version), 3)}")
      (func (export "version") (param $index i32) (param i32) (result i32)
        (memory.copy (local.get $index) (i32.const 0) (i32.const 3)) (i32.const 3))
      (func (export "trap") (param i32 i32) (result i32) unreachable)
      (func (export "spin") (param i32 i32) (result i32) (loop $again (br $again)) (i32.const 0))
      #{more})
    """
  end

  @doc "Replaces a file atomically."
  def replace(file, content) do
    File.write!(file <> ".new", content)
    File.rename!(file <> ".new", file)
  end

  @doc "Waits until a condition holds. Use this for changes on other threads that do not send a message."
  def eventually(so?) do
    if so?.() do
      :ok
    else
      receive do
      after
        1 -> eventually(so?)
      end
    end
  end
end

ExUnit.start()
