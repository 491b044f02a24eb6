#include "formats/luks/create.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/create_file.h"
#include "block/graph.h"
#include "block/node.h"
#include "formats/encryption/luks_volume.h"

namespace cairn::luks {
namespace {

using block::PermissionSet;
using Type = block::CreateOptionInfo::Type;

constexpr block::CreateOptionInfo kCreateOptions[] = {
    {.name = "size", .type = Type::kSize, .help = "Virtual disk size"},
    {.name = "key-secret", .help = "ID of the secret that provides the keyslot passphrase"},
    {.name = "cipher-alg", .help = "Name of encryption cipher algorithm"},
    {.name = "cipher-mode", .help = "Name of encryption cipher mode"},
    {.name = "ivgen-alg", .help = "Name of IV generator algorithm"},
    {.name = "ivgen-hash-alg", .help = "Name of IV generator hash algorithm"},
    {.name = "hash-alg", .help = "Name of encryption hash algorithm"},
    {.name = "iter-time", .type = Type::kNumber, .help = "Time to spend in PBKDF in milliseconds"},
    {.name = "detached-header", .type = Type::kBool, .help = "Create a detached LUKS header"},
    // Beyond what the peer has, and not in the list of all options.
    {.name = "version"},
    {.name = "pbkdf"},
    {.name = "pbkdf-memory", .type = Type::kNumber},
    {.name = "pbkdf-threads", .type = Type::kNumber},
    {.name = "sector-size", .type = Type::kNumber},
};

constexpr block::CreateOptionInfo kAmendOptions[] = {
    {.name = "state", .help = "Select new state of affected keyslots (active/inactive)"},
    {.name = "keyslot",
     .type = Type::kNumber,
     .help = "Select a single keyslot to modify explicitly"},
    {.name = "old-secret", .help = "Select all keyslots that match this password"},
    {.name = "new-secret",
     .help = "New secret to set in the matching keyslots. Empty string to erase"},
    {.name = "iter-time", .type = Type::kNumber, .help = "Time to spend in PBKDF in milliseconds"},
};

struct VolumeParameters {
  encryption::LuksParameters luks;
  bool detached = false;
  uint64_t size = 0;  // of the disk, in bytes
  block::Preallocation preallocation = block::Preallocation::kOff;

  [[nodiscard]] uint64_t header_length() const { return encryption::luks_header_length(luks); }
};

Result<block::Preallocation> parse_preallocation(const block::CreateOptions& options) {
  const std::string mode = options.string("preallocation").value_or("off");
  if (mode == "off" || mode == "metadata") {  // there is no metadata that grows
    return block::Preallocation::kOff;
  }
  if (mode == "falloc") {
    return block::Preallocation::kFalloc;
  }
  if (mode == "full") {
    return block::Preallocation::kFull;
  }
  return fail(EINVAL, "invalid parameter value: {}", mode);
}

Result<VolumeParameters> parse_volume(const block::CreateOptions& options) {
  VolumeParameters parameters;
  Result<encryption::LuksParameters> luks = encryption::parse_luks_parameters(options, "");
  if (!luks) {
    return pass(luks);
  }
  parameters.luks = std::move(*luks);
  if (auto version = encryption::parse_luks_version(options, parameters.luks); !version) {
    return pass(version);
  }
  parameters.detached = options.boolean("detached-header").value_or(false);
  Result<block::Preallocation> preallocation = parse_preallocation(options);
  if (!preallocation) {
    return pass(preallocation);
  }
  parameters.preallocation = *preallocation;
  if (!parameters.luks.secret) {
    return fail(EINVAL, "Parameter 'key-secret' is required for cipher");
  }
  const uint64_t sector = parameters.luks.cipher.sector_size;
  const auto size = checked_align_up(options.number("size").value_or(0), sector);
  const uint64_t header = parameters.header_length();
  if (!size || *size > static_cast<uint64_t>(INT64_MAX) - header) {
    return fail(ERANGE, "The requested file size is too large");
  }
  parameters.size = *size;
  return parameters;
}

io::Task<Result<std::unique_ptr<block::Edge>>> attach(block::Graph& graph,
                                                      std::shared_ptr<block::Node> node) {
  auto edge =
      graph.attach(node, "",
                   {PermissionSet::kConsistentRead | PermissionSet::kWrite | PermissionSet::kResize,
                    PermissionSet::kConsistentRead});
  if (!edge) {
    const Result<void> released = co_await graph.release(std::move(node));
  }
  co_return edge;
}

// The header comes last, so that nothing takes a half-made file for a volume.
io::Task<Result<void>> write_volume(block::Edge& file, block::Edge* disk,
                                    VolumeParameters parameters, std::string password) {
  const uint64_t header_length = parameters.header_length();
  const bool was_empty = file.length() == 0;
  Result<std::vector<std::byte>> header = co_await encryption::make_luks_header(
      parameters.luks, std::move(password), parameters.detached);
  if (!header) {
    co_return pass(header);
  }
  // Devices and exports may be longer.
  Result<void> result;
  const block::ResizeOptions options{.preallocation = parameters.preallocation, .exact = false};
  if (parameters.detached) {
    result = co_await file.resize(header_length, {.exact = false});
    if (result && disk != nullptr) {
      result = co_await disk->resize(parameters.size, options);
    }
  } else {
    result = co_await file.resize(header_length + parameters.size, options);
  }
  if (result && !was_empty) {  // of the volume that there may have been, nothing is to be left
    const block::ZeroFlags flags{};
    result = co_await file.write_zeroes(0, header_length, flags);
  }
  if (result) {
    result = co_await file.write(0, header->data(), header->size());
  }
  co_return result;
}

io::Task<Result<void>> make_volume(block::Graph& graph, std::shared_ptr<block::Node> file,
                                   std::shared_ptr<block::Node> disk, VolumeParameters parameters,
                                   std::string password) {
  auto edge = co_await attach(graph, std::move(file));
  if (!edge) {
    co_return pass(edge);
  }
  Result<std::unique_ptr<block::Edge>> disk_edge = nullptr;
  if (disk != nullptr) {
    disk_edge = co_await attach(graph, std::move(disk));
  }
  Result<void> result;
  if (!disk_edge) {
    result = pass(disk_edge);
  } else {
    result =
        co_await write_volume(**edge, disk_edge->get(), std::move(parameters), std::move(password));
    if (*disk_edge != nullptr) {
      const Result<void> detached = co_await graph.detach(std::move(*disk_edge));
      result = result ? detached : result;
    }
  }
  const Result<void> detached = co_await graph.detach(std::move(*edge));
  co_return result ? detached : result;
}

io::Task<Result<void>> make_volume_in_file(block::Graph& graph, std::string filename,
                                           VolumeParameters parameters, std::string password) {
  std::string protocol(block::creation_protocol(filename));
  const block::OpenFlags flags{.discard_unmap = true};
  auto file = co_await graph.open_filename(std::move(filename), protocol, flags);
  if (!file) {
    co_return pass(file);
  }
  co_return co_await make_volume(graph, std::move(*file), nullptr, std::move(parameters),
                                 std::move(password));
}

}  // namespace

std::span<const block::CreateOptionInfo> create_option_table() { return kCreateOptions; }
std::span<const block::CreateOptionInfo> amend_option_table() { return kAmendOptions; }

io::Task<Result<void>> create_volume(block::Graph& graph, std::string filename,
                                     const block::CreateOptions& options) {
  Result<VolumeParameters> parameters = parse_volume(options);
  if (!parameters) {
    co_return pass(parameters);
  }
  Result<std::string> password = encryption::find_password(graph, parameters->luks.secret, "");
  if (!password) {
    co_return pass(password);
  }
  std::error_code ignored;
  const bool is_new = !std::filesystem::exists(filename, ignored);
  Result<void> result = co_await block::create_file(graph, filename, options);
  if (result) {
    result =
        co_await make_volume_in_file(graph, filename, std::move(*parameters), std::move(*password));
  }
  if (!result && is_new && std::filesystem::is_regular_file(filename, ignored)) {
    std::filesystem::remove(filename, ignored);
  }
  co_return result;
}

io::Task<Result<void>> create_volume_on(block::Graph& graph, std::shared_ptr<block::Node> file,
                                        std::shared_ptr<block::Node> disk,
                                        const block::CreateOptions& options) {
  Result<VolumeParameters> parameters = parse_volume(options);
  Result<std::string> password = std::string();
  if (parameters) {
    password = encryption::find_password(graph, parameters->luks.secret, "");
  }
  if (parameters && password) {
    co_return co_await make_volume(graph, std::move(file), std::move(disk), std::move(*parameters),
                                   std::move(*password));
  }
  co_return parameters ? Result<void>(pass(password)) : Result<void>(pass(parameters));
}

io::Task<Result<block::MeasuredSize>> measure_volume(const block::CreateOptions& options,
                                                     block::Edge* /*source*/) {
  Result<VolumeParameters> parameters = parse_volume(options);
  if (!parameters) {
    co_return pass(parameters);
  }
  const uint64_t size = parameters->header_length() + parameters->size;
  co_return block::MeasuredSize{.required = size, .fully_allocated = size, .bitmaps = {}};
}

}  // namespace cairn::luks
