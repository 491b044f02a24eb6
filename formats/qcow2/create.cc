// Writing new qcow2 images.
#include "formats/qcow2/create.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/create_file.h"
#include "block/graph.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/refcounts.h"
#include "schema/types_block_options.h"

namespace cairn::qcow2 {

namespace {

using block::PermissionSet;

// The table and the blocks, up to the last count that is not zero: every cluster of the layout
// counts one.
std::vector<std::byte> make_refcounts(const Geometry& geometry, const InitialLayout& layout) {
  const uint64_t cluster_size = geometry.cluster_size();
  const uint64_t used_blocks = div_round_up(layout.clusters, geometry.refcount_block_entries());
  std::vector<std::byte> bytes((layout.refcount_table_clusters + used_blocks) * cluster_size);
  const uint64_t first_block = 1 + layout.refcount_table_clusters;
  for (uint64_t i = 0; i < layout.refcount_blocks; ++i) {
    store_be<uint64_t>(bytes.data() + i * kRefcountTableEntryBytes,
                       (first_block + i) * cluster_size);
  }
  // Blocks follow one another, so their entries do, too.
  std::byte* const blocks = bytes.data() + layout.refcount_table_clusters * cluster_size;
  for (uint64_t cluster = 0; cluster < layout.clusters; ++cluster) {
    store_refcount(blocks, geometry.refcount_order, cluster, 1);
  }
  return bytes;
}

// Not every node keeps what is written to it.
io::Task<Result<void>> find_magic(block::Edge& file) {
  std::array<std::byte, sizeof kMagic> start{};
  Result<void> read = co_await file.read(0, start.data(), start.size());
  if (read && load_be<uint32_t>(start.data()) != kMagic) {
    read = fail(EINVAL, "Image is not in qcow2 format");
  }
  co_return read;
}

io::Task<Result<void>> write_metadata(block::Edge& file, const CreateParameters& parameters,
                                      uint64_t preallocated) {
  const Geometry geometry = geometry_of(parameters);
  const InitialLayout layout = InitialLayout::compute(geometry, parameters.size, preallocated,
                                                      parameters.crypt_header_length());
  if (layout.refcount_table_clusters * geometry.cluster_size() > kMaxRefcountTableBytes) {
    co_return fail(EFBIG,
                   "The image size is too large to be preallocated with clusters of {} bytes",
                   geometry.cluster_size());
  }
  Result<std::vector<std::byte>> crypt_header;
  if (layout.crypt_offset != 0) {
    crypt_header =
        co_await encryption::make_luks_header(parameters.luks, parameters.password, false);
    if (!crypt_header) {
      co_return pass(crypt_header);
    }
  }
  const auto header = make_header(parameters, layout);
  if (!header) {
    co_return std::unexpected(header.error());
  }
  // What there was may be anything; a file that is made longer reads as zeroes there.
  const uint64_t length = file.length();
  Result<void> result;
  if (length < layout.file_length) {
    result = co_await file.resize(layout.file_length);
  }
  if (result && length > 0) {
    const block::ZeroFlags flags{.may_unmap = true};
    result = co_await file.write_zeroes(0, std::min(length, layout.file_length), flags);
  }
  if (!result) {
    co_return result;
  }
  const std::vector<std::byte> refcounts = make_refcounts(geometry, layout);
  result = co_await file.write(geometry.cluster_size(), refcounts.data(), refcounts.size());
  if (!result) {
    co_return result;
  }
  if (layout.crypt_offset != 0) {
    result = co_await file.write(layout.crypt_offset, crypt_header->data(), crypt_header->size());
    if (!result) {
      co_return result;
    }
  }
  // Last, so that nothing takes a half-written file for an image.
  result = co_await file.write(0, header->data(), header->size());
  if (result) {
    result = co_await find_magic(file);
  }
  co_return result;
}

io::Task<Result<void>> write_image(block::Graph& graph, std::shared_ptr<block::Node> file,
                                   const CreateParameters& parameters, uint64_t preallocated) {
  auto edge =
      graph.attach(std::move(file), "",
                   {PermissionSet::kConsistentRead | PermissionSet::kWrite | PermissionSet::kResize,
                    PermissionSet::kConsistentRead});
  if (!edge) {
    co_return pass(edge);
  }
  Result<void> result = co_await write_metadata(**edge, parameters, preallocated);
  const Result<void> detached = co_await graph.detach(std::move(*edge));
  co_return result ? detached : result;
}

// Creates the external data file, empty.
io::Task<Result<void>> create_data_file(block::Graph& graph, const std::string& image,
                                        std::string filename) {
  std::error_code not_there;
  if (std::filesystem::equivalent(image, filename, not_there)) {
    co_return fail(EINVAL, "The image '{}' can not be its own data file", filename);
  }
  const block::CreateOptions none({});
  co_return co_await block::create_file(graph, std::move(filename), none);
}

// The new image on the nodes that it was made on.
schema::BlockdevOptions describe(const block::Node& file, const block::Node* data,
                                 const CreateParameters& parameters) {
  schema::BlockdevOptionsQcow2 branch;
  branch.file.value = file.name();
  branch.backing.emplace();
  branch.backing->value = schema::Null{};
  if (data != nullptr) {
    branch.data_file.emplace();
    branch.data_file->value = data->name();
  }
  if (parameters.crypt_method == CryptMethod::kLuks) {
    branch.encrypt.emplace().format = schema::BlockdevQcow2EncryptionFormat::kLuks;
    branch.encrypt->branch.emplace<schema::QCryptoBlockOptionsLUKS>().key_secret =
        parameters.luks.secret;
  } else if (parameters.crypt_method == CryptMethod::kAes) {
    branch.encrypt.emplace().format = schema::BlockdevQcow2EncryptionFormat::kAes;
    branch.encrypt->branch.emplace<schema::QCryptoBlockOptionsQCow>().key_secret =
        parameters.luks.secret;
  }
  schema::BlockdevOptions image;
  image.driver = schema::BlockdevDriver::kQcow2;
  image.branch = std::move(branch);
  return image;
}

// Has the driver itself map the disk, by growing it from nothing. With an external data file there
// is nothing to be made room for.
io::Task<Result<void>> preallocate(block::Graph& graph, schema::BlockdevOptions image,
                                   uint64_t size, block::Preallocation mode) {
  auto node = co_await graph.open(image);
  if (!node) {
    co_return pass(node);
  }
  auto edge = graph.attach(*node, "", {PermissionSet::all(), PermissionSet::all()});
  if (!edge) {
    const Result<void> released = co_await graph.release(*node);
    co_return pass(edge);
  }
  auto& driver = static_cast<Qcow2Driver&>((*node)->driver());
  node->reset();
  Result<void> result;
  if (driver.image().geometry().external_data) {
    result = co_await driver.preallocate(0, size, mode);
  } else {
    result = co_await (*edge)->resize(size, {.preallocation = mode});
  }
  const Result<void> detached = co_await graph.detach(std::move(*edge));
  co_return result ? detached : result;
}

// Makes an external data file as long as the disk. What a raw one holds already is the disk.
io::Task<Result<void>> size_data_file(block::Graph& graph, std::shared_ptr<block::Node> data,
                                      const CreateParameters& parameters) {
  auto edge = graph.attach(
      std::move(data), "",
      {PermissionSet::kWrite | PermissionSet::kResize, PermissionSet::kConsistentRead});
  if (!edge) {
    co_return pass(edge);
  }
  block::ResizeOptions options{.preallocation = parameters.preallocation, .exact = false};
  if (options.preallocation == block::Preallocation::kMetadata) {
    options.preallocation = block::Preallocation::kOff;
  }
  Result<void> result;
  const uint64_t length = (*edge)->length();
  if (length < parameters.size || (length > parameters.size && !parameters.data_file_raw)) {
    result = co_await (*edge)->resize(parameters.size, options);
  }
  const Result<void> detached = co_await graph.detach(std::move(*edge));
  co_return result ? detached : result;
}

io::Task<Result<void>> make_steps(block::Graph& graph, std::shared_ptr<block::Node> file,
                                  std::shared_ptr<block::Node> data, CreateParameters parameters) {
  if (parameters.data_file_raw && parameters.preallocation == block::Preallocation::kOff) {
    // Every cluster shows what the data file holds, from the start.
    parameters.preallocation = block::Preallocation::kMetadata;
  }
  const bool map_all = parameters.preallocation != block::Preallocation::kOff;
  const uint64_t size = parameters.size;
  Result<void> result;
  if (data != nullptr) {
    result = co_await size_data_file(graph, data, parameters);
  } else if (map_all) {
    parameters.size = 0;
  }
  if (result) {
    result = co_await write_image(graph, file, parameters, map_all ? size : 0);
  }
  if (result && map_all) {
    schema::BlockdevOptions image = describe(*file, data.get(), parameters);
    result = co_await preallocate(graph, std::move(image), size, parameters.preallocation);
  }
  co_return result;
}

// Makes an image on nodes. Between its steps they are kept from being closed; afterwards they are,
// unless somebody else holds them.
io::Task<Result<void>> make_image(block::Graph& graph, std::shared_ptr<block::Node> file,
                                  std::shared_ptr<block::Node> data, CreateParameters parameters) {
  std::vector<std::unique_ptr<block::Edge>> kept;
  for (const auto& node : {file, data}) {
    if (node != nullptr) {
      auto edge = graph.attach(node, "", {PermissionSet::none(), PermissionSet::all()});
      if (!edge) {
        co_return pass(edge);
      }
      kept.push_back(std::move(*edge));
    }
  }
  Result<void> result =
      co_await make_steps(graph, std::move(file), std::move(data), std::move(parameters));
  while (!kept.empty()) {
    Result<void> detached = co_await graph.detach(std::move(kept.back()));
    kept.pop_back();
    if (result) {
      result = std::move(detached);
    }
  }
  co_return result;
}

// Opens the files that were made, and makes the image on them.
io::Task<Result<void>> make_image_in_files(block::Graph& graph, std::string filename,
                                           CreateParameters parameters) {
  const block::OpenFlags flags{.discard_unmap = true};
  std::string protocol(block::creation_protocol(filename));
  auto file = co_await graph.open_filename(std::move(filename), std::move(protocol), flags);
  if (!file) {
    co_return pass(file);
  }
  std::shared_ptr<block::Node> data;
  if (!parameters.data_file.empty()) {
    std::string data_protocol(block::creation_protocol(parameters.data_file));
    auto opened =
        co_await graph.open_filename(parameters.data_file, std::move(data_protocol), flags);
    if (!opened) {
      const Result<void> released = co_await graph.release(*file);
      co_return pass(opened);
    }
    data = std::move(*opened);
  }
  co_return co_await make_image(graph, std::move(*file), std::move(data), std::move(parameters));
}

// Removes files when their making failed, but for those that were there before.
class NewFiles {
 public:
  void expect(const std::string& filename) {
    std::error_code ignored;
    if (!filename.empty() && !std::filesystem::exists(filename, ignored)) {
      names_.push_back(filename);
    }
  }
  void remove() const {
    for (const std::string& filename : names_) {
      std::error_code ignored;  // it may be the name of something that is no file
      if (std::filesystem::is_regular_file(filename, ignored)) {
        std::filesystem::remove(filename, ignored);
      }
    }
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace

InitialLayout InitialLayout::compute(const Geometry& geometry, uint64_t size, uint64_t preallocated,
                                     uint64_t crypt_length) {
  InitialLayout layout;
  const uint64_t cluster_size = geometry.cluster_size();
  const uint64_t tables = geometry.l1_entries_for(preallocated);
  const uint64_t later = div_round_up(tables * kL1EntryBytes, cluster_size) + tables +
                         div_round_up(preallocated, cluster_size);
  layout.l1_entries = geometry.l1_entries_for(size);
  const uint64_t l1_bytes = layout.l1_entries * kL1EntryBytes;
  const uint64_t l1_clusters = div_round_up(l1_bytes, cluster_size);
  const uint64_t crypt_clusters = div_round_up(crypt_length, cluster_size);
  // More clusters can take more blocks, which are clusters themselves; it settles in a few rounds.
  uint64_t before = 0;
  layout.refcount_table_clusters = 1;
  layout.refcount_blocks = 1;
  do {
    before = layout.clusters;
    layout.clusters =
        1 + layout.refcount_table_clusters + layout.refcount_blocks + l1_clusters + crypt_clusters;
    layout.refcount_blocks =
        div_round_up(layout.clusters + later, geometry.refcount_block_entries());
    layout.refcount_table_clusters =
        div_round_up(layout.refcount_blocks * kRefcountTableEntryBytes, cluster_size);
  } while (layout.clusters != before);
  const uint64_t crypt_start = (layout.clusters - crypt_clusters) * cluster_size;
  const uint64_t l1_start = crypt_start - l1_clusters * cluster_size;
  layout.l1_offset = l1_clusters > 0 ? l1_start : 0;
  layout.crypt_offset = crypt_length > 0 ? crypt_start : 0;
  // The clusters of the LUKS header are whole, as the field writes them.
  layout.file_length = crypt_length > 0 ? layout.clusters * cluster_size : l1_start + l1_bytes;
  return layout;
}

Result<std::vector<std::byte>> make_header(const CreateParameters& parameters,
                                           const InitialLayout& layout) {
  const Geometry geometry = geometry_of(parameters);
  Header header;
  header.version = parameters.version;
  header.cluster_bits = geometry.cluster_bits;
  header.size = parameters.size;
  header.l1_size = static_cast<uint32_t>(layout.l1_entries);
  header.l1_table_offset = layout.l1_offset;
  header.refcount_table_offset = geometry.cluster_size();
  header.refcount_table_clusters = static_cast<uint32_t>(layout.refcount_table_clusters);
  header.refcount_order = geometry.refcount_order;
  header.compression = parameters.compression;
  if (parameters.compression != CompressionType::kDeflate) {
    header.incompatible_features |= kIncompatibleCompression;
  }
  if (parameters.extended_l2) {
    header.incompatible_features |= kIncompatibleExtendedL2;
  }
  if (parameters.lazy_refcounts) {
    header.compatible_features |= kCompatibleLazyRefcounts;
  }
  if (!parameters.data_file.empty()) {
    header.incompatible_features |= kIncompatibleDataFile;
    header.autoclear_features |= parameters.data_file_raw ? kAutoclearDataFileRaw : 0;
  }
  header.set_string_extension(ExtensionType::kDataFile, parameters.data_file);
  header.crypt_method = parameters.crypt_method;
  if (layout.crypt_offset != 0) {
    HeaderExtension& pointer = header.extensions.emplace_back();
    pointer.type = static_cast<uint32_t>(ExtensionType::kCryptHeader);
    pointer.data.resize(kCryptExtensionLength);
    store_be<uint64_t>(pointer.data.data(), layout.crypt_offset);
    store_be<uint64_t>(pointer.data.data() + 8, parameters.crypt_header_length());
  }
  header.backing_file = parameters.backing_file;
  header.set_string_extension(ExtensionType::kBackingFormat, parameters.backing_format);
  const std::vector<HeaderExtension> needed = header.extensions;
  if (parameters.version >= 3) {
    header.extensions.push_back(feature_name_extension());
  }
  auto bytes = serialize_header(header);
  if (!bytes || bytes->size() >= geometry.cluster_size()) {
    // The names of features are a help for people; small clusters have no room for them.
    header.extensions = needed;
    bytes = serialize_header(header);
  }
  if (!bytes && !parameters.data_file.empty()) {
    return fail(ENOSPC, "The header has no room for the name of the data file '{}'",
                parameters.data_file);
  }
  if (!bytes) {
    const bool too_long = parameters.backing_file.size() > kMaxBackingNameLength;
    return fail_errno(too_long ? EINVAL : ENOSPC,
                      "Could not assign backing file '{}' with format '{}'",
                      parameters.backing_file, parameters.backing_format);
  }
  return bytes;
}

io::Task<Result<void>> create_image(block::Graph& graph, std::string filename,
                                    const block::CreateOptions& options) {
  Result<CreateParameters> parameters = parse_create_options(options);
  if (!parameters) {
    co_return pass(parameters);
  }
  if (options.has("data_file") && parameters->data_file.empty()) {
    co_return fail_errno(ENOENT, "Could not create ''");
  }
  if (auto checked = check_create_parameters(*parameters); !checked) {
    co_return checked;
  }
  if (auto found = take_password(graph, *parameters); !found) {
    co_return found;
  }
  NewFiles made;
  made.expect(filename);
  made.expect(parameters->data_file);
  Result<void> result = co_await block::create_file(graph, filename, options);
  if (result && !parameters->data_file.empty()) {
    result = co_await create_data_file(graph, filename, parameters->data_file);
  }
  if (result) {
    result = co_await make_image_in_files(graph, filename, std::move(*parameters));
  }
  if (!result) {
    made.remove();
  }
  co_return result;
}

io::Task<Result<void>> create_image_on(block::Graph& graph, std::shared_ptr<block::Node> file,
                                       std::shared_ptr<block::Node> data,
                                       const block::CreateOptions& options) {
  Result<CreateParameters> parameters = parse_create_options(options);
  if (!parameters) {
    co_return pass(parameters);
  }
  if (data == file) {
    co_return fail(EINVAL, "The image '{}' can not be its own data file", file->filename());
  }
  if (data != nullptr) {
    parameters->data_file = data->filename();
  }
  if (auto checked = check_create_parameters(*parameters); !checked) {
    if (checked.error().code() == EFBIG) {
      // The field has made an empty image by then, and says what becomes of making it larger.
      co_return fail(EFBIG, "Could not resize image: Failed to grow the L1 table: File too large");
    }
    co_return checked;
  }
  if (auto found = take_password(graph, *parameters); !found) {
    co_return found;
  }
  co_return co_await make_image(graph, std::move(file), std::move(data), std::move(*parameters));
}

}  // namespace cairn::qcow2
