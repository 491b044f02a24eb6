// FileCopy: what copies from files to a raw image without the data passing through the images'
// nodes; see HostCopy and ThreadCopy.
#pragma once

#include <utility>

#include "base/result.h"
#include "block/node.h"
#include "io/task.h"
#include "jobs/copy.h"
#include "tools/common/host_files.h"

namespace cairn::tools {

class FileCopy : public jobs::Offload {
 public:
  // An image that may be copied from. The node outlives this.
  void add_source(const block::Node& node) { sources_.add(node); }

  // Makes what was copied durable.
  [[nodiscard]] io::Task<Result<void>> flush();

 protected:
  explicit FileCopy(RawFile target) : target_(std::move(target)) {}

  RawFile target_;
  HostFiles sources_;
  bool used_ = false;
};

}  // namespace cairn::tools
