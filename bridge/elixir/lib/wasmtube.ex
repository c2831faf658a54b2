defmodule Wasmtube do
  @moduledoc """
  Calls functions of wasm modules: with values, with images, with bytes.

      iex> "test/modules/hello_world.wat"
      ...> |> Wasmtube.from_file()
      ...> |> Wasmtube.call_function(:echo, data: %{arg: "World"})
      %{"arg" => "World"}

  A function runs as a process of a separate machine inside the node, with its own memory and only the rights that it is
  given. If a call traps, computes too much or takes too long, it fails. Calls do not block the node's schedulers,
  because they run on other threads and only the calling process waits.

  ## Values

  | Elixir | | guest, as JSON | | Elixir |
  |---|---|---|---|---|
  | `nil`, `true`, `false` | → | `null`, `true`, `false` | → | the same |
  | another atom | → | a string | → | a binary |
  | a binary in UTF-8 | → | a string | → | a binary |
  | an integer of up to 64 bits, signed or unsigned | → | a number | → | an integer |
  | a float | → | a number | → | a float |
  | a list | → | an array | → | a list |
  | a map, a keyword list | → | an object | → | a map with binaries as keys |

  Keys are atoms, binaries or integers. Any other value is an error of the kind `:argument` that describes the value and
  its position: pids, references, functions, tuples, structs, improper lists, larger integers, other binaries (use
  `bytes:` for them), duplicate keys, and values nested deeper than 127.

  ## Options

  `from_file/2`, `from_binary/2` and `Wasmtube.Worker.start_link/1` have these options:

    * `:memory` – the maximum memory of an instance, and the maximum length of an argument, in bytes. Default: 256 MiB.
    * `:compute` – how much a call may compute, in units of 100,000 wasm instructions. Default: `:infinity`.
    * `:time` – how many milliseconds a call may take, or `:infinity`. Default: 5,000. A call's `timeout:` overrides it.
    * `:instances` – how many calls are served at the same time, each by an instance with its own memory. Default: 1.
    * `:allow` – grants the host functions whose `namespace::name` starts with one of these prefixes, such as
      `["wasi_snapshot_preview1::"]`. Default: none.
    * `:index` – the address to which arguments are written, even if the guest uses this memory. Default: separate memory.
    * `:start_within` – how many milliseconds an instance has to return from its start function. Default: 10,000.
    * `:answer` – the maximum length of an answer, in bytes of JSON. Default: 16 MiB. The terms of an answer may take
      ten times as much memory.
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
  Creates a bridge from a file that contains a module, as wasm or wat. Waits until the module is compiled. Raises
  `Wasmtube.Error` if the file cannot be read, is not a module or cannot be instantiated.

  For compatibility, the second argument may be the name of a lock. The name is ignored, because calls need no lock.

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

      iex> {:error, error} = Wasmtube.try_from_binary("no module")
      iex> error.kind
      :module
  """
  @spec try_from_binary(binary, [option] | atom | String.t()) :: {:ok, Bridge.t()} | {:error, Error.t()}
  def try_from_binary(binary, options \\ []) when is_binary(binary), do: load({:binary, binary}, options)

  @doc """
  Returns a bridge of the same module, created with the same options, that writes arguments to this address.

      iex> bridge = "test/modules/hello_world.wat" |> Wasmtube.from_file() |> Wasmtube.index(42)
      iex> Wasmtube.call_function(bridge, :index, data: nil)
      42
  """
  @spec index(Bridge.t(), non_neg_integer) :: Bridge.t()
  def index(%Bridge{source: source, options: options}, index) do
    Call.value!(load(source, Keyword.put(options, :index, index)))
  end

  @doc """
  Calls a function and returns its value, or a binary if it returns bytes; raises `Wasmtube.Error` if the call fails.

  The function is called with one of

    * `data:` a value;
    * `image:` a binary, with `width:` and `height:` in pixels;
    * `bytes:` a binary.

  `timeout:` limits the call, in milliseconds or `:infinity`. A call that takes longer is ended and fails with the kind
  `:timeout`. In this case, no process exits and no late answer arrives. A call is also ended when the calling process
  ends.

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
  Returns how many bridges and workers (`handles`) and calls there are in this node. They are freed soon after the last
  reference to them has been garbage-collected.

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
