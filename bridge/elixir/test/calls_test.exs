defmodule Wasmtube.CallsTest do
  @moduledoc "Tests what ends a call, and that the node survives it."
  use ExUnit.Case, async: true

  alias Wasmtube.Guests

  setup do
    {:ok, bridge: Wasmtube.from_file(Guests.hello_world())}
  end

  test "a trap is reported as an error, and the node survives", %{bridge: bridge} do
    for function <- [:trap, :outside, :divide, :overflow], _ <- 1..50 do
      assert {:error, %{kind: :ended, message: message}} = Wasmtube.try_call_function(bridge, function, data: nil)
      assert message =~ "trap"
      assert Wasmtube.call_function(bridge, :echo, data: 7) == 7
    end
  end

  test "invalid calls fail with an error that says what is wrong", %{bridge: bridge} do
    for {function, argument, kind, said} <- [
          {:ecko, [data: nil], :function, "no function `ecko`"},
          {"\xFF", [data: nil], :function, "no function"},
          {:echo, [image: "", width: 1, height: 1], :function, "takes (i32, i32)"},
          {:no_result, [data: nil], :answer, "returns neither"},
          {:far, [data: nil], :answer, "not all inside"},
          {nil, [data: nil], :argument, "the name of a function"},
          {:echo, [], :argument, "this one has nothing"},
          {:echo, [data: 1, bytes: ""], :argument, "this one has :bytes, :data"},
          {:echo, [bytes: 1], :argument, "`bytes:` with a binary"},
          {:echo, [image: "", width: 1], :argument, "this one has :image, :width"},
          {:echo, %{data: 1}, :argument, "keyword list"},
          {:echo, [data: 1, timeout: -1], :argument, "milliseconds or :infinity"}
        ] do
      assert {:error, %{kind: ^kind, message: message}} = Wasmtube.try_call_function(bridge, function, argument)
      assert message =~ said
      assert_raise Wasmtube.Error, message, fn -> Wasmtube.call_function(bridge, function, argument) end
    end
  end

  test "invalid options cause an error that says what is wrong" do
    for {options, said} <- [
          {[memories: 1], "a bridge has no option :memories; it has :memory"},
          {[memory: -1], "the option :memory cannot be -1"},
          {[instances: 0], ":instances"},
          {[allow: [:wasi]], ":allow"},
          {[allow: ["a" | "b"]], ":allow"},
          {[requires: []], "no option :requires"}
        ] do
      assert {:error, %{kind: :argument, message: message}} = Wasmtube.try_from_file(Guests.hello_world(), options)
      assert message =~ said
    end

    for path <- [nil, "", <<0xFF>>, [0x110000], [:a]] do
      assert {:error, %{kind: :argument}} = Wasmtube.try_from_file(path)
    end

    assert {:ok, _} = Wasmtube.try_from_file(Guests.hello_world(), memory: 1, memory: 1_000_000)
  end

  test "a call that takes too long fails, and no answer arrives later", %{bridge: bridge} do
    for _ <- 1..20 do
      assert {:error, %{kind: :timeout}} = Wasmtube.try_call_function(bridge, :spin, data: nil, timeout: 5)
    end

    assert {:error, %{kind: :timeout}} = Wasmtube.try_call_function(bridge, :echo, data: nil, timeout: 0)
    assert Wasmtube.call_function(bridge, :echo, data: 7, timeout: :infinity) == 7
    assert Process.info(self(), :messages) == {:messages, []}
    short = Wasmtube.from_file(Guests.hello_world(), time: 5)

    assert {:error, %{kind: :timeout, message: "the call took longer than 5ms"}} =
             Wasmtube.try_call_function(short, :spin, data: nil)
  end

  test "limits are applied" do
    bridge = Wasmtube.from_file(Guests.hello_world(), compute: 1, memory: 1_000_000)
    assert {:error, %{kind: :ended, message: message}} = Wasmtube.try_call_function(bridge, :spin, data: nil)
    assert message =~ "compute"

    assert {:error, %{kind: :too_large}} =
             Wasmtube.try_call_function(bridge, :echo, data: String.duplicate("x", 900_000))

    assert Wasmtube.call_function(bridge, :echo, data: 7) == 7

    random = """
    (module
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "roll") (param i32 i32) (result i32)
        (drop (call $random (local.get 0) (i32.const 1))) (i32.store8 (local.get 0) (i32.const 48)) (i32.const 1)))
    """

    assert {:error, %{kind: :ended}} = Wasmtube.try_call_function(Wasmtube.from_binary(random), :roll, data: nil)
    allowed = Wasmtube.from_binary(random, allow: ["wasi_snapshot_preview1::random_get"])
    assert Wasmtube.call_function(allowed, :roll, data: nil) == 0
  end

  test "a start function that never returns keeps no caller waiting" do
    module = "(module (func $start (loop $again (br $again))) (start $start))"
    assert {:error, %{kind: :instance, message: message}} = Wasmtube.try_from_binary(module, start_within: 20)
    assert message =~ "did not return within 20ms"
  end

  test "no scheduler is blocked, however many guests spin" do
    schedulers = :erlang.system_info(:schedulers) + :erlang.system_info(:dirty_cpu_schedulers)
    spinning = for _ <- 1..(schedulers * 4), do: spawn_spinning(Wasmtube.from_file(Guests.hello_world()))

    # If a scheduler were blocked, one of these would not finish.
    ticking = for _ <- 1..(schedulers * 4), do: Task.async(fn -> Enum.sum(1..100_000) end)
    assert Task.await_many(ticking, 60_000) == List.duplicate(5_000_050_000, schedulers * 4)
    bridge = Wasmtube.from_file(Guests.hello_world(), time: 60_000)
    assert Wasmtube.call_function(bridge, :echo, data: 7) == 7
    for pid <- spinning, do: Process.exit(pid, :kill)
  end

  test "a call is ended when its process ends", %{bridge: bridge} do
    pid = spawn_spinning(bridge)
    Process.exit(pid, :kill)
    # The only instance is free again; otherwise it would spin forever.
    assert Wasmtube.call_function(bridge, :echo, data: 7, timeout: 60_000) == 7
  end

  test "many processes call one bridge at the same time" do
    bridge = Wasmtube.from_file(Guests.hello_world(), instances: 4, time: 60_000)

    answers =
      1..16
      |> Enum.map(fn caller ->
        Task.async(fn ->
          for call <- 1..200,
              do:
                Wasmtube.try_call_function(bridge, if(rem(call, 10) == 0, do: :trap, else: :echo), data: [caller, call])
        end)
      end)
      |> Task.await_many(60_000)

    for {answers, caller} <- Enum.with_index(answers, 1), {answer, call} <- Enum.with_index(answers, 1) do
      if rem(call, 10) == 0,
        do: assert({:error, %{kind: :ended}} = answer),
        else: assert(answer == {:ok, [caller, call]})
    end
  end

  # Returns a process waiting for a call that never returns.
  defp spawn_spinning(bridge) do
    pid = spawn(fn -> Wasmtube.try_call_function(bridge, :spin, data: nil, timeout: :infinity) end)
    Guests.eventually(fn -> Process.info(pid, :status) == {:status, :waiting} end)
    pid
  end
end
