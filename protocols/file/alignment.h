// What direct I/O (O_DIRECT) demands of requests to a file.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace cairn::file {

// Powers of two, in bytes. 1 for both: anything goes.
struct DirectAlignment {
  uint32_t request = 1;  // offsets and lengths
  uint32_t memory = 1;   // addresses
};

// Asks the kernel (statx), else tries reads of growing alignment. `fd` is open with O_DIRECT; its
// position is not changed. What can not be found out is taken to be 4096, which every disk and file
// system in use accepts.
[[nodiscard]] DirectAlignment probe_direct_alignment(int fd);

}  // namespace cairn::file
