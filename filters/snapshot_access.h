// SnapshotAccess: shows, read-only, the snapshot that the node below it keeps
// (block/snapshot_view.h). A discard tells that nobody will read the range any more.
#pragma once

#include "block/driver.h"
#include "block/driver_table.h"
#include "block/node.h"
#include "block/snapshot_view.h"

namespace cairn::filters {

extern const block::DriverInfo kSnapshotAccessDriver;

class SnapshotAccess final : public block::RequestDriver {
 public:
  // `file` is the node's edge to the one that keeps the snapshot.
  explicit SnapshotAccess(block::Edge& file) : file_(file) {}

  [[nodiscard]] uint64_t length() const override { return file_.length(); }
  // Nothing that is below changes by a request to this node.
  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;
  [[nodiscard]] std::optional<bool> dirty() const override { return std::nullopt; }

 private:
  // The child may be replaced: asked for with every request. ENOTSUP when it has none.
  [[nodiscard]] Result<block::SnapshotView*> view() const;

  block::Edge& file_;
};

}  // namespace cairn::filters
