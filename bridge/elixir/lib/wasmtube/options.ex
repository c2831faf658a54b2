defmodule Wasmtube.Options do
  @moduledoc false
  # Checks callers' keyword lists, so that the library gets only valid options.

  alias Wasmtube.Error

  @limits [
    memory: 256 * 1024 * 1024,
    compute: :infinity,
    time: 5_000,
    instances: 1,
    index: nil,
    allow: [],
    start_within: 10_000,
    answer: 16 * 1024 * 1024
  ]
  @worker [requires: nil, intensity: nil]
  @crashes [most: 10, period: 60_000, pause: 10, longest_pause: 1_000]

  @most 0xFFFFFFFF

  @doc "Returns a bridge's limits as the library expects them, and the time limit of its calls."
  def bridge(options), do: check(options, @limits, "a bridge", %{requires: nil, intensity: nil})

  @doc "Returns a worker's limits as the library expects them, and the time limit of its calls."
  def worker(options), do: check(options, @limits ++ @worker, "a worker", %{})

  @doc "Returns a function's argument as the library expects it, and the time limit of the call."
  def call(options, time) do
    with {:ok, options} <- keyword(options, "a call"),
         {:ok, time} <- time(options, time),
         {:ok, argument} <- argument(Enum.sort(Keyword.delete(options, :timeout))) do
      {:ok, argument, time}
    end
  end

  @doc "Returns a file's path as the library expects it."
  def path(path) do
    text = if is_list(path), do: List.to_string(path), else: path
    if text?(text) and text != "", do: {:ok, text}, else: no_path(path)
  rescue
    _ in [ArgumentError, UnicodeConversionError] -> no_path(path)
  end

  defp no_path(path) do
    wrong("a file path must be a UTF-8 string, not #{inspect(path, limit: 5, printable_limit: 100)}")
  end

  defp check(options, defaults, what, more) do
    with {:ok, options} <- keyword(options, what),
         [] <- Keyword.keys(options) |> Enum.reject(&Keyword.has_key?(defaults, &1)),
         options = Map.new(Keyword.merge(defaults, options)),
         nil <- Enum.find_value(options, fn {key, value} -> if valid?(key, value), do: nil, else: {key, value} end) do
      {time, options} = Map.pop!(options, :time)
      options = options |> Map.update!(:compute, &limit/1) |> crashes()
      {:ok, Map.merge(more, options), time}
    else
      {:error, error} -> {:error, error}
      [key | _] -> wrong("#{what} has no option #{inspect(key)}; it has #{Enum.map_join(defaults, ", ", &name/1)}")
      {key, value} -> wrong("the option #{inspect(key)} cannot be #{inspect(value, limit: 5, printable_limit: 100)}")
    end
  end

  defp keyword(options, what) do
    if Keyword.keyword?(options), do: {:ok, options}, else: wrong("the options of #{what} must be a keyword list")
  end

  defp name({key, _}), do: inspect(key)

  defp limit(:infinity), do: nil
  defp limit(units), do: units

  defp crashes(%{intensity: intensity} = options) when intensity != nil do
    %{options | intensity: Map.new(Keyword.merge(@crashes, intensity))}
  end

  defp crashes(options), do: options

  defp valid?(:memory, bytes), do: is_integer(bytes) and bytes in 0..0x100000000
  defp valid?(:compute, units), do: units == :infinity or (is_integer(units) and units in 0..0xFFFFFFFFFFFFFFFF)
  defp valid?(:time, time), do: time?(time)
  defp valid?(:instances, instances), do: is_integer(instances) and instances in 1..@most
  defp valid?(:index, index), do: index == nil or (is_integer(index) and index in 0..@most)
  defp valid?(:allow, prefixes), do: texts?(prefixes)
  defp valid?(:start_within, time), do: is_integer(time) and time in 0..@most
  defp valid?(:answer, bytes), do: is_integer(bytes) and bytes in 0..0x100000000
  defp valid?(:requires, nil), do: true

  defp valid?(:requires, functions) do
    proper?(functions) and Enum.all?(functions, &(is_atom(&1) or text?(&1)))
  end

  defp valid?(:intensity, nil), do: true

  defp valid?(:intensity, intensity) do
    Keyword.keyword?(intensity) and Keyword.keys(intensity) -- Keyword.keys(@crashes) == [] and
      Enum.all?(intensity, fn {_, number} -> is_integer(number) and number in 0..@most end)
  end

  defp texts?(texts), do: proper?(texts) and Enum.all?(texts, &text?/1)
  defp text?(text), do: is_binary(text) and String.valid?(text)
  defp proper?(list), do: is_list(list) and List.improper?(list) == false

  defp time?(time), do: time == :infinity or (is_integer(time) and time in 0..@most)

  defp time(options, default) do
    time = Keyword.get(options, :timeout, default)

    if time?(time),
      do: {:ok, time},
      else: wrong("the time limit of a call must be a number of milliseconds or :infinity, not #{inspect(time)}")
  end

  defp argument(data: value), do: {:ok, {:data, value}}
  defp argument(bytes: bytes) when is_binary(bytes), do: {:ok, {:bytes, bytes}}

  defp argument(height: height, image: image, width: width) when is_binary(image) do
    if is_integer(width) and width in 0..@most and is_integer(height) and height in 0..@most do
      {:ok, {:image, image, width, height}}
    else
      wrong(
        "the size of an image must be two integers from 0 to #{@most}, not #{inspect(width)} and #{inspect(height)}"
      )
    end
  end

  defp argument(options) do
    given = Enum.map_join(options, ", ", fn {key, _} -> inspect(key) end)

    wrong(
      "a call takes either `data:` with a value, `bytes:` with a binary, or `image:` with a binary and `width:` and " <>
        "`height:`; this one has #{if given == "", do: "nothing", else: given}"
    )
  end

  defp wrong(message), do: {:error, %Error{kind: :argument, message: message}}
end
