#include "monitor/transaction_actions.h"

#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "block/node.h"
#include "monitor/bitmap_arguments.h"
#include "monitor/copy_actions.h"
#include "monitor/snapshot_actions.h"

namespace cairn::monitor {

namespace {

using Kind = schema::TransactionActionKind;
constexpr auto kInDrain = block::DrainHolder::kCaller;

class Abort final : public Action {
 public:
  [[nodiscard]] io::Task<Result<void>> apply() override {
    co_return fail(ECANCELED, "Transaction aborted using Abort action");
  }
  [[nodiscard]] io::Task<void> undo() override { co_return; }
};

class AddBitmap final : public Action {
 public:
  AddBitmap(Services& services, const schema::BlockDirtyBitmapAdd& wanted)
      : services_(services), wanted_(wanted) {}

  [[nodiscard]] io::Task<Result<void>> apply() override {
    auto node = find_bitmap_device(services_, wanted_.node);
    if (!node) {
      co_return pass(node);
    }
    node_ = std::move(*node);
    block::NewBitmap bitmap = new_bitmap(wanted_);
    auto adding = block::add_bitmap(*node_, std::move(bitmap), kInDrain);
    Result<void> added = co_await std::move(adding);
    co_return added;
  }
  // An image that can not be told to forget the bitmap finds it inconsistent later.
  [[nodiscard]] io::Task<void> undo() override {
    auto removing = block::remove_bitmap(*node_, wanted_.name, kInDrain);
    const Result<void> removed = co_await std::move(removing);
    static_cast<void>(removed);
  }

 private:
  Services& services_;
  const schema::BlockDirtyBitmapAdd& wanted_;
  std::shared_ptr<block::Node> node_;
};

class RemoveBitmap final : public Action {
 public:
  RemoveBitmap(Services& services, const schema::BlockDirtyBitmap& wanted)
      : services_(services), wanted_(wanted) {}

  // It stays until nothing can fail any more, and is nobody else's meanwhile.
  [[nodiscard]] io::Task<Result<void>> apply() override {
    auto node = find_bitmap_node(services_, wanted_.node);
    if (!node) {
      co_return pass(node);
    }
    node_ = std::move(*node);
    auto bitmap = block::get_bitmap(*node_, wanted_.name);
    if (!bitmap) {
      co_return pass(bitmap);
    }
    if (auto usable = (*bitmap)->check({.inconsistent = true}); !usable) {
      co_return usable;
    }
    use_.emplace(**bitmap);
    co_return Result<void>();
  }
  [[nodiscard]] io::Task<void> undo() override {
    use_.reset();
    co_return;
  }
  [[nodiscard]] io::Task<Result<void>> commit() override {
    use_.reset();
    auto removing = block::remove_bitmap(*node_, wanted_.name, kInDrain);
    Result<void> removed = co_await std::move(removing);
    co_return removed;
  }

 private:
  Services& services_;
  const schema::BlockDirtyBitmap& wanted_;
  std::shared_ptr<block::Node> node_;
  std::optional<block::DirtyBitmap::Use> use_;
};

// Actions that change a bitmap, which is kept as it was.
class ChangeBitmap : public Action {
 public:
  explicit ChangeBitmap(Services& services) : services_(services) {}

  [[nodiscard]] io::Task<void> undo() override {
    // The bitmap can not have gone: whoever removes one waits for the end of the drain.
    if (const auto bitmap = block::get_bitmap(*node_, name_)) {
      (*bitmap)->bits() = std::move(bits_);
      (*bitmap)->set_enabled(enabled_);
    }
    co_return;
  }

 protected:
  [[nodiscard]] Services& services() const { return services_; }
  [[nodiscard]] block::Node& node() const { return *node_; }
  [[nodiscard]] const std::string& name() const { return name_; }

  // To be called before the change.
  [[nodiscard]] Result<void> remember(std::shared_ptr<block::Node> node, std::string name) {
    node_ = std::move(node);
    name_ = std::move(name);
    auto bitmap = block::get_bitmap(*node_, name_);
    if (!bitmap) {
      return pass(bitmap);
    }
    bits_ = (*bitmap)->bits();
    enabled_ = (*bitmap)->enabled();
    return {};
  }

 private:
  Services& services_;
  std::shared_ptr<block::Node> node_;
  std::string name_;
  block::SparseBits bits_;
  bool enabled_ = false;
};

// Clears a bitmap, or makes it record, or stop recording.
class SwitchBitmap final : public ChangeBitmap {
 public:
  SwitchBitmap(Services& services, const schema::BlockDirtyBitmap& wanted, Kind kind)
      : ChangeBitmap(services), wanted_(wanted), kind_(kind) {}

  [[nodiscard]] io::Task<Result<void>> apply() override {
    auto found = find_bitmap_node(services(), wanted_.node);
    if (!found) {
      co_return pass(found);
    }
    if (auto remembered = remember(std::move(*found), wanted_.name); !remembered) {
      co_return remembered;
    }
    auto changing = kind_ == Kind::kBlockDirtyBitmapClear
                        ? block::clear_bitmap(node(), name(), kInDrain)
                        : block::enable_bitmap(node(), name(),
                                               kind_ == Kind::kBlockDirtyBitmapEnable, kInDrain);
    Result<void> changed = co_await std::move(changing);
    co_return changed;
  }

 private:
  const schema::BlockDirtyBitmap& wanted_;
  const Kind kind_;
};

class MergeBitmaps final : public ChangeBitmap {
 public:
  MergeBitmaps(Services& services, const schema::BlockDirtyBitmapMerge& wanted)
      : ChangeBitmap(services), wanted_(wanted) {}

  [[nodiscard]] io::Task<Result<void>> apply() override {
    auto merge = find_merge(services(), wanted_);
    if (!merge) {
      co_return pass(merge);
    }
    others_ = std::move(merge->others);
    if (auto remembered = remember(std::move(merge->node), merge->target); !remembered) {
      co_return remembered;
    }
    auto merging = block::merge_bitmaps(node(), merge->target, std::move(merge->sources), kInDrain);
    Result<void> merged = co_await std::move(merging);
    co_return merged;
  }

 private:
  const schema::BlockDirtyBitmapMerge& wanted_;
  std::vector<std::shared_ptr<block::Node>> others_;
};

}  // namespace

io::Task<Result<void>> Action::commit() { co_return Result<void>(); }

io::Task<Result<void>> StartJob::apply() {
  auto making = make();
  auto job = co_await std::move(making);
  if (!job) {
    co_return pass(job);
  }
  job_ = &jobs_.add(std::move(*job), group_);
  co_return Result<void>();
}

io::Task<void> StartJob::undo() { return jobs_.discard(*job_, jobs::InDrain::kYes); }

io::Task<Result<void>> StartJob::commit() {
  jobs_.start(*job_);
  co_return Result<void>();
}

std::unique_ptr<Action> make_action(Services& services, const schema::TransactionAction& wanted,
                                    const std::shared_ptr<jobs::JobGroup>& group) {
  if (const auto* add = std::get_if<schema::BlockDirtyBitmapAddWrapper>(&wanted.branch)) {
    return std::make_unique<AddBitmap>(services, add->data);
  }
  if (const auto* merge = std::get_if<schema::BlockDirtyBitmapMergeWrapper>(&wanted.branch)) {
    return std::make_unique<MergeBitmaps>(services, merge->data);
  }
  if (const auto* bitmap = std::get_if<schema::BlockDirtyBitmapWrapper>(&wanted.branch)) {
    if (wanted.type == Kind::kBlockDirtyBitmapRemove) {
      return std::make_unique<RemoveBitmap>(services, bitmap->data);
    }
    return std::make_unique<SwitchBitmap>(services, bitmap->data, wanted.type);
  }
  if (const auto* to_node = std::get_if<schema::BlockdevBackupWrapper>(&wanted.branch)) {
    return make_backup(services, to_node->data, group);
  }
  if (const auto* to_image = std::get_if<schema::DriveBackupWrapper>(&wanted.branch)) {
    return make_backup(services, to_image->data, group);
  }
  if (const auto* file = std::get_if<schema::BlockdevSnapshotSyncWrapper>(&wanted.branch)) {
    return make_snapshot(services, file->data);
  }
  if (const auto* node = std::get_if<schema::BlockdevSnapshotWrapper>(&wanted.branch)) {
    return make_snapshot(services, node->data);
  }
  if (const auto* inner = std::get_if<schema::BlockdevSnapshotInternalWrapper>(&wanted.branch)) {
    return make_snapshot(services, inner->data);
  }
  return std::make_unique<Abort>();
}

bool may_be_grouped(schema::TransactionActionKind kind) {
  return kind == Kind::kAbort || kind == Kind::kBlockdevBackup || kind == Kind::kDriveBackup;
}

}  // namespace cairn::monitor
