#include "tools/common/host_files.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "block/driver_table.h"

namespace cairn::tools {

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

}  // namespace cairn::tools
