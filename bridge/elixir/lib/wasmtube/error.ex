defmodule Wasmtube.Error do
  @moduledoc """
  The reason why a call did not return a result. `kind` is for programs and `message` for people.

  | kind | |
  |---|---|
  | `:argument` | the argument cannot be passed to the function, or an option is invalid |
  | `:too_large` | the argument does not fit into the guest's memory, or the answer is too long |
  | `:busy` | too many calls are already waiting |
  | `:function` | there is no such function or it takes different parameters |
  | `:failed` | the function returned an error |
  | `:ended` | the call trapped or reached a limit, which ended its instance |
  | `:timeout` | the call took too long |
  | `:answer` | the answer is malformed |
  | `:instance` | no instance could be created |
  | `:stopped` | a worker's instances crashed too often, so the worker waits for its file to change |
  | `:down` | the worker's process does not exist or ended during the call |
  | `:file` | the file cannot be read |
  | `:module` | the file or binary is not a module that can be run |
  | `:internal` | a bug in the bridge itself |
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
