defmodule Wasmtube.ValuesTest do
  @moduledoc "Tests which values are passed and returned, and that the error for a refused value gives its position."
  use ExUnit.Case, async: true

  setup_all do
    {:ok, bridge: Wasmtube.from_file(Wasmtube.Guests.hello_world())}
  end

  defp echo(bridge, value), do: Wasmtube.try_call_function(bridge, :echo, data: value)

  defp refused(bridge, value) do
    assert {:error, %Wasmtube.Error{kind: :argument, message: message}} = echo(bridge, value)
    message
  end

  test "values come back unchanged", %{bridge: bridge} do
    for value <- [
          nil,
          true,
          false,
          0,
          -1,
          9_007_199_254_740_993,
          0xFFFFFFFFFFFFFFFF,
          -0x8000000000000000,
          0.1,
          -0.0,
          5.0e-324,
          1.7976931348623157e308,
          "",
          "Wörld \0 \" \\ 日本 \u{1F600}",
          [],
          [[], [[]]],
          %{},
          %{"a" => %{"b" => [1, %{"c" => nil}]}},
          Enum.to_list(1..10_000),
          Map.new(1..1_000, &{"key #{&1}", &1})
        ] do
      assert echo(bridge, value) === {:ok, value}
    end
  end

  test "atoms, keyword lists and keys of other types are converted to their JSON equivalents", %{bridge: bridge} do
    assert echo(bridge, :atom) == {:ok, "atom"}
    assert echo(bridge, :größe) == {:ok, "größe"}
    assert echo(bridge, a: 1, b: [c: nil]) == {:ok, %{"a" => 1, "b" => %{"c" => nil}}}
    assert echo(bridge, %{:a => 1, "b" => 2, 3 => 4}) == {:ok, %{"a" => 1, "b" => 2, "3" => 4}}
    assert echo(bridge, 'list') == {:ok, 'list'}
  end

  test "a value that JSON cannot express causes an error that says what it is and where", %{bridge: bridge} do
    for {value, said} <- [
          {self(), "a pid"},
          {%{"list" => [1, make_ref()]}, ~S|a reference at ["list"][1]|},
          {[fn -> nil end], "a function at [0]"},
          {%{a: {1, 2}}, ~S|a tuple at ["a"]|},
          {[1 | 2], "an improper list"},
          {[a: 1, b: 2] ++ [3], "starts like a keyword list"},
          {[{:a, 1} | :b], "an improper list"},
          {<<1::size(3)>>, "a bitstring"},
          {<<0xFF, 0xFE>>, "not UTF-8"},
          {0x10000000000000000, "more than 64 bits"},
          {-0x8000000000000001, "more than 64 bits"},
          {%{1.5 => 1}, "a key that is not an atom"},
          {%{<<0xFF>> => 1}, "not UTF-8"},
          {%{:a => 1, "a" => 2}, ~S|the key "a" occurs twice|},
          {%{1 => 1, "1" => 2}, ~S|the key "1" occurs twice|},
          {[a: 1, a: 2], ~S|the key "a" occurs twice|},
          {%{day: ~D[2024-02-29]}, ~S|a `Date` struct (convert it to a map or a string first) at ["day"]|},
          {:日本, "beyond Latin-1"}
        ] do
      assert refused(bridge, value) =~ said
    end

    assert echo(bridge, "and the next is served") == {:ok, "and the next is served"}
  end

  test "t166 deep nesting is an error in both directions", %{bridge: bridge} do
    deep = fn depth -> Enum.reduce(1..depth, nil, fn _, inner -> [inner] end) end
    assert echo(bridge, deep.(127)) == {:ok, deep.(127)}
    assert refused(bridge, deep.(128)) =~ "nested deeper than 127"
    assert refused(bridge, deep.(1_000_000)) =~ "nested deeper than 127"
    maps = Enum.reduce(1..1_000_000, nil, fn _, inner -> %{a: inner} end)
    assert refused(bridge, maps) =~ "nested deeper than 127"

    answer = :binary.copy("[", 100_000) <> :binary.copy("]", 100_000)
    module = Wasmtube.from_binary(answering(answer))
    assert {:error, %{kind: :answer, message: message}} = Wasmtube.try_call_function(module, :answer, data: nil)
    assert message =~ "recursion limit"
  end

  test "a small term that expands to a large value is rejected as too large", %{bridge: bridge} do
    shared = Enum.reduce(1..60, "x", fn _, inner -> [inner, inner] end)
    bridge = %{bridge | handle: Wasmtube.from_file(Wasmtube.Guests.hello_world(), memory: 1_000_000).handle}
    assert {:error, %{kind: :too_large}} = echo(bridge, shared)
    assert {:error, %{kind: :too_large}} = echo(bridge, String.duplicate("x", 1_000_001))

    assert {:error, %{kind: :too_large}} =
             Wasmtube.try_call_function(bridge, :echo, bytes: :binary.copy("x", 1_000_001))
  end

  test "t166 invalid answers are errors, and valid ones arrive unchanged" do
    check = fn answer -> Wasmtube.try_call_function(Wasmtube.from_binary(answering(answer)), :answer, data: nil) end

    for answer <- ["NaN", "1e400", "", "{", "[1,]", "\"\xFF\"", "1 2", "nul"] do
      assert {:error, %{kind: :answer}} = check.(answer)
    end

    assert check.("18446744073709551615") == {:ok, 0xFFFFFFFFFFFFFFFF}
    assert check.("18446744073709551616") == {:ok, 18_446_744_073_709_551_616.0}
    assert check.(~S|{"a": 1, "b": 2, "a": 3}|) == {:ok, %{"a" => 3, "b" => 2}}
    assert {:error, %{kind: :too_large, message: message}} = check.("[" <> :binary.copy(" ", 17_000_000) <> "]")
    assert message =~ "`answer`"
  end

  test "keys of answers do not become atoms" do
    keys = Enum.map_join(1..1_000, ",", &~s|"a key that is not an existing atom #{&1}": "nor is this value #{&1}"|)
    bridge = Wasmtube.from_binary(answering("{#{keys}}"))
    before = :erlang.system_info(:atom_count)
    assert {:ok, answer} = Wasmtube.try_call_function(bridge, :answer, data: nil)
    assert map_size(answer) == 1_000
    assert_raise ArgumentError, fn -> String.to_existing_atom("a key that is not an existing atom 1") end
    # Other tests run at the same time and load modules.
    assert :erlang.system_info(:atom_count) - before < 1_000
  end

  test "bytes are passed as they are", %{bridge: bridge} do
    for value <- ["", "\"\xFF\xFE", <<0>>] do
      # A function that returns a length answers with JSON, no matter what it was called with.
      assert {:error, %{kind: :answer}} = Wasmtube.try_call_function(bridge, :echo, bytes: value)
    end

    assert Wasmtube.try_call_function(bridge, :echo, bytes: "[1]") == {:ok, [1]}
  end

  test "t166 an image of any size is either served or refused", %{bridge: bridge} do
    for {width, height} <- [{65_535, 65_535}, {0xFFFFFFFF, 0xFFFFFFFF}, {20_000, 20_000}] do
      assert {:error, %{kind: :too_large}} = image_size(bridge, image: "", width: width, height: height)
    end

    for {width, height} <- [{-1, 1}, {1, 0x100000000}, {1.0, 1}, {nil, 1}] do
      assert {:error, %{kind: :argument}} = image_size(bridge, image: "", width: width, height: height)
    end

    assert image_size(bridge, width: 0, height: 0, image: "") == {:ok, %{"width" => 0, "height" => 0}}
  end

  defp image_size(bridge, argument), do: Wasmtube.try_call_function(bridge, :image_size, argument)

  # Returns a module that answers with the given text.
  defp answering(text) do
    escaped = for <<byte <- text>>, into: "", do: "\\" <> Base.encode16(<<byte>>)
    pages = div(byte_size(text), 65_536) + 1

    """
    (module
      (memory (export "memory") #{pages})
      (data $text "#{escaped}")
      (func (export "answer") (param $index i32) (param i32) (result i32)
        (drop (memory.grow (i32.const #{pages + 1})))
        (memory.init $text (local.get $index) (i32.const 0) (i32.const #{byte_size(text)}))
        (i32.const #{byte_size(text)})))
    """
  end
end
