// `cairnctl backup create`: one more point, full or incremental.
//
// The order, so that a cut between any two steps leaves a chain that is whole, and bitmaps from
// which the next backup goes on (backup_bitmaps.h):
//   1. the image is made as NNNN.qcow2.part;
//   2. at one moment the new bitmap begins, that of the last point is switched off, and the job;
//   3. when that has ended well, the image is closed, durable, and gets its name;
//   4. chain.json has the point: from here on it exists;
//   5. the bitmap of the point before it goes.
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <utility>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/size_text.h"
#include "tools/ctl/backup.h"
#include "tools/ctl/backup_bitmaps.h"
#include "tools/ctl/backup_files.h"
#include "tools/ctl/interrupt.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;

std::string utc_now() { return fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))); }

class BackupCreation {
 public:
  BackupCreation(BackupDaemon& daemon, const Options& options, std::string directory,
                 BackupChain chain)
      : daemon_(daemon),
        options_(options),
        directory_(std::move(directory)),
        chain_(std::move(chain)) {}

  // What was left by others goes first. After an error everything is as before.
  [[nodiscard]] Result<BackupPoint> run();

  // Why it is full though it might have been incremental; empty otherwise.
  [[nodiscard]] const std::string& why_full() const { return why_full_; }

 private:
  [[nodiscard]] Result<void> prepare();
  [[nodiscard]] std::string reason_for_full(const BitmapPlan& plan) const;
  [[nodiscard]] Result<void> copy();
  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> publish();
  [[nodiscard]] std::string undo();

  [[nodiscard]] std::string path() const { return directory_ + "/" + point_.file(); }
  [[nodiscard]] std::string part() const { return path() + ".part"; }

  BackupDaemon& daemon_;
  const Options& options_;
  std::string directory_;
  BackupChain chain_;
  DiskNode disk_;
  BackupPoint point_;
  std::string why_full_;
};

Result<void> BackupCreation::prepare() {
  const auto found = daemon_.find_node(chain_.node);
  if (!found) {
    return std::unexpected(found.error());
  }
  if (!chain_.last()) {
    // Its id is known before anything in the daemon has a name with it.
    auto saved = save_backup_chain(directory_, chain_);
    if (!saved) {
      return saved;
    }
  }
  auto cleared = daemon_.clear(std::array{daemon_.job()});
  if (!cleared) {
    return pass(cleared, "Could not clear away what an interrupted backup has left: ");
  }
  auto plan = settle_bitmaps(daemon_, chain_);
  if (!plan) {
    return pass(plan);
  }
  auto disk = daemon_.find_node(chain_.node);
  if (!disk) {
    return pass(disk);
  }
  disk_ = std::move(*disk);
  point_.number = chain_.last() ? chain_.last()->number + 1 : 1;
  point_.virtual_size = disk_.size;
  auto bitmap = chain_.new_bitmap(point_.number);
  if (!bitmap) {
    return pass(bitmap);
  }
  point_.bitmap = std::move(*bitmap);
  const std::string reason = reason_for_full(*plan);
  point_.full = options_.full || !reason.empty();
  why_full_ = options_.full || !chain_.last() ? "" : reason;
  // What chain.json does not tell of does not exist.
  for (const std::string& stale : {path(), part()}) {
    auto removed = remove_file(stale);
    if (!removed) {
      return removed;
    }
  }
  return {};
}

std::string BackupCreation::reason_for_full(const BitmapPlan& plan) const {
  if (!plan.usable) {
    return plan.why_not;
  }
  const BackupPoint& last = *chain_.last();
  if (last.virtual_size != disk_.size) {
    return fmt::format("'{}' has {} bytes, and had {} at point {}", disk_.name, disk_.size,
                       last.virtual_size, last.number);
  }
  for (const BackupPoint& point : chain_.needed_for(last.number)) {
    const auto length = file_length(directory_ + "/" + point.file());
    if (!length) {
      return length.error().message();
    }
    if (*length != point.length) {
      return fmt::format("'{}/{}' is damaged: it has {} bytes in place of {}", directory_,
                         point.file(), *length, point.length);
    }
  }
  return "";
}

Result<void> BackupCreation::start() {
  JsonArray actions;
  actions.push_back(transaction_action(
      "block-dirty-bitmap-add",
      json_object(
          {{"node", disk_.name}, {"name", point_.bitmap}, {"persistent", disk_.keeps_bitmaps}})));
  JsonObject backup = json_object({{"job-id", daemon_.job()},
                                   {"device", disk_.name},
                                   {"target", daemon_.job()},
                                   {"sync", point_.full ? "full" : "bitmap"},
                                   {"compress", options_.compress},
                                   {"auto-dismiss", false}});
  if (!point_.full) {
    const std::string& old = chain_.last()->bitmap;
    actions.push_back(transaction_action("block-dirty-bitmap-disable",
                                         json_object({{"node", disk_.name}, {"name", old}})));
    backup.add("bitmap", old);
    backup.add("bitmap-mode", "never");
  }
  actions.push_back(transaction_action("blockdev-backup", std::move(backup)));
  auto started = daemon_.call("transaction", json_object({{"actions", std::move(actions)}}));
  if (!started) {
    return pass(started);
  }
  point_.time = utc_now();
  return {};
}

Result<void> BackupCreation::copy() {
  const std::string backing = point_.full ? "" : chain_.last()->file();
  auto made = daemon_.create_image(
      {.path = part(), .format = "qcow2", .size = disk_.size, .backing = backing});
  if (!made) {
    return pass(made, fmt::format("Could not make '{}': ", part()));
  }
  const auto seen = backing_name_in(part());
  if (!seen && seen.error().code() != ENOENT) {
    return std::unexpected(seen.error());
  }
  if (!seen || *seen != backing) {
    return fail(ENOENT,
                "The daemon has made '{}' where this program does not see it: run it where the "
                "daemon's files have the same names",
                part());
  }
  schema::JsonValue chain_below;
  if (!point_.full) {
    chain_below = chain_node(directory_, chain_.needed_for(chain_.last()->number));
  }
  JsonObject node = json_object(
      {{"driver", "qcow2"},
       {"node-name", daemon_.job()},
       {"discard", "unmap"},
       {"file", json_object({{"driver", "file"}, {"filename", part()}, {"discard", "unmap"}})},
       {"backing", std::move(chain_below)}});
  auto added = daemon_.call("blockdev-add", std::move(node));
  if (!added) {
    return pass(added);
  }
  auto started = start();
  if (!started) {
    return started;
  }
  auto ended = daemon_.finish_job();
  if (!ended) {
    return pass(ended, fmt::format("Could not back up '{}' to '{}': ", disk_.name, path()));
  }
  return daemon_.remove_node(daemon_.job());
}

Result<void> BackupCreation::publish() {
  auto synced = sync_file(part());
  if (!synced) {
    return synced;
  }
  auto digest = digest_file(part());
  if (!digest) {
    return pass(digest);
  }
  point_.sha256 = std::move(digest->sha256);
  point_.length = digest->length;
  auto published = publish_file(part(), path());
  if (!published) {
    return published;
  }
  BackupChain longer = chain_;
  longer.points.push_back(point_);
  auto saved = save_backup_chain(directory_, longer);
  if (!saved) {
    // The new list may be there already, and then the file belongs to it.
    const auto kept = load_backup_chain(directory_);
    if (!kept || !*kept || (*kept)->find(point_.number)) {
      chain_ = std::move(longer);
    }
    return saved;
  }
  chain_ = std::move(longer);
  return {};
}

// Takes back what was begun; what could not be is told.
std::string BackupCreation::undo() {
  std::string trouble;
  const auto note = [&trouble](const Result<void>& step) {
    if (!step) {
      trouble += "; " + step.error().message();
    }
  };
  if (!daemon_.lost()) {
    note(daemon_.clear(std::array{daemon_.job()}));
  }
  if (!chain_.find(point_.number)) {
    note(remove_file(part()));
    note(remove_file(path()));
  } else {
    trouble +=
        fmt::format("; point {} is in the list, but a power cut may take it back", point_.number);
  }
  if (!daemon_.lost()) {
    if (const auto settled = settle_bitmaps(daemon_, chain_); !settled) {
      trouble += "; " + settled.error().message();
    }
  }
  return trouble;
}

Result<BackupPoint> BackupCreation::run() {
  auto prepared = prepare();
  if (!prepared) {
    return pass(prepared);
  }
  auto done = copy();
  if (done) {
    done = publish();
  }
  if (!done) {
    std::string trouble = undo();
    if (daemon_.lost()) {
      trouble += "; the next backup brings things in order";
    }
    return fail(done.error().code(), "{}{}", done.error().message(), trouble);
  }
  // The point exists. Bitmaps that it does not need go now, or before the next one.
  if (const auto settled = settle_bitmaps(daemon_, chain_); !settled) {
    static_cast<void>(complain(Exit::kOk, fmt::format("Point {} is complete, but {}", point_.number,
                                                      clean(settled.error().message()))));
  }
  return point_;
}

// The chain of the directory, or a new one.
Result<BackupChain> chain_for(const std::string& directory, const std::string& node) {
  auto chain = load_backup_chain(directory);
  if (!chain) {
    return pass(chain);
  }
  if (*chain) {
    return std::move(**chain);
  }
  const std::string first = directory + "/" + backup_file(1);
  for (const std::string& path : {first, first + ".part"}) {
    const auto exists = path_exists(path);
    if (!exists) {
      return std::unexpected(exists.error());
    }
    if (*exists) {
      return fail(EEXIST, "'{}' exists, but no list of backups: use an empty directory", path);
    }
  }
  return BackupChain::make(node);
}

void tell(const Options& options, const std::string& directory, const BackupPoint& point,
          const std::string& why_full) {
  if (options.output != Output::kText) {
    schema::JsonValue object = point_json(point);
    if (!why_full.empty()) {
      object.as_object()->add("why-full", why_full);
    }
    print_value(object, "", options);
    return;
  }
  if (!why_full.empty()) {
    static_cast<void>(
        complain(Exit::kOk, fmt::format("This backup had to be a full one: {}", clean(why_full))));
  }
  fmt::print("Point {}, {}, {}: {}/{}\n", point.number, point.full ? "full" : "incremental",
             format_size(point.length), clean(directory), point.file());
}

}  // namespace

Exit run_backup_create(const Options& options, const std::string& node,
                       const std::string& directory) {
  note_interrupts();
  auto connection = connect(options);
  if (!connection) {
    return complain(Exit::kNoConnection, connection.error().message());
  }
  const auto resolved = make_directory(directory);
  if (!resolved) {
    return complain_backup(resolved.error(), false);
  }
  const auto lock = lock_directory(*resolved);
  if (!lock) {
    return complain_backup(lock.error(), false);
  }
  auto chain = chain_for(*resolved, node);
  if (!chain) {
    return complain_backup(chain.error(), false);
  }
  if (chain->node != node) {
    return complain_backup(
        Error(EINVAL, fmt::format("'{}' has backups of '{}': use another directory for '{}'",
                                  *resolved, chain->node, node)),
        false);
  }
  BackupDaemon daemon(std::move(*connection), options, "cairn-backup-" + chain->id);
  BackupCreation creation(daemon, options, *resolved, std::move(*chain));
  const auto point = creation.run();
  if (!point) {
    return complain_backup(point.error(), daemon.lost());
  }
  tell(options, *resolved, *point, creation.why_full());
  return Exit::kOk;
}

}  // namespace cairn::ctl
