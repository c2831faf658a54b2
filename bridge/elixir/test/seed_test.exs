defmodule Wasmtube.SeedTest do
  @moduledoc "The examples from Wasmtube 0.1.0's documentation, verbatim, with Wasmtube's own functions."
  use ExUnit.Case, async: true

  setup_all do
    directory = Path.join(System.tmp_dir!(), "wasmtube-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    wasm = Wasmtube.Guests.wasm_test()
    File.cp!(wasm, Path.join(directory, "hello_world.wasm"))
    # A file of 123,126 bytes, as in Wasmtube's tests. What the bytes mean is up to the caller and the function.
    File.write!(Path.join(directory, "image"), "\x89PNG\r\n\x1a\n" <> :binary.copy(<<0x55>>, 123_118))
    {:ok, directory: directory}
  end

  defp in_directory(directory, snippet) do
    snippet
    |> String.replace("\"hello_world.wasm\"", inspect(Path.join(directory, "hello_world.wasm")))
    |> String.replace("\"/path/to/wasm\"", inspect(Path.join(directory, "hello_world.wasm")))
    |> String.replace("\"/path/to/image\"", inspect(Path.join(directory, "image")))
    |> Code.eval_string(name: :"#{directory}")
    |> elem(0)
  end

  test "a function is called directly", %{directory: directory} do
    assert in_directory(directory, """
           Wasmtube.from_file("hello_world.wasm")
           |> Wasmtube.call_function(:hello, data: %{
             arg: "World"
           })
           """) == "Hello, World!"
  end

  test "a function is called under supervision", %{directory: directory} do
    assert in_directory(directory, """
           {:ok, worker_pid} =
             Wasmtube.Worker.start_link(
               wasm_file: "hello_world.wasm",
               name: name
             )

           worker_pid
             |> Wasmtube.Worker.call_function(:echo, data: %{
               arg: "World"
             })
           """) == %{"arg" => "World"}
  end

  test "a structured value comes back", %{directory: directory} do
    assert in_directory(directory, """
           Wasmtube.from_file("/path/to/wasm")
             |> Wasmtube.call_function(
               :echo,
               data: %{
                 args: "Hello World!"
               }
             )
           """) == %{"args" => "Hello World!"}
  end

  test "a function reads an image", %{directory: directory} do
    assert in_directory(directory, """
           Wasmtube.from_file("/path/to/wasm")
             |> Wasmtube.call_function(
               :image_size,
               image: File.read!("/path/to/image"),
                 width: 256,
                 height: 256
             )
           """) == %{"width" => 256, "height" => 256}
  end

  test "lock names are accepted and ignored", %{directory: directory} do
    file = Path.join(directory, "hello_world.wasm")

    bridges = [
      Wasmtube.from_file(file, :lock),
      Wasmtube.from_file(file, :lock),
      Wasmtube.from_binary(File.read!(file), :lock)
    ]

    for bridge <- bridges, do: assert(Wasmtube.call_function(bridge, "echo", data: [1]) == [1])
    for _ <- 1..2, do: assert({:ok, _} = Wasmtube.Worker.start_link(wasm_file: file, lock_name: :lock))
  end

  test "a bridge can be created and called with `Wasmtube.Bridge`'s own functions", %{directory: directory} do
    file = Path.join(directory, "hello_world.wasm")

    bridges = [
      Wasmtube.Bridge.new(file: file),
      Wasmtube.Bridge.new(file: file, lock_name: :lock),
      Wasmtube.Bridge.new(binary: File.read!(file)),
      Wasmtube.Bridge.new(binary: File.read!(file), lock_name: :lock)
    ]

    for bridge <- bridges do
      assert %Wasmtube.Bridge{} = bridge
      assert Wasmtube.Bridge.call_function(bridge, "echo", data: %{args: "Hello World!"}) == %{"args" => "Hello World!"}
      image = :binary.copy(<<1, 2, 3>>, 4)
      assert %{"width" => 2} = Wasmtube.Bridge.call_function(bridge, :image_size, image: image, width: 2, height: 2)
    end
  end

  test "an argument larger than the guest's memory overwrites nothing", %{directory: directory} do
    bridge = Wasmtube.from_file(Path.join(directory, "hello_world.wasm"))

    for length <- [1_048_011, 1_060_011, 2_000_000] do
      argument = %{"arg" => String.duplicate("x", length)}
      assert Wasmtube.call_function(bridge, :echo, data: argument) == argument
      assert Wasmtube.call_function(bridge, :hello, data: %{arg: "W"}) == "Hello, W!"
    end
  end
end
