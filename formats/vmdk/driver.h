// VmdkDriver: translates the disk to what lies in its extents, and gives new grains a place at the
// end of them.
//
// Space is never given back: a grain that is zeroed leaves its old place unused. So nothing that a
// request in flight translated to can come to hold something else.
//
// Before the first change of the content the image gets another content id; until then nothing is
// called in place, so that every write comes by begin_write().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "block/driver.h"
#include "block/node.h"
#include "formats/vmdk/content_id.h"
#include "formats/vmdk/extent.h"

namespace cairn::vmdk {

class VmdkDriver final : public block::TranslatingDriver {
 public:
  // `extents` cover the disk without gaps, in their order.
  VmdkDriver(std::vector<VmdkExtent> extents, std::string create_type,
             std::unique_ptr<ContentId> content, bool writable);

  [[nodiscard]] uint64_t length() const override;
  [[nodiscard]] uint32_t cluster_size() const override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<void>> close() override;
  [[nodiscard]] io::Task<Result<void>> quiesce() override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;
  [[nodiscard]] io::Task<Result<block::CheckResult>> check(block::CheckOptions options) override;
  [[nodiscard]] io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> specific_info()
      override;
  [[nodiscard]] std::string backing_filename() const override { return content_->parent_name(); }
  [[nodiscard]] std::string backing_format() const override;

  [[nodiscard]] uint64_t allocation_unit() const override { return allocation_unit_; }
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, block::Extent& extent) override;
  [[nodiscard]] io::Task<Result<block::Extent>> map(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<block::WritePlan>> begin_write(uint64_t offset,
                                                               uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> end_write(block::WritePlan plan, uint64_t offset,
                                                 bool written) override;
  [[nodiscard]] Encoding encoding() const override;
  [[nodiscard]] const block::Codec* encoder() const override;
  [[nodiscard]] io::Task<Result<block::WritePlan>> begin_compressed_write(
      uint64_t offset, uint64_t stored_length) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] bool metadata_durable() const override;

  [[nodiscard]] const ContentId& content() const { return *content_; }

 private:
  // Grains between begin and end of a write.
  struct Ticket {
    VmdkExtent* extent = nullptr;  // null: the ticket is free
    std::shared_ptr<GrainTable> table;
    uint64_t entry = 0;  // the first
    uint64_t grains = 0;
    uint64_t host = 0;
    bool compressed = false;
  };

  [[nodiscard]] VmdkExtent& extent_at(uint64_t offset);
  [[nodiscard]] bool settle(const VmdkExtent& part, block::Extent& extent) const;
  [[nodiscard]] Result<void> check_parent();
  [[nodiscard]] io::Task<Result<void>> prepare_change(VmdkExtent& extent);
  [[nodiscard]] io::Task<Result<std::shared_ptr<GrainTable>>> table_for_write(VmdkExtent& extent,
                                                                              uint64_t offset);
  [[nodiscard]] io::Task<Result<block::WritePlan>> refuse_part(VmdkExtent& extent, uint64_t offset);
  [[nodiscard]] Error refuse_again() const;
  [[nodiscard]] static Result<uint64_t> take_space(VmdkExtent& extent, uint64_t bytes);
  [[nodiscard]] uint64_t open_ticket(Ticket ticket);
  [[nodiscard]] static io::Task<Result<void>> fill_up(const Ticket& ticket);
  [[nodiscard]] bool zeroes_by_metadata(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> zero_grains(VmdkExtent& extent, uint64_t offset,
                                                   uint64_t end);
  [[nodiscard]] io::Task<Result<void>> check_extent(VmdkExtent& extent) const;
  [[nodiscard]] static io::Task<Result<void>> check_se_extent(VmdkExtent& extent);

  std::vector<VmdkExtent> extents_;
  const std::string create_type_;
  const std::unique_ptr<ContentId> content_;
  const bool writable_;
  uint64_t allocation_unit_ = kSector;
  bool parent_checked_ = false;
  std::vector<Ticket> tickets_;  // a plan's ticket is an index plus one
};

}  // namespace cairn::vmdk
