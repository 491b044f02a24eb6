// Dotted command line values: any text is a tree or an error, and a tree decodes or is refused.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "schema/commands.h"
#include "schema/keyval.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn::schema;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto tree = parse_keyval(text, "driver")) {
    static_cast<void>(to_text(*tree));
    static_cast<void>(decode<BlockdevOptions>(*tree, InputForm::kKeyval));
    static_cast<void>(decode<NbdServerOptions>(*tree, InputForm::kKeyval));
  }
  return 0;
}
