// The JSON of a monitor's client: any bytes, in pieces of any size, must cost bounded memory and
// stack, and give the same items however they are cut. What is a value must survive being written
// and read again, and must decode to a command's arguments or be refused.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "schema/commands.h"
#include "schema/json_stream.h"

namespace {

using namespace cairn::schema;

std::vector<std::string> items(std::string_view text, size_t piece) {
  JsonStream stream(JsonLimits{.depth = 64, .bytes = 4096, .tokens = 512});
  std::vector<std::string> result;
  while (!text.empty()) {
    std::string_view chunk = text.substr(0, piece);
    text.remove_prefix(chunk.size());
    while (auto item = stream.next(chunk)) {
      result.push_back(*item ? to_text(**item) : item->error().message());
    }
  }
  return result;
}

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  require(items(text, 4096) == items(text, 3));
  if (const auto value = parse_json(text)) {
    const std::string spelled = to_text(*value);
    const auto again = parse_json(spelled);
    require(again && to_text(*again) == spelled);
    const auto pretty = parse_json(to_text(*value, JsonLayout::kPretty));
    require(pretty && to_text(*pretty) == spelled);
    if (const auto options = decode<BlockdevOptions>(*value)) {
      require(decode<BlockdevOptions>(to_json(*options)).has_value());
    }
    static_cast<void>(decode<BlockExportOptions>(*value));
    static_cast<void>(decode<std::vector<SchemaInfo>>(*value));
  }
  return 0;
}
