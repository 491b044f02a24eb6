// Clusters that the image does not have are read whole, and written into its holes: a write that
// came in between stays (block/engine_holes.cc). With a bottom node, what lies below that is read
// as it is.
#include "filters/copy_on_read.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "block/graph.h"
#include "filters/filter_driver.h"
#include "io/buffer.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace {

// A copy is made in pieces of about this many bytes.
constexpr uint64_t kCopyPiece = 1 << 20;

// The clusters of what stores the content of `node`; 0 when it has none.
uint64_t cluster_of_storage(const block::Node& node) {
  const block::Edge* window = node.child("file");
  const uint64_t own = node.driver().cluster_size();
  return own != 0 || window == nullptr || window->role() != block::ChildRole::kFiltered
             ? own
             : cluster_of_storage(window->node());
}

class CopyOnReadDriver final : public FilterDriver {
 public:
  // `bottom` is the last node whose data is copied; null: all is.
  CopyOnReadDriver(block::Edge& child, std::shared_ptr<block::Node> bottom)
      : FilterDriver(child), bottom_(std::move(bottom)) {}

  block::Permissions child_permissions(block::ChildRole /*role*/, block::Permissions parents,
                                       bool /*writable*/) const override {
    return {.used = parents.used | block::PermissionSet::kWriteUnchanged,
            .shared = parents.shared | block::PermissionSet::kWriteUnchanged};
  }

  io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    uint64_t done = 0;
    while (done < data.size()) {
      const uint64_t at = offset + done;
      const Result<Piece> next = co_await look(at, data.size() - done);
      if (!next) {
        co_return std::unexpected(next.error());
      }
      io::IoVector piece = data.slice(done, next->length);
      Result<void> result;
      if (next->copy) {
        result = co_await copy_up(at, std::move(piece));
      } else {
        result = co_await child().read(at, std::move(piece));
      }
      if (!result) {
        co_return result;
      }
      done += next->length;
    }
    co_return Result<void>{};
  }

 private:
  struct Piece {
    uint64_t length = 0;
    bool copy = false;
  };

  io::Task<Result<Piece>> look(uint64_t offset, uint64_t length) {
    const Result<block::BlockStatus> own = co_await child().status(offset, length);
    if (!own) {
      co_return std::unexpected(own.error());
    }
    Piece piece{.length = own->length, .copy = !own->allocated};
    if (piece.copy && bottom_ != nullptr) {
      const block::Edge* below = bottom_->backing();
      const block::Node* base = below != nullptr ? &below->node() : nullptr;
      const Result<block::ChainStatus> chain =
          co_await child().chain_status(offset, piece.length, base);
      if (!chain) {
        co_return std::unexpected(chain.error());
      }
      piece = {.length = chain->status.length, .copy = chain->status.allocated};
    }
    if (piece.copy) {
      piece.length = std::min(piece.length, kCopyPiece);
    }
    co_return piece;
  }

  // Reads the clusters around `data`, and writes them where the image has none.
  io::Task<Result<void>> copy_up(uint64_t offset, io::IoVector data) {
    const uint64_t cluster = std::max<uint64_t>(cluster_of_storage(child().node()), 512);
    const uint64_t begin = align_down(offset, cluster);
    const uint64_t end = std::min(align_up(offset + data.size(), cluster), child().length());
    auto buffer = io::AlignedBuffer::allocate(end - begin);
    if (!buffer) {
      co_return pass(buffer);
    }
    const io::IoVector whole(buffer->data(), end - begin);
    Result<void> result = co_await child().read(begin, whole);
    if (!result) {
      co_return result;
    }
    // Clusters of zeroes apart from the others.
    for (uint64_t at = 0; at < whole.size();) {
      const auto piece = [&](uint64_t from) { return std::min(cluster, whole.size() - from); };
      const bool zero = whole.is_zero(at, piece(at));
      uint64_t next = at + piece(at);
      while (next < whole.size() && whole.is_zero(next, piece(next)) == zero) {
        next += piece(next);
      }
      io::IoVector run = whole.slice(at, next - at);
      co_await block::fault_point(child(), block::FaultPoint::kCorWrite);
      result = co_await keep(begin + at, std::move(run), zero);
      if (!result) {
        co_return result;
      }
      at = next;
    }
    data.copy_from(0, buffer->span().subspan(offset - begin, data.size()));
    co_return result;
  }

  io::Task<Result<void>> keep(uint64_t offset, io::IoVector data, bool zero) {
    if (zero) {
      const block::ZeroFlags flags{.no_fallback = true, .unchanged = true, .into_holes = true};
      Result<void> zeroed = co_await child().write_zeroes(offset, data.size(), flags);
      if (zeroed || zeroed.error().code() != ENOTSUP) {
        co_return zeroed;
      }
    }
    const block::WriteFlags flags{.unchanged = true, .into_holes = true};
    co_return co_await child().write(offset, std::move(data), flags);
  }

  const std::shared_ptr<block::Node> bottom_;
};

// The node that the options of `self` name as the bottom; null when they name none.
Result<std::shared_ptr<block::Node>> find_bottom(const block::Graph& graph,
                                                 const schema::BlockdevOptionsCor& options,
                                                 const block::Node& self, const block::Node& top) {
  if (!options.bottom) {
    return nullptr;
  }
  if (*options.bottom == self.name()) {
    return fail(EINVAL, "Bottom node '{}' is a filter", *options.bottom);
  }
  std::shared_ptr<block::Node> bottom = graph.find(*options.bottom);
  if (bottom == nullptr) {
    return fail(ENOENT, "Bottom node '{}' not found", *options.bottom);
  }
  if (bottom->info().kind == block::DriverInfo::Kind::kFilter) {
    return fail(EINVAL, "Bottom node '{}' is a filter", *options.bottom);
  }
  const block::Node* node = &top;
  while (node != bottom.get()) {
    if (node->backing() == nullptr) {
      return fail(EINVAL, "Bottom node '{}' is not in the backing chain of node '{}'",
                  *options.bottom, top.name());
    }
    node = &node->backing()->node();
  }
  return bottom;
}

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_copy_on_read(
    block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsCor>(options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", own.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  auto bottom = find_bottom(context.graph(), own, context.node(), (*file)->node());
  if (!bottom) {
    co_return pass(bottom);
  }
  co_return std::make_unique<CopyOnReadDriver>(**file, std::move(*bottom));
}

}  // namespace

const block::DriverInfo kCopyOnReadDriver = {
    .name = "copy-on-read",
    .kind = block::DriverInfo::Kind::kFilter,
    .open = open_copy_on_read,
    .can_reopen = false,
};

}  // namespace cairn::filters
