// The descriptor: text that says what an image consists of (section "The Descriptor File").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace cairn::vmdk {

// A line of the extent description. Only those with write access are any.
struct ExtentLine {
  enum class Type : uint8_t { kFlat, kVmfs, kSparse, kVmfsSparse, kSeSparse };
  Type type = Type::kFlat;
  uint64_t sectors = 0;
  uint64_t offset = 0;  // sectors of the file before the extent's first; flat ones alone
  std::string filename;
};

[[nodiscard]] std::string_view to_string(ExtentLine::Type type);

// What a descriptor says about contents and parents.
struct ContentIds {
  uint32_t id = 0;
  uint32_t parent = 0;
  std::string parent_name;  // empty: none
  // Where in the text the digits of `id` are.
  std::size_t id_offset = 0;
  std::size_t id_digits = 0;
};

// The part of `bytes` before the first zero byte.
[[nodiscard]] std::string_view descriptor_text(std::string_view bytes);

// EINVAL, without words of its own, when there are no ids.
[[nodiscard]] Result<ContentIds> parse_content_ids(std::string_view text);

// EINVAL when there is none.
[[nodiscard]] Result<std::string> parse_create_type(std::string_view text);

// The extents in their order. EINVAL for a line that does not fit its type.
[[nodiscard]] Result<std::vector<ExtentLine>> parse_extents(std::string_view text);

// Comments and blank lines, then a version: how sure a text is to be a descriptor, 0 to 100.
[[nodiscard]] int probe_descriptor(std::string_view text);

// What a new descriptor says.
struct DescriptorFields {
  uint32_t id = 0;
  uint32_t parent = 0;
  std::string_view create_type;
  std::string parent_name;
  std::string extents;  // lines
  std::string hardware_version;
  uint64_t cylinders = 0;
  uint32_t heads = 0;
  std::string_view adapter_type;
  std::string tools_version;
};

[[nodiscard]] std::string make_descriptor(const DescriptorFields& fields);

}  // namespace cairn::vmdk
