// What the steps of "cairn-img convert" hand on to each other.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tools/common/interrupt.h"
#include "tools/common/new_file.h"
#include "tools/img/convert.h"

namespace cairn::tools {

class ProgressLine;

struct Conversion {
  std::vector<std::unique_ptr<block::Edge>> sources;
  std::unique_ptr<block::Edge> target;
  ImageName target_name;  // how it is opened, when that is not as requested
  uint64_t length = 0;    // of all sources, in bytes
  NewFile file;           // what was created
  bool created = false;   // the target is new, and reads as zeroes
  bool keep = false;      // what was created stays, even though the conversion failed
  Interrupt* interrupt = nullptr;
  ProgressLine* progress = nullptr;

  // How the target is opened.
  [[nodiscard]] const ImageName& name(const ConvertRequest& request) const {
    return target_name.text.empty() ? request.target : target_name;
  }
};

// convert_target.cc: makes the target; opens it, new or not, and checks that it can take the
// copy. The references outlive the tasks.
[[nodiscard]] io::Task<Result<void>> create_target(block::Graph& graph,
                                                   const ConvertRequest& request,
                                                   Conversion& conversion);
[[nodiscard]] io::Task<Result<void>> open_target(block::Graph& graph, const ConvertRequest& request,
                                                 Conversion& conversion);

// convert_verify.cc: --verify, once the target is written and closed: reads it from the disk
// and compares it with the sources. The references outlive the task.
[[nodiscard]] io::Task<Result<void>> verify_target(block::Graph& graph,
                                                   const ConvertRequest& request,
                                                   Conversion& conversion);

}  // namespace cairn::tools
