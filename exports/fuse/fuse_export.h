// FuseExports: the kind of export that shows a node as a regular file of this host.
//
// Invariants
// - At most one export is mounted over a file.
// - An export answers what it was asked before it is unmounted; whoever has the file open does not
//   keep it from going.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/graph.h"
#include "block/length_listener.h"
#include "exports/export.h"
#include "exports/fuse/exported_file.h"
#include "exports/fuse/file_requests.h"
#include "exports/fuse/mount.h"
#include "exports/fuse/session.h"
#include "io/cancel.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::fuse {

class FuseExports;

class FuseExport final : public exports::Export, private block::LengthListener {
 public:
  struct Options {
    bool growable = false;
    bool direct_io = false;  // past the kernel's page cache
  };

  FuseExport(FuseExports& kind, exports::ExportSettings settings, std::unique_ptr<block::Edge> root,
             std::unique_ptr<Mount> mount, Options options);
  ~FuseExport() override;

  // The file can be open without that being known here.
  [[nodiscard]] bool in_use() const override { return false; }
  [[nodiscard]] dev_t device() const { return device_; }

 private:
  io::Task<void> close() override;
  // LengthListener
  void on_length_change() override;
  // Has the session run, here or on the export's thread.
  [[nodiscard]] io::Task<void> serve();
  [[nodiscard]] io::Task<void> have_content_forgotten();
  [[nodiscard]] io::Task<void> forget_here() const;
  // On the thread where the session runs.
  [[nodiscard]] Result<std::unique_ptr<RequestQueues>> make_queues();

  FuseExports& kind_;
  dev_t device_;
  std::unique_ptr<Mount> mount_;
  ExportedFile file_;
  const exports::NodeAccess home_;
  FileRequests requests_;
  Session session_;
  block::Graph& graph_;
  uint64_t told_length_;
  io::CancelSource stopping_;
  io::TaskGroup serving_;
};

class FuseExports final : public exports::ExportType {
 public:
  // ExportType
  [[nodiscard]] std::string_view name() const override { return "fuse"; }
  [[nodiscard]] io::Task<Result<std::unique_ptr<exports::Export>>> create(
      const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
      std::unique_ptr<block::Edge>& root) override;

 private:
  friend class FuseExport;

  // Those that are mounted.
  std::vector<const FuseExport*> mounted_;
};

}  // namespace cairn::fuse
