#include "formats/deflate/deflate.h"

#include <array>
#include <cerrno>
#include <memory>

#include <zlib.h>

#include "formats/deflate/fast_deflate.h"

namespace cairn::deflate {
namespace {

// zlib's interface predates const; it does not write to its input.
Bytef* raw(std::span<const std::byte> bytes) {
  return reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
}

// A decoder with the largest window reads the streams of all smaller ones, too.
int inflate_bits(Wrapping wrapping) { return wrapping == Wrapping::kBare ? -MAX_WBITS : MAX_WBITS; }

// An inflate state that is set up once a thread.
class Inflater {
 public:
  explicit Inflater(Wrapping wrapping)
      : bits_(inflate_bits(wrapping)), ready_(inflateInit2(&stream_, bits_) == Z_OK) {}
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() {
    if (ready_) {
      inflateEnd(&stream_);
    }
  }

  std::optional<std::size_t> run(std::span<const std::byte> stored, std::span<std::byte> out) {
    if (!ready_ || inflateReset(&stream_) != Z_OK) {
      return std::nullopt;
    }
    stream_.next_in = raw(stored);
    stream_.avail_in = static_cast<uInt>(stored.size());
    stream_.next_out = raw(out);
    stream_.avail_out = static_cast<uInt>(out.size());
    const int result = ::inflate(&stream_, Z_FINISH);
    const bool filled = stream_.avail_out == 0 && (result == Z_BUF_ERROR || result == Z_OK);
    if (result != Z_STREAM_END && !filled) {
      return std::nullopt;
    }
    return out.size() - stream_.avail_out;
  }

 private:
  z_stream stream_{};
  const int bits_;
  const bool ready_;
};

// A deflate state that is set up anew when other settings come.
class Deflater {
 public:
  Deflater() = default;
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  ~Deflater() { reset(); }

  Result<std::size_t> run(const Settings& settings, std::span<const std::byte> content,
                          std::span<std::byte> out) {
    if (!prepare(settings)) {
      return fail(ENOMEM, "There is no memory to compress with");
    }
    stream_.next_in = raw(content);
    stream_.avail_in = static_cast<uInt>(content.size());
    stream_.next_out = raw(out);
    stream_.avail_out = static_cast<uInt>(out.size());
    const bool fits = ::deflate(&stream_, Z_FINISH) == Z_STREAM_END;
    return fits ? out.size() - stream_.avail_out : 0;
  }

 private:
  static constexpr int kMemoryLevel = 9;

  bool prepare(const Settings& settings) {
    const int bits = settings.wrapping == Wrapping::kBare ? -settings.window_bits : MAX_WBITS;
    const int level = settings.level == 0 ? Z_DEFAULT_COMPRESSION : settings.level;
    if (ready_ && bits == bits_ && level == level_) {
      return deflateReset(&stream_) == Z_OK;
    }
    reset();
    ready_ =
        deflateInit2(&stream_, level, Z_DEFLATED, bits, kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK;
    bits_ = bits;
    level_ = level;
    return ready_;
  }

  void reset() {
    if (ready_) {
      deflateEnd(&stream_);
    }
    ready_ = false;
  }

  z_stream stream_{};
  int bits_ = 0;
  int level_ = 0;
  bool ready_ = false;
};

}  // namespace

std::optional<std::size_t> inflate(Wrapping wrapping, std::span<const std::byte> stored,
                                   std::span<std::byte> out) {
  if (const auto done = fast_inflate(wrapping, stored, out)) {
    return done;
  }
  thread_local std::array<Inflater, 2> inflaters = {Inflater(Wrapping::kBare),
                                                    Inflater(Wrapping::kZlib)};
  return inflaters[wrapping == Wrapping::kBare ? 0 : 1].run(stored, out);
}

Result<std::size_t> deflate(const Settings& settings, std::span<const std::byte> content,
                            std::span<std::byte> out) {
  if (const auto done = fast_deflate(settings, content, out)) {
    return *done;
  }
  thread_local Deflater deflater;
  return deflater.run(settings, content, out);
}

std::size_t longest(std::size_t content_length) {
  // ISA-L stores what does not shrink in blocks that may be half as long as zlib's.
  return compressBound(content_length) + content_length / 4096;
}

}  // namespace cairn::deflate
