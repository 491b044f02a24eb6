#include "tools/nbd/list.h"

#include <array>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/nbd_protocol.h"
#include "io/socket.h"
#include "objects/tls_creds.h"
#include "tools/common/object.h"
#include "tools/common/report.h"

namespace cairn::tools {
namespace {

using nbd::client::ExportInfo;
using nbd::client::ListedExport;
using Exports = std::vector<ListedExport>;

// The transmission flags by their numbers; the first says only that there are flags.
constexpr std::array<std::string_view, 13> kFlagNames = {
    "",      "readonly", "flush", "fua",       "rotational",          "trim", "zeroes", "df",
    "multi", "resize",   "cache", "fast-zero", "block-status-payload"};

std::string export_text(const ExportInfo& info) {
  std::string text = fmt::format("  size:  {}\n", info.size);
  if ((info.flags & nbd::kHasFlags) != 0) {
    text += fmt::format("  flags: 0x{:x} (", info.flags);
    for (size_t bit = 1; bit < kFlagNames.size(); ++bit) {
      if ((info.flags >> bit & 1) != 0) {
        text.append(" ").append(kFlagNames[bit]);
      }
    }
    text += " )\n";
  }
  if (info.min_block != 0) {
    text += fmt::format("  min block: {}\n  opt block: {}\n  max block: {}\n", info.min_block,
                        info.preferred_block, info.max_block);
  }
  if (info.extended) {
    text += "  transaction size: 64-bit\n";
  }
  return text;
}

// A name comes from the server: it must not control the terminal.
std::string printable(std::string_view text) {
  return nbd::client::printable(std::as_bytes(std::span(text)));
}

io::Task<Result<Exports>> ask(io::SocketAddress address, nbd::client::TlsWish tls) {
  auto connecting = io::Stream::connect(std::move(address));
  Result<io::Stream> stream = co_await std::move(connecting);
  if (!stream) {
    co_return pass(stream);
  }
  nbd::client::Negotiation negotiation(*stream);
  auto greeting = negotiation.greet(std::move(tls));
  Result<void> greeted = co_await std::move(greeting);
  if (!greeted) {
    co_return pass(greeted);
  }
  auto listing = negotiation.list();
  Result<Exports> exports = co_await std::move(listing);
  co_return exports;
}

Result<nbd::client::TlsWish> tls_wish(const NbdOptions& options) {
  nbd::client::TlsWish wish;
  if (options.tls_creds) {
    auto credentials = objects::find_credentials(program_objects(), *options.tls_creds, false);
    if (!credentials) {
      return pass(credentials, "Failed to get TLS creds: ");
    }
    wish.credentials = std::move(*credentials);
    wish.host = options.tls_hostname;
    if (!wish.host && !options.socket_path) {
      wish.host = options.host();
    }
  }
  return wish;
}

Result<Exports> fetch_list(const NbdOptions& options) {
  for (const std::string& definition : options.objects) {
    if (auto added = add_object(definition); !added) {
      return pass(added);
    }
  }
  auto tls = tls_wish(options);
  if (!tls) {
    return pass(tls);
  }
  const auto session = Session::create();
  if (!session) {
    return std::unexpected(session.error());
  }
  auto address = options.socket_path ? io::SocketAddress::unix_path(*options.socket_path)
                                     : io::SocketAddress::inet(options.host(), options.port_text());
  return (*session)->run(ask(std::move(address), std::move(*tls)));
}

}  // namespace

std::string export_list_text(std::span<const ListedExport> exports) {
  std::string text = fmt::format("exports available: {}\n", exports.size());
  for (const ListedExport& entry : exports) {
    text += fmt::format(" export: '{}'\n", printable(entry.name));
    if (!entry.description.empty()) {
      text += fmt::format("  description: {}\n", entry.description);
    }
    if (entry.info) {
      text += export_text(*entry.info);
    }
    if (!entry.contexts.empty()) {
      text += fmt::format("  available meta contexts: {}\n", entry.contexts.size());
      for (const std::string& context : entry.contexts) {
        text += fmt::format("   {}\n", context);
      }
    }
  }
  return text;
}

int list_exports(const NbdOptions& options) {
  const Result<Exports> exports = fetch_list(options);
  if (!exports) {
    report_error(exports.error());
    return EXIT_FAILURE;
  }
  fmt::print("{}", export_list_text(*exports));
  return EXIT_SUCCESS;
}

}  // namespace cairn::tools
