// Codecs of compressed clusters (section "Additional fields", compression_type): raw deflate
// and zstd. Stateless; memory for coding is kept per thread. Any stored input is allowed: a stream
// that does not yield a whole cluster is an error (EIO), and what follows its end is ignored.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "block/codec.h"
#include "formats/qcow2/layout.h"

namespace cairn::qcow2 {

class DeflateCodec final : public block::Codec {
 public:
  explicit DeflateCodec(int level) : level_(level) {}
  [[nodiscard]] Result<void> decode(block::CodecPosition position,
                                    std::span<const std::byte> stored,
                                    std::span<std::byte> unit) const override;
  [[nodiscard]] Result<std::size_t> encode(std::span<const std::byte> unit,
                                           std::span<std::byte> stored) const override;

 private:
  const int level_;
};

class ZstdCodec final : public block::Codec {
 public:
  explicit ZstdCodec(int level) : level_(level) {}
  [[nodiscard]] Result<void> decode(block::CodecPosition position,
                                    std::span<const std::byte> stored,
                                    std::span<std::byte> unit) const override;
  [[nodiscard]] Result<std::size_t> encode(std::span<const std::byte> unit,
                                           std::span<std::byte> stored) const override;

 private:
  const int level_;
};

// The largest level at which a type compresses; the smallest is 1.
[[nodiscard]] int most_level(CompressionType type);

// The codec of a compression type, compressing at a level that it has, or at its own for 0. Lives
// for ever.
[[nodiscard]] const block::Codec& codec_for(CompressionType type, int level = 0);

}  // namespace cairn::qcow2
