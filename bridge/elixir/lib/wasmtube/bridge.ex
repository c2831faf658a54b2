defmodule Wasmtube.Bridge do
  @moduledoc """
  A module that is ready to be called, created by `Wasmtube.from_file/2` and `Wasmtube.from_binary/2`.

  Any number of processes can call a bridge at the same time. The bridge ends when no process refers to it any more. Unlike
  a `Wasmtube.Worker`, a bridge belongs to its node and cannot be called from another node.
  """

  @enforce_keys [:handle, :time, :source, :options]
  defstruct @enforce_keys

  @opaque t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(%{source: {:file, path}}, _options), do: "#Wasmtube.Bridge<#{path}>"
    def inspect(%{source: {:binary, binary}}, _options), do: "#Wasmtube.Bridge<#{byte_size(binary)} bytes>"
  end
end
