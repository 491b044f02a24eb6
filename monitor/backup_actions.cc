// Starting backups.
#include <cerrno>
#include <climits>
#include <string>
#include <utility>

#include "block/codec.h"
#include "block/dirty_bitmap.h"
#include "block/graph_edit.h"
#include "jobs/backup_job.h"
#include "monitor/copy_actions.h"
#include "monitor/find_node.h"
#include "monitor/new_image.h"
#include "monitor/start_copy.h"

namespace cairn::monitor {

namespace {

using schema::BitmapSyncMode;
using schema::MirrorSyncMode;

Result<void> check_bitmap_mode(const schema::BackupCommon& wanted) {
  const MirrorSyncMode sync = wanted.sync;
  const bool by_bitmap = sync == MirrorSyncMode::kBitmap || sync == MirrorSyncMode::kIncremental;
  if (by_bitmap && !wanted.bitmap) {
    return fail(EINVAL, "must provide a valid bitmap name for '{}' sync mode", to_string(sync));
  }
  if (!wanted.bitmap) {
    return wanted.bitmap_mode ? Result<void>(fail(EINVAL,
                                                  "Cannot specify bitmap sync mode without "
                                                  "a bitmap"))
                              : Result<void>();
  }
  if (sync == MirrorSyncMode::kIncremental &&
      wanted.bitmap_mode.value_or(BitmapSyncMode::kOnSuccess) != BitmapSyncMode::kOnSuccess) {
    return fail(EINVAL, "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
  }
  return {};
}

// Of a bitmap that is there.
Result<void> check_bitmap_use(const schema::BackupCommon& wanted) {
  const MirrorSyncMode sync = wanted.sync;
  if (!wanted.bitmap_mode && sync != MirrorSyncMode::kIncremental) {
    return fail(EINVAL, "Bitmap sync mode must be given when providing a bitmap");
  }
  if (sync == MirrorSyncMode::kNone) {
    return fail(EINVAL, "sync mode 'none' does not produce meaningful bitmap outputs");
  }
  if (sync != MirrorSyncMode::kBitmap && sync != MirrorSyncMode::kIncremental &&
      wanted.bitmap_mode == BitmapSyncMode::kNever) {
    return fail(EINVAL,
                "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode "
                "'{}'",
                to_string(sync));
  }
  return {};
}

Result<block::DirtyBitmap*> find_backup_bitmap(const block::Node& node,
                                               const schema::BackupCommon& wanted) {
  const block::DirtyBitmaps* bitmaps = node.bitmaps();
  block::DirtyBitmap* found = bitmaps != nullptr ? bitmaps->find(*wanted.bitmap) : nullptr;
  if (found == nullptr) {
    return fail(ENOENT, "Bitmap '{}' could not be found", *wanted.bitmap);
  }
  if (auto good = check_bitmap_use(wanted); !good) {
    return pass(good);
  }
  if (auto usable = found->check(); !usable) {
    return pass(usable);
  }
  return found;
}

Result<void> apply_performance(const schema::BackupCommon& wanted, jobs::BackupSettings& backup) {
  if (!wanted.x_perf) {
    return {};
  }
  const schema::BackupPerf& perf = *wanted.x_perf;
  const int64_t workers = perf.max_workers.value_or(backup.copying.workers);
  if (workers < 1 || workers > INT_MAX) {
    return fail(EINVAL, "max-workers must be between 1 and {}", INT_MAX);
  }
  if (perf.max_chunk.value_or(0) < 0) {
    return fail(EINVAL, "max-chunk must be zero (which means no limit) or positive");
  }
  backup.copying.workers = static_cast<unsigned>(workers);
  backup.chunk = static_cast<uint64_t>(perf.max_chunk.value_or(0));
  backup.least_granule = perf.min_cluster_size.value_or(0);
  return {};
}

bool can_compress(const block::Node& node) {
  const block::TranslatingDriver* format = node.driver().as_translating();
  return format != nullptr && format->encoder() != nullptr;
}

class StartBackup : public StartCopy {
 public:
  using StartCopy::StartCopy;

 protected:
  [[nodiscard]] io::Task<JobResult> back_up(const schema::BackupCommon& wanted,
                                            std::shared_ptr<block::Node> source,
                                            std::shared_ptr<block::Node> target);

 private:
  [[nodiscard]] Result<jobs::BackupSettings> settings(const schema::BackupCommon& wanted,
                                                      std::shared_ptr<block::Node> source,
                                                      std::shared_ptr<block::Node> target);
};

Result<jobs::BackupSettings> StartBackup::settings(const schema::BackupCommon& wanted,
                                                   std::shared_ptr<block::Node> source,
                                                   std::shared_ptr<block::Node> target) {
  if (auto good = check_bitmap_mode(wanted); !good) {
    return pass(good);
  }
  jobs::BackupSettings backup;
  if (wanted.bitmap) {
    auto bitmap = find_backup_bitmap(*source, wanted);
    if (!bitmap) {
      return pass(bitmap);
    }
    backup.bitmap = *bitmap;
  }
  if (source == target) {
    return fail(EINVAL, "Source and target cannot be the same");
  }
  if (wanted.compress.value_or(false) && !can_compress(*target)) {
    return fail(ENOTSUP, "Compression is not supported for this drive ");
  }
  if (auto good = apply_performance(wanted, backup); !good) {
    return pass(good);
  }
  if (auto free = check_free(*source, *target); !free) {
    return pass(free);
  }
  if (source->length() != target->length()) {
    return fail(EINVAL, "Source and target image have different sizes");
  }
  const unsigned workers = backup.copying.workers;
  backup.copying = copy_settings(wanted);
  backup.copying.workers = workers;
  backup.source = std::move(source);
  backup.target = std::move(target);
  backup.sync = wanted.sync;
  backup.bitmap_mode = wanted.bitmap_mode.value_or(BitmapSyncMode::kOnSuccess);
  backup.compressed = wanted.compress.value_or(false);
  backup.break_snapshot = wanted.on_cbw_error == schema::OnCbwError::kBreakSnapshot;
  backup.discard_source = wanted.discard_source.value_or(false);
  backup.filter_name = wanted.filter_node_name;
  return backup;
}

io::Task<JobResult> StartBackup::back_up(const schema::BackupCommon& wanted,
                                         std::shared_ptr<block::Node> source,
                                         std::shared_ptr<block::Node> target) {
  auto backup = settings(wanted, std::move(source), std::move(target));
  if (!backup) {
    co_return pass(backup);
  }
  jobs::JobSettings job = job_settings(wanted, schema::JobType::kBackup);
  co_return co_await jobs::BackupJob::make(jobs(), std::move(job), graph(), std::move(*backup));
}

class StartNodeBackup final : public StartBackup {
 public:
  StartNodeBackup(Services& services, const schema::BlockdevBackup& wanted,
                  std::shared_ptr<jobs::JobGroup> group)
      : StartBackup(services, std::move(group)), wanted_(wanted) {}

 private:
  [[nodiscard]] io::Task<JobResult> make() override {
    NodeResult source = find_device_or_node(graph(), wanted_.device, wanted_.device);
    if (!source) {
      co_return pass(source);
    }
    NodeResult target = find_device_or_node(graph(), wanted_.target, wanted_.target);
    if (!target) {
      co_return pass(target);
    }
    co_return co_await back_up(wanted_, std::move(*source), std::move(*target));
  }

  const schema::BlockdevBackup& wanted_;
};

class StartDriveBackup final : public StartBackup {
 public:
  StartDriveBackup(Services& services, const schema::DriveBackup& wanted,
                   std::shared_ptr<jobs::JobGroup> group)
      : StartBackup(services, std::move(group)), wanted_(wanted) {}

 private:
  [[nodiscard]] io::Task<JobResult> make() override;
  // With none the target shows the disk where nothing was saved.
  [[nodiscard]] io::Task<Result<void>> put_above(std::shared_ptr<block::Node> target,
                                                 std::shared_ptr<block::Node> source);

  const schema::DriveBackup& wanted_;
};

io::Task<JobResult> StartDriveBackup::make() {
  NodeResult source = find_device_or_node(graph(), wanted_.device, wanted_.device);
  if (!source) {
    co_return pass(source);
  }
  if (auto free = jobs().check_free(**source); !free) {
    co_return pass(free);
  }
  NewImage image{.filename = wanted_.target,
                 .format = wanted_.format,
                 .mode = wanted_.mode.value_or(schema::NewImageMode::kAbsolutePaths)};
  if (wanted_.sync == MirrorSyncMode::kNone) {
    image.backing = *source;
  } else if (wanted_.sync == MirrorSyncMode::kTop && (*source)->backing() != nullptr) {
    image.backing = (*source)->backing()->shared_node();
  }
  NodeResult target = co_await open_new_image(graph(), *source, std::move(image));
  if (!target) {
    co_return pass(target);
  }
  const std::shared_ptr<block::Node> opened = *target;
  Result<void> above;
  if (wanted_.sync == MirrorSyncMode::kNone) {
    above = co_await put_above(opened, *source);
  }
  JobResult job;
  if (above) {
    job = co_await back_up(wanted_, std::move(*source), opened);
  } else {
    job = pass(above);
  }
  if (!job) {
    co_await give_back(graph(), opened);
  }
  co_return job;
}

io::Task<Result<void>> StartDriveBackup::put_above(std::shared_ptr<block::Node> target,
                                                   std::shared_ptr<block::Node> source) {
  if (!target->info().supports_backing) {
    co_return fail(EINVAL, "Driver '{}' of node '{}' does not support backing files",
                   target->info().name, target->name());
  }
  block::GraphEdit edit(graph());
  Result<void> put = edit.add_child(*target, "backing", source, block::ChildRole::kBacking);
  if (put) {
    put = edit.prepare();
  }
  if (!put) {
    co_return put;
  }
  co_return co_await edit.commit();
}

}  // namespace

std::unique_ptr<Action> make_backup(Services& services, const schema::BlockdevBackup& wanted,
                                    std::shared_ptr<jobs::JobGroup> group) {
  return std::make_unique<StartNodeBackup>(services, wanted, std::move(group));
}

std::unique_ptr<Action> make_backup(Services& services, const schema::DriveBackup& wanted,
                                    std::shared_ptr<jobs::JobGroup> group) {
  return std::make_unique<StartDriveBackup>(services, wanted, std::move(group));
}

}  // namespace cairn::monitor
