// HostCompare: compares what images store in files on threads of its own, each of which reads a
// little of both and looks at it while it is in the processor's cache.
#pragma once

#include <cstdint>
#include <optional>

#include "jobs/compare.h"
#include "tools/common/host_files.h"

namespace cairn::tools {

class HostCompare final : public jobs::StoredCompare {
 public:
  // An image that may be compared. The node outlives this.
  void add(const block::Node& node) { files_.add(node); }

  [[nodiscard]] io::Task<std::optional<uint64_t>> equal_bytes(jobs::StoredAt first,
                                                              jobs::StoredAt second,
                                                              uint64_t length) override;

 private:
  HostFiles files_;
};

}  // namespace cairn::tools
