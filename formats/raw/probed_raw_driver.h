// ProbedRawDriver: a writable raw image whose format was guessed.
//
// A guest that could write the header of another format to its first sector would have the image
// taken for that format at the next start, and the files named in it opened with it. So such a
// write fails with EPERM. This needs to see the data, which a translating driver does not; the
// detour is taken only by images that nobody gave a format.
#pragma once

#include <optional>

#include "block/driver.h"
#include "block/driver_table.h"
#include "block/node.h"
#include "formats/raw/window.h"

namespace cairn::raw {

class ProbedRawDriver final : public block::RequestDriver {
 public:
  // `file` and `drivers` outlive the driver.
  ProbedRawDriver(block::Edge& file, RawWindow window, const block::DriverTable& drivers)
      : file_(file), window_(window), drivers_(drivers) {}

  [[nodiscard]] uint64_t length() const override { return window_.length(file_.length()); }
  [[nodiscard]] std::optional<bool> dirty() const override { return file_.node().driver().dirty(); }
  // Whole sectors, so that a write to a part of the first one shows what the sector becomes.
  [[nodiscard]] block::Limits limits() const override;
  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;

 private:
  block::Edge& file_;
  const RawWindow window_;
  const block::DriverTable& drivers_;
};

}  // namespace cairn::raw
