// LuksDriver: translates by adding the payload's offset; the volume's codec does the rest.
#pragma once

#include <memory>
#include <utility>

#include "block/driver.h"
#include "block/node.h"
#include "formats/encryption/luks_volume.h"

namespace cairn::luks {

class LuksDriver final : public block::TranslatingDriver {
 public:
  // `file` holds the disk; it belongs to the node and outlives the driver.
  LuksDriver(block::Edge& file, std::unique_ptr<encryption::LuksVolume> volume)
      : file_(file), volume_(std::move(volume)) {}

  [[nodiscard]] uint64_t length() const override;
  [[nodiscard]] bool encrypted() const override { return true; }
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;
  [[nodiscard]] io::Task<Result<void>> amend(block::CreateOptions options) override;
  [[nodiscard]] io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> specific_info()
      override;

  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;

  // Nothing is allocated here, so any sector is a unit.
  [[nodiscard]] uint64_t allocation_unit() const override { return volume_->sector_size(); }
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, block::Extent& extent) override;
  [[nodiscard]] io::Task<Result<block::Extent>> map(uint64_t offset, uint64_t length) override;

 private:
  block::Edge& file_;
  const std::unique_ptr<encryption::LuksVolume> volume_;
};

}  // namespace cairn::luks
