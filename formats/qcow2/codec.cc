#include "formats/qcow2/codec.h"

#include <array>
#include <memory>
#include <utility>

#include <zstd.h>

#include "formats/deflate/deflate.h"

namespace cairn::qcow2 {

namespace {

std::unexpected<Error> bad_stream(const block::CodecPosition& position) {
  return fail(EIO, "The compressed cluster for guest offset {} at host offset {} is damaged",
              position.guest_offset, position.host_offset);
}

// Above it levels need memory far beyond what a cluster has.
constexpr int kMostZstdLevel = 19;

// One for each level, 0 being the default.
template <typename Codec, std::size_t kCount>
std::array<Codec, kCount> codecs() {
  return []<std::size_t... kLevels>(std::index_sequence<kLevels...> /*levels*/) {
    return std::array<Codec, kCount>{Codec(static_cast<int>(kLevels))...};
  }(std::make_index_sequence<kCount>());
}

// The window that readers count on.
constexpr int kWindowBits = 12;

struct FreeZstd {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

}  // namespace

Result<void> DeflateCodec::decode(block::CodecPosition position, std::span<const std::byte> stored,
                                  std::span<std::byte> unit) const {
  // A stream may go on after the cluster is complete; only what it filled counts.
  if (deflate::inflate(deflate::Wrapping::kBare, stored, unit) != unit.size()) {
    return bad_stream(position);
  }
  return {};
}

Result<void> ZstdCodec::decode(block::CodecPosition position, std::span<const std::byte> stored,
                               std::span<std::byte> unit) const {
  thread_local std::unique_ptr<ZSTD_DCtx, FreeZstd> context(ZSTD_createDCtx());
  if (context == nullptr || ZSTD_isError(ZSTD_DCtx_reset(context.get(), ZSTD_reset_session_only))) {
    return bad_stream(position);
  }
  ZSTD_inBuffer in{stored.data(), stored.size(), 0};
  ZSTD_outBuffer out{unit.data(), unit.size(), 0};
  while (out.pos < out.size) {
    const std::size_t consumed = in.pos;
    const std::size_t produced = out.pos;
    const std::size_t result = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(result) || (in.pos == consumed && out.pos == produced)) {
      return bad_stream(position);
    }
  }
  return {};
}

Result<std::size_t> DeflateCodec::encode(std::span<const std::byte> unit,
                                         std::span<std::byte> stored) const {
  return deflate::deflate({.window_bits = kWindowBits, .level = level_}, unit, stored);
}

Result<std::size_t> ZstdCodec::encode(std::span<const std::byte> unit,
                                      std::span<std::byte> stored) const {
  thread_local std::unique_ptr<ZSTD_CCtx, FreeZstd> context(ZSTD_createCCtx());
  if (context == nullptr) {
    return fail(ENOMEM, "There is no memory to compress with");
  }
  const std::size_t length = ZSTD_compressCCtx(context.get(), stored.data(), stored.size(),
                                               unit.data(), unit.size(), level_);
  return ZSTD_isError(length) ? 0 : length;
}

int most_level(CompressionType type) {
  return type == CompressionType::kZstd ? kMostZstdLevel : deflate::kMostLevel;
}

const block::Codec& codec_for(CompressionType type, int level) {
  static const auto kDeflateCodecs = codecs<DeflateCodec, deflate::kMostLevel + 1>();
  static const auto kZstdCodecs = codecs<ZstdCodec, kMostZstdLevel + 1>();
  const auto index = static_cast<std::size_t>(level);
  if (type == CompressionType::kZstd) {
    return kZstdCodecs[index];
  }
  return kDeflateCodecs[index];
}

}  // namespace cairn::qcow2
