// Signals that ask a long command to end in good order.
#pragma once

namespace cairn::ctl {

// From here on SIGINT, SIGTERM and SIGHUP are only noted, each once: a second one ends the program.
// Those that are ignored stay so.
void note_interrupts();

// Whether one has come.
[[nodiscard]] bool interrupted();

}  // namespace cairn::ctl
