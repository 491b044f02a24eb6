#include "io/tls_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/operation.h"

namespace cairn::io {

namespace {

using Kind = OperationRequest::Kind;

// The most that one record carries, and what it takes on the wire at most (RFC 8446, 5.2).
constexpr std::size_t kRecord = std::size_t{16} * 1024;
constexpr std::size_t kRecordOnWire = kRecord + 512;
// How much is received at once: little while little comes, as an idle connection keeps that much.
constexpr std::size_t kFirstWindow = std::size_t{4} * 1024;
constexpr std::size_t kMaxWindow = 16 * kRecordOnWire;
// No more is encrypted while so much has not been sent.
constexpr std::size_t kMaxUnsent = 16 * kRecordOnWire;

std::unexpected<Error> kernel_error(int64_t result) {
  return std::unexpected(Error::from_errno(static_cast<int>(-result)));
}

}  // namespace

TlsStream::TlsStream(int fd, std::unique_ptr<TlsSession> session)
    : fd_(fd), session_(std::move(session)), window_(kFirstWindow) {}

Task<Result<void>> TlsStream::handshake(CancelToken token) {
  for (;;) {
    const Result<bool> done = session_->handshake(wire_);
    if (!done) {
      // The peer may want to know; if it can not be told at once, it will see the end.
      static_cast<void>(send_now());
      co_return std::unexpected(done.error());
    }
    auto sending = send_all(token);
    Result<void> sent = co_await std::move(sending);
    if (!sent || *done) {
      release_buffers();
      co_return sent;
    }
    auto receiving = receive(token);
    const Result<std::size_t> got = co_await std::move(receiving);
    if (!got) {
      co_return std::unexpected(got.error());
    }
  }
}

Task<Result<std::size_t>> TlsStream::read_some(std::span<std::byte> bytes, CancelToken token) {
  if (bytes.empty()) {
    co_return std::size_t{0};
  }
  for (;;) {
    const Result<std::optional<std::size_t>> got = session_->read(wire_, bytes);
    if (!writing_ && !wire_.outgoing.empty()) {
      static_cast<void>(send_now());  // an answer of the protocol itself; else it goes along later
    }
    if (!got) {
      co_return std::unexpected(got.error());
    }
    if (*got) {
      co_return **got;
    }
    auto receiving = receive(token);
    const Result<std::size_t> received = co_await std::move(receiving);
    if (!received) {
      co_return received;
    }
  }
}

// Where to receive into, behind what there is.
std::span<std::byte> TlsStream::room() {
  const std::size_t rest = wire_.incoming.size();
  if (received_.size() < rest + window_) {
    std::vector<std::byte> larger(rest + window_);
    std::ranges::copy(wire_.incoming, larger.begin());
    received_ = std::move(larger);
  } else if (rest != 0) {
    std::memmove(received_.data(), wire_.incoming.data(), rest);
  }
  wire_.incoming = std::span<const std::byte>(received_).first(rest);
  return std::span(received_).subspan(rest, window_);
}

Task<Result<std::size_t>> TlsStream::receive(CancelToken token) {
  const std::span<std::byte> into = room();
  const OperationRequest request{
      .kind = Kind::kReceive, .fd = fd_, .length = into.size(), .buffer = into.data()};
  OperationAwaiter receiving(request, token);
  const int64_t result = co_await receiving;
  if (result < 0) {
    co_return kernel_error(result);
  }
  if (result == 0) {
    co_return fail(ECONNRESET, "The TLS connection was cut off");
  }
  const auto count = static_cast<std::size_t>(result);
  wire_.incoming = std::span<const std::byte>(received_).first(wire_.incoming.size() + count);
  if (count == into.size()) {
    window_ = std::min(2 * window_, kMaxWindow);
  }
  co_return count;
}

// Makes the records that have gathered the ones that are being sent.
void TlsStream::load() {
  if (sent_ == sending_.size()) {
    sending_.clear();
    sent_ = 0;
    std::swap(sending_, wire_.outgoing);
  }
}

Task<Result<void>> TlsStream::send_all(CancelToken token) {
  writing_ = true;
  Result<void> done;
  while (done && unsent() != 0) {
    load();
    iovec segment{sending_.data() + sent_, sending_.size() - sent_};
    msghdr message{};
    message.msg_iov = &segment;
    message.msg_iovlen = 1;
    OperationRequest request{.kind = Kind::kSend, .fd = fd_, .flags = MSG_WAITALL};
    request.message = &message;
    OperationAwaiter sending(request, token);
    const int64_t result = co_await sending;
    if (result < 0) {
      done = kernel_error(result);
    } else {
      sent_ += static_cast<std::size_t>(result);
    }
  }
  writing_ = false;
  co_return done;
}

// Sends what the socket takes now: 0 when everything is out, else a negative errno.
int64_t TlsStream::send_now() {
  while (unsent() != 0) {
    load();
    iovec segment{sending_.data() + sent_, sending_.size() - sent_};
    msghdr message{};
    message.msg_iov = &segment;
    message.msg_iovlen = 1;
    OperationRequest request{.kind = Kind::kSend, .fd = fd_};
    request.message = &message;
    const int64_t result = try_socket_operation(request);
    if (result < 0) {
      return result;
    }
    sent_ += static_cast<std::size_t>(result);
  }
  return 0;
}

// Makes records of the segments' bytes from `skip` on, until enough wait to be sent. How many bytes
// that were. Small pieces share a record.
Result<std::size_t> TlsStream::encrypt(std::span<const iovec> segments, std::size_t skip) {
  std::array<std::byte, kRecord> record;
  std::size_t filled = 0;
  std::size_t taken = 0;
  for (const iovec& segment : segments) {
    std::span<const std::byte> rest(static_cast<const std::byte*>(segment.iov_base),
                                    segment.iov_len);
    const std::size_t skipped = std::min(skip, rest.size());
    rest = rest.subspan(skipped);
    skip -= skipped;
    while (!rest.empty() && unsent() < kMaxUnsent) {
      std::span<const std::byte> piece = rest.first(std::min(rest.size(), kRecord - filled));
      const bool alone = filled == 0 && piece.size() == kRecord;
      rest = rest.subspan(piece.size());
      taken += piece.size();
      if (!alone) {
        std::ranges::copy(piece, record.begin() + static_cast<std::ptrdiff_t>(filled));
        filled += piece.size();
        piece = std::span<const std::byte>(record).first(filled);
      }
      if (piece.size() == kRecord) {
        filled = 0;
        const Result<void> written = session_->write(wire_, piece);
        if (!written) {
          return std::unexpected(written.error());
        }
      }
    }
    if (!rest.empty()) {
      break;
    }
  }
  if (filled != 0) {
    const Result<void> written = session_->write(wire_, std::span(record).first(filled));
    if (!written) {
      return std::unexpected(written.error());
    }
  }
  return taken;
}

Task<Result<void>> TlsStream::write_all(std::span<const iovec> segments, CancelToken token) {
  std::size_t total = 0;
  for (const iovec& segment : segments) {
    total += segment.iov_len;
  }
  for (std::size_t done = 0; done < total;) {
    const Result<std::size_t> taken = encrypt(segments, done);
    if (!taken) {
      co_return std::unexpected(taken.error());
    }
    done += *taken;
    auto sending = send_all(token);
    Result<void> sent = co_await std::move(sending);
    if (!sent) {
      co_return sent;
    }
  }
  co_return Result<void>();
}

int64_t TlsStream::try_send(std::span<const iovec> segments) {
  std::size_t accepted = 0;
  for (;;) {
    const Result<std::size_t> taken = encrypt(segments, accepted);
    if (!taken) {
      return -taken.error().code();
    }
    accepted += *taken;
    const int64_t sent = send_now();
    if (sent < 0 && sent != -EAGAIN) {
      return sent;
    }
    if (sent < 0 || *taken == 0) {
      return accepted == 0 && sent < 0 ? sent : static_cast<int64_t>(accepted);
    }
  }
}

void TlsStream::finish() {
  if (!finished_ && !writing_) {
    finished_ = true;
    session_->finish(wire_);
    static_cast<void>(send_now());
  }
}

void TlsStream::release_buffers() {
  if (wire_.incoming.empty()) {
    received_ = {};
    wire_.incoming = {};
    window_ = kFirstWindow;
  }
  if (unsent() == 0) {
    sending_ = {};
    sent_ = 0;
    wire_.outgoing = {};
  }
}

}  // namespace cairn::io
