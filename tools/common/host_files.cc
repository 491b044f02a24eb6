#include "tools/common/host_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "block/driver_table.h"

namespace cairn::tools {

namespace {

// By a call that moves as many bytes as it likes.
template <typename Call, typename Byte>
bool transfer_whole(Call call, int fd, uint64_t offset, std::span<Byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = call(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return false;
    }
    offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

bool is_plain(const block::Node& node) {
  constexpr std::array<std::string_view, 5> kPlain = {"file", "raw", "qcow2", "luks", "vmdk"};
  return std::ranges::find(kPlain, node.info().name) != kPlain.end() &&
         std::ranges::all_of(node.children(),
                             [](const auto& child) { return is_plain(child->node()); });
}

void HostFiles::add(const block::Node& node) {
  if (is_plain(node)) {
    add_files(node);
  }
}

void HostFiles::add_files(const block::Node& node) {
  if (node.info().name == std::string_view("file")) {
    io::Fd fd(open(node.filename().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (fd.valid()) {
      files_.emplace(&node, std::move(fd));
    }
  }
  for (const auto& child : node.children()) {
    add_files(child->node());
  }
}

int HostFiles::find(const block::Node& node) const {
  const auto file = files_.find(&node);
  return file != files_.end() ? file->second.get() : -1;
}

io::Task<std::optional<RawFile>> open_raw_file(block::Edge& target) {
  const block::Node& node = target.node();
  if (node.info().name != std::string_view("raw") || !is_plain(node) || target.length() == 0) {
    co_return std::nullopt;
  }
  const Result<block::BlockStatus> status = co_await target.status(0, target.length());
  if (!status || status->host == nullptr || status->host->info().name != std::string_view("file")) {
    co_return std::nullopt;
  }
  RawFile file{.path = status->host->filename(), .fd = {}, .begin = status->host_offset};
  file.fd = io::Fd(open(file.path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.fd.valid()) {
    co_return std::nullopt;
  }
  co_return file;
}

bool read_whole(int fd, uint64_t offset, std::span<std::byte> bytes) {
  return transfer_whole(pread, fd, offset, bytes);
}

bool write_whole(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  return transfer_whole(pwrite, fd, offset, bytes);
}

}  // namespace cairn::tools
