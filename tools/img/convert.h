// The request that "cairn-img convert" reads from its command line, and what carries it out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/signal.h"
#include "tools/common/image.h"
#include "tools/common/session.h"
#include "tools/common/snapshots.h"

namespace cairn::tools {

struct ConvertRequest {
  std::vector<ImageName> sources;
  CacheMode source_cache;
  bool source_cache_given = false;
  bool force_share = false;
  std::optional<SnapshotChoice> snapshot;

  ImageName target;  // its format is what it is created in: raw unless something else is said
  bool target_format_given = false;
  CacheMode target_cache{.no_flush = true};
  bool target_cache_given = false;
  // What is told when everything else is right: an unknown mode for that.
  std::optional<std::string> wrong_target_cache;
  std::string options;  // what all -o say
  std::optional<std::string> backing;
  std::optional<std::string> backing_format;
  bool create = true;
  bool target_is_zero = false;

  uint64_t sparse_size = 4096;
  bool sparse_size_given = false;
  unsigned parallel = 8;
  bool any_order = false;
  uint64_t rate_limit = 0;
  bool salvage = false;
  bool copy_offloading = false;
  bool compress = false;
  unsigned compression_level = 0;  // 0: what the format has by default
  bool bitmaps = false;
  bool skip_broken_bitmaps = false;
  bool verify = false;
  bool resume = false;
  std::optional<uint64_t> cache_limit;  // bytes; 0: none
  bool progress = false;
  bool progress_json = false;
  bool quiet = false;
};

// Copies, and returns the exit code; ends the program when one of the signals interrupts it. A
// target that was made for a copy that then failed is removed. The references outlive the task.
[[nodiscard]] io::Task<int> convert_images(block::Graph& graph, const ConvertRequest& request,
                                           const io::SignalWatcher& signals);

// --bitmaps (convert_bitmaps.cc): whether source and target can have their part in it, and
// copying what the source keeps. The nodes outlive the task.
[[nodiscard]] Result<void> check_source_bitmaps(const ConvertRequest& request, block::Node& source);
[[nodiscard]] Result<void> check_target_bitmaps(block::Node& target);
[[nodiscard]] io::Task<Result<void>> copy_bitmaps(block::Node& from, block::Node& to);

}  // namespace cairn::tools
