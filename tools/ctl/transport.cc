#include "tools/ctl/transport.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <span>
#include <utility>

namespace cairn::ctl {

namespace {

timespec until(Clock::time_point deadline) {
  const auto left = std::max(Clock::duration::zero(), deadline - Clock::now());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds);
  return {.tv_sec = seconds.count(), .tv_nsec = rest.count()};
}

// 1: there is something to read; 0: the time has come; -1: errno says what else.
// Signals that are blocked otherwise come here, so that none gets lost between two waits.
int wait_readable(int fd, std::optional<Clock::time_point> deadline) {
  pollfd wanted{.fd = fd, .events = POLLIN, .revents = 0};
  sigset_t none;
  sigemptyset(&none);
  timespec left{};
  if (deadline) {
    left = until(*deadline);
  }
  return ppoll(&wanted, 1, deadline ? &left : nullptr, &none);
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Result<void> Transport::secure(const TlsWish& wish, Clock::time_point deadline) {
  auto session = wish.credentials->start(wish.host);
  if (!session) {
    return pass(session);
  }
  session_ = std::move(*session);
  wire_ = std::make_unique<io::TlsWire>();
  while (true) {
    Result<bool> done = session_->handshake(*wire_);
    // Also when it has failed: the daemon is to know why.
    const Result<void> sent = send_records();
    if (!done) {
      return pass(done);
    }
    if (!sent || *done) {
      return sent;
    }
    Result<Got> got = receive_records(deadline);
    if (!got) {
      return pass(got);
    }
    if (*got == Got::kNothing) {
      return fail(ETIMEDOUT, "The time is up");
    }
    if (*got == Got::kEnd) {
      return fail(ECONNRESET, "The TLS connection was cut off");
    }
  }
}

Result<void> Transport::send(std::string_view text) {
  if (!session_) {
    return send_plain(text);
  }
  while (!text.empty()) {
    // What one record carries at most (RFC 8446, 5.1).
    const std::string_view piece = text.substr(0, size_t{16} * 1024);
    auto written = session_->write(*wire_, std::as_bytes(std::span(piece)));
    if (!written) {
      return written;
    }
    text.remove_prefix(piece.size());
  }
  return send_records();
}

Result<Transport::Got> Transport::receive(std::string& text,
                                          std::optional<Clock::time_point> deadline) {
  if (!session_) {
    return receive_plain(text, deadline);
  }
  while (true) {
    auto decrypted = decrypt(text);
    if (!decrypted) {
      return pass(decrypted);
    }
    if (*decrypted) {
      return **decrypted;
    }
    Result<Got> got = receive_records(deadline);
    if (!got || *got == Got::kNothing) {
      return got;
    }
    if (*got == Got::kEnd) {
      return fail(ECONNRESET, "The TLS connection was cut off");
    }
  }
}

// All that is in whole records; nothing when that is nothing.
Result<std::optional<Transport::Got>> Transport::decrypt(std::string& text) {
  const size_t before = text.size();
  std::array<std::byte, size_t{16} * 1024> plain;
  while (true) {
    auto read = session_->read(*wire_, plain);
    if (!read) {
      return pass(read);
    }
    if (!*read || **read == 0) {
      // An answer of the protocol itself may have to go out.
      if (auto sent = send_records(); !sent) {
        return pass(sent);
      }
      if (text.size() != before) {
        return std::optional(Got::kBytes);
      }
      return *read ? std::optional(Got::kEnd) : std::nullopt;
    }
    text += text_of(std::span(plain).first(**read));
  }
}

Result<void> Transport::send_records() {
  const std::vector<std::byte> records = std::exchange(wire_->outgoing, {});
  return send_plain(text_of(records));
}

Result<Transport::Got> Transport::receive_records(std::optional<Clock::time_point> deadline) {
  records_.erase(0, records_.size() - wire_->incoming.size());
  auto got = receive_plain(records_, deadline);
  wire_->incoming = std::as_bytes(std::span(records_));
  return got;
}

Result<void> Transport::send_plain(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno != EINTR) {
      return std::unexpected(Error::from_errno(errno));
    }
    bytes.remove_prefix(static_cast<size_t>(std::max<ssize_t>(count, 0)));
  }
  return {};
}

Result<Transport::Got> Transport::receive_plain(std::string& bytes,
                                                std::optional<Clock::time_point> deadline) const {
  while (true) {
    const int ready = wait_readable(fd_.get(), deadline);
    if (ready == 0) {
      return Got::kNothing;
    }
    if (ready < 0) {
      return std::unexpected(Error::from_errno(errno));
    }
    std::array<char, 65536> buffer;
    const ssize_t count = recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count > 0) {
      bytes.append(buffer.data(), static_cast<size_t>(count));
      return Got::kBytes;
    }
    if (count == 0) {
      return Got::kEnd;
    }
    if (errno != EINTR && errno != EAGAIN) {
      return std::unexpected(Error::from_errno(errno));
    }
  }
}

}  // namespace cairn::ctl
