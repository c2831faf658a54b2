defmodule Wasmtube.Error do
  @moduledoc """
  Why there is no result: `kind` is to decide by, `message` to be read.

  | kind | |
  |---|---|
  | `:argument` | what the function was to be called with cannot cross, or an option is wrong |
  | `:too_large` | the argument does not fit the guest's memory, or the answer is longer than is allowed |
  | `:busy` | too many calls wait already |
  | `:function` | there is no such function, or it cannot be called so |
  | `:failed` | the function answered that it failed |
  | `:ended` | the call ended its instance: it trapped, or reached a limit |
  | `:timeout` | the time was over |
  | `:answer` | the answer makes no sense |
  | `:instance` | no instance could be made |
  | `:stopped` | instances of a worker crashed too often, so it waits for its file to change |
  | `:down` | the worker's process is not there, or ended during the call |
  | `:file` | the file cannot be read or watched |
  | `:module` | it is no module that can be run |
  | `:internal` | a fault of the bridge itself |
  """

  defexception [:kind, :message]

  @type kind ::
          :argument
          | :too_large
          | :busy
          | :function
          | :failed
          | :ended
          | :timeout
          | :answer
          | :instance
          | :stopped
          | :down
          | :file
          | :module
          | :internal

  @type t :: %__MODULE__{kind: kind, message: String.t()}
end
