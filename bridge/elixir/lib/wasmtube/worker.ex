defmodule Wasmtube.Worker do
  @moduledoc """
  A process that serves a module from a file and can be supervised.

      iex> {:ok, worker} = Wasmtube.Worker.start_link(wasm_file: "test/modules/hello_world.wat")
      iex> Wasmtube.Worker.call_function(worker, :echo, data: %{arg: "World"})
      %{"arg" => "World"}

  A supervisor can have any number of workers:

      iex> {:ok, _supervisor} = Supervisor.start_link(
      ...>   [
      ...>     {Wasmtube.Worker, wasm_file: "test/modules/hello_world.wat", name: :first},
      ...>     {Wasmtube.Worker, wasm_file: "test/modules/hello_world.wat", name: :second, instances: 4}
      ...>   ],
      ...>   strategy: :one_for_one
      ...> )
      iex> Wasmtube.Worker.call_function(:second, :echo, data: 2)
      2

  ## New versions

  When the file's contents change, the new version is first compiled and instantiated. It takes over if that succeeds
  and it has all of the previous version's functions. Calls in progress finish on the version they started on. Processes
  that have called `subscribe/1` receive events as `{:wasmtube, worker, event}`:

    * `{:reloaded, version}` – a new version has taken over;
    * `{:refused, reason}` – the file has changed, but the previous version stays in use;
    * `{:crashed, version, reason}` – a call crashed its instance;
    * `:stopped` – instances crashed too often, so calls fail until the file changes.

  ## Crashes and exits

  A guest's crash does not end the worker's process. The guest's instance is replaced, after increasing delays. Calls do
  not go through the worker's process, which only hands out the handle. Several calls run at the same time if there are
  enough `:instances` for them. When the worker's process ends, its calls fail with an error of kind `:down`, like calls
  to a worker that does not exist. A call is terminated when the calling process ends.
  """

  use GenServer

  alias Wasmtube.{Call, Error, Native, Options}

  @type option ::
          {:wasm_file, Path.t()}
          | {:name, GenServer.name() | nil}
          | {:requires, [atom | String.t()]}
          | {:intensity, keyword(non_neg_integer)}
          | {:lock_name, term}
          | Wasmtube.option()

  @doc false
  def child_spec(options) do
    {id, options} = Keyword.pop(options, :id, options[:name] || {__MODULE__, options[:wasm_file]})
    %{id: id, start: {__MODULE__, :start_link, [options]}}
  end

  @doc """
  Starts a worker. Returns once its module has been compiled and instantiated. If that fails, returns
  `{:error, error}`.

  The options are `:wasm_file`, `:name` (any name that `GenServer` accepts, or none), the options of `Wasmtube`, and:

    * `:requires` – functions that a version must have. Default: all functions of the previous version.
    * `:intensity` – how many crashes are too many: more than `most: 10` within `period: 60_000` milliseconds. It also sets
      the delay after the second crash, `pause: 10`, which doubles up to `longest_pause: 1_000`.

  `:lock_name` is accepted for compatibility and ignored.

      iex> Process.flag(:trap_exit, true)
      iex> {:error, error} = Wasmtube.Worker.start_link(wasm_file: "no/such/file.wasm")
      iex> error.kind
      :file
  """
  @spec start_link([option]) :: GenServer.on_start()
  def start_link(options) do
    {name, options} = Keyword.pop(options, :name)
    GenServer.start_link(__MODULE__, options, if(name == nil, do: [], else: [name: name]))
  end

  @doc """
  Calls a function. Like `Wasmtube.call_function/3`.

      iex> {:ok, worker} = Wasmtube.Worker.start_link(wasm_file: "test/modules/hello_world.wat")
      iex> Wasmtube.Worker.call_function(worker, :trap, data: nil)
      ** (Wasmtube.Error) the call ended its instance, which trapped: wasm trap: wasm `unreachable` instruction executed
  """
  @spec call_function(GenServer.server(), atom | String.t(), [Wasmtube.argument()]) :: term
  def call_function(worker, function, argument), do: Call.value!(try_call_function(worker, function, argument))

  @doc """
  Like `call_function/3`, but returns `{:ok, value}` or `{:error, error}`.

      iex> {:error, error} = Wasmtube.Worker.try_call_function(:nobody, :echo, data: nil)
      iex> error.kind
      :down
  """
  @spec try_call_function(GenServer.server(), atom | String.t(), [Wasmtube.argument()]) ::
          {:ok, term} | {:error, Error.t()}
  def try_call_function(worker, function, argument) do
    at(worker, :try_call_function, [function, argument], fn worker ->
      monitor = Process.monitor(worker)

      try do
        with {:ok, {handle, time}} <- ask(worker, if(Keyword.keyword?(argument), do: argument[:timeout])) do
          Call.call(handle, function, argument, time, monitor)
        end
      after
        Process.demonitor(monitor, [:flush])
      end
    end)
  end

  @doc """
  Returns how many versions of the file there were before the one in use.

      iex> {:ok, worker} = Wasmtube.Worker.start_link(wasm_file: "test/modules/hello_world.wat")
      iex> Wasmtube.Worker.version(worker)
      0
  """
  @spec version(GenServer.server()) :: non_neg_integer
  def version(worker), do: Call.value!(try_version(worker))

  @doc false
  def try_version(worker) do
    at(worker, :try_version, [], fn worker ->
      with {:ok, {handle, _time}} <- ask(worker, nil) do
        reference = make_ref()
        :ok = Native.version(reference, handle)
        Call.await(reference)
      end
    end)
  end

  @doc """
  Subscribes the calling process to the worker's events, until either process ends.

      iex> {:ok, worker} = Wasmtube.Worker.start_link(wasm_file: "test/modules/hello_world.wat")
      iex> Wasmtube.Worker.subscribe(worker)
      iex> {:error, _} = Wasmtube.Worker.try_call_function(worker, :trap, data: nil)
      iex> receive do
      ...>   {:wasmtube, ^worker, {:crashed, version, _reason}} -> version
      ...> end
      0
  """
  @spec subscribe(GenServer.server()) :: :ok
  def subscribe(worker), do: GenServer.call(worker, :subscribe, :infinity)

  @impl true
  def init(options) do
    {file, options} = Keyword.pop(options, :wasm_file)

    with {:ok, file} <- Options.path(file),
         {:ok, limits, time} <- Options.worker(Keyword.delete(options, :lock_name)),
         limits = Map.update!(limits, :requires, &names/1),
         reference = make_ref(),
         :ok = Native.load_worker(reference, {:file, file}, limits),
         {:ok, handle} <- Call.await(reference) do
      {:ok, %{handle: handle, time: time, subscribers: %{}}}
    else
      {:error, error} -> {:stop, error}
    end
  end

  @impl true
  def handle_call(:handle, _from, state), do: {:reply, {:ok, {state.handle, state.time}}, state}

  def handle_call(:subscribe, {subscriber, _tag}, state) do
    subscribers = Map.put_new_lazy(state.subscribers, subscriber, fn -> Process.monitor(subscriber) end)
    {:reply, :ok, %{state | subscribers: subscribers}}
  end

  @impl true
  def handle_info({:wasmtube_event, event}, state) do
    for {subscriber, _monitor} <- state.subscribers, do: send(subscriber, {:wasmtube, self(), event})
    {:noreply, state}
  end

  def handle_info({:DOWN, _monitor, :process, subscriber, _reason}, state) do
    {:noreply, %{state | subscribers: Map.delete(state.subscribers, subscriber)}}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # A handle is valid only on the worker's node, so a call to a worker on another node is made on
  # that node.
  defp at(worker, function, arguments, here) do
    case GenServer.whereis(worker) do
      nil -> Call.down(:noproc)
      pid when is_pid(pid) and node(pid) == node() -> here.(pid)
      pid when is_pid(pid) -> there(node(pid), function, [pid | arguments])
      {name, node} -> there(node, function, [name | arguments])
    end
  end

  defp there(node, function, arguments) do
    :erpc.call(node, __MODULE__, function, arguments, :infinity)
  catch
    :error, {:erpc, reason} -> Call.down(reason)
  end

  # Asks a worker for its handle. The worker answers immediately, unless it is still starting.
  defp ask(worker, time) do
    GenServer.call(worker, :handle, if(is_integer(time) and time >= 0, do: time, else: :infinity))
  catch
    :exit, {:timeout, _call} -> {:error, %Error{kind: :timeout, message: "the worker did not start within #{time}ms"}}
    :exit, {reason, _call} -> Call.down(reason)
  end

  defp names(nil), do: nil
  defp names(functions), do: Enum.map(functions, &to_string/1)
end
