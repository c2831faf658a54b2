defmodule Wasmtube.Bridge do
  @moduledoc """
  A module that is ready to be called, created by `Wasmtube.from_file/2` and `Wasmtube.from_binary/2`.

  Any number of processes can call a bridge at the same time. It ends when no process refers to it any more. Unlike a
  `Wasmtube.Worker`, a bridge belongs to its node and cannot be called from another node.
  """

  @enforce_keys [:handle, :time, :source, :options]
  defstruct @enforce_keys

  @opaque t :: %__MODULE__{}

  @doc """
  Creates a bridge from a module in a binary, `new(binary: bytes)`, or in a file, `new(file: path)`. The same as
  `Wasmtube.from_binary/2` and `Wasmtube.from_file/2`, with the same options.

  `:lock_name` is accepted for compatibility and ignored.

      iex> bridge = Wasmtube.Bridge.new(file: "test/modules/hello_world.wat")
      iex> Wasmtube.Bridge.call_function(bridge, "echo", data: [1])
      [1]
  """
  @spec new([{:binary, binary} | {:file, Path.t()} | {:lock_name, term} | Wasmtube.option()]) :: t
  def new([{:binary, binary} | options]), do: Wasmtube.from_binary(binary, Keyword.delete(options, :lock_name))
  def new([{:file, path} | options]), do: Wasmtube.from_file(path, Keyword.delete(options, :lock_name))

  @doc "Calls a function. Like `Wasmtube.call_function/3`."
  @spec call_function(t, atom | String.t(), [Wasmtube.argument()]) :: term
  defdelegate call_function(bridge, function, argument), to: Wasmtube

  defimpl Inspect do
    def inspect(%{source: {:file, path}}, _options), do: "#Wasmtube.Bridge<#{path}>"
    def inspect(%{source: {:binary, binary}}, _options), do: "#Wasmtube.Bridge<#{byte_size(binary)} bytes>"
  end
end
