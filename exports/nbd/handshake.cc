// The handshake of a connection: moves the bytes for Negotiation. Until it is over a client costs
// no more than this coroutine and the option that is being read.
#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "exports/nbd/connection.h"
#include "io/timer.h"

namespace cairn::nbd {
namespace {

// Options with more data than Negotiation looks at are skipped up to this length; beyond it the
// client is dropped.
constexpr uint64_t kMaxSkippedOption = uint64_t{1} << 20;
// What is still taken from a client that was turned away.
constexpr std::size_t kMaxParting = std::size_t{64} * 1024;

}  // namespace

io::Task<bool> Connection::handshake() {
  std::optional<io::Deadline> deadline;
  if (gate_.handshake_limit > io::Duration::zero()) {
    deadline.emplace(handshake_cancel_, gate_.handshake_limit);
  }
  const auto greeting = Negotiation::greeting();
  const iovec segment{const_cast<std::byte*>(greeting.data()), greeting.size()};
  const Result<void> greeted =
      co_await stream_.write_all(std::span<const iovec>(&segment, 1), handshake_cancel_.token());
  if (!greeted) {
    co_return false;
  }
  std::array<std::byte, sizeof(uint32_t)> flags;
  const Result<void> answered = co_await stream_.read_exact(flags, handshake_cancel_.token());
  Negotiation negotiation(exports_, gate_.tls ? TlsRule::kRequired : TlsRule::kNone);
  if (!answered || !negotiation.accept_client_flags(load_be<uint32_t>(flags.data()))) {
    co_return false;
  }
  bool done = false;
  while (!done) {
    const bool ok = co_await read_option(negotiation, done);
    if (!ok) {
      co_return false;
    }
  }
  co_return true;
}

// One option and its reply. False: the connection ends. Sets `done` when the client has chosen an
// export.
io::Task<bool> Connection::read_option(Negotiation& negotiation, bool& done) {
  std::array<std::byte, Negotiation::kOptionHeaderSize> header;
  const Result<void> got_header = co_await stream_.read_exact(header, handshake_cancel_.token());
  if (!got_header || load_be<uint64_t>(&header[0]) != kOptionMagic) {
    co_return false;
  }
  const auto option = load_be<uint32_t>(&header[8]);
  const auto length = load_be<uint32_t>(&header[12]);
  auto verdict = Negotiation::Verdict::kClose;
  std::string replies;
  if (length > Negotiation::kMaxOptionLength) {
    const bool skipped = co_await skip_option_data(length);
    if (!skipped) {
      co_return false;
    }
    verdict = negotiation.refuse_long(option, replies);
  } else {
    std::vector<std::byte> data(length);
    const Result<void> got_data = co_await stream_.read_exact(data, handshake_cancel_.token());
    if (!got_data) {
      co_return false;
    }
    verdict = negotiation.handle(option, data, replies);
  }
  done = verdict == Negotiation::Verdict::kTransmission;
  if (done && !enter_export(negotiation.agreement())) {
    co_return false;
  }
  const bool sent = co_await send_text(replies);
  if (sent && verdict == Negotiation::Verdict::kStartTls) {
    const bool secure = co_await start_tls();
    if (secure) {
      negotiation.secured();
    }
    co_return secure;
  }
  co_return sent&& verdict != Negotiation::Verdict::kClose;
}

// Nothing of what follows the client's option has been read yet, so nothing that was sent in plain
// text can pass for something that came through TLS.
io::Task<bool> Connection::start_tls() {
  auto session = gate_.tls->start({});
  Result<void> done;
  if (session) {
    auto securing = stream_.secure(std::move(*session), handshake_cancel_.token());
    done = co_await std::move(securing);
  } else {
    done = pass(session);
  }
  if (done && gate_.authorize && gate_.tls->uses_certificates()) {
    const auto identity = stream_.tls()->peer_identity();
    done = identity ? gate_.authorize(*identity)
                    : fail(EACCES, "TLS x509 authz check of a client without a certificate");
  }
  if (!done && gate_.on_refused && !stopping_.cancelled()) {
    gate_.on_refused(done.error().message());
  }
  if (!done) {
    co_await part();
  }
  co_return done.has_value();
}

// Ends the connection to a client that was told why it is turned away. What it has sent meanwhile
// is taken, as the kernel would drop our words along with it.
io::Task<void> Connection::part() {
  stream_.say_goodbye();
  stream_.shutdown(SHUT_WR);
  const io::Deadline deadline(handshake_cancel_, Transmission::kLinger);
  std::array<std::byte, 512> scratch;
  for (std::size_t left = kMaxParting; left > 0;) {
    const io::OperationRequest request{.kind = io::OperationRequest::Kind::kReceive,
                                       .fd = stream_.fd(),
                                       .length = std::min(left, scratch.size()),
                                       .buffer = scratch.data()};
    const int64_t got = co_await io::OperationAwaiter(request, handshake_cancel_.token());
    if (got <= 0) {
      co_return;
    }
    left -= static_cast<std::size_t>(got);
  }
}

io::Task<bool> Connection::skip_option_data(uint64_t length) {
  if (length > kMaxSkippedOption) {
    co_return false;
  }
  std::array<std::byte, 512> scratch;
  while (length > 0) {
    const std::span<std::byte> piece(scratch.data(), std::min<uint64_t>(length, scratch.size()));
    const Result<std::size_t> got = co_await stream_.read_some(piece, handshake_cancel_.token());
    if (!got || *got == 0) {
      co_return false;
    }
    length -= *got;
  }
  co_return true;
}

io::Task<bool> Connection::send_text(const std::string& text) {
  const iovec segment{const_cast<char*>(text.data()), text.size()};
  const Result<void> sent =
      co_await stream_.write_all(std::span<const iovec>(&segment, 1), handshake_cancel_.token());
  co_return sent.has_value();
}

bool Connection::enter_export(const Agreement& agreement) {
  NbdExport* const chosen = exports_.find(agreement.export_name);
  if (chosen == nullptr || !chosen->enter(*this)) {
    return false;
  }
  export_ = chosen;
  served_ = true;
  terms_ = {.agreement = agreement,
            .rules = {
                .size = chosen->root().length(),
                .writable = chosen->writable(),
                .structured = agreement.structured,
                .extended = agreement.extended,
                .contexts = !agreement.contexts.empty(),
            }};
  return true;
}

}  // namespace cairn::nbd
