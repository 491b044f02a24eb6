// Decoders for compressed clusters (section "Additional fields", compression_type): raw deflate
// and zstd. Stateless; memory for decoding is kept per thread. Any input is allowed: a stream that
// does not yield a whole cluster is an error (EIO), and what follows its end is ignored.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "block/codec.h"
#include "formats/qcow2/layout.h"

namespace cairn::qcow2 {

class DeflateCodec final : public block::Codec {
 public:
  [[nodiscard]] Result<void> decode(block::CodecPosition position,
                                    std::span<const std::byte> stored,
                                    std::span<std::byte> unit) const override;
};

class ZstdCodec final : public block::Codec {
 public:
  [[nodiscard]] Result<void> decode(block::CodecPosition position,
                                    std::span<const std::byte> stored,
                                    std::span<std::byte> unit) const override;
};

// The decoder of a compression type; lives for ever.
[[nodiscard]] const block::Codec& codec_for(CompressionType type);

}  // namespace cairn::qcow2
