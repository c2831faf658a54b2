defmodule Wasmtube.Native do
  @moduledoc false
  # The functions in the library compiled from `native/`. They never block. They start work whose result arrives as one
  # message, `{reference, {:ok, result} | {:error, {kind, message}}}`.

  @on_load :load_library

  def load_library do
    :erlang.load_nif(String.to_charlist(Path.join(:code.priv_dir(:wasmtube), "wasmtube")), 0)
  end

  def load_bridge(_reference, _source, _options), do: :erlang.nif_error(:not_loaded)
  def load_worker(_reference, _source, _options), do: :erlang.nif_error(:not_loaded)
  def call(_handle, _reference, _function, _argument, _time), do: :erlang.nif_error(:not_loaded)
  def build(_value), do: :erlang.nif_error(:not_loaded)
  def cancel(_call), do: :erlang.nif_error(:not_loaded)
  def version(_reference, _handle), do: :erlang.nif_error(:not_loaded)
  def counts, do: :erlang.nif_error(:not_loaded)
end
