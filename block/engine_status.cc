// Block status: what lies where, from mappings alone.
#include <algorithm>
#include <cerrno>

#include "block/engine.h"
#include "block/request_scope.h"

namespace cairn::block {

io::Task<Result<BlockStatus>> Engine::status(Node& node, uint64_t offset, uint64_t length) {
  if (offset >= node.length() || length == 0) {
    co_return fail(EINVAL, "Status of {} bytes at {} of '{}' is out of bounds", length, offset,
                   node.name());
  }
  length = std::min(length, node.length() - offset);
  const RequestScope scope(node);
  if (node.request_ != nullptr) {
    co_return co_await node.request_->status(offset, length);
  }
  const Result<Extent> extent = co_await map(node, offset, length);
  if (!extent) {
    co_return std::unexpected(extent.error());
  }
  const bool zero = extent->kind == Extent::Kind::kZero && !extent->beyond_child;
  BlockStatus status{.length = extent->length,
                     .data = extent->kind == Extent::Kind::kData || extent->beyond_child,
                     .zero = zero,
                     .allocated = extent->kind != Extent::Kind::kHole,
                     .compressed = extent->codec != nullptr};
  if (extent->kind == Extent::Kind::kHole) {
    const uint64_t below = node.backing_ != nullptr ? node.backing_->child_->length() : 0;
    if (offset >= below) {
      status.zero = true;
    } else {
      status.length = std::min(status.length, below - offset);
    }
  }
  if (extent->child != nullptr && extent->host_valid && extent->codec == nullptr &&
      extent->sectors == nullptr) {
    status.host = extent->child->child_.get();
    status.host_offset = extent->host_offset;
  }
  if (extent->child_status == Extent::ChildStatus::kNothing || status.host == nullptr) {
    co_return status;
  }
  // What the child can not tell changes nothing.
  const Result<BlockStatus> below =
      co_await Engine::status(*extent->child->child_, extent->host_offset, extent->length);
  if (!below) {
    co_return status;
  }
  status.length = std::min(status.length, below->length);
  if (extent->child_status == Extent::ChildStatus::kAll) {
    status.data = below->data;
    status.zero = below->zero;
    status.allocated = below->allocated;
    status.compressed = below->compressed;
    status.host = below->host;
    status.host_offset = below->host_offset;
  } else {
    status.zero = status.zero || below->zero;
  }
  co_return status;
}

io::Task<Result<ChainStatus>> Engine::chain_status(Node& top, uint64_t offset, uint64_t length,
                                                   const Node* base) {
  int depth = 0;
  Node* node = &top;
  for (;;) {
    Result<BlockStatus> status = co_await Engine::status(*node, offset, length);
    if (!status) {
      co_return std::unexpected(std::move(status.error()));
    }
    Edge* below = node->backing_;
    const bool more = !status->allocated && below != nullptr && below->child_.get() != base &&
                      offset < below->child_->length();
    if (!more) {
      co_return ChainStatus{.status = *status, .depth = depth};
    }
    length = status->length;
    node = below->child_.get();
    ++depth;
  }
}

}  // namespace cairn::block
