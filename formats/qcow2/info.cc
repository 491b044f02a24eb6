// What `check` and `info` tell about an open image.
#include <cerrno>

#include "base/bytes.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "schema/types_block_info.h"

namespace cairn::qcow2 {

io::Task<Result<block::CheckResult>> Qcow2Driver::check(block::CheckOptions options) {
  if (image_.open_for_writing()) {
    Result<void> flushed = co_await writeback_.flush_all();
    if (!flushed) {
      co_return pass(flushed);
    }
  }
  if (!image_.open_for_writing() && (options.fix_leaks || options.fix_errors)) {
    co_return fail(EACCES, "A repair needs an image that is open for writing");
  }
  Checker checker(image_, std::move(options));
  Result<block::CheckResult> result = co_await checker.run();
  if (checker.changed()) {
    image_.retire();
  }
  co_return result;
}

// What the L1 entries behind the guest's disk map.
uint64_t Qcow2Driver::vm_state_offset() const {
  const uint64_t mapped_by_table = image_.cluster_size() * image_.geometry().l2_entries();
  return checked_align_up(length(), mapped_by_table).value_or(0);
}

io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> Qcow2Driver::specific_info() {
  const Header& header = image_.header();
  schema::ImageInfoSpecificQCow2 data;
  data.compat = std::string(header.compat());
  data.compression_type = header.compression == CompressionType::kZstd
                              ? schema::Qcow2CompressionType::kZstd
                              : schema::Qcow2CompressionType::kZlib;
  data.refcount_bits = static_cast<int64_t>(header.geometry().refcount_bits());
  if (header.version >= 3) {
    data.lazy_refcounts = header.lazy_refcounts();
    data.corrupt = header.has(kIncompatibleCorrupt);
    data.extended_l2 = header.has(kIncompatibleExtendedL2);
  }
  if (encryption_ != nullptr) {
    data.encrypt = encryption_->info();
  }
  for (const BitmapEntry& entry : bitmaps_.entries()) {
    if (!data.bitmaps) {
      data.bitmaps.emplace();
    }
    schema::Qcow2BitmapInfo& bitmap = data.bitmaps->emplace_back();
    bitmap.name = entry.name;
    bitmap.granularity = uint32_t{1} << entry.granularity_bits;
    if (entry.in_use()) {
      bitmap.flags.push_back(schema::Qcow2BitmapInfoFlags::kInUse);
    }
    if ((entry.flags & BitmapEntry::kAuto) != 0) {
      bitmap.flags.push_back(schema::Qcow2BitmapInfoFlags::kAuto);
    }
  }
  if (header.has(kIncompatibleDataFile)) {
    data.data_file = header.data_file();
    data.data_file_raw = (header.autoclear_features & kAutoclearDataFileRaw) != 0;
  }
  auto info = std::make_unique<schema::ImageInfoSpecific>();
  info->type = schema::ImageInfoSpecificKind::kQcow2;
  info->branch = schema::ImageInfoSpecificQCow2Wrapper{std::move(data)};
  co_return info;
}

}  // namespace cairn::qcow2
