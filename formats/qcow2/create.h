// Creating qcow2 images.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "block/create_options.h"
#include "block/driver.h"
#include "block/driver_table.h"
#include "formats/encryption/luks_volume.h"
#include "formats/qcow2/header.h"
#include "io/task.h"

namespace cairn::block {
class Edge;
class Graph;
class Node;
}  // namespace cairn::block

namespace cairn::qcow2 {

struct CreateParameters {
  uint64_t size = 0;  // of the virtual disk, in bytes; rounded up to sectors
  uint32_t version = 3;
  uint64_t cluster_size = 65536;
  uint64_t refcount_bits = 16;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  CompressionType compression = CompressionType::kDeflate;
  block::Preallocation preallocation = block::Preallocation::kOff;
  std::string backing_file;
  std::string backing_format;
  std::string data_file;       // the name that the header gets; empty: the data lies in the image
  bool data_file_raw = false;  // it is to be a raw image of the disk at any time
  CryptMethod crypt_method = CryptMethod::kNone;
  encryption::LuksParameters luks;  // of the old AES only the secret
  std::string password;             // that take_password() found

  // Bytes of the encryption header; 0 when there is none.
  [[nodiscard]] uint64_t crypt_header_length() const {
    return crypt_method == CryptMethod::kLuks ? encryption::luks_header_length(luks) : 0;
  }
};

[[nodiscard]] Geometry geometry_of(const CreateParameters& parameters);

// What `-o` takes, in the order in which it is announced.
[[nodiscard]] std::span<const block::CreateOptionInfo> create_option_table();
// Those that amend can change, and those that only amend knows.
[[nodiscard]] std::span<const block::CreateOptionInfo> amend_option_table();

// Takes the parameters from options by name. EINVAL for unknown values.
[[nodiscard]] Result<CreateParameters> parse_create_options(const block::CreateOptions& options);

// The same to measure an image, which does not look at everything, and in another order.
[[nodiscard]] Result<CreateParameters> parse_measure_options(const block::CreateOptions& options);

// The part of it that is about encryption (create_encryption.cc).
[[nodiscard]] Result<void> parse_encryption(const block::CreateOptions& options,
                                            CreateParameters& parameters);
// Finds the password that the parameters name, if the image is to be encrypted.
[[nodiscard]] Result<void> take_password(const block::Graph& graph, CreateParameters& parameters);

// Checks the parameters against each other: EINVAL, or EFBIG.
[[nodiscard]] Result<void> check_create_parameters(const CreateParameters& parameters);

// Of these checks, those that what the image looks like depends on.
[[nodiscard]] Result<void> check_geometry(const CreateParameters& parameters);

// Where the metadata of a new, empty image lies: the header, the refcount table, its blocks, the L1
// table, the encryption header, one after the other without gaps. An image that is to be
// preallocated gets the blocks for all of it at once, so that none comes to lie between its data.
struct InitialLayout {
  uint64_t refcount_table_clusters = 0;
  uint64_t refcount_blocks = 0;
  uint64_t l1_entries = 0;
  uint64_t l1_offset = 0;     // bytes; 0 when there is no L1 table
  uint64_t crypt_offset = 0;  // bytes; 0 when there is no encryption header
  uint64_t clusters = 0;      // in all
  uint64_t file_length = 0;

  // `preallocated`: bytes of the disk that will be mapped before the image is finished;
  // `crypt_length`: bytes of the encryption header.
  [[nodiscard]] static InitialLayout compute(const Geometry& geometry, uint64_t size,
                                             uint64_t preallocated, uint64_t crypt_length = 0);
};

// The header of the new image; `layout` as computed for it.
[[nodiscard]] Result<std::vector<std::byte>> make_header(const CreateParameters& parameters,
                                                         const InitialLayout& layout);

// Clusters of a finished image of `size` bytes with `data_clusters` of them allocated behind all
// the L2 tables that there can be.
[[nodiscard]] uint64_t clusters_in_use(const Geometry& geometry, uint64_t size,
                                       uint64_t data_clusters);

// How large an image would be: DriverInfo::measure.
[[nodiscard]] io::Task<Result<block::MeasuredSize>> measure_image(
    const block::CreateOptions& options, block::Edge* source);

// Creates an image in a file, which is created as well, and so is an external data file. Files are
// removed again when that fails and they were not there before.
[[nodiscard]] io::Task<Result<void>> create_image(block::Graph& graph, std::string filename,
                                                  const block::CreateOptions& options);

// Creates an image on nodes: `file` takes the image, `data`, if it is not null, the guest's data;
// its name goes into the header. The nodes are closed afterwards unless somebody else holds them.
[[nodiscard]] io::Task<Result<void>> create_image_on(block::Graph& graph,
                                                     std::shared_ptr<block::Node> file,
                                                     std::shared_ptr<block::Node> data,
                                                     const block::CreateOptions& options);

}  // namespace cairn::qcow2
