defmodule Wasmtube.DoctestTest do
  use ExUnit.Case, async: true

  @moduletag :capture_log

  doctest Wasmtube
  doctest Wasmtube.Worker
end
