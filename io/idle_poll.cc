#include "io/idle_poll.h"

#include <sched.h>

namespace cairn::io {

PollSettings serving_poll_settings() {
  cpu_set_t processors;
  const bool known = sched_getaffinity(0, sizeof processors, &processors) == 0;
  if (known && CPU_COUNT(&processors) == 1) {
    return {};
  }
  return {.longest = std::chrono::microseconds(100)};
}

}  // namespace cairn::io
