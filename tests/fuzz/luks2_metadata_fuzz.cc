// Any text as the JSON area of a LUKS2 header: refused, or with everything in its place.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "formats/encryption/luks2_metadata.h"
#include "schema/json_stream.h"

using namespace cairn::encryption;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kCopy = 16384;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = cairn::schema::parse_json(text);
  if (!json || json->as_object() == nullptr) {
    return 0;
  }
  const auto metadata = parse_luks2_metadata(*json->as_object(), kCopy, false);
  if (!metadata) {
    return 0;
  }
  for (const Luks2Slot& slot : metadata->slots) {
    const bool placed = slot.area_offset >= 2 * kCopy &&
                        slot.area_offset + slot.area_length <= metadata->payload_offset;
    if (!placed || slot.index >= Luks2Metadata::kSlots) {
      abort();
    }
  }
  return 0;
}
