// The header of LUKS version 2 (on-disk format specification 1.1, section 2): two copies, each a
// binary part and a JSON area behind it, under a checksum. A copy that is damaged is passed over;
// the one with the larger sequence number counts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/encryption/header_area.h"
#include "io/task.h"
#include "schema/json.h"

namespace cairn::encryption {

struct Luks2Header {
  static constexpr std::size_t kBinaryBytes = 4096;
  static constexpr uint64_t kLeastBytes = 16384;
  static constexpr uint64_t kMostBytes = 4 << 20;

  // The binary part as it was, with label, subsystem and what else nobody here needs.
  std::array<std::byte, kBinaryBytes> binary{};
  schema::JsonObject json;
  // One copy was damaged, or older: the next change writes it anew.
  bool one_copy = false;

  // Bytes of a copy; the second lies behind the first, the area for key material behind both.
  [[nodiscard]] uint64_t size() const;
  [[nodiscard]] std::string uuid() const;
  // A new one. `size` is one of those that the specification allows.
  void start(uint64_t size, std::string_view uuid);
};

// Reads both copies. EINVAL when neither is sound.
[[nodiscard]] io::Task<Result<Luks2Header>> read_luks2_header(HeaderArea area);

// Writes both copies with a new sequence number, the second when the first is on the disk. ENOSPC
// when the JSON area is too small.
[[nodiscard]] io::Task<Result<void>> write_luks2_header(HeaderArea area, Luks2Header& header);

// Whether the beginning of a volume of version 2 says that there is more: a length of the copy. The
// magic number and the version alone are no header.
[[nodiscard]] bool luks2_header_follows(std::span<const std::byte> head);

// A copy as it is stored. Public for tests and for fuzzing.
[[nodiscard]] Result<std::vector<std::byte>> serialize_luks2_copy(const Luks2Header& header,
                                                                  bool second);
[[nodiscard]] Result<Luks2Header> parse_luks2_copy(std::span<const std::byte> bytes, bool second);
// What the binary part says of the length of its copy; 0 when it is no binary part.
[[nodiscard]] uint64_t luks2_copy_size(std::span<const std::byte> binary, bool second);

}  // namespace cairn::encryption
