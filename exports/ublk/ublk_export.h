// UblkExports: the kind of export that shows a node as a block device of this host.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "block/graph.h"
#include "block/length_listener.h"
#include "exports/export.h"
#include "exports/ublk/driver.h"
#include "exports/ublk/served_device.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::ublk {

class UblkExport final : public exports::Export, private block::LengthListener {
 public:
  UblkExport(exports::ExportSettings settings, std::unique_ptr<block::Edge> root,
             std::unique_ptr<ServedDevice> device);
  ~UblkExport() override;

  // The block device is mounted, say.
  [[nodiscard]] bool in_use() const override { return device_->is_held(); }

 private:
  io::Task<void> close() override;
  // LengthListener
  void on_length_change() override;
  [[nodiscard]] io::Task<void> tell_length();

  std::unique_ptr<ServedDevice> device_;
  block::Graph& graph_;
  uint64_t length_;        // as it was last seen
  io::TaskGroup telling_;  // one task at most
};

class UblkExports final : public exports::ExportType {
 public:
  using OpenDriver = std::function<io::Task<Result<std::unique_ptr<Driver>>>()>;

  explicit UblkExports(OpenDriver open_driver = open_kernel_driver)
      : open_driver_(std::move(open_driver)) {}

  // ExportType
  [[nodiscard]] std::string_view name() const override { return "ublk"; }
  [[nodiscard]] io::Task<Result<std::unique_ptr<exports::Export>>> create(
      const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
      std::unique_ptr<block::Edge>& root) override;

 private:
  const OpenDriver open_driver_;
};

}  // namespace cairn::ublk
