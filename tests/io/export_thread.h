// The thread that exports have when the environment variable CAIRN_EXPORT_THREAD is set: the same
// tests hold for them then. On the back end that CAIRN_IO names.
#pragma once

#include <cstdlib>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "io/reactor_thread.h"

namespace cairn::io {

// Null when exports are to run at home.
inline std::unique_ptr<ReactorThread> make_export_thread() {
  if (std::getenv("CAIRN_EXPORT_THREAD") == nullptr) {
    return nullptr;
  }
  const char* const wanted = std::getenv("CAIRN_IO");
  const auto kind = parse_backend_kind(wanted != nullptr ? wanted : "auto");
  auto thread = ReactorThread::start("cairn-export", *kind, {});
  EXPECT_TRUE(thread.has_value());
  return std::move(*thread);
}

}  // namespace cairn::io
