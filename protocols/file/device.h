// Device: a block device of the host (or a character device that can be read at offsets).
#pragma once

#include <memory>

#include "protocols/file/host_file.h"

namespace cairn::file {

class Device final : public HostFile {
 public:
  [[nodiscard]] static std::unique_ptr<HostFile> create(HostFileOptions options,
                                                        std::unique_ptr<OpenFile> file,
                                                        uint64_t length);

  [[nodiscard]] block::Limits limits() const override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  // Devices have the size they have; a new size can only be taken note of.
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;

 private:
  [[nodiscard]] io::Task<Result<void>> give_back(uint64_t offset, uint64_t length) override;
  Device(HostFileOptions options, std::unique_ptr<OpenFile> file, uint64_t length);

  uint32_t sector_size_ = 512;
  bool can_unmap_zeroes_ = true;
  bool can_zero_ = true;
  bool can_discard_ = true;
};

}  // namespace cairn::file
