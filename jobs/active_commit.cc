#include "jobs/active_commit.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>

#include "block/dirty_bitmap_ops.h"
#include "filters/filter_driver.h"
#include "io/reactor.h"
#include "jobs/chain.h"

namespace cairn::jobs {
namespace {

using block::PermissionSet;

// How often a job that is ready looks for what was written.
constexpr auto kLookAgain = std::chrono::milliseconds(50);
// So many rounds are made for nothing to be left; then little is good enough, since more is written
// all the time.
constexpr int kPatientRounds = 4;
constexpr uint64_t kLittle = 1 << 20;

constexpr PermissionSet kAllButResizing =
    PermissionSet::kConsistentRead | PermissionSet::kWrite | PermissionSet::kWriteUnchanged;

// Stands above the image, for its users to be moved. What lies below is in the middle of the job:
// nobody may expect it to make sense on its own, and so the filter does not, either.
class MirrorTop final : public filters::FilterDriver {
 public:
  using FilterDriver::FilterDriver;

  [[nodiscard]] block::Permissions child_permissions(block::ChildRole /*role*/,
                                                     block::Permissions parents,
                                                     bool /*writable*/) const override {
    return {.used = parents.used.without(PermissionSet::kConsistentRead),
            .shared = kAllButResizing};
  }
};

constexpr block::DriverInfo kMirrorTop{.name = "mirror_top",
                                       .kind = block::DriverInfo::Kind::kFilter};

}  // namespace

block::NewFilter ActiveCommit::new_filter(std::optional<std::string> name) const {
  block::NewFilter wanted;
  wanted.info = &kMirrorTop;
  wanted.name = std::move(name);
  wanted.edge = "backing";
  wanted.error_context = "";
  wanted.make = [](block::Edge& child) { return std::make_unique<MirrorTop>(child); };
  return wanted;
}

Result<void> ActiveCommit::keep_nodes() {
  Result<void> kept = keep("main node", filter(), {.shared = kAllButResizing});
  if (kept) {
    kept =
        keep("source", image(),
             {.used = base_grows() ? PermissionSet(PermissionSet::kWrite) : PermissionSet::none(),
              .shared = kAllButResizing});
  }
  if (!kept) {
    return kept;
  }
  block::Edge* source = this->kept().back().get();
  kept = keep("target", options().base, {});
  if (kept) {
    kept = keep_between(image_behind(*image()));
  }
  if (!kept) {
    return kept;
  }
  PermissionSet used = PermissionSet::kWrite;
  if (base_grows()) {
    used |= PermissionSet::kResize;
  }
  auto target = attach(options().base, {.used = used, .shared = kAllButResizing});
  if (!target) {
    return pass(target);
  }
  set_edges(source, *target);
  return {};
}

Result<void> ActiveCommit::complete() {
  end(true);
  return {};
}

bool ActiveCommit::end_softly() {
  end(false);
  return true;
}

void ActiveCommit::end(bool pivot) {
  ending_ = true;
  pivots_ = pivot;
  wake_sleepers();
}

bool ActiveCommit::caught_up(int rounds) const {
  const uint64_t left = bitmap_->count();
  return left == 0 || (rounds >= kPatientRounds && left <= kLittle);
}

io::Task<Result<void>> ActiveCommit::run() {
  Result<void> result = co_await grow();
  if (result) {
    const std::string name = "#" + id();
    bitmap_ = &image()->add_bitmap(std::make_unique<block::DirtyBitmap>(
        name, block::default_granularity(*image()), image()->length()));
    use_.emplace(*bitmap_);
    result = co_await mark_what_is_there();
  }
  for (int rounds = 1; result; ++rounds) {
    result = co_await copy_marked(Pace::kOrderly);
    if (!result || (ready() && ending_)) {
      break;
    }
    if (!ready() && caught_up(rounds)) {
      become_ready();
    }
    if (ready() && !ending_ && !pause_wanted()) {
      co_await sleep_until(io::Reactor::current().now() + kLookAgain);
    }
    co_await pause_point();
    if (cancelled()) {
      result = std::unexpected(Error::from_errno(ECANCELED));
    }
  }
  co_return result;
}

io::Task<Result<void>> ActiveCommit::mark_what_is_there() {
  const uint64_t length = image()->length();
  for (uint64_t offset = 0; offset < length;) {
    co_await pause_point();
    if (cancelled()) {
      co_return std::unexpected(Error::from_errno(ECANCELED));
    }
    const auto piece = co_await look(offset, length - offset);
    if (!piece) {
      const bool again = co_await tries_again(schema::IoOperationType::kRead, piece.error());
      if (!again) {
        co_return std::unexpected(piece.error());
      }
      continue;
    }
    if (piece->needed) {
      bitmap_->mark(offset, piece->length);
    }
    offset += piece->length;
  }
  set_total(bitmap_->count());
  co_return Result<void>();
}

// One round: each place is looked at once.
io::Task<Result<void>> ActiveCommit::copy_marked(Pace pace) {
  const uint64_t length = image()->length();
  uint64_t offset = 0;
  for (;;) {
    if (pace == Pace::kOrderly) {
      co_await may_go_on();
      if (cancelled()) {
        co_return std::unexpected(Error::from_errno(ECANCELED));
      }
    }
    const auto next = bitmap_->next_marked(offset, length);
    if (!next) {
      break;
    }
    offset = *next;
    const uint64_t limit = std::min(length, offset + PieceCopy::kMost);
    const uint64_t end = bitmap_->next_unmarked(offset, limit).value_or(limit);
    bitmap_->unmark(offset, end - offset);
    std::optional<PieceFailure> failure = co_await copy_range(offset, end - offset);
    if (failure) {
      bitmap_->mark(offset, end - offset);
      bool again = false;
      if (pace == Pace::kOrderly) {
        again = co_await tries_again(failure->operation, failure->error);
      }
      if (!again) {
        co_return std::unexpected(std::move(failure->error));
      }
      continue;
    }
    add_done(end - offset);
    set_total(done() + bitmap_->count());
    offset = end;
  }
  co_return Result<void>();
}

io::Task<std::optional<PieceFailure>> ActiveCommit::copy_range(uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  while (offset < end) {
    const auto piece = co_await look(offset, end - offset);
    if (!piece) {
      co_return PieceFailure{.operation = schema::IoOperationType::kRead, .error = piece.error()};
    }
    std::optional<PieceFailure> failure = co_await copy(offset, *piece);
    if (failure) {
      co_return failure;
    }
    offset += piece->length;
  }
  co_return std::nullopt;
}

io::Task<Result<void>> ActiveCommit::prepare() {
  // While it waited to be finalized more may have been written; little is left for the time when
  // nobody else can do anything.
  Result<void> result = co_await copy_marked(Pace::kFast);
  if (result) {
    result = co_await target().flush();
  }
  if (result) {
    const auto alone = co_await graph().alone();
    result = co_await end_alone();
  }
  co_return result;
}

io::Task<Result<void>> ActiveCommit::end_alone() {
  graph().let_through(source());
  graph().let_through(target());
  Result<void> result = co_await copy_marked(Pace::kFast);
  if (result) {
    // What was durable in the image is to be durable in the base, where it is looked for from now.
    result = co_await target().flush();
  }
  if (!result || !pivots_) {
    co_return result;
  }
  block::GraphEdit edit(graph());
  result = move_users(edit);
  if (result) {
    result = edit.prepare();
  }
  if (!result) {
    edit.abort();
    co_return result;
  }
  base_stays_writable();
  co_return co_await edit.commit();
}

io::Task<void> ActiveCommit::clean() {
  use_.reset();
  if (bitmap_ != nullptr) {
    const std::string name = bitmap_->name();
    bitmap_ = nullptr;
    image()->remove_bitmap(name);
  }
  return CommitJob::clean();
}

}  // namespace cairn::jobs
