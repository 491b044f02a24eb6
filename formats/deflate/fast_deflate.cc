#include "formats/deflate/fast_deflate.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "formats/deflate/isal.h"

namespace cairn::deflate {
namespace {

constexpr int kDefaultLevel = 1;
constexpr std::array<uint32_t, 4> kLevelBytes = {0, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT,
                                                 ISAL_DEF_LVL3_DEFAULT};

// Its interface predates const and std::byte; it does not write to its input.
uint8_t* octets(std::span<const std::byte> bytes) {
  return reinterpret_cast<uint8_t*>(const_cast<std::byte*>(bytes.data()));
}

bool short_enough(std::span<const std::byte> bytes) {
  return bytes.size() <= std::numeric_limits<uint32_t>::max();
}

// Too large for a stack, and worth keeping.
struct Encoder {
  isal_zstream stream;
  std::vector<uint8_t> level_room;
};

}  // namespace

bool fast_deflate_available() { return isal() != nullptr; }

std::optional<std::size_t> fast_inflate(Wrapping wrapping, std::span<const std::byte> stored,
                                        std::span<std::byte> out) {
  const Isal* const library = isal();
  if (library == nullptr || !short_enough(stored) || !short_enough(out)) {
    return std::nullopt;
  }
  thread_local const auto state = std::make_unique<inflate_state>();
  library->inflate_init(state.get());
  state->crc_flag = wrapping == Wrapping::kZlib ? ISAL_ZLIB : ISAL_DEFLATE;
  state->next_in = octets(stored);
  state->avail_in = static_cast<uint32_t>(stored.size());
  state->next_out = octets(out);
  state->avail_out = static_cast<uint32_t>(out.size());
  if (library->inflate_stateless(state.get()) != ISAL_DECOMP_OK) {
    return std::nullopt;
  }
  return state->total_out;
}

std::optional<std::size_t> fast_deflate(const Settings& settings,
                                        std::span<const std::byte> content,
                                        std::span<std::byte> out) {
  const Isal* const library = isal();
  const int level = settings.level == 0 ? kDefaultLevel : settings.level;
  if (library == nullptr || static_cast<std::size_t>(level) >= kLevelBytes.size() ||
      !short_enough(content) || !short_enough(out)) {
    return std::nullopt;
  }
  thread_local const auto encoder = std::make_unique<Encoder>();
  const uint32_t room = kLevelBytes[static_cast<std::size_t>(level)];
  encoder->level_room.resize(std::max<std::size_t>(room, encoder->level_room.size()));
  // What a stream before has left there would decide between matches.
  std::fill_n(encoder->level_room.begin(), room, uint8_t{0});
  isal_zstream& stream = encoder->stream;
  stream = isal_zstream();
  library->deflate_init(&stream);
  stream.level = static_cast<uint32_t>(level);
  stream.level_buf = encoder->level_room.data();
  stream.level_buf_size = room;
  const bool bare = settings.wrapping == Wrapping::kBare;
  stream.hist_bits = static_cast<uint16_t>(bare ? settings.window_bits : ISAL_DEF_MAX_HIST_BITS);
  stream.gzip_flag = bare ? IGZIP_DEFLATE : IGZIP_ZLIB;
  stream.end_of_stream = 1;
  stream.next_in = octets(content);
  stream.avail_in = static_cast<uint32_t>(content.size());
  stream.next_out = octets(out);
  stream.avail_out = static_cast<uint32_t>(out.size());
  if (library->deflate(&stream) != COMP_OK) {
    return std::nullopt;
  }
  // It stops where the room ends.
  return stream.internal_state.state == ZSTATE_END ? stream.total_out : std::size_t{0};
}

}  // namespace cairn::deflate
