defmodule Wasmtube.Bridge do
  @moduledoc """
  A module, ready to be called; made by `Wasmtube.from_file/2` and `Wasmtube.from_binary/2`.

  It can be called from any number of processes at once, and ends when no process has it any more. It belongs to its node:
  on another one it cannot be called, while a `Wasmtube.Worker` can.
  """

  @enforce_keys [:handle, :time, :source, :options]
  defstruct @enforce_keys

  @opaque t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(%{source: {:file, path}}, _options), do: "#Wasmtube.Bridge<#{path}>"
    def inspect(%{source: {:binary, binary}}, _options), do: "#Wasmtube.Bridge<#{byte_size(binary)} bytes>"
  end
end
