// FuseTest: a file over a node in memory.
#pragma once

#include <memory>

#include "exports/fuse/exported_file.h"
#include "tests/exports/memory_node_test.h"

namespace cairn::fuse {

class FuseTest : public exports::MemoryNodeTest {
 protected:
  void TearDown() override {
    file_.reset();
    MemoryNodeTest::TearDown();
  }

  ExportedFile& make_file(ExportedFile::Settings settings) {
    file_ = std::make_unique<ExportedFile>(*root_, settings);
    return *file_;
  }

  std::unique_ptr<ExportedFile> file_;
};

}  // namespace cairn::fuse
