// Opening: from options to nodes, from filenames to options, and what images name themselves.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>

#include "block/filename.h"
#include "block/graph.h"
#include "block/graph_edit.h"
#include "block/node_name.h"
#include "block/reopen_options.h"
#include "io/buffer.h"
#include "schema/json.h"
#include "schema/visit_block_options.h"
#include "schema/visit_containers.h"

namespace cairn::block {
namespace {

// Chains longer than this are taken for an attack: opening them nests.
constexpr int kLongestChain = 500;
// Bytes at the start of an image that formats are recognised by.
constexpr uint64_t kProbeLength = 2048;
constexpr const char* kAboutBacking = "Could not open backing file: ";

// The options of a format or filter of which only the name and the file are known. Not all can do
// with these: images may name any driver as the format of their backing file.
Result<schema::BlockdevOptions> options_above(const DriverInfo& driver, const Node& file,
                                              std::string name) {
  schema::JsonObject object;
  object.add("driver", std::string(driver.name));
  object.add("file", file.name());
  if (!name.empty()) {
    object.add("node-name", std::move(name));
  }
  return schema::decode<schema::BlockdevOptions>(schema::JsonValue(std::move(object)));
}

// The device and inode of every image on the way to the one being opened.
bool loops(const OpenFlags& flags, const std::string& path) {
  struct stat target{};
  if (stat(path.c_str(), &target) != 0) {
    return false;  // the open will say why
  }
  for (const OpenTrail* step = flags.trail; step != nullptr; step = step->up) {
    struct stat seen{};
    if (stat(step->filename.c_str(), &seen) == 0 && seen.st_dev == target.st_dev &&
        seen.st_ino == target.st_ino) {
      return true;
    }
  }
  return false;
}

// Of "blkverify:RAW:TEST": opens TEST, which may be of any format, and has the options refer to it.
// Null for other filenames. `options` outlive the task.
io::Task<Result<std::shared_ptr<Node>>> open_tested(Graph& graph, std::string filename,
                                                    schema::BlockdevOptions& options,
                                                    OpenFlags flags) {
  auto* verify = std::get_if<schema::BlockdevOptionsBlkverify>(&options.branch);
  if (verify == nullptr || is_json_filename(filename)) {
    co_return nullptr;
  }
  const std::size_t second = filename.find(':', filename.find(':') + 1);
  std::string test = filename.substr(second + 1);
  Result<std::shared_ptr<Node>> node = co_await graph.open_filename(std::move(test), "", flags);
  if (node) {
    verify->test.value = (*node)->name();
  }
  co_return node;
}

int depth_of(const OpenFlags& flags) {
  int depth = 0;
  for (const OpenTrail* step = flags.trail; step != nullptr; step = step->up) {
    ++depth;
  }
  return depth;
}

}  // namespace

NodeOptions node_options(const schema::BlockdevOptions& options, const OpenFlags& flags) {
  using DetectZeroes = NodeOptions::DetectZeroes;
  NodeOptions result{.read_only = options.read_only.value_or(flags.read_only),
                     .auto_read_only = options.auto_read_only.value_or(flags.auto_read_only),
                     .discard_unmap = flags.discard_unmap,
                     .force_share = options.force_share.value_or(flags.force_share),
                     .cache_direct = flags.cache_direct,
                     .no_flush = flags.no_flush,
                     .active = options.active.value_or(!flags.inactive)};
  if (options.discard) {
    result.discard_unmap = *options.discard == schema::BlockdevDiscardOptions::kUnmap;
  }
  switch (options.detect_zeroes.value_or(schema::BlockdevDetectZeroesOptions::kOff)) {
    case schema::BlockdevDetectZeroesOptions::kOff:
      result.detect_zeroes = DetectZeroes::kOff;
      break;
    case schema::BlockdevDetectZeroesOptions::kOn:
      result.detect_zeroes = DetectZeroes::kOn;
      break;
    case schema::BlockdevDetectZeroesOptions::kUnmap:
      result.detect_zeroes = DetectZeroes::kUnmap;
      break;
  }
  if (options.cache) {
    result.cache_direct = options.cache->direct.value_or(flags.cache_direct);
    result.no_flush = options.cache->no_flush.value_or(flags.no_flush);
  }
  return result;
}

Result<void> check_options(const NodeOptions& options) {
  if (options.force_share && !options.read_only) {
    return fail(EINVAL, "force-share=on can only be used with read-only images");
  }
  if (options.detect_zeroes == NodeOptions::DetectZeroes::kUnmap && !options.discard_unmap) {
    return fail(EINVAL,
                "setting detect-zeroes to unmap is not allowed without setting discard operation "
                "to unmap");
  }
  return {};
}

OpenFlags child_flags(const NodeOptions& parent, ChildRole role) {
  const bool backing = role == ChildRole::kBacking;
  return {.read_only = backing || parent.read_only,
          .auto_read_only = parent.auto_read_only,
          .force_share = parent.force_share,
          .discard_unmap = !backing,  // formats decide themselves what they discard
          .cache_direct = parent.cache_direct,
          .no_flush = parent.no_flush,
          .inactive = !parent.active};
}

io::Task<Result<std::shared_ptr<Node>>> Graph::open(const schema::BlockdevOptions& options,
                                                    OpenFlags flags) {
  const std::string_view driver_name = schema::to_string(options.driver);
  const DriverInfo* info = drivers_.find(driver_name);
  if (info == nullptr) {
    co_return fail(ENOENT, "Unknown driver '{}'", driver_name);
  }
  auto node =
      std::make_shared<Node>(*this, options.node_name ? *options.node_name : generate_name(), *info,
                             node_options(options, flags));
  node->opened_with_ = std::make_shared<const schema::BlockdevOptions>(options);
  node->chain_wanted_ = !flags.no_backing;
  node->probed_ = flags.probed;
  node->born_ = draining() ? drain_ : 0;
  if (child_wish(options, "file").kind == ChildWish::Kind::kNothing) {
    if (auto entered = GraphEdit::enter(*this, *node); !entered) {
      co_return pass(entered);
    }
  }
  OpenContext context(*this, *node, flags);
  Result<std::unique_ptr<Driver>> driver = co_await info->open(context, options);
  Result<void> result;
  if (driver) {
    node->set_driver(std::move(*driver));
    result = refresh_permissions(node.get());
    if (result && info->kind == DriverInfo::Kind::kFormat) {
      result = policy_.check_length(context.image_filename(), node->length());
    }
  } else {
    result = pass(driver);
  }
  if (!result) {
    node->closing_ = true;
    Result<void> ignored;  // the first failure is the one to tell
    co_await drop_children(*node, ignored);
    std::erase(nodes_, node.get());
    co_return pass(result);
  }
  name_node(*node, options, node->chain_wanted_);
  co_return node;
}

io::Task<Result<std::shared_ptr<Node>>> Graph::open_filename(std::string filename,
                                                             std::string format, OpenFlags flags,
                                                             std::string name) {
  const DriverInfo* info = format.empty() ? nullptr : drivers_.find(format);
  if (info == nullptr && !format.empty()) {
    co_return fail(ENOENT, "Unknown driver '{}'", format);
  }
  const bool by_protocol =
      info != nullptr && info->kind == DriverInfo::Kind::kProtocol && !is_json_filename(filename);
  Result<schema::BlockdevOptions> protocol =
      by_protocol ? parse_filename_for(format, filename) : parse_filename(filename);
  if (!protocol) {
    co_return pass(protocol);
  }
  const bool complete = is_json_filename(filename);
  if (complete && drivers_.find(schema::to_string(protocol->driver)) != nullptr &&
      drivers_.find(schema::to_string(protocol->driver))->kind != DriverInfo::Kind::kProtocol) {
    co_return co_await open(*protocol, flags);  // "json:" may describe a format, too
  }
  if (auto may = info == nullptr ? policy_.check_guessing(filename) : Result<void>(); !may) {
    co_return pass(may);
  }
  OpenFlags protocol_flags = flags;
  if (info == nullptr || info->kind == DriverInfo::Kind::kFormat) {
    protocol_flags.discard_unmap = true;
  }
  Result<std::shared_ptr<Node>> tested = co_await open_tested(*this, filename, *protocol, flags);
  if (!tested) {
    co_return tested;
  }
  Result<std::shared_ptr<Node>> file = co_await open(*protocol, protocol_flags);
  if (*tested != nullptr && file) {
    (*file)->child("test")->owned_ = true;
  } else if (*tested != nullptr) {
    Result<void> ignored = co_await release(*tested);
  }
  if (!file || (info != nullptr && info->kind == DriverInfo::Kind::kProtocol)) {
    co_return file;
  }
  if (info == nullptr) {
    flags.probed = true;
    const Result<const DriverInfo*> probed = co_await probe(*file);
    if (!probed) {
      Result<void> ignored = co_await release(*file);
      co_return std::unexpected(probed.error());
    }
    info = *probed;
  }
  const Result<schema::BlockdevOptions> options = options_above(*info, **file, std::move(name));
  if (!options) {
    Result<void> ignored = co_await release(*file);
    co_return std::unexpected(options.error());
  }
  Result<std::shared_ptr<Node>> node = co_await open(*options, flags);
  if (!node) {
    Result<void> ignored = co_await release(*file);
    co_return node;
  }
  (*node)->child("file")->owned_ = true;
  co_return node;
}

io::Task<Result<const DriverInfo*>> Graph::probe(std::shared_ptr<Node> file) {
  Result<std::unique_ptr<Edge>> edge =
      attach(file, "", {.used = PermissionSet::kConsistentRead, .shared = PermissionSet::all()});
  if (!edge) {
    co_return pass(edge);
  }
  auto head = io::AlignedBuffer::allocate(kProbeLength);
  if (!head) {
    co_return pass(head);
  }
  const uint64_t length = std::min(kProbeLength, file->length());
  Result<void> read = co_await (*edge)->read(0, head->data(), length);
  Result<const DriverInfo*> found = nullptr;
  if (read) {
    found = policy_.guess_format(drivers_, {head->data(), length}, file->filename());
  }
  edge->reset();  // not detach(): the node has no other holder yet, and stays
  loosen_permissions(file.get());
  if (!read) {
    co_return pass(read, "Could not read image for determining its format: ");
  }
  co_return found;
}

OpenContext::OpenContext(Graph& graph, Node& node, OpenFlags flags, bool reopening)
    : graph_(graph), node_(node), flags_(flags), reopening_(reopening) {}

bool OpenContext::writable() const { return !node_.read_only() && node_.active(); }

void OpenContext::set_read_only() { node_.options_.read_only = true; }

OpenFlags OpenContext::child_flags(ChildRole role) const {
  OpenFlags flags = block::child_flags(node_.options(), role);
  const bool backing = role == ChildRole::kBacking;
  if (backing && flags_.writable_backing == 1) {
    flags.read_only = false;
    flags.discard_unmap = true;
  }
  flags.no_io = flags_.no_io;
  flags.check_only = flags_.check_only;
  if (backing && flags_.writable_backing > 1) {
    flags.writable_backing = flags_.writable_backing - 1;
  } else if (role == ChildRole::kFiltered) {
    flags.writable_backing = flags_.writable_backing;
  }
  flags.trail = flags_.trail;
  return flags;
}

io::Task<Result<Edge*>> OpenContext::open_child(std::string name, const schema::BlockdevRef& ref,
                                                ChildRole role) {
  if (reopening_) {
    co_return node_.child(name);
  }
  const char* const about = role == ChildRole::kBacking ? kAboutBacking : "";
  std::shared_ptr<Node> child;
  if (const auto* existing = std::get_if<std::string>(&ref.value)) {
    child = graph_.find(*existing);
    if (*existing == node_.name() && name != "file") {
      co_return fail(EINVAL, "Making '{0}' a {1} child of '{0}' would create a cycle", *existing,
                     name);
    }
    if (child == nullptr) {
      co_return fail(ENOENT, "{0}Cannot find device='{1}' nor node-name='{1}'", about, *existing);
    }
  } else {
    const auto& options = *std::get<schema::Box<schema::BlockdevOptions>>(ref.value);
    Result<std::shared_ptr<Node>> opened = co_await graph_.open(options, child_flags(role));
    if (!opened) {
      co_return pass(opened, about);
    }
    child = std::move(*opened);
  }
  if (name == "file") {
    if (auto entered = GraphEdit::enter(graph_, node_); !entered) {
      Result<void> ignored = co_await graph_.release(child);
      co_return pass(entered);
    }
  }
  Result<Edge*> edge = graph_.connect(node_, std::move(name), child, role);
  if (!edge) {
    Result<void> ignored = co_await graph_.release(child);
    co_return edge;
  }
  (*edge)->owned_ = !std::holds_alternative<std::string>(ref.value);
  co_return edge;
}

// The path of a file that the image names, when it may be opened.
Result<std::string> OpenContext::implicit_path(std::string_view what,
                                               const std::string& filename) const {
  if (auto allowed = graph_.open_policy().check_name(image_filename(), what, filename); !allowed) {
    return pass(allowed);
  }
  return resolve_relative(image_filename(), filename);
}

std::string OpenContext::image_filename() const {
  const Edge* file = node_.child("file");
  return file != nullptr ? file->node().filename() : std::string();
}

io::Task<Result<Edge*>> OpenContext::open_implicit_backing(std::string filename,
                                                           std::string format) {
  if (flags_.no_backing) {
    co_return nullptr;
  }
  if (reopening_) {
    co_return node_.child("backing");
  }
  const Result<std::string> path = implicit_path("backing", filename);
  if (!path) {
    co_return std::unexpected(path.error());
  }
  const OpenTrail here{.up = flags_.trail, .filename = image_filename()};
  OpenFlags flags = child_flags(ChildRole::kBacking);
  flags.trail = &here;
  if (loops(flags, *path)) {
    co_return fail(ELOOP, "Backing file '{}' creates an infinite loop.", *path);
  }
  if (depth_of(flags) > kLongestChain) {
    co_return fail(ELOOP, "The backing chain of '{}' is longer than {} images", here.filename,
                   kLongestChain);
  }
  Result<std::shared_ptr<Node>> opened =
      co_await graph_.open_filename(*path, std::move(format), flags);
  if (!opened) {
    co_return pass(opened, kAboutBacking);
  }
  Result<Edge*> edge = graph_.connect(node_, "backing", *opened, ChildRole::kBacking);
  if (!edge) {
    Result<void> ignored = co_await graph_.release(*opened);
    co_return pass(edge, kAboutBacking);
  }
  (*edge)->owned_ = true;
  co_return edge;
}

io::Task<Result<Edge*>> OpenContext::open_implicit_data(std::string filename) {
  return open_implicit_file("data-file", "data", std::move(filename), ChildRole::kData);
}

io::Task<Result<Edge*>> OpenContext::open_implicit_extent(std::string child, std::string filename,
                                                          ChildRole role) {
  return open_implicit_file(std::move(child), "extent", std::move(filename), role);
}

io::Task<Result<Edge*>> OpenContext::open_implicit_file(std::string child, std::string_view what,
                                                        std::string filename, ChildRole role) {
  if (reopening_) {
    co_return node_.child(child);
  }
  if (!protocol_prefix(filename).empty()) {
    filename.insert(0, "./");
  }
  const Result<std::string> path = implicit_path(what, filename);
  if (!path) {
    co_return std::unexpected(path.error());
  }
  Result<schema::BlockdevOptions> options = parse_filename(*path);
  if (!options) {
    co_return pass(options);
  }
  schema::BlockdevRef file;
  file.value = schema::Box<schema::BlockdevOptions>(std::move(*options));
  co_return co_await open_child(std::move(child), file, role);
}

}  // namespace cairn::block
