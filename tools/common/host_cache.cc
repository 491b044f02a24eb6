#include "tools/common/host_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "block/driver_table.h"
#include "io/worker_pool.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kParts = 4;  // of a bound, and of the memory that there is
constexpr uint64_t kLeastWindow = 1u << 20;
// What version 1 shows when there is no limit is a little less than 2^63.
constexpr uint64_t kNoLimit = 1ULL << 60;

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void take_limit(const std::string& path, std::optional<uint64_t>& limit) {
  const std::string text = read_text(path);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end != text.data() && value > 0 && value < kNoLimit) {
    limit = std::min(limit.value_or(value), value);
  }
}

// A group is within the limits of those above it. Inside a container the path may be one of the
// host that is not to be seen; the container's own group is then at the root.
void take_limits(const std::string& mount, std::string path, std::string_view file,
                 std::optional<uint64_t>& limit) {
  for (;;) {
    take_limit(fmt::format("{}{}/{}", mount, path, file), limit);
    const std::size_t slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) {
      return;
    }
    path.resize(slash);
  }
}

bool has_controller(std::string_view list, std::string_view name) {
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    if (list.substr(begin, end - begin) == name) {
      return true;
    }
    begin = end + 1;
  }
  return false;
}

void find_files(const block::Node& node, bool with_backing, std::vector<std::string>& paths) {
  const std::string_view driver = node.info().name;
  if (driver == "file" || driver == "host_device") {
    paths.push_back(node.filename());
  }
  for (const auto& child : node.children()) {
    if (with_backing || child->role() != block::ChildRole::kBacking) {
      find_files(child->node(), with_backing, paths);
    }
  }
}

// What can not be said of this kind of file, a pipe for example, need not be said.
bool does_not_apply(int error) {
  return error == EINVAL || error == ESPIPE || error == ENOSYS || error == EOPNOTSUPP;
}

Result<void> write_out_and_drop(const std::string& path) {
  const io::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno(errno, "Could not open '{}'", path);
  }
  if (fdatasync(fd.get()) != 0 && !does_not_apply(errno)) {
    return fail_errno(errno, "Could not flush '{}'", path);
  }
  (void)posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

}  // namespace

std::optional<uint64_t> memory_limit(std::string_view groups, const std::string& root) {
  std::optional<uint64_t> limit;
  for (std::size_t begin = 0; begin < groups.size();) {
    const std::size_t end = std::min(groups.find('\n', begin), groups.size());
    const std::string_view line = groups.substr(begin, end - begin);
    begin = end + 1;
    // "NUMBER:CONTROLLERS:PATH"
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first == line.npos ? first : first + 1);
    if (second == line.npos) {
      continue;
    }
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    std::string path(line.substr(second + 1));
    if (path == "/") {
      path.clear();
    }
    if (controllers.empty()) {
      for (const std::string_view file : {"memory.max", "memory.high"}) {
        take_limits(root, path, file, limit);
      }
    } else if (has_controller(controllers, "memory")) {
      take_limits(root + "/memory", path, "memory.limit_in_bytes", limit);
    }
  }
  return limit;
}

std::optional<uint64_t> usual_cache_bound() {
  static const auto kLimit = memory_limit(read_text("/proc/self/cgroup"));
  return kLimit ? std::optional(*kLimit / kParts) : std::nullopt;
}

HostCache::HostCache(uint64_t bound) : window_(std::max(bound / kParts, kLeastWindow)) {}

void HostCache::add(const block::Node& node, std::vector<HostFile>& files) {
  for (std::string& path : host_files(node, true)) {
    io::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (fd.valid()) {
      files.push_back({.path = std::move(path), .fd = std::move(fd)});
    }
  }
}

io::Task<Result<void>> HostCache::written(uint64_t bytes) {
  pending_ += bytes;
  if (pending_ < window_) {
    co_return Result<void>();
  }
  pending_ = 0;
  // Whoever fills the next window before this one is settled waits here, which is the bound.
  const auto guard = co_await turn_.lock();
  auto work = io::WorkerPool::shared().run([this] { return settle(); });
  co_return co_await work;
}

Result<void> HostCache::settle() const {
  for (const HostFile& file : targets_) {
    if (sync_file_range(file.fd.get(), 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE) != 0 &&
        !does_not_apply(errno)) {
      return fail_errno(errno, "Could not write '{}' out", file.path);
    }
    (void)posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    (void)sync_file_range(file.fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  for (const HostFile& file : sources_) {
    (void)posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  return {};
}

io::Task<Result<void>> drop_from_cache(std::vector<std::string> paths) {
  auto work = io::WorkerPool::shared().run([&paths]() -> Result<void> {
    for (const std::string& path : paths) {
      if (auto dropped = write_out_and_drop(path); !dropped) {
        return dropped;
      }
    }
    return {};
  });
  co_return co_await work;
}

std::vector<std::string> host_files(const block::Node& node, bool with_backing) {
  std::vector<std::string> paths;
  find_files(node, with_backing, paths);
  return paths;
}

}  // namespace cairn::tools
