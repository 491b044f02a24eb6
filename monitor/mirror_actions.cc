// Starting mirrors.
#include <bit>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "jobs/mirror_job.h"
#include "monitor/copy_actions.h"
#include "monitor/find_node.h"
#include "monitor/new_image.h"
#include "monitor/start_copy.h"

namespace cairn::monitor {

namespace {

using SyncMode = schema::MirrorSyncMode;

// What both commands for mirrors have in common.
class StartMirror : public StartCopy {
 public:
  explicit StartMirror(Services& services) : StartCopy(services, nullptr) {}

 protected:
  // The target is null when it is a file that is opened later.
  template <typename Arguments>
  [[nodiscard]] Result<jobs::MirrorSettings> settings(const Arguments& wanted,
                                                      const std::shared_ptr<block::Node>& source,
                                                      const block::Node* target);
  // Fills in the target, and what depends on it.
  [[nodiscard]] io::Task<JobResult> mirror(jobs::JobSettings job, jobs::MirrorSettings wanted,
                                           std::shared_ptr<block::Node> target);

  // Neither other nodes nor jobs use it.
  [[nodiscard]] NodeResult find_source(std::string_view name) const;

 private:
  // No job keeps the node in use, and no image has it as its backing file.
  [[nodiscard]] Result<void> check_unused(const block::Node& node) const;
  [[nodiscard]] Result<std::shared_ptr<block::Node>> find_replaced(
      const std::string& name, const std::shared_ptr<block::Node>& source) const;
};

NodeResult StartMirror::find_source(std::string_view name) const {
  NodeResult found = find_root_node(graph(), name);
  if (found && !jobs().check_free(**found)) {
    return fail(EINVAL, "Need a root block node");
  }
  return found;
}

Result<void> StartMirror::check_unused(const block::Node& node) const {
  Result<void> free = jobs().check_free(node);
  return free ? check_not_backing(node) : free;
}

template <typename Arguments>
Result<jobs::MirrorSettings> StartMirror::settings(const Arguments& wanted,
                                                   const std::shared_ptr<block::Node>& source,
                                                   const block::Node* target) {
  constexpr uint32_t kLeast = 512;
  constexpr uint32_t kMost = 64u << 20;
  const uint32_t granularity = wanted.granularity.value_or(0);
  if (granularity != 0 && (granularity < kLeast || granularity > kMost)) {
    return fail(EINVAL, "Parameter 'granularity' expects a value in range [512B, 64MB]");
  }
  if (granularity != 0 && !std::has_single_bit(granularity)) {
    return fail(EINVAL, "Parameter 'granularity' expects a power of 2");
  }
  if (auto free = target != nullptr ? check_unused(*target) : Result<void>(); !free) {
    return pass(free);
  }
  jobs::MirrorSettings mirror;
  if (wanted.replaces) {
    auto replaced = find_replaced(*wanted.replaces, source);
    if (!replaced) {
      return pass(replaced);
    }
    mirror.replaced = std::move(*replaced);
  }
  if (wanted.sync == SyncMode::kIncremental || wanted.sync == SyncMode::kBitmap) {
    return fail(ENOTSUP, "Sync mode '{}' not supported", to_string(wanted.sync));
  }
  if (wanted.buf_size.value_or(0) < 0) {
    return fail(EINVAL, "Invalid parameter 'buf-size'");
  }
  mirror.copying = copy_settings(wanted);
  mirror.source = source;
  // An image with nothing below it has everything of its own.
  const bool everything = wanted.sync == SyncMode::kTop && source->backing() == nullptr;
  mirror.sync = everything ? SyncMode::kFull : wanted.sync;
  mirror.granularity = granularity;
  mirror.buffer = static_cast<uint64_t>(wanted.buf_size.value_or(0));
  mirror.write_both = wanted.copy_mode == schema::MirrorCopyMode::kWriteBlocking;
  return mirror;
}

// Only what shows the same as the source can give way: that which it filters.
Result<std::shared_ptr<block::Node>> StartMirror::find_replaced(
    const std::string& name, const std::shared_ptr<block::Node>& source) const {
  std::shared_ptr<block::Node> found = graph().find(name);
  if (found == nullptr) {
    return fail(ENOENT, "Failed to find node with node-name='{}'", name);
  }
  if (auto free = check_unused(*found); !free) {
    return pass(free);
  }
  const block::Node* node = source.get();
  while (node != found.get()) {
    const block::Edge* below = nullptr;
    for (const auto& edge : node->children()) {
      if (node->info().kind == block::DriverInfo::Kind::kFilter &&
          edge->role() == block::ChildRole::kFiltered) {
        below = edge.get();
      }
    }
    if (below == nullptr) {
      return fail(EPERM,
                  "Cannot replace '{}' by a node mirrored from '{}', because it cannot be "
                  "guaranteed that doing so would not lead to an abrupt change of visible data",
                  name, source->name());
    }
    node = &below->node();
  }
  return found;
}

io::Task<JobResult> StartMirror::mirror(jobs::JobSettings job, jobs::MirrorSettings wanted,
                                        std::shared_ptr<block::Node> target) {
  if (auto free = check_free(*wanted.source, *target); !free) {
    co_return pass(free);
  }
  if (wanted.source == target) {
    co_return fail(EINVAL, "Can't mirror node into itself");
  }
  wanted.target = std::move(target);
  co_return co_await jobs::MirrorJob::make(jobs(), std::move(job), graph(), std::move(wanted));
}

class StartNodeMirror final : public StartMirror {
 public:
  StartNodeMirror(Services& services, const schema::BlockdevMirrorArguments& wanted)
      : StartMirror(services), wanted_(wanted) {}

 private:
  [[nodiscard]] io::Task<JobResult> make() override {
    NodeResult source = find_source(wanted_.device);
    if (!source) {
      co_return pass(source);
    }
    NodeResult target = find_device_or_node(graph(), wanted_.target, wanted_.target);
    if (!target) {
      co_return pass(target);
    }
    auto mirror = settings(wanted_, *source, target->get());
    if (!mirror) {
      co_return pass(mirror);
    }
    mirror->target_is_zero = wanted_.target_is_zero.value_or(false);
    mirror->filter_name = wanted_.filter_node_name;
    auto job = job_settings(wanted_, schema::JobType::kMirror);
    auto making = this->mirror(std::move(job), std::move(*mirror), std::move(*target));
    co_return co_await std::move(making);
  }

  const schema::BlockdevMirrorArguments& wanted_;
};

class StartDriveMirror final : public StartMirror {
 public:
  StartDriveMirror(Services& services, const schema::DriveMirror& wanted)
      : StartMirror(services), wanted_(wanted) {}

 private:
  [[nodiscard]] io::Task<JobResult> make() override;

  const schema::DriveMirror& wanted_;
};

io::Task<JobResult> StartDriveMirror::make() {
  NodeResult source = find_source(wanted_.device);
  if (!source) {
    co_return pass(source);
  }
  if (wanted_.replaces && !wanted_.node_name) {
    co_return fail(EINVAL, "a node-name must be provided when replacing a named node of the graph");
  }
  auto mirror = settings(wanted_, *source, nullptr);
  if (!mirror) {
    co_return pass(mirror);
  }
  const auto mode = wanted_.mode.value_or(schema::NewImageMode::kAbsolutePaths);
  NewImage image{.filename = wanted_.target,
                 .format = wanted_.format,
                 .mode = mode,
                 .node_name = wanted_.node_name};
  if (mirror->sync == SyncMode::kNone) {
    image.backing = *source;
  } else if (mirror->sync == SyncMode::kTop) {
    image.backing = (*source)->backing()->shared_node();
  }
  image.keeps_backing = mirror->sync != SyncMode::kFull;
  mirror->backing = image.backing;
  mirror->unmap = wanted_.unmap.value_or(true);
  NodeResult target = co_await open_new_image(graph(), *source, std::move(image));
  if (!target) {
    co_return pass(target);
  }
  const std::shared_ptr<block::Node> opened = *target;
  auto job = job_settings(wanted_, schema::JobType::kMirror);
  auto making = this->mirror(std::move(job), std::move(*mirror), opened);
  JobResult made = co_await std::move(making);
  if (!made) {
    co_await give_back(graph(), opened);
  }
  co_return made;
}

}  // namespace

std::unique_ptr<Action> make_mirror(Services& services,
                                    const schema::BlockdevMirrorArguments& wanted) {
  return std::make_unique<StartNodeMirror>(services, wanted);
}

std::unique_ptr<Action> make_mirror(Services& services, const schema::DriveMirror& wanted) {
  return std::make_unique<StartDriveMirror>(services, wanted);
}

}  // namespace cairn::monitor
