// VhostUserExports: the kind of export that shows a node to a virtual machine as a virtio block
// device, by the vhost-user protocol on a Unix socket.
//
// Invariants
// - One front-end at a time has the device; others wait in the listen queue until it leaves.
// - An export goes only when every request that was taken is answered.
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "block/length_listener.h"
#include "exports/export.h"
#include "exports/vhost_user/block_device.h"
#include "exports/vhost_user/session.h"
#include "io/cancel.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::vhost_user {

class VhostUserExport final : public exports::Export, private block::LengthListener {
 public:
  VhostUserExport(exports::ExportSettings settings, std::unique_ptr<block::Edge> root,
                  io::Listener listener, DeviceSettings device);
  ~VhostUserExport() override;

  // A machine that is gone without notice comes back to where it was: nothing keeps it here.
  [[nodiscard]] bool in_use() const override { return false; }

 private:
  io::Task<void> close() override;
  void on_length_change() override;
  [[nodiscard]] io::Task<void> serve();

  io::Listener listener_;
  BlockDevice device_;
  uint64_t told_capacity_;
  block::Graph& graph_;
  std::unique_ptr<Session> session_;  // with who has the device
  io::CancelSource stopping_;
  io::TaskGroup tasks_;
};

class VhostUserExports final : public exports::ExportType {
 public:
  // ExportType
  [[nodiscard]] std::string_view name() const override { return "vhost-user-blk"; }
  [[nodiscard]] io::Task<Result<std::unique_ptr<exports::Export>>> create(
      const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
      std::unique_ptr<block::Edge>& root) override;
};

}  // namespace cairn::vhost_user
