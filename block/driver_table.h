// The drivers this build has. Filled once at start by the program (tools/common/drivers.cc); the
// graph and the tools look drivers up in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/driver.h"
#include "io/task.h"

namespace cairn::schema {
struct BlockdevOptions;
}

namespace cairn::block {

class CreateOptions;
class Edge;
class Graph;
class Node;
class OpenContext;
struct CreateOptionInfo;

// Bytes of host storage that a new image takes.
struct MeasuredSize {
  uint64_t required = 0;         // with the content that it is to have
  uint64_t fully_allocated = 0;  // once all of the disk is written to
  // For the persistent bitmaps of what it is to be a copy of; nothing when that can have none.
  std::optional<uint64_t> bitmaps;
};

struct DriverInfo {
  // As in `driver=` and in `info`: "qcow2".
  std::string_view name;
  enum class Kind : uint8_t { kProtocol, kFormat, kFilter };
  Kind kind = Kind::kFormat;

  // Opens the image that `options` describes (of this driver's branch) for the node of `context`:
  // attaches children through the context, reads and validates headers.
  io::Task<Result<std::unique_ptr<Driver>>> (*open)(
      OpenContext& context, const schema::BlockdevOptions& options) = nullptr;

  // The node as a user would name it in short, for drivers that have such names; empty when it has
  // something about it that they can not say. Null: formats are called as their file is.
  std::string (*plain_name)(const Node& node, const schema::BlockdevOptions& options) = nullptr;

  // How sure the driver is that an image that starts with `head` is its own, 0 to 100; null for
  // protocols. `filename` may help formats without a magic number.
  int (*probe)(std::span<const std::byte> head, std::string_view filename) = nullptr;

  // What `create -o help` lists; empty and a null create: the format can not be created.
  std::span<const CreateOptionInfo> create_options;
  // Creates an image file. For formats this first creates the protocol file below with the same
  // options' size. Removes what it made when it fails.
  io::Task<Result<void>> (*create)(Graph& graph, std::string filename,
                                   const CreateOptions& options) = nullptr;
  // The same on nodes that there are already: see the format. Null: not possible.
  io::Task<Result<void>> (*create_on)(Graph& graph, std::shared_ptr<Node> file,
                                      std::shared_ptr<Node> data,
                                      const CreateOptions& options) = nullptr;
  // The same for formats that may keep the disk in other nodes than their metadata: in `extents`,
  // in this order. Null: the format is none of these.
  io::Task<Result<void>> (*create_on_extents)(Graph& graph, std::shared_ptr<Node> file,
                                              std::vector<std::shared_ptr<Node>> extents,
                                              const CreateOptions& options) = nullptr;
  // Tells how large an image made with the options would be, as a copy of `source` unless that is
  // null. The disk's size is among the options. Null: the format can not tell. EINVAL for options
  // that do not go together, EFBIG for a size that the format can not hold.
  io::Task<Result<MeasuredSize>> (*measure)(const CreateOptions& options, Edge* source) = nullptr;
  bool supports_backing = false;
  // What Driver::amend() can change, in the order of a list for people; empty: nothing.
  std::span<const CreateOptionInfo> amend_options = {};
  // Its own options that may change while a node is in use, children aside.
  std::span<const std::string_view> reopen_options = {};
  bool can_reopen = true;  // with options of its own; its children change all the same
};

class DriverTable {
 public:
  void add(const DriverInfo& info) { drivers_.push_back(&info); }
  // Null when there is no such driver.
  [[nodiscard]] const DriverInfo* find(std::string_view name) const;
  [[nodiscard]] std::span<const DriverInfo* const> all() const { return drivers_; }
  // The format whose probe is the most sure of `head`; raw answers 1 to everything.
  [[nodiscard]] const DriverInfo* probe(std::span<const std::byte> head,
                                        std::string_view filename) const;

 private:
  std::vector<const DriverInfo*> drivers_;
};

}  // namespace cairn::block
