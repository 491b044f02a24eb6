// The result of a consistency check, and how a format reports what it finds on the way.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"

namespace cairn::block {

struct CheckOptions {
  bool fix_leaks = false;
  bool fix_errors = false;
  // Called with one line per finding, without line end: "ERROR cluster 5 refcount=0 reference=1".
  std::function<void(const std::string& line)> report;
  // Called with what ends the check early and needs more words than the error that check() returns.
  std::function<void(const Error& error)> complain;
};

struct CheckResult {
  int64_t corruptions = 0;
  int64_t leaks = 0;         // in clusters
  int64_t check_errors = 0;  // parts that could not be checked
  int64_t corruptions_fixed = 0;
  int64_t leaks_fixed = 0;
  std::optional<int64_t> image_end_offset;  // bytes
  struct Fragmentation {
    int64_t total_clusters = 0;
    int64_t allocated_clusters = 0;
    int64_t fragmented_clusters = 0;
    int64_t compressed_clusters = 0;
  };
  std::optional<Fragmentation> fragmentation;
};

}  // namespace cairn::block
