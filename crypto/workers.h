// Work on keys and data on the worker pool.
#pragma once

#include <utility>

#include "crypto/library.h"
#include "io/worker_pool.h"

namespace cairn::crypto {

// io::WorkerPool::run() on the shared pool, with the module loaded here before: OpenSSL never frees
// what it allocates for the very thread that it is first used on, so that this has to be one that
// stays. Where the module can not be loaded, the work finds that out, too.
template <typename F>
[[nodiscard]] auto run_on_workers(F&& work) {
  static_cast<void>(library());
  return io::WorkerPool::shared().run(std::forward<F>(work));
}

}  // namespace cairn::crypto
