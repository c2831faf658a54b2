/* A guest in C: it spawns a process, sends it a number, and receives that number plus one.
 *
 *   clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry ping.c -o ping.wasm
 *
 * Note how the process is spawned: it can start at any exported function, and each parameter is passed with its
 * type. A message is sent from the sender's memory and received into the receiver's buffer. */

#include "lunatic.h"

LUNATIC_EXPORT("pong") void pong(uint64_t parent) {
  uint64_t number;
  lunatic_message_header header;
  int32_t got = lunatic_message_receive_bytes(0, 0, LUNATIC_FOREVER, &number, sizeof number, &header);
  if (got != LUNATIC_MESSAGE_DATA || header.length != sizeof number) __builtin_trap();
  number += 1;
  lunatic_message_send_bytes(parent, header.tag, &number, sizeof number, 0, 0);
}

LUNATIC_EXPORT("_start") void start(void) {
  lunatic_parameter parent = {LUNATIC_PARAMETER_I64, lunatic_process_process_id(), 0};
  uint64_t child;
  if (lunatic_process_spawn(0, LUNATIC_OWN, LUNATIC_OWN, "pong", 4, &parent, sizeof parent, &child)) __builtin_trap();

  uint64_t number = 41;
  if (lunatic_message_send_bytes(child, 7, &number, sizeof number, 0, 0) != LUNATIC_ERRNO_SUCCESS) __builtin_trap();

  /* Only a message with this tag is received; anything else stays in the mailbox. */
  const uint64_t tags[] = {7};
  lunatic_message_header header;
  if (lunatic_message_receive_bytes(tags, 1, 5000, &number, sizeof number, &header) != LUNATIC_MESSAGE_DATA) __builtin_trap();
  if (number != 42 || header.tag != 7) __builtin_trap();
}
