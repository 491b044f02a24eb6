// Negotiation: the client's side of the handshake ("Newstyle negotiation" of the specification).
//
// Nothing that the server says is trusted: lengths are bounded before memory is taken for them,
// the number of replies to one option is bounded, and what it says of its export must make sense.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/nbd_protocol.h"
#include "base/result.h"
#include "io/cancel.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/tls.h"

namespace cairn::nbd::client {

// What client and server have agreed on for one export.
struct ExportInfo {
  uint64_t size = 0;   // bytes
  uint16_t flags = 0;  // "Transmission flags"
  // Block sizes in bytes; 0: the server does not say. `min_block` is a power of two.
  uint32_t min_block = 0;
  uint32_t preferred_block = 0;
  uint32_t max_block = 0;
  std::string description;
  bool structured = false;          // replies are structured (or extended)
  bool extended = false;            // requests and replies have extended headers
  std::optional<uint32_t> context;  // id of the meta context that was asked for
};

// Whether and how TLS is to be used: a server that does not have it, or is not who it has to be, is
// left.
struct TlsWish {
  std::shared_ptr<const io::TlsCredentials> credentials;  // null: no TLS
  std::optional<std::string> host;                        // whom the server's certificate is for
};

// One export of the list that a server gives.
struct ListedExport {
  std::string name;
  std::optional<ExportInfo> info;  // nothing: the server can not tell
  std::string description;
  std::vector<std::string> contexts;
};

class Negotiation {
 public:
  // `stream` outlives this; `token` cancels whatever waits.
  explicit Negotiation(io::Stream& stream, io::CancelToken token = {})
      : stream_(stream), token_(token) {}

  // Exchanges greetings, starts TLS if there are credentials for it, and asks for extended headers
  // or else structured replies.
  [[nodiscard]] io::Task<Result<void>> greet(TlsWish tls = {});
  // Chooses the export and ends the handshake: requests may follow. Asks for `context`, unless it
  // is empty; a server that does not have it is no error.
  [[nodiscard]] io::Task<Result<ExportInfo>> go(std::string name, std::string context);
  // All exports with what the server tells about each, which ends the session.
  [[nodiscard]] io::Task<Result<std::vector<ListedExport>>> list();

 private:
  struct Reply {
    OptionReply type{};
    std::vector<std::byte> payload;
  };

  [[nodiscard]] io::Task<Result<void>> send(Option option, std::vector<std::byte> payload);
  [[nodiscard]] io::Task<Result<Reply>> receive(Option option);
  // Whether the server agrees to an option that has no arguments.
  [[nodiscard]] io::Task<Result<bool>> agree(Option option);
  [[nodiscard]] io::Task<Result<void>> exchange_greetings();
  [[nodiscard]] io::Task<Result<void>> start_tls(TlsWish tls);
  [[nodiscard]] io::Task<Result<void>> set_context(std::string name, std::string context);
  [[nodiscard]] io::Task<Result<std::vector<std::string>>> list_contexts(std::string name);
  // NBD_OPT_INFO or NBD_OPT_GO; false when the server does not know it.
  [[nodiscard]] io::Task<Result<bool>> ask_info(Option option, std::string name);
  [[nodiscard]] io::Task<Result<void>> export_name(std::string name);
  [[nodiscard]] Result<void> take_info(std::span<const std::byte> payload);
  [[nodiscard]] io::Task<Result<std::vector<ListedExport>>> list_names();

  io::Stream& stream_;
  io::CancelToken token_;
  bool fixed_ = false;
  bool no_zeroes_ = false;
  bool told_size_ = false;
  ExportInfo info_;
};

// "go" for NBD_OPT_GO, and so on: how messages name options.
[[nodiscard]] std::string_view option_name(Option option);

// The words for an error that the server replied to `option`; `message` is its own.
[[nodiscard]] Error refusal(Option option, OptionReply type, std::span<const std::byte> message);

// What NBD_OPT_SET_META_CONTEXT and NBD_OPT_LIST_META_CONTEXT ask; without `context` for all.
[[nodiscard]] std::vector<std::byte> context_query(std::string_view name, std::string_view context);

// A message or name from the server, fit for a terminal: control characters are replaced.
[[nodiscard]] std::string printable(std::span<const std::byte> text);

}  // namespace cairn::nbd::client
