defmodule Wasmtube do
  @moduledoc """
  Calls functions in wasm modules with values, images or bytes.

      iex> "test/modules/hello_world.wat"
      ...> |> Wasmtube.from_file()
      ...> |> Wasmtube.call_function(:echo, data: %{arg: "World"})
      %{"arg" => "World"}

  Functions run as processes in a VM inside the node, with their own memory and only the rights they are given. A call
  that traps, computes too much or takes too long fails. Calls do not block the node's schedulers: they run on other
  threads, and only the calling process waits.

  ## Values

  | Elixir | | guest, as JSON | | Elixir |
  |---|---|---|---|---|
  | `nil`, `true`, `false` | → | `null`, `true`, `false` | → | `nil`, `true`, `false` |
  | any other atom | → | a string | → | a binary |
  | a UTF-8 binary | → | a string | → | a binary |
  | an integer of up to 64 bits, signed or unsigned | → | a number | → | an integer |
  | a float | → | a number | → | a float |
  | a list | → | an array | → | a list |
  | a map, a keyword list | → | an object | → | a map with binary keys |

  Keys are atoms, binaries or integers. Anything else causes an error of kind `:argument` that describes the value and
  its position: pids, references, functions, tuples, structs, improper lists, larger integers, other binaries (pass them
  with `bytes:`), duplicate keys, and values nested more than 127 levels deep.

  ## Options

  `from_file/2`, `from_binary/2` and `Wasmtube.Worker.start_link/1` have these options:

    * `:memory` – the maximum memory of an instance, and the maximum length of an argument, in bytes. Default: 256 MiB.
    * `:compute` – how much a call may compute, in units of 100,000 wasm instructions. Default: `:infinity`.
    * `:time` – how many milliseconds a call may take, or `:infinity`. Default: 5,000. A call's `timeout:` overrides it.
    * `:instances` – how many calls are served at the same time, each by an instance with its own memory. Default: 1.
    * `:allow` – grants the host functions whose `namespace::name` starts with one of these prefixes, such as
      `["wasi_snapshot_preview1::"]`. Default: none.
    * `:index` – the address that arguments are written to, even if the guest uses this memory. Default: separate
      memory.
    * `:start_within` – how many milliseconds an instance's start function may take. Default: 10,000.
    * `:answer` – the maximum length of an answer, in bytes of JSON. Default: 16 MiB. An answer's terms may take ten
      times as much memory.
  """

  alias Wasmtube.{Bridge, Call, Error, Native, Options}

  @type option ::
          {:memory, non_neg_integer}
          | {:compute, non_neg_integer | :infinity}
          | {:time, timeout}
          | {:instances, pos_integer}
          | {:allow, [String.t()]}
          | {:index, non_neg_integer | nil}
          | {:start_within, non_neg_integer}
          | {:answer, non_neg_integer}

  @type argument ::
          {:data, term}
          | {:bytes, binary}
          | {:image, binary}
          | {:width, non_neg_integer}
          | {:height, non_neg_integer}
          | {:timeout, timeout}

  @doc """
  Creates a bridge from a file that contains a module, as wasm or wat. Waits until the module has been compiled. Raises
  `Wasmtube.Error` if the file cannot be read, is not a module or cannot be instantiated.

  For compatibility, the second argument may be the name of a lock. It is ignored, because calls do not need a lock.

      iex> Wasmtube.from_file("no/such/file.wasm")
      ** (Wasmtube.Error) no/such/file.wasm cannot be read: No such file or directory (os error 2)
  """
  @spec from_file(Path.t(), [option] | atom | String.t()) :: Bridge.t()
  def from_file(path, options \\ []), do: Call.value!(try_from_file(path, options))

  @doc """
  Like `from_file/2`, but returns `{:ok, bridge}` or `{:error, error}`.

      iex> {:error, error} = Wasmtube.try_from_file("test/modules/hello_world.wat", memory: 1)
      iex> error.kind
      :instance
  """
  @spec try_from_file(Path.t(), [option] | atom | String.t()) :: {:ok, Bridge.t()} | {:error, Error.t()}
  def try_from_file(path, options \\ []) do
    with {:ok, path} <- Options.path(path), do: load({:file, path}, options)
  end

  @doc """
  Creates a bridge from a module, as wasm or wat; see `from_file/2`.

      iex> bridge = Wasmtube.from_binary(~S|(module
      ...>   (memory (export "memory") 1)
      ...>   (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length)))|)
      iex> Wasmtube.call_function(bridge, "echo", data: [1, nil, 2.5])
      [1, nil, 2.5]
  """
  @spec from_binary(binary, [option] | atom | String.t()) :: Bridge.t()
  def from_binary(binary, options \\ []), do: Call.value!(try_from_binary(binary, options))

  @doc """
  Like `from_binary/2`, but returns `{:ok, bridge}` or `{:error, error}`.

      iex> {:error, error} = Wasmtube.try_from_binary("not a module")
      iex> error.kind
      :module
  """
  @spec try_from_binary(binary, [option] | atom | String.t()) :: {:ok, Bridge.t()} | {:error, Error.t()}
  def try_from_binary(binary, options \\ []) when is_binary(binary), do: load({:binary, binary}, options)

  @doc """
  Returns a bridge for the same module, with the same options, that writes arguments to the given address.

      iex> bridge = "test/modules/hello_world.wat" |> Wasmtube.from_file() |> Wasmtube.index(42)
      iex> Wasmtube.call_function(bridge, :index, data: nil)
      42
  """
  @spec index(Bridge.t(), non_neg_integer) :: Bridge.t()
  def index(%Bridge{source: source, options: options}, index) do
    Call.value!(load(source, Keyword.put(options, :index, index)))
  end

  @doc """
  Calls a function and returns its value, or a binary if it returns bytes. Raises `Wasmtube.Error` if the call fails.

  The argument is one of:

    * `data:` a value;
    * `image:` a binary, with `width:` and `height:` in pixels;
    * `bytes:` a binary.

  `timeout:` limits the call, in milliseconds or `:infinity`. A call that takes longer is terminated and fails with an
  error of kind `:timeout`; no process exits, and no answer arrives later. A call is also terminated when the calling
  process ends.

      iex> bridge = Wasmtube.from_file("test/modules/hello_world.wat")
      iex> Wasmtube.call_function(bridge, :image_size, width: 3, height: 2, image: <<0::size(18)-unit(8)>>)
      %{"height" => 2, "width" => 3}
      iex> Wasmtube.call_function(bridge, :spin, data: nil, timeout: 20)
      ** (Wasmtube.Error) the call took longer than 20ms
  """
  @spec call_function(Bridge.t(), atom | String.t(), [argument]) :: term
  def call_function(bridge, function, argument), do: Call.value!(try_call_function(bridge, function, argument))

  @doc """
  Like `call_function/3`, but returns `{:ok, value}` or `{:error, error}`.

      iex> bridge = Wasmtube.from_file("test/modules/hello_world.wat")
      iex> Wasmtube.try_call_function(bridge, :echo, data: "hello")
      {:ok, "hello"}
      iex> {:error, error} = Wasmtube.try_call_function(bridge, :echo, data: %{pids: [self()]})
      iex> {error.kind, error.message}
      {:argument, ~S|the argument cannot be expressed as JSON: a pid at ["pids"][0]|}
  """
  @spec try_call_function(Bridge.t(), atom | String.t(), [argument]) :: {:ok, term} | {:error, Error.t()}
  def try_call_function(%Bridge{handle: handle, time: time}, function, argument) do
    Call.call(handle, function, argument, time)
  end

  @doc """
  Returns how many bridges and workers (`handles`) and how many calls there are on this node. Each is freed soon after
  the last reference to it has been garbage-collected.

      iex> %{handles: handles, calls: calls} = Wasmtube.info()
      iex> is_integer(handles) and is_integer(calls)
      true
  """
  @spec info() :: %{handles: non_neg_integer, calls: non_neg_integer}
  def info do
    {handles, calls} = Native.counts()
    %{handles: handles, calls: calls}
  end

  defp load(source, options) when is_list(options) do
    with {:ok, limits, time} <- Options.bridge(options) do
      reference = make_ref()
      :ok = Native.load_bridge(reference, source, limits)

      with {:ok, handle} <- Call.await(reference) do
        {:ok, %Bridge{handle: handle, time: time, source: source, options: options}}
      end
    end
  end

  defp load(source, _lock_name), do: load(source, [])
end
