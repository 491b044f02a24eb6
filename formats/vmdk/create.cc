// Writing new VMDK images.
#include "formats/vmdk/create.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "base/bytes.h"
#include "block/create_file.h"
#include "block/filename.h"
#include "block/graph.h"
#include "block/node.h"
#include "formats/vmdk/content_id.h"
#include "formats/vmdk/descriptor.h"
#include "formats/vmdk/driver.h"

namespace cairn::vmdk {

namespace {

using block::PermissionSet;

constexpr uint32_t kSectorsOnTrack = 63;
constexpr uint32_t kIdeHeads = 16;
constexpr uint32_t kOtherHeads = 255;

// The content id of the image that the new one is to stand on.
io::Task<Result<uint32_t>> parent_id(block::Graph& graph, std::string image,
                                     const CreateParameters& parameters) {
  if (parameters.backing_file.empty()) {
    co_return kNoParent;
  }
  const std::string path = block::resolve_relative(image, parameters.backing_file);
  const block::OpenFlags flags{.read_only = true, .no_backing = true};
  auto node = co_await graph.open_filename(path, parameters.backing_format, flags);
  if (!node) {
    co_return pass(node);
  }
  const auto* driver = dynamic_cast<const VmdkDriver*>(&(*node)->driver());
  Result<uint32_t> id = fail(EINVAL, "backing_file must be a vmdk image");
  if (driver != nullptr) {
    id = driver->content().id();
  }
  const Result<void> released = co_await graph.release(std::move(*node));
  if (id && !released) {
    co_return std::unexpected(released.error());
  }
  co_return id;
}

Result<std::string> new_descriptor(const CreateParameters& parameters, uint32_t parent,
                                   const std::string& extents) {
  const Result<uint32_t> id = random_content_id();
  if (!id) {
    return std::unexpected(id.error());
  }
  const uint32_t heads = parameters.adapter_type == "ide" ? kIdeHeads : kOtherHeads;
  return make_descriptor({.id = *id,
                          .parent = parent,
                          .create_type = parameters.subformat.name,
                          .parent_name = parameters.backing_file,
                          .extents = extents,
                          .hardware_version = parameters.hardware_version,
                          .cylinders = parameters.size / kSector / heads / kSectorsOnTrack,
                          .heads = heads,
                          .adapter_type = parameters.adapter_type,
                          .tools_version = parameters.tools_version});
}

std::string extent_line(const Subformat& subformat, uint64_t size, std::string_view name) {
  return fmt::format("RW {} {} \"{}\"{}\n", size / kSector, subformat.flat ? "FLAT" : "SPARSE",
                     name, subformat.flat ? " 0" : "");
}

// Everything of a sparse extent but its descriptor. The header comes last, so that nothing takes a
// half-written file for an image.
io::Task<Result<void>> write_sparse(block::Edge& file, const CreateParameters& parameters,
                                    uint64_t size, const std::string& descriptor) {
  const SparseHeader header = new_sparse_header(parameters, size);
  const uint64_t length = header.overhead * kSector;
  // What there was may be anything; a file that is made longer reads as zeroes there.
  const uint64_t before = file.length();
  const block::ResizeOptions options{.exact = false};
  Result<void> result = co_await file.resize(length, options);
  if (result && before > 0) {
    const block::ZeroFlags flags{.may_unmap = true};
    result = co_await file.write_zeroes(0, std::min(before, length), flags);
  }
  const std::vector<std::byte> directories = new_directories(header);
  const uint64_t half = directories.size() / 2;
  if (result && half > 0) {
    result =
        co_await file.write(header.redundant_directory_offset * kSector, directories.data(), half);
  }
  if (result && half > 0) {
    result =
        co_await file.write(header.directory_offset * kSector, directories.data() + half, half);
  }
  if (result && !descriptor.empty()) {
    result = co_await file.write(kDescriptorOffset, descriptor.data(), descriptor.size());
  }
  if (result) {
    const HeaderSector sector = serialize_sparse_header(header);
    result = co_await file.write(0, sector.data(), sector.size());
  }
  co_return result;
}

// One of the nodes, held for as long as the image is made on it.
using Target = std::unique_ptr<block::Edge>;

Result<Target> take(block::Graph& graph, std::shared_ptr<block::Node> node) {
  return graph.attach(
      std::move(node), "",
      {PermissionSet::kConsistentRead | PermissionSet::kWrite | PermissionSet::kResize,
       PermissionSet::kConsistentRead});
}

io::Task<Result<void>> write_extent(block::Edge& file, const CreateParameters& parameters,
                                    uint64_t size) {
  if (!parameters.subformat.flat) {
    co_return co_await write_sparse(file, parameters, size, "");
  }
  if (file.length() == size) {
    co_return Result<void>{};
  }
  co_return co_await file.resize(size);
}

io::Task<Result<void>> write_descriptor(block::Edge& file, const std::string& text) {
  Result<void> result = co_await file.resize(text.size());
  if (result) {
    result = co_await file.write(0, text.data(), text.size());
  }
  co_return result;
}

// `image` is how the new image is called; extents are called by `names`.
io::Task<Result<void>> write_image(const std::vector<Target>& targets,
                                   const CreateParameters& parameters, uint32_t parent,
                                   const std::vector<std::string>& names) {
  const std::vector<uint64_t> sizes = extent_sizes(parameters);
  std::string lines;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    lines += extent_line(parameters.subformat, sizes[i], names[i]);
  }
  const Result<std::string> descriptor = new_descriptor(parameters, parent, lines);
  if (!descriptor) {
    co_return std::unexpected(descriptor.error());
  }
  block::Edge& file = *targets.front();
  if (parameters.subformat.embedded()) {
    if (descriptor->size() > kDescriptorSectors * kSector) {
      co_return fail(ENOSPC, "The descriptor is longer than {} sectors", kDescriptorSectors);
    }
    co_return co_await write_sparse(file, parameters, parameters.size, *descriptor);
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Result<void> written = co_await write_extent(*targets[i + 1], parameters, sizes[i]);
    if (!written) {
      co_return written;
    }
  }
  co_return co_await write_descriptor(file, *descriptor);
}

// The last parts of the nodes' names, as the descriptor has them.
std::string last_part(const std::string& filename) {
  return filename.substr(filename.rfind('/') + 1);
}

Result<void> check_extent_nodes(const CreateParameters& parameters, std::size_t given) {
  const std::size_t wanted = parameters.subformat.embedded() ? 0 : extent_sizes(parameters).size();
  if (given < wanted) {
    return fail(EINVAL, "Extent [{}] not specified", given);
  }
  if (given > wanted) {
    return fail(EINVAL, "List of extents contains unused extents");
  }
  return {};
}

io::Task<Result<void>> make_image(block::Graph& graph,
                                  std::vector<std::shared_ptr<block::Node>> nodes,
                                  const CreateParameters& parameters) {
  std::vector<Target> targets;
  std::vector<std::string> names;
  Result<void> result = check_extent_nodes(parameters, nodes.size() - 1);
  for (const auto& node : nodes) {
    if (!result) {
      break;
    }
    auto target = take(graph, node);
    if (target) {
      targets.push_back(std::move(*target));
    } else {
      result = pass(target);
    }
    if (parameters.subformat.embedded() || node != nodes.front()) {
      names.push_back(last_part(node->filename()));
    }
  }
  if (result) {
    const std::string image = nodes.front()->filename();
    const Result<uint32_t> parent = co_await parent_id(graph, image, parameters);
    if (parent) {
      result = co_await write_image(targets, parameters, *parent, names);
    } else {
      result = std::unexpected(parent.error());
    }
  }
  // Nodes that were opened for this have no other holder.
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Result<void> closed;
    if (i < targets.size()) {
      nodes[i].reset();
      closed = co_await graph.detach(std::move(targets[i]));
    } else {
      closed = co_await graph.release(std::move(nodes[i]));
    }
    result = result ? std::move(closed) : std::move(result);
  }
  co_return result;
}

// The files of a new image. Those that were not there before are removed again, unless it is done.
class VmdkFiles {
 public:
  VmdkFiles(const std::string& image, const CreateParameters& parameters) {
    names_.push_back(image);
    if (parameters.subformat.embedded()) {
      return;
    }
    const std::string directory = image.substr(0, image.rfind('/') + 1);
    const std::size_t extents = extent_sizes(parameters).size();
    for (std::size_t i = 0; i < extents; ++i) {
      names_.push_back(directory + extent_name(parameters.subformat, image, i));
    }
  }

  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }

  [[nodiscard]] io::Task<Result<void>> create(block::Graph& graph,
                                              const block::CreateOptions& options) {
    for (const std::string& name : names_) {
      std::error_code ignored;
      const bool fresh = !std::filesystem::exists(name, ignored);
      Result<void> created = co_await block::create_file(graph, name, options);
      if (!created) {
        co_return created;
      }
      if (fresh) {
        fresh_.push_back(name);
      }
    }
    co_return Result<void>{};
  }

  void remove() const {
    for (const std::string& name : fresh_) {
      std::error_code ignored;
      if (std::filesystem::is_regular_file(name, ignored)) {
        std::filesystem::remove(name, ignored);
      }
    }
  }

 private:
  std::vector<std::string> names_;  // the image, then its extents
  std::vector<std::string> fresh_;
};

io::Task<Result<void>> make_in_files(block::Graph& graph, const std::vector<std::string>& names,
                                     const CreateParameters& parameters) {
  const block::OpenFlags flags{.discard_unmap = true};
  std::vector<std::shared_ptr<block::Node>> nodes;
  for (const std::string& name : names) {
    std::string protocol(block::creation_protocol(name));
    auto opened = co_await graph.open_filename(name, std::move(protocol), flags);
    if (!opened) {
      for (auto& node : nodes) {
        const Result<void> released = co_await graph.release(std::move(node));
      }
      co_return pass(opened);
    }
    nodes.push_back(std::move(*opened));
  }
  co_return co_await make_image(graph, std::move(nodes), parameters);
}

}  // namespace

io::Task<Result<void>> create_image(block::Graph& graph, std::string filename,
                                    const block::CreateOptions& options) {
  const Result<CreateParameters> parameters = parse_create_options(options);
  if (!parameters) {
    co_return std::unexpected(parameters.error());
  }
  // Before there are files: a parent that is not there leaves none behind.
  const Result<uint32_t> parent = co_await parent_id(graph, filename, *parameters);
  if (!parent) {
    co_return std::unexpected(parent.error());
  }
  VmdkFiles files(filename, *parameters);
  Result<void> result = co_await files.create(graph, options);
  if (result) {
    result = co_await make_in_files(graph, files.names(), *parameters);
  }
  if (!result) {
    files.remove();
  }
  co_return result;
}

io::Task<Result<void>> create_image_on(block::Graph& graph, std::shared_ptr<block::Node> file,
                                       std::vector<std::shared_ptr<block::Node>> extents,
                                       const block::CreateOptions& options) {
  const Result<CreateParameters> parameters = parse_create_options(options);
  std::vector<std::shared_ptr<block::Node>> nodes;
  nodes.push_back(std::move(file));
  std::ranges::move(extents, std::back_inserter(nodes));
  if (!parameters) {
    co_return std::unexpected(parameters.error());
  }
  co_return co_await make_image(graph, std::move(nodes), *parameters);
}

}  // namespace cairn::vmdk
