// HostCache: keeps what a copy leaves in the host's cache within bounds, for hosts that count it
// against a limit: a container is killed when it fills its memory with data that waits to be
// written faster than the disk takes it.
//
// Whenever a quarter of the bound has been written, what was written before that has to be on its
// way to the disk, and what is there already leaves the cache, as does what was read of the
// sources. Until the first quarter is full nothing is done at all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/node.h"
#include "io/fd.h"
#include "io/mutex.h"
#include "jobs/copy.h"

namespace cairn::tools {

// The memory that the control groups of this process allow it, versions 1 and 2; nothing when there
// is no limit. `groups` has the form of /proc/self/cgroup.
[[nodiscard]] std::optional<uint64_t> memory_limit(std::string_view groups,
                                                   const std::string& root = "/sys/fs/cgroup");

// The bound for this process: a quarter of its memory_limit(), or nothing.
[[nodiscard]] std::optional<uint64_t> usual_cache_bound();

class HostCache final : public jobs::WriteBehind {
 public:
  // `bound` in bytes, for all files together.
  explicit HostCache(uint64_t bound);

  // The files that an image consists of, all its backing chain.
  void add_source(const block::Node& node) { add(node, sources_); }
  void add_target(const block::Node& node) { add(node, targets_); }

  [[nodiscard]] io::Task<Result<void>> written(uint64_t bytes) override;

 private:
  struct HostFile {
    std::string path;
    io::Fd fd;
  };

  static void add(const block::Node& node, std::vector<HostFile>& files);
  [[nodiscard]] Result<void> settle() const;

  uint64_t window_;
  uint64_t pending_ = 0;  // bytes since the last time
  std::vector<HostFile> sources_;
  std::vector<HostFile> targets_;
  io::AsyncMutex turn_;
};

// Has the next readers of the image's files find what the disks hold: writes out what waits for it,
// and drops it from the cache. Waits for the disk.
[[nodiscard]] io::Task<Result<void>> drop_from_cache(std::vector<std::string> paths);

// The paths of the files below a node; without its backing chain if that is what is wanted.
[[nodiscard]] std::vector<std::string> host_files(const block::Node& node, bool with_backing);

}  // namespace cairn::tools
