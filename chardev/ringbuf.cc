#include "chardev/ringbuf.h"

#include <algorithm>
#include <bit>
#include <cerrno>

namespace cairn::chardev {

namespace {

constexpr int64_t kDefaultSize = int64_t{64} << 10;
// The memory is the daemon's, and one command asks for it.
constexpr int64_t kMostSize = int64_t{64} << 20;

class RingConnection final : public Connection {
 public:
  explicit RingConnection(RingBuffer& ring) : ring_(ring) {}

  [[nodiscard]] io::Task<Result<size_t>> read_some(std::span<std::byte>,
                                                   io::CancelToken token) override {
    return read_nothing(token);
  }
  [[nodiscard]] io::Task<Result<void>> write_all(std::string_view text, io::CancelToken) override {
    ring_.write(text);
    co_return Result<void>();
  }

 private:
  RingBuffer& ring_;
};

}  // namespace

io::Task<void> RingBuffer::run(io::CancelToken token) {
  RingConnection connection(*this);
  co_await serve(connection, -1, token);
}

void RingBuffer::write(std::string_view text) {
  // Only the end of what is longer than the buffer would stay.
  const size_t lost = text.size() > bytes_.size() ? text.size() - bytes_.size() : 0;
  written_ += lost;
  for (const char c : text.substr(lost)) {
    bytes_[written_++ % bytes_.size()] = c;
  }
  taken_ = std::max(taken_, written_ - std::min<uint64_t>(written_, bytes_.size()));
}

std::string RingBuffer::read(size_t most) {
  std::string result;
  const size_t count = std::min<uint64_t>(most, written_ - taken_);
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    result += bytes_[taken_++ % bytes_.size()];
  }
  return result;
}

OpenResult open_ringbuf(const schema::ChardevRingbuf& options, schema::ChardevBackendKind kind) {
  // 0 is the default, too.
  const int64_t wanted = options.size.value_or(0);
  const int64_t size = wanted != 0 ? wanted : kDefaultSize;
  if (size < 0 || !std::has_single_bit(static_cast<uint64_t>(size))) {
    return fail(EINVAL, "size of ringbuf chardev must be power of two");
  }
  if (size > kMostSize) {
    return fail(ENOMEM, "size of ringbuf chardev must be at most {} bytes", kMostSize);
  }
  return std::make_unique<RingBuffer>(kind, static_cast<size_t>(size));
}

}  // namespace cairn::chardev
