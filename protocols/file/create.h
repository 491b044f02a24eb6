// Creating image files, and giving files space.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "block/driver.h"
#include "io/task.h"

namespace cairn::block {
class CreateOptions;
class Graph;
}  // namespace cairn::block

namespace cairn::file {

struct CreateParameters {
  std::string path;
  uint64_t size = 0;  // bytes
  block::Preallocation preallocation = block::Preallocation::kOff;
  bool no_cow = false;                  // btrfs: write in place
  uint64_t extent_size_hint = 1 << 20;  // bytes the file system should allocate at once; 0: none
};

// Makes a file of zeroes; one that exists loses its content. A block device only has to be large
// enough. What was made is removed again when it fails. EAGAIN when another program uses the file.
[[nodiscard]] io::Task<Result<void>> create_image_file(CreateParameters parameters);

// The same with options by name: the `create` of the drivers file and host_device.
[[nodiscard]] io::Task<Result<void>> create_from_options(block::Graph& graph, std::string filename,
                                                         const block::CreateOptions& options);

// Whether the file could be made, and why not; nothing changes. Blocks.
[[nodiscard]] Result<void> check_creation(const std::string& path);

// Makes the file `to` bytes long, which was `from` bytes long, with space for what is added. On
// failure it has its old length. EINVAL for a mode that files do not have. Blocks: runs in the
// caller's thread.
[[nodiscard]] Result<void> change_file_length(int fd, uint64_t from, uint64_t to,
                                              block::Preallocation preallocation);

}  // namespace cairn::file
