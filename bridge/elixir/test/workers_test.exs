defmodule Wasmtube.WorkersTest do
  @moduledoc "Tests workers: under supervisors, through crashes, and with new versions."
  use ExUnit.Case, async: true

  alias Wasmtube.{Guests, Worker}

  @moduletag :capture_log

  setup do
    directory = Path.join(System.tmp_dir!(), "wasmtube-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    file = Path.join(directory, "module.wat")
    File.write!(file, Guests.version(1))
    {:ok, wasm: file}
  end

  defp version(worker), do: Worker.call_function(worker, :version, data: nil)

  defp event(worker) do
    assert_receive {:wasmtube, ^worker, event}, 60_000
    event
  end

  test "a supervisor can have several workers, and restarts the one that is killed", %{wasm: file} do
    names = for index <- 1..3, do: :"worker #{index} of #{file}"
    children = for name <- names, do: {Worker, wasm_file: file, name: name, time: 60_000}
    nameless = [{Worker, wasm_file: file}, {Worker, wasm_file: file, id: :another}]
    {:ok, supervisor} = Supervisor.start_link(children ++ nameless, strategy: :one_for_one)
    assert Supervisor.count_children(supervisor).workers == 5
    for {_, pid, _, _} <- Supervisor.which_children(supervisor), do: assert(version(pid) == 1)

    [name | _] = names
    killed = Process.whereis(name)
    Process.exit(killed, :kill)
    Guests.eventually(fn -> Process.whereis(name) not in [killed, nil] end)
    assert version(name) == 1
    assert version(List.last(names)) == 1
  end

  test "calls in progress end with their worker, and later calls report that there is no worker", %{wasm: file} do
    {:ok, worker} = GenServer.start(Worker, wasm_file: file)
    call = Task.async(fn -> Worker.try_call_function(worker, :spin, data: nil, timeout: :infinity) end)

    Guests.eventually(fn ->
      Process.info(call.pid, :current_function) == {:current_function, {Wasmtube.Call, :await, 3}}
    end)

    Guests.eventually(fn -> Process.info(call.pid, :status) == {:status, :waiting} end)
    Process.exit(worker, :kill)
    assert {:error, %{kind: :down, message: "the worker is down: killed"}} = Task.await(call, 60_000)
    assert {:error, %{kind: :down}} = Worker.try_call_function(worker, :version, data: nil)
    assert_raise Wasmtube.Error, ~r/no process/, fn -> Worker.call_function(:no_such_worker, :version, data: nil) end
    assert_raise Wasmtube.Error, ~r/no process/, fn -> Worker.version(worker) end
  end

  test "a worker on another node is called there, and is down if there is no such node" do
    assert {:error, %{kind: :down}} = Worker.try_call_function({:worker, :nobody@nowhere}, :version, data: nil)
    assert_raise Wasmtube.Error, fn -> Worker.version({:worker, :nobody@nowhere}) end
  end

  test "a call waits no longer than its time limit for a worker that is starting", %{wasm: file} do
    File.write!(file, Guests.version(1, "(func $start (loop $again (br $again))) (start $start)"))
    starting = spawn(fn -> Worker.start_link(wasm_file: file, name: :"starting #{file}", start_within: 2_000) end)
    Guests.eventually(fn -> Process.whereis(:"starting #{file}") != nil end)
    call = Worker.try_call_function(:"starting #{file}", :version, data: nil, timeout: 10)
    assert {:error, %{kind: :timeout, message: "the worker did not start within 10ms"}} = call
    Process.exit(starting, :kill)
  end

  test "a worker that cannot be started says why", %{wasm: file} do
    Process.flag(:trap_exit, true)
    assert {:error, %{kind: :argument, message: message}} = Worker.start_link([])
    assert message =~ "a file path must be a UTF-8 string, not nil"
    assert {:error, %{kind: :argument}} = Worker.start_link(wasm_file: file, memories: 1)
    File.write!(file, "(module")
    assert {:error, %{kind: :module}} = Worker.start_link(wasm_file: file)
    File.write!(file, Guests.version(1))
    assert {:error, %{kind: :function}} = Worker.start_link(wasm_file: file, requires: [:more])
  end

  test "t162 t163 a new version takes over, and a bad one is refused with a reason", %{wasm: file} do
    {:ok, worker} = Worker.start_link(wasm_file: file)
    assert Worker.subscribe(worker) == :ok
    assert Worker.version(worker) == 0

    Guests.replace(file, Guests.version(2))
    assert event(worker) == {:reloaded, 1}
    assert {Worker.version(worker), version(worker)} == {1, 2}

    Guests.replace(file, "(module")
    assert {:refused, reason} = event(worker)
    assert reason =~ "expected"
    Guests.replace(file, String.replace(Guests.version(3), "\"spin\"", "\"spun\""))
    assert {:refused, reason} = event(worker)
    assert reason =~ "exports no function `spin`"
    assert {Worker.version(worker), version(worker)} == {1, 2}

    File.write!(file, Guests.version(4))
    Guests.eventually(fn -> match?({:reloaded, 2}, event(worker)) end)
    assert {Worker.version(worker), version(worker)} == {2, 4}
  end

  test "a version that spins while starting is refused, and the next is not", %{wasm: file} do
    {:ok, worker} = Worker.start_link(wasm_file: file, start_within: 1_000)
    Worker.subscribe(worker)
    Guests.replace(file, Guests.version(2, "(func $start (loop $again (br $again))) (start $start)"))
    assert {:refused, reason} = event(worker)
    assert reason =~ "did not return within 1s"
    Guests.replace(file, Guests.version(3))
    assert event(worker) == {:reloaded, 1}
    assert version(worker) == 3
  end

  test "if instances crash too often, calls fail until the file changes", %{wasm: file} do
    {:ok, worker} = Worker.start_link(wasm_file: file, intensity: [most: 1, pause: 0], time: 60_000)
    Worker.subscribe(worker)
    assert {:error, %{kind: :ended}} = Worker.try_call_function(worker, :trap, data: nil)
    assert {:crashed, 0, reason} = event(worker)
    assert reason =~ "trapped"
    assert version(worker) == 1
    assert {:error, %{kind: :ended}} = Worker.try_call_function(worker, :trap, data: nil)
    assert {:crashed, 0, _} = event(worker)
    assert event(worker) == :stopped
    assert {:error, %{kind: :stopped}} = Worker.try_call_function(worker, :version, data: nil)
    assert Process.alive?(worker)
    Guests.replace(file, Guests.version(2))
    assert event(worker) == {:reloaded, 1}
    assert version(worker) == 2
  end

  test "t164 the state of an instance moves to the next version", %{wasm: file} do
    state = """
    (global $kept (mut i32) (i32.const 48))
    (func (export "keep") (param $index i32) (param i32) (result i32)
      (global.set $kept (i32.load8_u (local.get $index))) (i32.const 1))
    (func $kept (export "kept") (export "lunatic_save") (param $index i32) (param i32) (result i32)
      (i32.store8 (local.get $index) (global.get $kept)) (i32.const 1))
    (func (export "lunatic_restore") (param $index i32) (param i32) (result i32)
      (global.set $kept (i32.load8_u (local.get $index))) (i32.const 0))
    """

    File.write!(file, Guests.version(1, state))
    {:ok, worker} = Worker.start_link(wasm_file: file)
    Worker.subscribe(worker)
    assert Worker.call_function(worker, :keep, data: 7) == 7
    Guests.replace(file, Guests.version(2, state))
    assert event(worker) == {:reloaded, 1}
    assert {version(worker), Worker.call_function(worker, :kept, data: nil)} == {2, 7}
  end

  test "a subscriber that has ended is forgotten", %{wasm: file} do
    {:ok, worker} = Worker.start_link(wasm_file: file)
    Task.await(Task.async(fn -> Worker.subscribe(worker) end))
    Guests.eventually(fn -> :sys.get_state(worker).subscribers == %{} end)
  end
end
