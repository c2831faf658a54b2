defmodule Wasmtube.FunctionsTest do
  @moduledoc "Tests the functions in `examples/functions.rs`, which are exported by `#[lunatic::export]`."
  use ExUnit.Case, async: true

  setup_all do
    {:ok, bridge: Wasmtube.from_file(Wasmtube.Guests.functions())}
  end

  test "values, errors and images are passed correctly", %{bridge: bridge} do
    assert Wasmtube.call_function(bridge, :hello, data: %{arg: "World"}) == "Hello, World!"
    assert Wasmtube.call_function(bridge, :divide, data: [dividend: 6, divisor: 2]) == 3
    assert {:error, error} = Wasmtube.try_call_function(bridge, :divide, data: [dividend: 6, divisor: 0])
    assert {error.kind, error.message} == {:failed, "the function failed: 6 cannot be divided by 0"}
    pixels = :binary.copy(<<1, 2, 3>>, 16)
    assert Wasmtube.call_function(bridge, :shrink, height: 4, image: pixels, width: 4) == :binary.copy(<<1, 2, 3>>, 4)
  end

  test "state that a function keeps is there for the next call", %{bridge: bridge} do
    first = Wasmtube.call_function(bridge, :count, data: nil)
    assert Wasmtube.call_function(bridge, :count, data: nil) == first + 1
  end
end
