// HostCopy: has the host copy between files, so that the data does not pass through the program; a
// file system that can share data between files does not copy at all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "block/node.h"
#include "io/fd.h"
#include "jobs/copy.h"
#include "tools/common/host_files.h"

namespace cairn::tools {

class HostCopy final : public jobs::Offload {
 public:
  // Null when the target is no raw image in a file. The edge outlives it.
  [[nodiscard]] static io::Task<std::unique_ptr<HostCopy>> create(block::Edge& target);

  // An image that may be copied from.
  void add_source(const block::Node& node) { sources_.add(node); }

  [[nodiscard]] io::Task<bool> copy(const block::Node& from, uint64_t from_offset, uint64_t to,
                                    uint64_t length) override;

  // Makes what was copied durable.
  [[nodiscard]] io::Task<Result<void>> flush();

 private:
  HostCopy(std::string path, io::Fd fd, uint64_t begin)
      : path_(std::move(path)), target_(std::move(fd)), begin_(begin) {}

  std::string path_;
  io::Fd target_;
  uint64_t begin_;  // of the image in its file
  HostFiles sources_;
  bool possible_ = true;
  bool used_ = false;
};

}  // namespace cairn::tools
