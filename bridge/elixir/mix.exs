defmodule Mix.Tasks.Compile.WasmtubeNative do
  @moduledoc """
  Compiles the native library with cargo and installs it where the package loads it from.

  `WASMTUBE_CARGO` sets cargo's arguments, which default to `build --release --package lunatic-elixir`.
  `CARGO_TARGET_DIR` sets the directory that cargo builds in.
  """
  use Mix.Task.Compiler

  @default "build --release --package lunatic-elixir"

  @impl true
  def run(_arguments) do
    priv = Path.join(Mix.Project.app_path(), "priv")
    library = Path.join(priv, "wasmtube.so")

    case built() do
      {:ok, built} ->
        File.mkdir_p!(priv)
        if same?(built, library), do: {:noop, []}, else: install(built, library)

      {:error, reason} ->
        Mix.shell().error("wasmtube: #{reason}")
        {:error, []}
    end
  end

  @impl true
  def clean do
    File.rm(Path.join([Mix.Project.app_path(), "priv", "wasmtube.so"]))
  end

  defp built do
    arguments = String.split(System.get_env("WASMTUBE_CARGO", @default)) ++ ["--message-format=json-render-diagnostics"]
    cargo = System.find_executable("cargo")

    with {:cargo, path} when path != nil <- {:cargo, cargo},
         {messages, 0} <- System.cmd(path, arguments, cd: __DIR__),
         [_, file] <- Regex.run(~r/"filenames":\["([^"]*wasmtube\.(?:so|dylib|dll))"/, messages) do
      {:ok, file}
    else
      {:cargo, nil} -> {:error, "cargo is not installed; see https://rustup.rs for how to install Rust"}
      {_messages, status} -> {:error, "`cargo #{Enum.join(arguments, " ")}` exited with status #{status}"}
      nil -> {:error, "cargo did not build a library named `wasmtube`; check `WASMTUBE_CARGO`"}
    end
  end

  defp same?(built, library) do
    with {:ok, %{size: size, mtime: then}} <- File.stat(built),
         {:ok, %{size: ^size, mtime: now}} <- File.stat(library) do
      now >= then
    else
      _ -> false
    end
  end

  # The library is renamed into place because nodes that have loaded it keep using the old file.
  defp install(built, library) do
    File.cp!(built, library <> ".new")
    File.rename!(library <> ".new", library)
    {:ok, []}
  end
end

defmodule Wasmtube.MixProject do
  use Mix.Project

  def project do
    [
      app: :wasmtube,
      version: "0.1.0",
      description:
        "Calls functions in wasm modules, with values or images, under supervision, while new versions are swapped in.",
      elixir: "~> 1.14",
      compilers: [:wasmtube_native | Mix.compilers()],
      deps: []
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end
end
