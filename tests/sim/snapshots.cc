// Snapshots in a history: what the image should hold of them, and when that is certain.
#include <cerrno>
#include <iterator>

#include <fmt/format.h>

#include "tests/sim/history.h"

namespace cairn::testing {

void History::start_snapshot(io::TaskGroup& group) {
  if (plan_.format != Plan::Format::kQcow2 || resizing_) {
    return;
  }
  constexpr unsigned kWeights[] = {40, 30, 30};
  const std::size_t kind = snapshots_.empty() ? 0 : random_.weighted(kWeights);
  if (kind == 0) {
    group.spawn(create_snapshot(fmt::format("s{}", next_snapshot_++)));
    return;
  }
  const auto chosen =
      std::next(snapshots_.begin(), static_cast<std::ptrdiff_t>(random_.below(snapshots_.size())));
  group.spawn(kind == 1 ? apply_snapshot(chosen->first) : delete_snapshot(chosen->first));
}

// Empty when the engine knows none of this name.
std::string History::snapshot_id(const std::string& name) const {
  const auto list = root_->snapshots();
  const block::Snapshot* found = list ? block::find_snapshot_by_name(*list, name) : nullptr;
  return found == nullptr ? "" : found->id;
}

io::Task<void> History::create_snapshot(std::string name) {
  resizing_ = true;
  world_.note("start of snapshot");
  const ContentModel::Handle handle = model_->begin_read();
  block::Snapshot snapshot{.id = {}, .name = name};
  const Result<void> result = co_await root_->create_snapshot(std::move(snapshot));
  resizing_ = false;
  if (!result && result.error().code() == EINVAL &&
      result.error().message().contains("can not be shared once more")) {
    // The counts of this image are too narrow; then nothing has changed.
    world_.note("snapshot refused");
    model_->drop_read(handle);
    co_return;
  }
  ended("create snapshot", {}, result);
  if (result || troubled()) {
    snapshots_.emplace(std::move(name),
                       Snapshot{.content = model_->copy(handle), .certain = result.has_value()});
  }
}

io::Task<void> History::apply_snapshot(std::string name) {
  const std::string id = snapshot_id(name);
  if (id.empty()) {
    co_return;
  }
  resizing_ = true;
  const uint64_t old_length = model_->length();
  const uint64_t length = snapshots_.at(name).content.length();
  limit_ = std::min(limit_, length);
  world_.note("start of apply", length);
  model_->begin_replace(snapshots_.at(name).content);
  const Result<void> result = co_await root_->apply_snapshot(id);
  resizing_ = false;
  if (!result && (result.error().message().contains("can not be shared once more") ||
                  result.error().message().contains("active dirty bitmaps"))) {
    world_.note("apply refused");
  } else {
    ended("apply snapshot", {old_length, length}, result);
  }
  if (world_.powered()) {
    const bool changed = result.has_value() || root_->length() == length;
    model_->end_replace(result.has_value(), changed);
    limit_ = changed ? length : std::min(old_length, length);
  }
}

io::Task<void> History::delete_snapshot(std::string name) {
  const std::string id = snapshot_id(name);
  if (id.empty()) {
    co_return;
  }
  resizing_ = true;
  world_.note("start of delete");
  snapshots_.at(name).certain = false;
  const Result<void> result = co_await root_->delete_snapshot(id);
  resizing_ = false;
  ended("delete snapshot", {}, result);
  if (result) {
    snapshots_.erase(name);
  } else if (!troubled()) {
    snapshots_.at(name).certain = true;
  }
}

}  // namespace cairn::testing
