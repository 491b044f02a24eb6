#include "protocols/nbd/create.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "block/create_options.h"
#include "block/graph.h"

namespace cairn::nbd::client {
namespace {

using block::PermissionSet;

// What older formats are told by.
constexpr uint64_t kHeadBytes = 512;

Result<void> check_preallocation(const block::CreateOptions& options) {
  const std::string mode = options.string("preallocation").value_or("off");
  if (mode == "off") {
    return {};
  }
  constexpr std::array<std::string_view, 3> kOthers = {"metadata", "falloc", "full"};
  if (std::ranges::find(kOthers, mode) == kOthers.end()) {
    return fail(EINVAL, "invalid parameter value: {}", mode);
  }
  return fail(ENOTSUP, "Unsupported preallocation mode '{}'", mode);
}

io::Task<Result<void>> clear_head(block::Edge& disk, uint64_t wanted) {
  if (disk.length() < wanted) {
    co_return fail(ENOTSUP, "Cannot grow NBD nodes");
  }
  co_return co_await disk.write_zeroes(0, std::min(disk.length(), kHeadBytes), {});
}

}  // namespace

io::Task<Result<void>> create_in_export(block::Graph& graph, std::string filename,
                                        const block::CreateOptions& options) {
  if (Result<void> possible = check_preallocation(options); !possible) {
    co_return possible;
  }
  const uint64_t wanted = options.number("size").value_or(0);
  auto node = co_await graph.open_filename(std::move(filename), "nbd", {.discard_unmap = true});
  if (!node) {
    co_return pass(node,
                   "Protocol driver 'nbd' does not support image creation, and opening the "
                   "image failed: ");
  }
  constexpr PermissionSet kUsed = PermissionSet::kConsistentRead | PermissionSet::kWrite;
  auto disk = graph.attach(*node, "", {kUsed, PermissionSet::kConsistentRead});
  if (!disk) {
    const Result<void> released = co_await graph.release(std::move(*node));
    co_return pass(disk);
  }
  node->reset();
  const Result<void> cleared = co_await clear_head(**disk, wanted);
  const Result<void> closed = co_await graph.detach(std::move(*disk));
  co_return cleared ? closed : cleared;
}

}  // namespace cairn::nbd::client
