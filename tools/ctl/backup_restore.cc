// `cairnctl backup restore`: the disk as it was at a point, in a new file.
//
// The daemon copies from the chain, which it opens read-only, to FILE.part, which gets the name
// FILE when it is complete and durable.
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "base/size_text.h"
#include "tools/ctl/backup.h"
#include "tools/ctl/backup_files.h"
#include "tools/ctl/interrupt.h"

namespace cairn::ctl {

namespace {

using schema::JsonObject;

class BackupRestoration {
 public:
  BackupRestoration(BackupDaemon& daemon, const BackupChain& chain, std::string directory,
                    std::string file)
      : daemon_(daemon),
        chain_(chain),
        directory_(std::move(directory)),
        file_(std::move(file)),
        nodes_{daemon.job(), "cairn-source-" + chain.id} {}

  // After an error there is nothing of it.
  [[nodiscard]] Result<void> run(const BackupPoint& point, const std::string& format);

 private:
  [[nodiscard]] Result<void> check_files(const BackupPoint& point) const;
  [[nodiscard]] Result<void> copy(const BackupPoint& point, const std::string& format);
  [[nodiscard]] Result<void> take_name() const;

  [[nodiscard]] std::string part() const { return file_ + ".part"; }

  BackupDaemon& daemon_;
  const BackupChain& chain_;
  std::string directory_;
  std::string file_;
  std::array<std::string, 2> nodes_;  // the target and the source
};

Result<void> BackupRestoration::check_files(const BackupPoint& point) const {
  for (const std::string& name : {file_, part()}) {
    const auto exists = path_exists(name);
    if (!exists) {
      return std::unexpected(exists.error());
    }
    if (*exists) {
      return fail(EEXIST, "'{}' exists", name);
    }
  }
  for (const BackupPoint& needed : chain_.needed_for(point.number)) {
    auto verified = verify_point(directory_, chain_, needed);
    if (!verified) {
      return verified;
    }
  }
  return {};
}

Result<void> BackupRestoration::copy(const BackupPoint& point, const std::string& format) {
  JsonObject source = chain_node(directory_, chain_.needed_for(point.number));
  source.add("node-name", nodes_[1]);
  auto added = daemon_.call("blockdev-add", std::move(source));
  if (!added) {
    return pass(added);
  }
  auto made = daemon_.create_image(
      {.path = part(), .format = format, .size = point.virtual_size, .backing = ""});
  if (!made) {
    return pass(made, fmt::format("Could not make '{}': ", part()));
  }
  added = daemon_.call(
      "blockdev-add",
      json_object(
          {{"driver", format},
           {"node-name", nodes_[0]},
           {"discard", "unmap"},
           {"file",
            json_object({{"driver", "file"}, {"filename", part()}, {"discard", "unmap"}})}}));
  if (!added) {
    return pass(added);
  }
  auto started = daemon_.call("blockdev-backup", json_object({{"job-id", daemon_.job()},
                                                              {"device", nodes_[1]},
                                                              {"target", nodes_[0]},
                                                              {"sync", "full"},
                                                              {"auto-dismiss", false}}));
  if (!started) {
    return pass(started);
  }
  auto ended = daemon_.finish_job();
  if (!ended) {
    return pass(ended, fmt::format("Could not restore '{}': ", file_));
  }
  auto removed = daemon_.remove_node(nodes_[0]);
  return removed ? daemon_.remove_node(nodes_[1]) : std::move(removed);
}

Result<void> BackupRestoration::take_name() const {
  auto synced = sync_file(part());
  if (!synced) {
    const bool elsewhere = synced.error().code() == ENOENT;
    return pass(synced, elsewhere ? "The daemon's files must have the same names here: " : "");
  }
  return publish_file(part(), file_);
}

Result<void> BackupRestoration::run(const BackupPoint& point, const std::string& format) {
  auto checked = check_files(point);
  if (!checked) {
    return checked;
  }
  auto cleared = daemon_.clear(nodes_);
  if (!cleared) {
    return pass(cleared, "Could not clear away what an interrupted restore has left: ");
  }
  auto done = copy(point, format);
  if (done) {
    done = take_name();
  }
  if (done) {
    return done;
  }
  std::string trouble;
  if (!daemon_.lost()) {
    if (const auto undone = daemon_.clear(nodes_); !undone) {
      trouble += "; " + undone.error().message();
    }
  }
  if (const auto removed = remove_file(part()); !removed) {
    trouble += "; " + removed.error().message();
  }
  return fail(done.error().code(), "{}{}", done.error().message(), trouble);
}

// From the root, as the daemon needs it; its directory has to exist.
Result<std::string> resolve_new_file(const std::string& file) {
  const size_t slash = file.rfind('/');
  const std::string name = slash == file.npos ? file : file.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return fail(EISDIR, "'{}' is no name of a file", file);
  }
  auto directory = resolve_directory(slash == file.npos ? "." : file.substr(0, slash + 1));
  if (!directory) {
    return directory;
  }
  return (*directory == "/" ? "" : *directory) + "/" + name;
}

}  // namespace

Exit run_backup_restore(const Options& options, const std::string& directory,
                        const std::string& file) {
  const std::string format = options.format.empty() ? "qcow2" : options.format;
  if (format != "qcow2" && format != "raw") {
    return complain(Exit::kUsage,
                    fmt::format("'{}' is no format: there are qcow2 and raw", clean(format)));
  }
  note_interrupts();
  const auto resolved = resolve_directory(directory);
  if (!resolved) {
    return complain_backup(resolved.error(), false);
  }
  const auto target = resolve_new_file(file);
  if (!target) {
    return complain_backup(target.error(), false);
  }
  const auto lock = lock_directory(*resolved);
  if (!lock) {
    return complain_backup(lock.error(), false);
  }
  const auto chain = need_chain(*resolved);
  if (!chain) {
    return complain_backup(chain.error(), false);
  }
  const BackupPoint* point = options.point ? chain->find(*options.point) : chain->last();
  if (!point) {
    return complain(Exit::kRefused,
                    options.point ? fmt::format("'{}' has no point {}", *resolved, *options.point)
                                  : fmt::format("There are no backups in '{}'", *resolved));
  }
  auto connection = connect(options);
  if (!connection) {
    return complain(Exit::kNoConnection, connection.error().message());
  }
  BackupDaemon daemon(std::move(*connection), options, "cairn-restore-" + chain->id);
  const auto restored = BackupRestoration(daemon, *chain, *resolved, *target).run(*point, format);
  if (!restored) {
    return complain_backup(restored.error(), daemon.lost());
  }
  if (options.output == Output::kText) {
    fmt::print("Point {} is in {}\n", point->number, clean(*target));
  } else {
    print_value(json_object({{"number", point->number}, {"file", *target}, {"format", format}}), "",
                options);
  }
  return Exit::kOk;
}

}  // namespace cairn::ctl
