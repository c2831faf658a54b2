defmodule Wasmtube.NodesTest do
  @moduledoc "Tests that affect an entire node. Each test starts its own node."
  use ExUnit.Case, async: true

  alias Wasmtube.Guests

  # Evaluates a script in a new node and returns its output and exit status.
  defp run(script) do
    paths =
      Enum.flat_map(:code.get_path(), fn path ->
        if "#{path}" =~ ~r"/lib/wasmtube/ebin$", do: ["-pa", "#{path}"], else: []
      end)

    System.cmd("elixir", paths ++ ["-e", script], stderr_to_stdout: true)
  end

  @spinning """
  bridge = Wasmtube.from_file(#{inspect(Guests.hello_world())}, instances: 8)
  pids = for _ <- 1..8, do: spawn(fn -> Wasmtube.try_call_function(bridge, :spin, data: nil, timeout: :infinity) end)
  waiting? = fn -> Enum.all?(pids, & Process.info(&1, :status) == {:status, :waiting}) end
  Stream.repeatedly(waiting?) |> Enum.find(& &1)
  {:ok, worker} = Wasmtube.Worker.start_link(wasm_file: #{inspect(Guests.hello_world())})
  Wasmtube.Worker.call_function(worker, :echo, data: 1)
  """

  test "a node halts while calls run" do
    assert run(@spinning <> "System.halt(7)") == {"", 7}
  end

  test "a node stops while calls run" do
    assert run(@spinning <> "System.stop(7); Process.sleep(:infinity)") == {"", 7}
  end

  test "a node that purges the module survives and can load it again" do
    script = """
    bridge = Wasmtube.from_file(#{inspect(Guests.hello_world())})
    {:error, _} = Wasmtube.try_call_function(bridge, :outside, data: nil)
    for _ <- 1..3 do
      :code.purge(Wasmtube.Native)
      true = :code.delete(Wasmtube.Native)
      :code.purge(Wasmtube.Native)
      :erlang.garbage_collect()
      bridge = Wasmtube.from_file(#{inspect(Guests.hello_world())})
      {:error, %{kind: :ended}} = Wasmtube.try_call_function(bridge, :outside, data: nil)
      1 = Wasmtube.call_function(bridge, :echo, data: 1)
    end
    IO.write("alive")
    """

    assert run(script) == {"alive", 0}
  end
end
