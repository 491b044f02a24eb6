#include "formats/qcow2/codec.h"

#include <memory>

#include <zlib.h>
#include <zstd.h>

namespace cairn::qcow2 {

namespace {

std::unexpected<Error> bad_stream(const block::CodecPosition& position) {
  return fail(EIO, "The compressed cluster for guest offset {} at host offset {} is damaged",
              position.guest_offset, position.host_offset);
}

// An inflate state that is set up once a thread. Writers use a window of 2^12 bytes; a decoder with
// the largest window reads that and everything else.
class Inflater {
 public:
  Inflater() : ready_(inflateInit2(&stream_, -MAX_WBITS) == Z_OK) {}
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() {
    if (ready_) {
      inflateEnd(&stream_);
    }
  }

  bool run(std::span<const std::byte> stored, std::span<std::byte> unit) {
    if (!ready_ || inflateReset(&stream_) != Z_OK) {
      return false;
    }
    // zlib's interface predates const; it does not write to its input.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(stored.data()));
    stream_.avail_in = static_cast<uInt>(stored.size());
    stream_.next_out = reinterpret_cast<Bytef*>(unit.data());
    stream_.avail_out = static_cast<uInt>(unit.size());
    const int result = inflate(&stream_, Z_FINISH);
    // A stream may go on after the cluster is complete; only what it filled counts.
    return (result == Z_STREAM_END || result == Z_BUF_ERROR || result == Z_OK) &&
           stream_.avail_out == 0;
  }

 private:
  z_stream stream_{};
  bool ready_;
};

// A deflate state that is set up once a thread: raw, with the window that readers count on.
class Deflater {
 public:
  Deflater()
      : ready_(deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -kWindowBits, kMemoryLevel,
                            Z_DEFAULT_STRATEGY) == Z_OK) {}
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  ~Deflater() {
    if (ready_) {
      deflateEnd(&stream_);
    }
  }

  Result<std::size_t> run(std::span<const std::byte> unit, std::span<std::byte> stored) {
    if (!ready_ || deflateReset(&stream_) != Z_OK) {
      return fail(ENOMEM, "There is no memory to compress with");
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(unit.data()));
    stream_.avail_in = static_cast<uInt>(unit.size());
    stream_.next_out = reinterpret_cast<Bytef*>(stored.data());
    stream_.avail_out = static_cast<uInt>(stored.size());
    const bool fits = deflate(&stream_, Z_FINISH) == Z_STREAM_END;
    return fits ? stored.size() - stream_.avail_out : 0;
  }

 private:
  static constexpr int kWindowBits = 12;
  static constexpr int kMemoryLevel = 9;
  z_stream stream_{};
  bool ready_;
};

struct FreeZstd {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

}  // namespace

Result<void> DeflateCodec::decode(block::CodecPosition position, std::span<const std::byte> stored,
                                  std::span<std::byte> unit) const {
  thread_local Inflater inflater;
  if (!inflater.run(stored, unit)) {
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
  thread_local Deflater deflater;
  return deflater.run(unit, stored);
}

Result<std::size_t> ZstdCodec::encode(std::span<const std::byte> unit,
                                      std::span<std::byte> stored) const {
  thread_local std::unique_ptr<ZSTD_CCtx, FreeZstd> context(ZSTD_createCCtx());
  if (context == nullptr) {
    return fail(ENOMEM, "There is no memory to compress with");
  }
  const std::size_t length = ZSTD_compressCCtx(context.get(), stored.data(), stored.size(),
                                               unit.data(), unit.size(), ZSTD_CLEVEL_DEFAULT);
  return ZSTD_isError(length) ? 0 : length;
}

const block::Codec& codec_for(CompressionType type) {
  static const DeflateCodec kDeflateCodec;
  static const ZstdCodec kZstdCodec;
  if (type == CompressionType::kZstd) {
    return kZstdCodec;
  }
  return kDeflateCodec;
}

}  // namespace cairn::qcow2
