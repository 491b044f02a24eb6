// How an image is moved together inside its file, as a driver does it.
#pragma once

#include <cstdint>
#include <functional>

#include "io/cancel.h"

namespace cairn::block {

struct CompactOptions {
  io::CancelToken cancel;  // it fails with ECANCELED, and the image is in order
  // How many of the disk's bytes have been looked at; may be empty.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

}  // namespace cairn::block
