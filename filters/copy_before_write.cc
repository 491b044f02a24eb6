#include "filters/copy_before_write.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "block/request_scope.h"
#include "io/cancel.h"
#include "io/event.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

// A copy with a time limit: whoever gives up leaves it to run on.
struct CopyBeforeWrite::Call {
  io::Event done;
  Result<void> result;
};

CopyBeforeWrite::CopyBeforeWrite(block::Edge& file, block::Edge& target, const Settings& settings)
    : FilterDriver(file),
      target_(target),
      settings_(settings),
      copy_(file, target, {.granule = settings.granule, .discard_source = settings.discard_source}),
      readable_(copy_.pending().size()) {
  copy_.mark(0, copy_.length());
  readable_.set(0, readable_.size());
}

void CopyBeforeWrite::restrict_to(const block::SparseBits& granules) {
  readable_ = granules;
  copy_.unmark_covered(0, copy_.length());
  const uint64_t shift = static_cast<unsigned>(std::countr_zero(copy_.granule()));
  for (auto bit = granules.next_set(0, granules.size()); bit;) {
    const uint64_t end = granules.next_clear(*bit, granules.size()).value_or(granules.size());
    copy_.mark(*bit << shift, (end - *bit) << shift);
    bit = granules.next_set(end, granules.size());
  }
}

// While it has users, nobody else may write to the filtered node. The target may be written to: the
// guest's writes count as such where holes of the target show the guest's disk.
block::Permissions CopyBeforeWrite::child_permissions(block::ChildRole role,
                                                      block::Permissions parents,
                                                      bool /*writable*/) const {
  using P = block::PermissionSet;
  if (role != block::ChildRole::kFiltered) {
    return {.used = P::kWrite, .shared = P::all().without(P::kResize)};
  }
  if (node_ == nullptr || node_->parents().empty() || (over_ && parents.used.empty())) {
    return parents;
  }
  block::Permissions own = parents;
  if (parents.used.has(P::kWrite)) {
    own.used |= P::kConsistentRead;
  }
  if (settings_.discard_source) {
    own.used |= P::kWrite;
  }
  own.shared = own.shared.without(P::kWrite | P::kResize);
  return own;
}

io::Task<Result<void>> CopyBeforeWrite::write(uint64_t offset, io::IoVector data,
                                              block::WriteFlags flags) {
  if (flags.unchanged || !must_save(offset, data.size())) {
    return child().write(offset, std::move(data), flags);
  }
  return write_saved(offset, std::move(data), flags);
}

io::Task<Result<void>> CopyBeforeWrite::write_zeroes(uint64_t offset, uint64_t length,
                                                     block::ZeroFlags flags) {
  return must_save(offset, length) ? zero_saved(offset, length, flags)
                                   : child().write_zeroes(offset, length, flags);
}

io::Task<Result<void>> CopyBeforeWrite::discard(uint64_t offset, uint64_t length) {
  return must_save(offset, length) ? discard_saved(offset, length)
                                   : child().discard(offset, length);
}

io::Task<Result<void>> CopyBeforeWrite::write_saved(uint64_t offset, io::IoVector data,
                                                    block::WriteFlags flags) {
  Result<void> saved = co_await save(offset, data.size());
  if (!saved) {
    co_return saved;
  }
  co_return co_await child().write(offset, std::move(data), flags);
}

io::Task<Result<void>> CopyBeforeWrite::zero_saved(uint64_t offset, uint64_t length,
                                                   block::ZeroFlags flags) {
  Result<void> saved = co_await save(offset, length);
  if (!saved) {
    co_return saved;
  }
  co_return co_await child().write_zeroes(offset, length, flags);
}

io::Task<Result<void>> CopyBeforeWrite::discard_saved(uint64_t offset, uint64_t length) {
  Result<void> saved = co_await save(offset, length);
  if (!saved) {
    co_return saved;
  }
  co_return co_await child().discard(offset, length);
}

io::Task<Result<void>> CopyBeforeWrite::save(uint64_t offset, uint64_t length) {
  Result<void> saved;
  if (settings_.timeout.count() == 0) {
    block::BlockCopy::Outcome outcome = co_await copy_.copy(offset, length);
    saved = std::move(outcome.result);
  } else {
    saved = co_await save_in_time(offset, length);
  }
  if (saved || !settings_.break_snapshot) {
    co_return saved;
  }
  if (!lost_) {
    lost_ = saved.error();
    if (on_lost_) {
      on_lost_();
    }
  }
  co_return Result<void>();
}

io::Task<Result<void>> CopyBeforeWrite::save_in_time(uint64_t offset, uint64_t length) {
  const auto call = std::make_shared<Call>();
  late_.spawn(run(call, offset, length));
  io::CancelSource source;
  const io::Deadline deadline(source, settings_.timeout);
  const bool done = co_await call->done.wait(source.token());
  if (!done) {
    co_return std::unexpected(Error::from_errno(ETIMEDOUT));
  }
  co_return call->result;
}

io::Task<void> CopyBeforeWrite::run(std::shared_ptr<Call> call, uint64_t offset, uint64_t length) {
  const block::RequestScope scope(*node_);
  block::BlockCopy::Outcome outcome = co_await copy_.copy(offset, length);
  call->result = std::move(outcome.result);
  call->done.set();
}

// The snapshot is kept in memory: a new driver would know nothing of it.
Result<bool> CopyBeforeWrite::adopt_options(const block::NodeOptions& /*node*/,
                                            const schema::BlockdevOptions& /*options*/) {
  return true;
}

io::Task<Result<void>> CopyBeforeWrite::close() {
  co_await late_.join();
  co_return Result<void>();
}

Result<void> CopyBeforeWrite::state() const {
  return lost_ ? Result<void>(std::unexpected(*lost_)) : Result<void>();
}

Result<void> CopyBeforeWrite::check_readable(uint64_t offset, uint64_t length) const {
  if (lost_) {
    return fail(EACCES, "The snapshot of '{}' is lost: {}", child().node().name(),
                lost_->message());
  }
  const uint64_t first = offset / copy_.granule();
  const uint64_t end = (offset + length + copy_.granule() - 1) / copy_.granule();
  if (readable_.next_clear(first, end)) {
    return fail(EACCES, "{} bytes at {} are not part of the snapshot of '{}'", length, offset,
                child().node().name());
  }
  return {};
}

uint64_t CopyBeforeWrite::same_place(uint64_t offset, uint64_t length, bool& saved) const {
  const block::SparseBits& pending = copy_.pending();
  const uint64_t first = offset / copy_.granule();
  saved = !pending.test(first);
  const std::optional<uint64_t> change =
      saved ? pending.next_set(first, pending.size()) : pending.next_clear(first, pending.size());
  return change ? std::min(length, *change * copy_.granule() - offset) : length;
}

io::Task<Result<void>> CopyBeforeWrite::read_snapshot(uint64_t offset, io::IoVector data) {
  for (uint64_t done = 0; done < data.size();) {
    const uint64_t at = offset + done;
    const auto lock = co_await copy_.locks().lock_shared(at, data.size() - done);
    if (auto readable = check_readable(at, data.size() - done); !readable) {
      co_return readable;
    }
    bool saved = false;
    const uint64_t length = same_place(at, data.size() - done, saved);
    io::IoVector part = data.slice(done, length);
    Result<void> read;
    if (saved) {
      read = co_await target_.read(at, std::move(part));
    } else {
      read = co_await child().read(at, std::move(part));
    }
    if (!read) {
      co_return read;
    }
    done += length;
  }
  // A snapshot that was lost meanwhile may have let the source change.
  co_return check_readable(offset, data.size());
}

io::Task<Result<block::BlockStatus>> CopyBeforeWrite::snapshot_status(uint64_t offset,
                                                                      uint64_t length) {
  const auto lock = co_await copy_.locks().lock_shared(offset, length);
  if (auto readable = check_readable(offset, std::min(length, copy_.granule())); !readable) {
    co_return pass(readable);
  }
  bool saved = false;
  length = same_place(offset, length, saved);
  block::Edge& place = saved ? target_ : child();
  Result<block::ChainStatus> found = co_await place.chain_status(offset, length);
  if (!found) {
    co_return pass(found);
  }
  block::BlockStatus status = found->status;
  status.allocated = true;
  status.host = nullptr;
  co_return status;
}

// Whole granules: of those at the ends others may still want the rest.
io::Task<Result<void>> CopyBeforeWrite::discard_snapshot(uint64_t offset, uint64_t length) {
  const uint64_t granule = copy_.granule();
  const uint64_t begin = align_up(offset, granule);
  const bool to_end = offset + length >= copy_.length();
  const uint64_t end = to_end ? copy_.length() : align_down(offset + length, granule);
  if (begin >= end) {
    co_return Result<void>();
  }
  const auto lock = co_await copy_.locks().lock_exclusive(begin, end - begin);
  readable_.clear(begin / granule, (end + granule - 1) / granule - begin / granule);
  copy_.unmark_covered(begin, end - begin);
  co_return co_await target_.discard(begin, end - begin);
}

namespace {

// The bitmap's granules, as those of the copy.
Result<block::SparseBits> granules_of(const block::Graph& graph, const block::Node& file,
                                      const schema::BlockDirtyBitmap& wanted, uint64_t granule) {
  const std::shared_ptr<block::Node> node = graph.find(wanted.node);
  if (node == nullptr) {
    return fail(ENOENT, "Node '{}' not found", wanted.node);
  }
  const block::DirtyBitmaps* bitmaps = node->bitmaps();
  const block::DirtyBitmap* bitmap = bitmaps != nullptr ? bitmaps->find(wanted.name) : nullptr;
  if (bitmap == nullptr) {
    return fail(ENOENT, "Dirty bitmap '{}' not found", wanted.name);
  }
  if (auto usable = bitmap->check({.read_only = true}); !usable) {
    return pass(usable);
  }
  const uint64_t length = file.length();
  if (bitmap->length() != length) {
    return fail(EINVAL,
                "Cannot create block-copy-state: Failed to merge bitmap '{}' to internal "
                "copy-bitmap: Bitmaps are of different sizes (destination size is {}, source size "
                "is {}) and can't be merged",
                wanted.name, length, bitmap->length());
  }
  block::SparseBits granules((length + granule - 1) / granule);
  for (auto at = bitmap->next_marked(0, length); at;) {
    const uint64_t end = bitmap->next_unmarked(*at, length).value_or(length);
    granules.set(*at / granule, (end + granule - 1) / granule - *at / granule);
    at = bitmap->next_marked(end, length);
  }
  return granules;
}

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_copy_before_write(
    block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsCbw>(options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", own.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  const Result<block::Edge*> target =
      co_await context.open_child("target", own.target, block::ChildRole::kData);
  if (!target) {
    co_return std::unexpected(target.error());
  }
  const Result<uint64_t> granule =
      block::BlockCopy::granule_for((*target)->node(), own.min_cluster_size.value_or(0));
  if (!granule) {
    co_return std::unexpected(granule.error());
  }
  const CopyBeforeWrite::Settings settings{
      .break_snapshot = own.on_cbw_error == schema::OnCbwError::kBreakSnapshot,
      .timeout = std::chrono::seconds(own.cbw_timeout.value_or(0)),
      .granule = *granule};
  auto driver = std::make_unique<CopyBeforeWrite>(**file, **target, settings);
  if (own.bitmap) {
    const Result<block::SparseBits> granules =
        granules_of(context.graph(), (*file)->node(), *own.bitmap, *granule);
    if (!granules) {
      co_return std::unexpected(granules.error());
    }
    driver->restrict_to(*granules);
  }
  co_return driver;
}

// It goes by the name of the node that it stands above.
std::string name_below_copy_before_write(const block::Node& node,
                                         const schema::BlockdevOptions& /*options*/) {
  return node.child("file")->node().filename();
}

}  // namespace

const block::DriverInfo kCopyBeforeWriteDriver = {
    .name = "copy-before-write",
    .kind = block::DriverInfo::Kind::kFilter,
    .open = open_copy_before_write,
    .plain_name = name_below_copy_before_write,
    .can_reopen = false,
};

}  // namespace cairn::filters
