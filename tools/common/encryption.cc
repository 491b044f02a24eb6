#include "tools/common/encryption.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "tools/common/image_options.h"

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
  const std::string* driver = text_of(options, "driver");
  if (driver == nullptr || *driver != "qcow2" || encrypt == nullptr ||
      encrypt->as_object() == nullptr || file == nullptr || file->as_object() == nullptr) {
    co_return options;
  }
  const std::string* given = text_of(*encrypt->as_object(), "format");
  if (given != nullptr && (*given == "aes" || *given == "luks")) {
    co_return options;
  }
  const Result<uint32_t> method = co_await read_method(graph, *file->as_object());
  if (!method) {
    co_return std::unexpected(method.error());
  }
  const std::string_view stored = *method == 1 ? "aes" : "luks";
  if (given != nullptr && *method == 0) {
    co_return fail(EINVAL, "No encryption in image header, but options specified format '{}'",
                   *given);
  }
  if (given != nullptr) {
    co_return fail(EINVAL, "Header reported '{}' encryption format but options specify '{}'",
                   stored, *given);
  }
  if (*method == 0) {
    (void)options.take("encrypt");
  } else if (encrypt->as_object()->find("format") == nullptr) {
    encrypt->as_object()->add("format", stored);
  }
  co_return options;
}

}  // namespace cairn::tools
