defmodule Wasmtube.Error do
  @moduledoc """
  Why there is no result: `kind` is for programs, `message` for people.

  | kind | |
  |---|---|
  | `:argument` | the argument cannot be passed to the function, or an option is wrong |
  | `:too_large` | the argument does not fit the guest's memory, or the answer is longer than allowed |
  | `:busy` | too many calls are already waiting |
  | `:function` | there is no such function, or it takes other parameters |
  | `:failed` | the function returned an error |
  | `:ended` | the call ended its instance: it trapped, or reached a limit |
  | `:timeout` | the call took too long |
  | `:answer` | the answer is malformed |
  | `:instance` | no instance could be made |
  | `:stopped` | a worker's instances crashed too often, so it waits for its file to change |
  | `:down` | the worker's process does not exist, or ended during the call |
  | `:file` | the file cannot be read |
  | `:module` | it is not a module that can be run |
  | `:internal` | a bug of the bridge itself |
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
