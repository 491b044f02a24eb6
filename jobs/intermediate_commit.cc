#include "jobs/intermediate_commit.h"

#include <algorithm>
#include <cerrno>
#include <memory>

#include "block/engine.h"
#include "filters/filter_driver.h"
#include "jobs/chain.h"

namespace cairn::jobs {
namespace {

using block::PermissionSet;

// Stands above the image, of which nobody else may expect anything. What is read through it is what
// the image reads as, all the same.
class CommitTop final : public filters::FilterDriver {
 public:
  using FilterDriver::FilterDriver;

  [[nodiscard]] block::Permissions child_permissions(block::ChildRole /*role*/,
                                                     block::Permissions /*parents*/,
                                                     bool /*writable*/) const override {
    return {.used = PermissionSet::none(), .shared = PermissionSet::all()};
  }
};

constexpr block::DriverInfo kCommitTop{.name = "commit_top",
                                       .kind = block::DriverInfo::Kind::kFilter};

// The images that have `node` as their backing file, whatever filters stand between.
void collect_overlays(const block::Node& node, std::vector<std::shared_ptr<block::Node>>& found) {
  for (const block::Edge* user : node.parents()) {
    if (user->parent() == nullptr) {
      continue;
    }
    if (user->role() == block::ChildRole::kBacking) {
      found.push_back(user->parent()->shared_from_this());
    } else if (user->role() == block::ChildRole::kFiltered) {
      collect_overlays(*user->parent(), found);
    }
  }
}

}  // namespace

block::NewFilter IntermediateCommit::new_filter(std::optional<std::string> name) const {
  block::NewFilter wanted;
  wanted.info = &kCommitTop;
  wanted.name = std::move(name);
  wanted.edge = "backing";
  wanted.error_context = "";
  wanted.make = [](block::Edge& child) { return std::make_unique<CommitTop>(child); };
  return wanted;
}

Result<void> IntermediateCommit::keep_nodes() {
  Result<void> kept = keep("main node", options().device, {});
  if (kept) {
    kept = keep_between(image());
  }
  if (kept) {
    kept = keep("base", options().base, {});
  }
  if (!kept) {
    return kept;
  }
  auto source = attach(image(), {.used = base_grows() ? PermissionSet(PermissionSet::kWrite)
                                                      : PermissionSet::none()});
  if (!source) {
    return pass(source);
  }
  PermissionSet used = PermissionSet::kWrite | PermissionSet::kConsistentRead;
  if (base_grows()) {
    used |= PermissionSet::kResize;
  }
  auto target = attach(
      options().base,
      {.used = used, .shared = PermissionSet::kWriteUnchanged | PermissionSet::kConsistentRead});
  if (!target) {
    return pass(target);
  }
  set_edges(*source, *target);
  return {};
}

uint64_t IntermediateCommit::end_of_work() const {
  std::vector<std::shared_ptr<block::Node>> overlays;
  collect_overlays(*filter(), overlays);
  uint64_t longest = 0;
  for (const auto& overlay : overlays) {
    longest = std::max(longest, overlay->length());
  }
  return std::max(image()->length(), std::min(longest, options().base->length()));
}

io::Task<Result<CommitJob::Piece>> IntermediateCommit::next_piece(uint64_t offset, uint64_t end) {
  const uint64_t image_end = image()->length();
  if (offset < image_end) {
    return look(offset, image_end - offset);
  }
  return [](uint64_t length) -> io::Task<Result<Piece>> {
    co_return Piece{.length = length, .needed = true, .zero = true};
  }(std::min(end - offset, PieceCopy::kMost));
}

io::Task<Result<void>> IntermediateCommit::run() {
  Result<void> grown = co_await grow();
  if (!grown) {
    co_return grown;
  }
  const uint64_t end = end_of_work();
  set_total(end);
  while (done() < end) {
    co_await may_go_on();
    if (cancelled()) {
      co_return std::unexpected(Error::from_errno(ECANCELED));
    }
    const auto piece = co_await next_piece(done(), end);
    std::optional<PieceFailure> failure;
    if (piece) {
      failure = co_await copy(done(), *piece);
    } else {
      failure = PieceFailure{.operation = schema::IoOperationType::kRead, .error = piece.error()};
    }
    if (!failure) {
      add_done(piece->length);
      continue;
    }
    const bool again = co_await tries_again(failure->operation, failure->error);
    if (!again) {
      co_return std::unexpected(std::move(failure->error));
    }
  }
  co_return Result<void>();
}

io::Task<Result<void>> IntermediateCommit::prepare() {
  // All is there before anything points there.
  Result<void> flushed = co_await target().flush();
  if (!flushed) {
    co_return flushed;
  }
  const auto alone = co_await graph().alone();
  std::vector<std::shared_ptr<block::Node>> nodes;
  collect_overlays(*filter(), nodes);
  std::vector<block::Edge*> overlays;
  std::vector<std::unique_ptr<WritableNode>> writable;
  Result<void> result;
  for (const auto& node : nodes) {
    writable.push_back(std::make_unique<WritableNode>(graph()));
    result = co_await writable.back()->take(node, InDrain::kYes);
    auto overlay = result ? attach(node, {}) : Result<block::Edge*>(pass(result));
    if (!overlay) {
      result = pass(overlay);
      break;
    }
    overlays.push_back(*overlay);
  }
  if (result) {
    result = co_await replace_image(overlays);
  }
  for (block::Edge* overlay : overlays) {
    const Result<void> dropped = co_await drop(overlay);
    static_cast<void>(dropped);
  }
  for (const auto& node : writable) {
    co_await node->give_back(InDrain::kYes);
  }
  co_return result;
}

// An image whose header could be changed before that of another one failed is none the worse for
// it: the base has all.
io::Task<Result<void>> IntermediateCommit::replace_image(std::vector<block::Edge*> overlays) {
  block::GraphEdit edit(graph());
  Result<void> result = move_users(edit);
  if (result) {
    result = edit.prepare();
  }
  for (block::Edge* overlay : overlays) {
    if (result) {
      result = co_await change_header(overlay);
    }
  }
  if (!result) {
    edit.abort();
    co_return result;
  }
  co_return co_await edit.commit();
}

io::Task<Result<void>> IntermediateCommit::change_header(block::Edge* overlay) {
  const std::shared_ptr<block::Node> base = below_filters(options().base);
  const bool protocol = base->info().kind == block::DriverInfo::Kind::kProtocol;
  std::string name = options().backing_file.value_or(base->filename());
  std::string format(protocol && options().mask_protocol ? "raw" : base->info().name);
  graph().let_through(*overlay);
  block::Engine::Change change = [name, format](block::Driver& driver) {
    return driver.change_backing(name, format);
  };
  auto changing =
      block::Engine::change_image(*overlay, PermissionSet::kWriteUnchanged, std::move(change));
  Result<void> changed = co_await std::move(changing);
  co_return changed;
}

}  // namespace cairn::jobs
