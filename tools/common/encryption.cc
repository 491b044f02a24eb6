#include "tools/common/encryption.h"

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "base/bytes.h"

namespace cairn::tools {
namespace {

using schema::JsonObject;
using schema::JsonValue;

// The field crypt_method of a qcow2 header (section "Header"); 0 for anything else.
constexpr std::size_t kMethodOffset = 32;
constexpr uint32_t kQcowMagic = 0x514649fb;

io::Task<Result<uint32_t>> read_method(block::Graph& graph, JsonObject file) {
  const std::string filename = "json:" + to_text(JsonValue(std::move(file)));
  const block::OpenFlags flags{.read_only = true, .force_share = true};
  std::string format = "raw";
  auto node = co_await graph.open_filename(filename, format, flags);
  if (!node) {
    co_return pass(node);
  }
  auto edge =
      graph.attach(*node, "", {block::PermissionSet::kConsistentRead, block::PermissionSet::all()});
  if (!edge) {
    const Result<void> released = co_await graph.release(std::move(*node));
    co_return pass(edge);
  }
  node->reset();
  std::array<std::byte, kMethodOffset + sizeof(uint32_t)> head{};
  Result<void> read;
  if ((*edge)->length() >= head.size()) {
    read = co_await (*edge)->read(0, head.data(), head.size());
  }
  Result<void> detached = co_await graph.detach(std::move(*edge));
  if (!read || !detached) {
    co_return read ? pass(detached) : pass(read);
  }
  const bool is_qcow = load_be<uint32_t>(head.data()) == kQcowMagic;
  co_return is_qcow ? load_be<uint32_t>(head.data() + kMethodOffset) : 0;
}

}  // namespace

io::Task<Result<JsonObject>> complete_encryption(block::Graph& graph, JsonObject options) {
  JsonValue* encrypt = options.find("encrypt");
  const JsonValue* file = options.find("file");
  if (encrypt == nullptr || encrypt->as_object() == nullptr ||
      encrypt->as_object()->find("format") != nullptr || file == nullptr ||
      file->as_object() == nullptr) {
    co_return options;
  }
  const Result<uint32_t> method = co_await read_method(graph, *file->as_object());
  if (!method) {
    co_return std::unexpected(method.error());
  }
  if (*method == 0) {
    (void)options.take("encrypt");
  } else {
    encrypt->as_object()->add("format", *method == 1 ? "aes" : "luks");
  }
  co_return options;
}

}  // namespace cairn::tools
