// Looking around at a server: its exports, and what it tells of each.
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "protocols/nbd/negotiation.h"

namespace cairn::nbd::client {

namespace {

// Names are bounded each; this bounds what a server can make us keep.
constexpr std::size_t kMaxListed = 10'000;

}  // namespace

// "NBD_OPT_LIST"
io::Task<Result<std::vector<ListedExport>>> Negotiation::list_names() {
  auto sending = send(Option::kList, {});
  Result<void> sent = co_await std::move(sending);
  if (!sent) {
    co_return pass(sent);
  }
  std::vector<ListedExport> exports;
  while (exports.size() <= kMaxListed) {
    auto receiving = receive(Option::kList);
    Result<Reply> reply = co_await std::move(receiving);
    if (!reply) {
      co_return pass(reply);
    }
    // A server that does not know the option tells of no export.
    if (reply->type == OptionReply::kAck || reply->type == OptionReply::kErrUnsupported) {
      co_return exports;
    }
    if (is_error(reply->type)) {
      co_return std::unexpected(refusal(Option::kList, reply->type, reply->payload));
    }
    const std::span<const std::byte> payload = reply->payload;
    if (reply->type != OptionReply::kServer || payload.size() < 4 ||
        load_be<uint32_t>(payload.data()) > payload.size() - 4) {
      co_return fail(EINVAL, "NBD server sent an entry of its list in a wrong form");
    }
    const auto length = load_be<uint32_t>(payload.data());
    const auto name = payload.subspan(4, length);
    exports.push_back({.name = {reinterpret_cast<const char*>(name.data()), name.size()},
                       .info = {},
                       .description = printable(payload.subspan(4 + length)),
                       .contexts = {}});
  }
  co_return fail(EINVAL, "NBD server lists more than {} exports", kMaxListed);
}

// "NBD_OPT_LIST_META_CONTEXT", without a query: all of them.
io::Task<Result<std::vector<std::string>>> Negotiation::list_contexts(std::string name) {
  auto sending = send(Option::kListMetaContext, context_query(name, {}));
  Result<void> sent = co_await std::move(sending);
  if (!sent) {
    co_return pass(sent);
  }
  std::vector<std::string> contexts;
  while (contexts.size() <= kMaxListed) {
    auto receiving = receive(Option::kListMetaContext);
    Result<Reply> reply = co_await std::move(receiving);
    if (!reply) {
      co_return pass(reply);
    }
    if (reply->type == OptionReply::kAck || is_error(reply->type)) {
      co_return contexts;
    }
    if (reply->type != OptionReply::kMetaContext || reply->payload.size() < 4) {
      co_return fail(EINVAL, "NBD server sent a meta context in a wrong form");
    }
    contexts.push_back(printable(std::span(reply->payload).subspan(4)));
  }
  co_return fail(EINVAL, "NBD server lists more than {} meta contexts", kMaxListed);
}

io::Task<Result<std::vector<ListedExport>>> Negotiation::list() {
  if (!fixed_) {
    co_return fail(ENOTSUP, "Server does not support export lists");
  }
  auto naming = list_names();
  Result<std::vector<ListedExport>> exports = co_await std::move(naming);
  if (!exports) {
    co_return pass(exports);
  }
  const ExportInfo session = info_;
  for (ListedExport& entry : *exports) {
    info_ = session;
    told_size_ = false;
    auto asking = ask_info(Option::kInfo, entry.name);
    Result<bool> told = co_await std::move(asking);
    if (!told) {
      co_return pass(told);
    }
    if (!*told) {
      continue;
    }
    if (entry.description.empty()) {
      entry.description = info_.description;
    }
    entry.info = info_;
    if (session.structured) {
      auto listing = list_contexts(entry.name);
      Result<std::vector<std::string>> contexts = co_await std::move(listing);
      if (!contexts) {
        co_return pass(contexts);
      }
      entry.contexts = std::move(*contexts);
    }
  }
  auto leaving = send(Option::kAbort, {});
  // The server may hang up at once; nothing more is expected of it.
  [[maybe_unused]] const Result<void> left = co_await std::move(leaving);
  co_return exports;
}

}  // namespace cairn::nbd::client
