// LibFuse: what mounting needs of libfuse, which is loaded when the first file is mounted: most
// daemons mount none, and loading it would be a good part of the time that they take to start.
#pragma once

#include <fuse_lowlevel.h>

#include "base/result.h"

namespace cairn::fuse {

// The functions of these names.
struct LibFuse {
  decltype(&fuse_session_new) session_new = nullptr;
  decltype(&fuse_session_mount) session_mount = nullptr;
  decltype(&fuse_session_fd) session_fd = nullptr;
  decltype(&fuse_session_unmount) session_unmount = nullptr;
  decltype(&fuse_session_destroy) session_destroy = nullptr;
  decltype(&fuse_opt_free_args) opt_free_args = nullptr;
  decltype(&fuse_set_log_func) set_log_func = nullptr;
};

// Loaded once, and never unloaded. Fails with ENOTSUP when it is not installed.
[[nodiscard]] Result<const LibFuse*> libfuse();

}  // namespace cairn::fuse
