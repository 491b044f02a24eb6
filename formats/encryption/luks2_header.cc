#include "formats/encryption/luks2_header.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "crypto/hash.h"
#include "schema/json_stream.h"

namespace cairn::encryption {
namespace {

using Magic = std::array<uint8_t, 6>;
constexpr Magic kFirstMagic = {'L', 'U', 'K', 'S', 0xba, 0xbe};
constexpr Magic kSecondMagic = {'S', 'K', 'U', 'L', 0xba, 0xbe};

// Offsets of the fields of the binary part, in bytes.
constexpr std::size_t kVersion2 = 6;
constexpr std::size_t kSize = 8;
constexpr std::size_t kSequence = 16;
constexpr std::size_t kChecksumName = 72;
constexpr std::size_t kChecksumNameLength = 32;
constexpr std::size_t kSalt = 104;
constexpr std::size_t kSaltLength = 64;
constexpr std::size_t kUuid2 = 168;
constexpr std::size_t kUuid2Length = 40;
constexpr std::size_t kPlace = 256;
constexpr std::size_t kChecksum = 448;
constexpr std::size_t kChecksumLength = 64;

uint64_t number64(std::span<const std::byte> bytes, std::size_t at) {
  return load_be<uint64_t>(bytes.data() + at);
}

std::string_view text_in(std::span<const std::byte> bytes, std::size_t at, std::size_t length) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data() + at), length);
  return text.substr(0, text.find('\0'));
}

bool is_allowed_size(uint64_t size) {
  return std::has_single_bit(size) && size >= Luks2Header::kLeastBytes &&
         size <= Luks2Header::kMostBytes;
}

// The checksum of a copy: of all of it, with zeroes where the checksum itself lies.
Result<std::vector<std::byte>> checksum(std::span<const std::byte> copy) {
  const std::string_view name = text_in(copy, kChecksumName, kChecksumNameLength);
  const auto hash = crypto::find_hash(name);
  if (!hash) {
    return fail(ENOTSUP, "Hash algorithm '{}' not supported", name);
  }
  constexpr std::array<std::byte, kChecksumLength> kZeroes{};
  std::vector<std::byte> sum(crypto::digest_length(*hash));
  auto hashed = crypto::hash_bytes(
      *hash, {copy.first(kChecksum), kZeroes, copy.subspan(kChecksum + kChecksumLength)}, sum);
  if (!hashed) {
    return pass(hashed);
  }
  return sum;
}

io::Task<Result<Luks2Header>> read_copy(HeaderArea area, uint64_t at, bool second) {
  std::vector<std::byte> bytes(Luks2Header::kBinaryBytes);
  Result<void> read = co_await area.read(at, bytes);
  if (!read) {
    co_return pass(read);
  }
  const uint64_t size = luks2_copy_size(bytes, second);
  if (size == 0) {
    co_return fail(EINVAL, "There is no LUKS2 header at {}", at);
  }
  bytes.resize(size);
  read = co_await area.read(at, bytes);
  if (!read) {
    co_return pass(read);
  }
  co_return parse_luks2_copy(bytes, second);
}

uint64_t sequence_of(const Luks2Header& header) { return number64(header.binary, kSequence); }

}  // namespace

uint64_t Luks2Header::size() const { return number64(binary, kSize); }

std::string Luks2Header::uuid() const { return std::string(text_in(binary, kUuid2, kUuid2Length)); }

void Luks2Header::start(uint64_t size, std::string_view uuid) {
  constexpr std::string_view kUsualChecksum = "sha256";
  binary = {};
  store_be<uint16_t>(binary.data() + kVersion2, 2);
  store_be<uint64_t>(binary.data() + kSize, size);
  store_be<uint64_t>(binary.data() + kSequence, 1);
  std::memcpy(binary.data() + kChecksumName, kUsualChecksum.data(), kUsualChecksum.size());
  std::memcpy(binary.data() + kUuid2, uuid.data(), std::min(uuid.size(), kUuid2Length - 1));
}

uint64_t luks2_copy_size(std::span<const std::byte> binary, bool second) {
  const Magic& magic = second ? kSecondMagic : kFirstMagic;
  if (binary.size() < Luks2Header::kBinaryBytes ||
      std::memcmp(binary.data(), magic.data(), magic.size()) != 0 ||
      load_be<uint16_t>(binary.data() + kVersion2) != 2) {
    return 0;
  }
  const uint64_t size = number64(binary, kSize);
  return is_allowed_size(size) ? size : 0;
}

bool luks2_header_follows(std::span<const std::byte> head) {
  return head.size() >= kSize + sizeof(uint64_t) && number64(head, kSize) != 0;
}

Result<Luks2Header> parse_luks2_copy(std::span<const std::byte> bytes, bool second) {
  const uint64_t size = luks2_copy_size(bytes, second);
  if (size == 0 || size != bytes.size() || number64(bytes, kPlace) != (second ? size : 0)) {
    return fail(EINVAL, "The LUKS2 header is damaged");
  }
  const Result<std::vector<std::byte>> sum = checksum(bytes);
  if (!sum) {
    return std::unexpected(sum.error());
  }
  if (!std::ranges::equal(*sum, bytes.subspan(kChecksum, sum->size()))) {
    return fail(EINVAL, "The checksum of the LUKS2 header is wrong");
  }
  Luks2Header header;
  std::memcpy(header.binary.data(), bytes.data(), header.binary.size());
  const std::string_view text =
      text_in(bytes, Luks2Header::kBinaryBytes, bytes.size() - Luks2Header::kBinaryBytes);
  auto parsed = schema::parse_json(text);
  if (!parsed || parsed->as_object() == nullptr) {
    return fail(EINVAL, "The JSON area of the LUKS2 header is damaged");
  }
  header.json = std::move(*parsed->as_object());
  return header;
}

Result<std::vector<std::byte>> serialize_luks2_copy(const Luks2Header& header, bool second) {
  std::vector<std::byte> bytes(header.size());
  std::memcpy(bytes.data(), header.binary.data(), header.binary.size());
  const Magic& magic = second ? kSecondMagic : kFirstMagic;
  std::memcpy(bytes.data(), magic.data(), magic.size());
  store_be<uint64_t>(bytes.data() + kPlace, second ? header.size() : 0);
  const std::string text = to_text(schema::JsonValue(header.json));
  if (text.size() >= bytes.size() - Luks2Header::kBinaryBytes) {
    return fail(ENOSPC, "The JSON area of the LUKS2 header is full");
  }
  std::memcpy(bytes.data() + Luks2Header::kBinaryBytes, text.data(), text.size());
  // Each copy has a salt of its own, so that their checksums differ.
  auto salted = crypto::random_bytes(std::span(bytes).subspan(kSalt, kSaltLength));
  if (!salted) {
    return pass(salted);
  }
  std::ranges::fill(std::span(bytes).subspan(kChecksum, kChecksumLength), std::byte{0});
  const Result<std::vector<std::byte>> sum = checksum(bytes);
  if (!sum) {
    return std::unexpected(sum.error());
  }
  std::ranges::copy(*sum, bytes.begin() + kChecksum);
  return bytes;
}

io::Task<Result<Luks2Header>> read_luks2_header(HeaderArea area) {
  Result<Luks2Header> first = co_await read_copy(area, 0, false);
  std::optional<Luks2Header> second;
  for (uint64_t at = Luks2Header::kLeastBytes; at <= Luks2Header::kMostBytes && !second; at *= 2) {
    if (first && at != first->size()) {
      continue;
    }
    Result<Luks2Header> found = co_await read_copy(area, at, true);
    if (found && found->size() == at) {
      second = std::move(*found);
    }
  }
  if (!first && !second) {
    co_return pass(first);
  }
  const bool use_second = second && (!first || sequence_of(*second) > sequence_of(*first));
  const bool equal = first && second && sequence_of(*first) == sequence_of(*second);
  Luks2Header header = use_second ? std::move(*second) : std::move(*first);
  header.one_copy = !equal;
  co_return header;
}

io::Task<Result<void>> write_luks2_header(HeaderArea area, Luks2Header& header) {
  store_be<uint64_t>(header.binary.data() + kSequence, sequence_of(header) + 1);
  for (const bool second : {false, true}) {
    const Result<std::vector<std::byte>> bytes = serialize_luks2_copy(header, second);
    if (!bytes) {
      co_return std::unexpected(bytes.error());
    }
    Result<void> result = co_await area.flush();
    if (result) {
      result = co_await area.write(second ? header.size() : 0, *bytes);
    }
    if (result) {
      result = co_await area.flush();
    }
    if (!result) {
      co_return result;
    }
  }
  header.one_copy = false;
  co_return Result<void>{};
}

}  // namespace cairn::encryption
