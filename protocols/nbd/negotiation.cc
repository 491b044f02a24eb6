#include "protocols/nbd/negotiation.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/bytes.h"

namespace cairn::nbd::client {

namespace {

using Bytes = std::vector<std::byte>;

// No reply to an option needs to be larger.
constexpr uint32_t kMaxOptionReply = 64 * 1024;
// Servers with more exports, or contexts, than this do not exist.
constexpr int kMaxReplies = 100'000;
constexpr uint32_t kMaxMinBlock = 64 * 1024;

template <typename T>
void put(Bytes& bytes, T value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof(T));
  store_be(bytes.data() + at, value);
}

void put_string(Bytes& bytes, std::string_view text) {
  put(bytes, static_cast<uint32_t>(text.size()));
  const std::size_t at = bytes.size();
  bytes.resize(at + text.size());
  std::ranges::copy(std::as_bytes(std::span(text)), bytes.begin() + static_cast<ptrdiff_t>(at));
}

template <typename T>
T load(std::span<const std::byte> bytes, std::size_t at) {
  return load_be<T>(bytes.data() + at);
}

// The field's words for a refusal, in front of the option or behind it.
std::string words_of(Option option, OptionReply type) {
  const auto with_option = [option](std::string_view words) {
    return fmt::format("{} option {} ({})", words, static_cast<uint32_t>(option),
                       option_name(option));
  };
  switch (type) {
    case OptionReply::kErrUnsupported:
      return with_option("Server does not support");
    case OptionReply::kErrPolicy:
      return with_option("Denied by server for");
    case OptionReply::kErrInvalid:
      return with_option("Invalid parameters for");
    case OptionReply::kErrPlatform:
      return with_option("Server lacks support for");
    case OptionReply::kErrTlsRequired:
      return with_option("TLS negotiation required before");
    case OptionReply::kErrUnknown:
      return "Requested export not available";
    case OptionReply::kErrShutdown:
      return with_option("Server shutting down before");
    case OptionReply::kErrBlockSizeRequired:
      return with_option("Server requires INFO_BLOCK_SIZE for");
    default:
      return with_option("Unknown error code when asking for");
  }
}

}  // namespace

Error refusal(Option option, OptionReply type, std::span<const std::byte> message) {
  Error error(EINVAL, words_of(option, type));
  std::string hint;
  if (type == OptionReply::kErrTlsRequired) {
    hint = "Did you forget a valid tls-creds?";
  }
  if (!message.empty()) {
    hint += hint.empty() ? "" : "\n";
    hint += "server reported: " + printable(message);
  }
  return std::move(error).with_hint(std::move(hint));
}

std::vector<std::byte> context_query(std::string_view name, std::string_view context) {
  Bytes query;
  put_string(query, name);
  put(query, uint32_t{context.empty() ? 0U : 1U});
  if (!context.empty()) {
    put_string(query, context);
  }
  return query;
}

std::string_view option_name(Option option) {
  switch (option) {
    case Option::kExportName:
      return "export name";
    case Option::kAbort:
      return "abort";
    case Option::kList:
      return "list";
    case Option::kStartTls:
      return "starttls";
    case Option::kInfo:
      return "info";
    case Option::kGo:
      return "go";
    case Option::kStructuredReply:
      return "structured reply";
    case Option::kListMetaContext:
      return "list meta context";
    case Option::kSetMetaContext:
      return "set meta context";
    case Option::kExtendedHeaders:
      return "extended headers";
  }
  return "unknown";
}

std::string printable(std::span<const std::byte> text) {
  std::string result;
  for (const std::byte byte : text) {
    const auto c = static_cast<unsigned char>(byte);
    result += c < 0x20 || c == 0x7f ? '?' : static_cast<char>(c);
  }
  return result;
}

io::Task<Result<void>> Negotiation::send(Option option, Bytes payload) {
  std::array<std::byte, 16> header{};
  store_be(header.data(), kOptionMagic);
  store_be(header.data() + 8, static_cast<uint32_t>(option));
  store_be(header.data() + 12, static_cast<uint32_t>(payload.size()));
  io::IoVector bytes(header.data(), header.size());
  bytes.append(payload.data(), payload.size());
  auto writing = stream_.write_all(std::move(bytes), token_);
  Result<void> written = co_await std::move(writing);
  if (!written) {
    co_return pass(written, "Failed to send an option to the NBD server: ");
  }
  co_return written;
}

io::Task<Result<Negotiation::Reply>> Negotiation::receive(Option option) {
  std::array<std::byte, 20> header{};
  auto reading = stream_.read_exact(header, token_);
  Result<void> result = co_await std::move(reading);
  if (!result) {
    co_return pass(result, "Failed to read the NBD server's reply to an option: ");
  }
  if (load<uint64_t>(header, 0) != kOptionReplyMagic) {
    co_return fail(EINVAL, "Unexpected magic in the NBD server's reply to an option");
  }
  if (load<uint32_t>(header, 8) != static_cast<uint32_t>(option)) {
    co_return fail(EINVAL, "NBD server replied to option {} when option {} ({}) was sent",
                   load<uint32_t>(header, 8), static_cast<uint32_t>(option), option_name(option));
  }
  const auto length = load<uint32_t>(header, 16);
  if (length > kMaxOptionReply) {
    co_return fail(EINVAL, "NBD server's reply to option {} ({}) is too long: {} bytes",
                   static_cast<uint32_t>(option), option_name(option), length);
  }
  Reply reply{.type = static_cast<OptionReply>(load<uint32_t>(header, 12)),
              .payload = Bytes(length)};
  auto rest = stream_.read_exact(reply.payload, token_);
  result = co_await std::move(rest);
  if (!result) {
    co_return pass(result, "Failed to read the NBD server's reply to an option: ");
  }
  co_return reply;
}

io::Task<Result<bool>> Negotiation::agree(Option option) {
  auto sending = send(option, {});
  Result<void> sent = co_await std::move(sending);
  if (!sent && sent.error().code() != EPIPE && sent.error().code() != ECONNRESET) {
    co_return pass(sent);
  }
  // One that has hung up may have said why.
  auto receiving = receive(option);
  Result<Reply> reply = co_await std::move(receiving);
  if (!reply) {
    co_return pass(reply);
  }
  if (reply->type == OptionReply::kAck) {
    if (!reply->payload.empty()) {
      co_return fail(EINVAL, "NBD server's consent to option {} has a payload",
                     option_name(option));
    }
    co_return true;
  }
  if (!is_error(reply->type)) {
    co_return fail(EINVAL, "Unexpected type of the NBD server's reply to option {}",
                   option_name(option));
  }
  if (reply->type == OptionReply::kErrTlsRequired) {
    co_return std::unexpected(refusal(option, reply->type, reply->payload));
  }
  co_return false;
}

io::Task<Result<void>> Negotiation::exchange_greetings() {
  std::array<std::byte, 18> hello{};
  auto reading = stream_.read_exact(std::span(hello).first(16), token_);
  Result<void> result = co_await std::move(reading);
  if (!result) {
    co_return pass(result, "Failed to read the NBD server's greeting: ");
  }
  if (load<uint64_t>(hello, 0) != kInitMagic) {
    co_return fail(EINVAL, "Bad initial magic received: 0x{:016x}", load<uint64_t>(hello, 0));
  }
  if (load<uint64_t>(hello, 8) == kOldstyleMagic) {
    co_return fail(ENOTSUP, "The NBD server speaks the old style of the protocol only");
  }
  if (load<uint64_t>(hello, 8) != kOptionMagic) {
    co_return fail(EINVAL, "Bad server magic received: 0x{:016x}", load<uint64_t>(hello, 8));
  }
  auto rest = stream_.read_exact(std::span(hello).subspan(16), token_);
  result = co_await std::move(rest);
  if (!result) {
    co_return pass(result, "Failed to read the NBD server's flags: ");
  }
  const auto flags = load<uint16_t>(hello, 16);
  fixed_ = (flags & kFixedNewstyle) != 0;
  no_zeroes_ = (flags & kNoZeroes) != 0;
  Bytes answer;
  put(answer, static_cast<uint32_t>(flags & (kFixedNewstyle | kNoZeroes)));
  io::IoVector bytes(std::span<std::byte>{answer});
  auto writing = stream_.write_all(std::move(bytes), token_);
  result = co_await std::move(writing);
  if (!result) {
    co_return pass(result, "Failed to send flags to the NBD server: ");
  }
  co_return result;
}

// "NBD_OPT_STARTTLS". Nothing beyond the server's consent has been read when TLS begins, so nothing
// that was sent in plain text can pass for something that came through TLS.
io::Task<Result<void>> Negotiation::start_tls(TlsWish tls) {
  if (!fixed_) {
    co_return fail(ENOTSUP, "Server does not support STARTTLS");
  }
  auto session = tls.credentials->start(tls.host);
  if (!session) {
    co_return pass(session);
  }
  auto sending = send(Option::kStartTls, {});
  Result<void> sent = co_await std::move(sending);
  if (!sent) {
    co_return sent;
  }
  auto receiving = receive(Option::kStartTls);
  Result<Reply> reply = co_await std::move(receiving);
  if (!reply) {
    co_return pass(reply);
  }
  if (is_error(reply->type)) {
    co_return std::unexpected(refusal(Option::kStartTls, reply->type, reply->payload));
  }
  if (reply->type != OptionReply::kAck || !reply->payload.empty()) {
    co_return fail(EINVAL, "Unexpected answer of the NBD server to option {}",
                   option_name(Option::kStartTls));
  }
  auto securing = stream_.secure(std::move(*session), token_);
  co_return co_await std::move(securing);
}

io::Task<Result<void>> Negotiation::greet(TlsWish tls) {
  auto greeting = exchange_greetings();
  Result<void> greeted = co_await std::move(greeting);
  if (greeted && tls.credentials) {
    auto starting = start_tls(std::move(tls));
    greeted = co_await std::move(starting);
  }
  if (!greeted || !fixed_) {
    co_return greeted;
  }
  auto asking = agree(Option::kExtendedHeaders);
  Result<bool> extended = co_await std::move(asking);
  if (!extended && stream_.tls() != nullptr && extended.error().code() == ECONNRESET) {
    // It has seen our credentials and left without a word.
    co_return std::unexpected(
        std::move(extended.error()).with_hint("The server may not let this client in."));
  }
  if (!extended) {
    co_return pass(extended);
  }
  info_.extended = info_.structured = *extended;
  if (!*extended) {
    auto fallback = agree(Option::kStructuredReply);
    const Result<bool> structured = co_await std::move(fallback);
    if (!structured) {
      co_return std::unexpected(structured.error());
    }
    info_.structured = *structured;
  }
  co_return Result<void>();
}

// "NBD_OPT_SET_META_CONTEXT"
io::Task<Result<void>> Negotiation::set_context(std::string name, std::string context) {
  auto sending = send(Option::kSetMetaContext, context_query(name, context));
  Result<void> sent = co_await std::move(sending);
  if (!sent) {
    co_return sent;
  }
  for (int replies = 0; replies < kMaxReplies; ++replies) {
    auto receiving = receive(Option::kSetMetaContext);
    Result<Reply> reply = co_await std::move(receiving);
    if (!reply) {
      co_return pass(reply);
    }
    if (reply->type == OptionReply::kAck || is_error(reply->type)) {
      co_return Result<void>();  // without it, then
    }
    if (reply->type != OptionReply::kMetaContext || reply->payload.size() < 4) {
      break;
    }
    const auto given = std::span(reply->payload).subspan(4);
    if (info_.context || printable(given) != context) {
      break;
    }
    info_.context = load<uint32_t>(reply->payload, 0);
  }
  co_return fail(EINVAL, "NBD server's answer does not suit the meta context '{}'", context);
}

// "NBD_REP_INFO"
Result<void> Negotiation::take_info(std::span<const std::byte> payload) {
  if (payload.size() < 2) {
    return fail(EINVAL, "NBD server sent a piece of information without its type");
  }
  const auto type = static_cast<Info>(load<uint16_t>(payload, 0));
  const auto body = payload.subspan(2);
  if (type == Info::kExport) {
    if (body.size() != 10) {
      return fail(EINVAL, "NBD server sent the size of the export in a wrong form");
    }
    info_.size = load<uint64_t>(body, 0);
    info_.flags = load<uint16_t>(body, 8);
    told_size_ = true;
  } else if (type == Info::kBlockSize) {
    if (body.size() != 12) {
      return fail(EINVAL, "NBD server sent block sizes in a wrong form");
    }
    info_.min_block = load<uint32_t>(body, 0);
    info_.preferred_block = load<uint32_t>(body, 4);
    info_.max_block = load<uint32_t>(body, 8);
    if (!std::has_single_bit(info_.min_block) || info_.min_block > kMaxMinBlock) {
      return fail(EINVAL, "NBD server's minimum block size {} is invalid", info_.min_block);
    }
    if (!std::has_single_bit(info_.preferred_block) || info_.preferred_block < info_.min_block) {
      return fail(EINVAL, "NBD server's preferred block size {} is invalid", info_.preferred_block);
    }
    if (info_.max_block < info_.min_block) {
      return fail(EINVAL, "NBD server's maximum block size {} is invalid", info_.max_block);
    }
  } else if (type == Info::kDescription) {
    info_.description = printable(body);
  }
  return {};
}

// "NBD_OPT_INFO", "NBD_OPT_GO"
io::Task<Result<bool>> Negotiation::ask_info(Option option, std::string name) {
  Bytes query;
  put_string(query, name);
  put(query, uint16_t{1});
  put(query, static_cast<uint16_t>(Info::kBlockSize));
  auto sending = send(option, std::move(query));
  Result<void> sent = co_await std::move(sending);
  if (!sent) {
    co_return pass(sent);
  }
  for (int replies = 0; replies < kMaxReplies; ++replies) {
    auto receiving = receive(option);
    Result<Reply> reply = co_await std::move(receiving);
    if (!reply) {
      co_return pass(reply);
    }
    if (reply->type == OptionReply::kErrUnsupported) {
      co_return false;
    }
    if (is_error(reply->type)) {
      co_return std::unexpected(refusal(option, reply->type, reply->payload));
    }
    if (reply->type == OptionReply::kAck) {
      if (!told_size_) {
        co_return fail(EINVAL, "broken server omitted NBD_INFO_EXPORT");
      }
      co_return true;
    }
    if (reply->type != OptionReply::kInfo) {
      break;
    }
    Result<void> taken = take_info(reply->payload);
    if (!taken) {
      co_return pass(taken);
    }
  }
  co_return fail(EINVAL, "Unexpected type of the NBD server's reply to option {}",
                 option_name(option));
}

// "NBD_OPT_EXPORT_NAME": the only option of the oldest servers, which just hang up on an error.
io::Task<Result<void>> Negotiation::export_name(std::string name) {
  const auto raw = std::as_bytes(std::span(name));
  auto sending = send(Option::kExportName, Bytes(raw.begin(), raw.end()));
  Result<void> result = co_await std::move(sending);
  if (!result) {
    co_return result;
  }
  std::array<std::byte, 134> answer{};
  auto reading = stream_.read_exact(
      std::span(answer).first(no_zeroes_ ? std::size_t{10} : answer.size()), token_);
  result = co_await std::move(reading);
  if (!result) {
    co_return pass(result, "Failed to read the size of the export from the NBD server: ");
  }
  info_.size = load<uint64_t>(answer, 0);
  info_.flags = load<uint16_t>(answer, 8);
  co_return result;
}

io::Task<Result<ExportInfo>> Negotiation::go(std::string name, std::string context) {
  bool chosen = false;
  if (fixed_) {
    if (info_.structured && !context.empty()) {
      auto setting = set_context(name, std::move(context));
      Result<void> set = co_await std::move(setting);
      if (!set) {
        co_return pass(set);
      }
    }
    auto asking = ask_info(Option::kGo, name);
    Result<bool> answered = co_await std::move(asking);
    if (!answered) {
      co_return pass(answered);
    }
    chosen = *answered;
  }
  if (!chosen) {
    auto choosing = export_name(std::move(name));
    Result<void> done = co_await std::move(choosing);
    if (!done) {
      co_return pass(done);
    }
  }
  if ((info_.flags & kHasFlags) == 0) {
    info_.flags = 0;
  }
  if (info_.size > static_cast<uint64_t>(INT64_MAX) - kMaxMinBlock) {
    co_return fail(EFBIG, "The NBD server's export is too large: {} bytes", info_.size);
  }
  if (info_.min_block != 0 && info_.size % info_.min_block != 0) {
    co_return fail(EINVAL, "NBD server's size {} is not a multiple of its minimum block size {}",
                   info_.size, info_.min_block);
  }
  co_return std::move(info_);
}

}  // namespace cairn::nbd::client
