// Creating VMDK images.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/create_options.h"
#include "block/driver_table.h"
#include "formats/vmdk/header.h"
#include "io/task.h"

namespace cairn::vmdk {

// How an image is divided into files.
struct Subformat {
  std::string_view name;
  bool flat = false;
  bool split = false;  // a file for every 2 GiB
  bool compressed = false;
  // The one file has all of it, the descriptor included.
  [[nodiscard]] bool embedded() const { return !flat && !split; }
};

struct CreateParameters {
  uint64_t size = 0;  // of the disk, in bytes; rounded up to sectors
  Subformat subformat;
  std::string_view adapter_type;
  std::string hardware_version;
  std::string tools_version;
  std::string backing_file;
  std::string backing_format;
  bool zeroed_grain = false;
};

// What `-o` takes, in the order in which it is announced.
[[nodiscard]] std::span<const block::CreateOptionInfo> create_option_table();

// Takes the parameters from options by name, and checks that they go together: EINVAL, ENOTSUP.
[[nodiscard]] Result<CreateParameters> parse_create_options(const block::CreateOptions& options);

// Bytes of the disk that each extent holds, in their order.
[[nodiscard]] std::vector<uint64_t> extent_sizes(const CreateParameters& parameters);

// The name of extent `index` beside the image, without directory. One that has all of the image is
// the image.
[[nodiscard]] std::string extent_name(const Subformat& subformat, std::string_view image,
                                      std::size_t index);

// The header of a new sparse extent of so many bytes, and its directories: the redundant one, then
// the other. All of their tables are empty.
[[nodiscard]] SparseHeader new_sparse_header(const CreateParameters& parameters, uint64_t size);
[[nodiscard]] std::vector<std::byte> new_directories(const SparseHeader& header);

// Creates an image in files. They are removed again when that fails and they were not there before.
[[nodiscard]] io::Task<Result<void>> create_image(block::Graph& graph, std::string filename,
                                                  const block::CreateOptions& options);

// Creates an image on nodes: `file` takes it, or its descriptor; `extents` the disk, where it is
// not in `file`. The nodes are closed afterwards unless somebody else holds them.
[[nodiscard]] io::Task<Result<void>> create_image_on(
    block::Graph& graph, std::shared_ptr<block::Node> file,
    std::vector<std::shared_ptr<block::Node>> extents, const block::CreateOptions& options);

}  // namespace cairn::vmdk
