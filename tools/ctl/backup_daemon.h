// BackupDaemon: the steps of backups and restores that a daemon does.
//
// An Error tells the command that the daemon has refused, or that there is no daemon any more
// (lost()). Jobs and nodes have names that no other chain of backups uses, so that what an
// interrupted program has left is recognised.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "schema/json.h"
#include "tools/ctl/connection.h"
#include "tools/ctl/ctl.h"

namespace cairn::ctl {

[[nodiscard]] schema::JsonObject json_object(
    std::initializer_list<std::pair<std::string_view, schema::JsonValue>> members);

// {"type": TYPE, "data": DATA}: of a transaction.
[[nodiscard]] schema::JsonValue transaction_action(std::string_view type, schema::JsonObject data);

struct DiskBitmap {
  std::string name;
  bool recording = false;
  bool inconsistent = false;
};

struct DiskNode {
  std::string name;
  uint64_t size = 0;           // in bytes
  bool keeps_bitmaps = false;  // in the image, so that they outlive the daemon
  std::vector<DiskBitmap> bitmaps;

  [[nodiscard]] const DiskBitmap* find(std::string_view bitmap) const;
};

struct NewImage {
  std::string path;    // from the root
  std::string format;  // "qcow2" or "raw"
  uint64_t size = 0;
  std::string backing;  // a qcow2 image in the same directory; empty for none
};

class BackupDaemon {
 public:
  // `job` is the name of every job that is started. `options` outlive it.
  BackupDaemon(Connection connection, const Options& options, std::string job)
      : connection_(std::move(connection)), options_(options), job_(std::move(job)) {}

  // The connection has failed: nothing can be asked any more.
  [[nodiscard]] bool lost() const { return lost_; }
  [[nodiscard]] const std::string& job() const { return job_; }

  [[nodiscard]] Result<schema::JsonValue> call(std::string_view command,
                                               schema::JsonObject arguments = {});
  // ENODEV when there is no such node.
  [[nodiscard]] Result<DiskNode> find_node(const std::string& name);

  [[nodiscard]] Result<void> create_image(const NewImage& image);
  // Waits for the job's end and dismisses it. EINTR when the program is to end; then the job is
  // cancelled before.
  [[nodiscard]] Result<void> finish_job();

  // Closes its image; an error says that this is not complete.
  [[nodiscard]] Result<void> remove_node(const std::string& name);

  // Takes away the job, if there is one, and those of the nodes that are there, whatever becomes of
  // their images.
  [[nodiscard]] Result<void> clear(std::span<const std::string> nodes);

 private:
  // What query-jobs tells; null when there is no such job.
  [[nodiscard]] Result<schema::JsonValue> find_job();
  // Waits for something to happen, and not for long.
  [[nodiscard]] Result<void> wait_a_moment();
  // Waits for the end, and returns why the job failed.
  [[nodiscard]] Result<std::string> wait_for_end(bool cancel);

  Connection connection_;
  const Options& options_;
  std::string job_;
  bool lost_ = false;
};

}  // namespace cairn::ctl
