defmodule Wasmtube.Bridge do
  @moduledoc """
  A module, ready to be called; made by `Wasmtube.from_file/2` and `Wasmtube.from_binary/2`.

  Any number of processes can call it at once; it ends when no process refers to it any more. It belongs to its node and
  cannot be called from another one, unlike a `Wasmtube.Worker`.
  """

  @enforce_keys [:handle, :time, :source, :options]
  defstruct @enforce_keys

  @opaque t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(%{source: {:file, path}}, _options), do: "#Wasmtube.Bridge<#{path}>"
    def inspect(%{source: {:binary, binary}}, _options), do: "#Wasmtube.Bridge<#{byte_size(binary)} bytes>"
  end
end
