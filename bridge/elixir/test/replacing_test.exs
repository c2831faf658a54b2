defmodule Wasmtube.ReplacingTest do
  @moduledoc "Tests replacing files while their functions are being called. Runs alone to measure the node's resources."
  use ExUnit.Case, async: false

  alias Wasmtube.{Guests, Worker}

  setup do
    directory = Path.join(System.tmp_dir!(), "wasmtube-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    file = Path.join(directory, "module.wat")
    File.write!(file, Guests.version(0))
    {:ok, wasm: file}
  end

  test "replacing the file a hundred times under load loses no calls and leaks nothing", %{wasm: file} do
    {:ok, worker} = Worker.start_link(wasm_file: file, time: 60_000, instances: 2)
    Worker.subscribe(worker)
    callers = for _ <- 1..4, do: Task.async(fn -> call_until_told(worker, 0, 0) end)

    for version <- 1..20, do: replace(worker, file, version)
    before = held()
    for version <- 21..100, do: replace(worker, file, version)
    later = held()

    for caller <- callers, do: send(caller.pid, :enough)
    calls = callers |> Task.await_many(60_000) |> Enum.sum()
    assert calls >= 400, "only #{calls} calls were made while the file was replaced a hundred times"

    # A leak would hold something for each of the eighty later versions.
    assert later.atoms - before.atoms < 40
    assert later.descriptors - before.descriptors < 40
    assert later.handles == before.handles
    assert later.threads - before.threads < 40
    # A version and its instances take several hundred kilobytes.
    assert later.resident - before.resident < 16 * 1024 * 1024
  end

  test "bridges and calls without references go away" do
    counted = fn ->
      :erlang.garbage_collect()
      Wasmtube.info()
    end

    Guests.eventually(fn -> counted.().calls == 0 end)
    before = counted.()

    Task.await(
      Task.async(fn ->
        for _ <- 1..50 do
          bridge = Wasmtube.from_file(Guests.hello_world())

          spawn(fn -> Wasmtube.try_call_function(bridge, :spin, data: nil, timeout: :infinity) end)
          |> Process.exit(:kill)

          Wasmtube.try_call_function(bridge, :trap, data: nil)
        end
      end),
      60_000
    )

    Guests.eventually(fn -> counted.() == before end)
  end

  defp replace(worker, file, version) do
    Guests.replace(file, Guests.version(version))
    assert_receive {:wasmtube, ^worker, {:reloaded, ^version}}, 60_000
  end

  # Calls the worker until told to stop, checking that versions only increase. Returns the number of calls.
  defp call_until_told(worker, last, calls) do
    version = Worker.call_function(worker, :version, data: nil)
    assert version >= last

    receive do
      :enough -> calls + 1
    after
      0 -> call_until_told(worker, version, calls + 1)
    end
  end

  defp held do
    status = File.read!("/proc/self/status")
    number = fn name -> Regex.run(~r/^#{name}:\s+(\d+)/m, status) |> List.last() |> String.to_integer() end

    %{
      atoms: :erlang.system_info(:atom_count),
      descriptors: length(File.ls!("/proc/self/fd")),
      handles: Wasmtube.info().handles,
      threads: number.("Threads"),
      resident: number.("VmRSS") * 1024
    }
  end
end
