// ReactorTest: a test with a reactor on the back end that the environment variable CAIRN_IO names
// ("auto" when it is not set). A back end that this machine does not offer skips the test.
#pragma once

#include <cstdlib>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "io/reactor.h"
#include "io/task.h"

namespace cairn::io {

class ReactorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* name = std::getenv("CAIRN_IO");
    const auto kind = parse_backend_kind(name != nullptr ? name : "auto");
    ASSERT_TRUE(kind.has_value()) << kind.error().message();
    auto reactor = Reactor::create(*kind);
    if (!reactor) {
      GTEST_SKIP() << reactor.error().message();
    }
    reactor_ = std::move(*reactor);
  }

  template <typename T>
  T run(Task<T> task) {
    return reactor_->block_on(std::move(task));
  }

  std::unique_ptr<Reactor> reactor_;
};

}  // namespace cairn::io
