#include "chardev/device.h"

#include <poll.h>

#include "io/operation.h"

namespace cairn::chardev {

namespace {

// Writes to a connection, and what got there to the log.
class LoggedConnection final : public Connection {
 public:
  LoggedConnection(Connection& inner, Log& log) : inner_(inner), log_(log) {}

  [[nodiscard]] io::Task<Result<size_t>> read_some(std::span<std::byte> bytes,
                                                   io::CancelToken token) override {
    return inner_.read_some(bytes, token);
  }
  [[nodiscard]] io::Task<Result<void>> write_all(std::string_view text,
                                                 io::CancelToken token) override {
    Result<void> written = co_await inner_.write_all(text, token);
    if (written) {
      log_.write(text);
    }
    co_return written;
  }
  void shutdown() override { inner_.shutdown(); }

 private:
  Connection& inner_;
  Log& log_;
};

}  // namespace

std::string Device::filename() const { return std::string(to_string(kind_)); }

io::Task<void> Device::serve(Connection& connection, int fd, io::CancelToken token) {
  if (!frontend_) {
    if (fd >= 0) {
      const io::OperationRequest request{
          .kind = io::OperationRequest::Kind::kPoll, .fd = fd, .flags = POLLRDHUP};
      const int64_t ready = co_await io::OperationAwaiter(request, token);
      static_cast<void>(ready);
      co_return;
    }
    const Result<size_t> cancelled = co_await read_nothing(token);
    static_cast<void>(cancelled);
    co_return;
  }
  if (log_) {
    LoggedConnection logged(connection, *log_);
    co_await frontend_->serve(logged, token);
    co_return;
  }
  co_await frontend_->serve(connection, token);
}

}  // namespace cairn::chardev
