defmodule Wasmtube.Call do
  @moduledoc false
  # Only this module waits for the library, which always answers exactly once. Timeouts are
  # therefore not needed here, and no answer is ever left in a mailbox.

  alias Wasmtube.{Error, Native, Options}

  @doc "Calls a function through a handle. The call is cancelled when the monitored process, if any, ends."
  def call(handle, function, options, time, monitor \\ nil) do
    with {:ok, function} <- function(function),
         {:ok, argument, time} <- Options.call(options, time) do
      reference = make_ref()

      case Native.call(handle, reference, function, argument, time) do
        {:ok, call} -> reference |> await(call, monitor) |> built()
        {:error, failure} -> error(failure)
      end
    end
  end

  @doc "Waits for the result with the given reference."
  def await(reference) do
    receive do
      {^reference, {:ok, result}} -> {:ok, result}
      {^reference, {:error, failure}} -> error(failure)
    end
  end

  defp await(reference, _call, nil), do: await(reference)

  defp await(reference, call, monitor) do
    receive do
      {^reference, {:ok, result}} ->
        {:ok, result}

      {^reference, {:error, failure}} ->
        error(failure)

      {:DOWN, ^monitor, :process, _worker, reason} ->
        Native.cancel(call)

        # The call may have been answered in the meantime.
        case await(reference) do
          {:error, %Error{kind: :cancelled}} -> down(reason)
          answer -> answer
        end
    end
  end

  defp built({:ok, bytes}) when is_binary(bytes), do: {:ok, bytes}
  defp built({:ok, value}), do: {:ok, Native.build(value)}
  defp built({:error, error}), do: {:error, error}

  @doc "Returns the error for a worker whose process has ended."
  def down(reason) do
    {:error, %Error{kind: :down, message: "the worker is down: #{Exception.format_exit(reason)}"}}
  end

  @doc "Returns the value, or raises the error."
  def value!({:ok, value}), do: value
  def value!({:error, error}), do: raise(error)

  defp function(name) when is_binary(name), do: {:ok, name}
  defp function(name) when is_atom(name) and name != nil, do: {:ok, Atom.to_string(name)}

  defp function(other) do
    message =
      "the name of a function must be an atom or a string, not #{inspect(other, limit: 5, printable_limit: 100)}"

    {:error, %Error{kind: :argument, message: message}}
  end

  defp error({kind, message}), do: {:error, %Error{kind: kind, message: message}}
end
