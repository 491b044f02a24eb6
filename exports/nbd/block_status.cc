// NBD_CMD_BLOCK_STATUS: extents of the metadata contexts that a client has selected, or of those
// that the payload of its request names (NBD_FLAG_BLOCK_STATUS_PAYLOAD).
#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "exports/nbd/transmission.h"

namespace cairn::nbd {
namespace {

// A block status reply has at most so many extents a context, and takes at most so many look-ups;
// the client asks again for the rest.
constexpr std::size_t kMaxExtents = 1024;
constexpr int kMaxLookups = 4096;

// The flag of "qemu:dirty-bitmap:".
constexpr uint32_t kDirty = 1;

using Extents = std::vector<StatusExtent>;

// Collects the extents of one metadata context; neighbours with the same flags become one.
class ExtentCollector {
 public:
  explicit ExtentCollector(std::size_t limit) : limit_(limit) {}

  void add(uint64_t length, uint32_t flags) {
    if (full_) {
      return;
    }
    if (!extents_.empty() && extents_.back().flags == flags) {
      extents_.back().length += length;
    } else if (extents_.size() == limit_) {
      full_ = true;
    } else {
      extents_.push_back({length, flags});
    }
  }

  [[nodiscard]] bool full() const { return full_; }
  [[nodiscard]] const Extents& extents() const { return extents_; }

 private:
  std::size_t limit_;
  Extents extents_;
  bool full_ = false;
};

uint32_t allocation_flags(const block::BlockStatus& status) {
  return (status.data ? 0 : kStateHole) | (status.zero ? kStateZero : 0);
}

// 0: nowhere; 1: in the node itself; more: so far down the chain of backing nodes.
uint32_t depth_of(const block::ChainStatus& found) {
  return found.status.allocated ? static_cast<uint32_t>(found.depth) + 1 : 0;
}

// A node below may be shorter than what is exported; nothing behind its end is dirty.
void collect_dirty(const block::DirtyBitmap& bitmap, uint64_t offset, uint64_t end,
                   ExtentCollector& extents) {
  const uint64_t covered = std::clamp(bitmap.length(), offset, end);
  while (offset < covered && !extents.full()) {
    const bool dirty = bitmap.marked(offset);
    const auto change =
        dirty ? bitmap.next_unmarked(offset, covered) : bitmap.next_marked(offset, covered);
    const uint64_t next = change.value_or(covered);
    extents.add(next - offset, dirty ? kDirty : 0);
    offset = next;
  }
  if (offset < end) {
    extents.add(end - offset, 0);
  }
}

bool has(const std::vector<uint32_t>& contexts, uint32_t id) {
  return std::ranges::find(contexts, id) != contexts.end();
}

// The extents of each context from `offset` to `end`, as far as so many of them reach. At home.
io::Task<Result<std::vector<Extents>>> look_up(const NbdExport& exported, uint64_t offset,
                                               uint64_t end, const std::vector<uint32_t>& contexts,
                                               std::size_t limit) {
  const uint64_t begin = offset;
  ExtentCollector allocation(limit);
  ExtentCollector depth(limit);
  const bool wants_allocation = has(contexts, kContextAllocation);
  const bool wants_depth = has(contexts, kContextDepth);
  for (int i = 0; i < kMaxLookups && offset < end; ++i) {
    const bool enough = (!wants_allocation || allocation.full()) && (!wants_depth || depth.full());
    if (enough) {
      break;
    }
    const auto found = co_await exported.root().chain_status(offset, end - offset);
    if (!found) {
      co_return std::unexpected(found.error());
    }
    const uint64_t length = std::min(found->status.length, end - offset);
    allocation.add(length, allocation_flags(found->status));
    depth.add(length, depth_of(*found));
    offset += length;
  }
  std::vector<Extents> all;
  for (const uint32_t id : contexts) {
    if (id < kContextBitmaps) {
      all.push_back(id == kContextAllocation ? allocation.extents() : depth.extents());
      continue;
    }
    ExtentCollector dirty(limit);
    collect_dirty(exported.bitmap(id - kContextBitmaps), begin, end, dirty);
    all.push_back(dirty.extents());
  }
  co_return all;
}

}  // namespace

// "NBD_CMD_FLAG_PAYLOAD_LEN" of a block status request: the length of the range, then ids.
std::optional<Refusal> Transmission::narrow(Request& request, std::span<const std::byte> payload,
                                            std::vector<uint32_t>& contexts) const {
  const Refusal malformed{WireError::kInvalid, "malformed payload of a block status request"};
  if (payload.size() <= sizeof(uint64_t) || payload.size() % sizeof(uint32_t) != 0) {
    return malformed;
  }
  request.length = load_be<uint64_t>(payload.data());
  request.flags &= static_cast<uint16_t>(~kFlagPayloadLength);
  contexts.clear();
  for (auto rest = payload.subspan(sizeof(uint64_t)); !rest.empty();
       rest = rest.subspan(sizeof(uint32_t))) {
    const auto id = load_be<uint32_t>(rest.data());
    if (!has(agreement_.contexts, id) || has(contexts, id)) {
      return Refusal{WireError::kInvalid, "a metadata context was not negotiated, or named twice"};
    }
    contexts.push_back(id);
  }
  return check_request(request, rules_);
}

void Transmission::start_block_status(Request request, const Payload& payload) {
  std::vector<uint32_t> contexts = agreement_.contexts;
  if (request.has(kFlagPayloadLength)) {
    if (const auto refusal = narrow(request, payload.bytes, contexts)) {
      output_.error(request, refusal->error, refusal->message);
      return replied();
    }
  }
  requests_.spawn(do_block_status(request, std::move(contexts)));
}

io::Task<void> Transmission::do_block_status(Request request, std::vector<uint32_t> contexts) {
  const std::size_t limit = request.has(kFlagReqOne) ? 1 : kMaxExtents;
  const auto found = co_await node_.at_home([this, &request, &contexts, limit] {
    return look_up(export_, request.offset, request.offset + request.length, contexts, limit);
  });
  if (!found) {
    finish(request, fail(found.error().code(), "Block status failed"));
    co_return;
  }
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const bool last = i + 1 == contexts.size();
    if (!output_.block_status(request, contexts[i], (*found)[i], last)) {
      finish(request, fail_errno(ENOMEM, "No memory for a reply"));
      co_return;
    }
  }
  replied();
}

}  // namespace cairn::nbd
