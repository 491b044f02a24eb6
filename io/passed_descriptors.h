// Sockets that a service manager has opened for the program and passed to it (sd_listen_fds(3)):
// LISTEN_FDS of them from descriptor 3 on, meant for the process LISTEN_PID, with their names in
// LISTEN_FDNAMES.
#pragma once

#include <string_view>

#include "base/result.h"

namespace cairn::io {

// Reads the environment, and keeps the descriptors from programs that are started by this one. To
// be called before any fork, which would change the process that they are meant for. Costs next to
// nothing when nothing was passed. Fails when what the environment says can not be.
[[nodiscard]] Result<void> take_passed_descriptors();

// How many were passed; their numbers follow each other from kFirstPassedDescriptor on.
inline constexpr int kFirstPassedDescriptor = 3;
[[nodiscard]] int count_passed_descriptors();

// The number of the one with this name. ENOENT when there is none, EINVAL when several have it.
[[nodiscard]] Result<int> find_passed_descriptor(std::string_view name);

}  // namespace cairn::io
