// RegularFile: a file in a file system: sparse, may grow and shrink.
#pragma once

#include <memory>

#include "protocols/file/host_file.h"

namespace cairn::file {

class RegularFile final : public HostFile {
 public:
  [[nodiscard]] static std::unique_ptr<HostFile> create(HostFileOptions options,
                                                        std::unique_ptr<OpenFile> file,
                                                        uint64_t length);

  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;

 private:
  [[nodiscard]] io::Task<Result<void>> give_back(uint64_t offset, uint64_t length) override;
  using HostFile::HostFile;

  [[nodiscard]] io::Task<Result<void>> zero_and_allocate(const io::File& file, uint64_t offset,
                                                         uint64_t length);
  [[nodiscard]] io::Task<Result<void>> zero_and_unmap(const io::File& file, uint64_t offset,
                                                      uint64_t length);
  [[nodiscard]] io::Task<Result<void>> extend_to(const io::File& file, uint64_t end);
  [[nodiscard]] Segment find_segment(uint64_t offset);

  // The file system has said no; it is not asked again.
  bool can_zero_range_ = true;
  bool can_punch_ = true;
  bool can_seek_ = true;
};

}  // namespace cairn::file
