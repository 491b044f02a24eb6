#include "tools/common/session.h"

#include <cerrno>
#include <cstdlib>

#include "base/size_text.h"
#include "objects/secret.h"
#include "objects/throttle_group.h"
#include "objects/tls_creds.h"
#include "tools/common/drivers.h"
#include "tools/common/object.h"
#include "tools/common/policy.h"
#include "tools/common/report.h"

namespace cairn::tools {
Session::Session(std::unique_ptr<io::Reactor> reactor)
    : reactor_(std::move(reactor)), drivers_(all_drivers()), graph_(drivers_) {
  graph_.set_on_warning(
      [](std::string_view message, std::string_view advice) { report_warning(message, advice); });
  graph_.set_on_failure([](std::string_view message) { report_error(message); });
  graph_.set_credentials_lookup([](const std::string& name) {
    return objects::find_credentials(program_objects(), name, false);
  });
  graph_.set_throttle_lookup(
      [](const std::string& name) { return objects::find_throttle(program_objects(), name); });
  graph_.set_open_policy(program_policy().images);
  graph_.set_secret_lookup(
      [](const std::string& name) { return objects::find_secret(program_objects(), name); });
}

Result<std::unique_ptr<Session>> Session::create() {
  const char* wish = std::getenv("CAIRN_IO");
  const auto kind = io::parse_backend_kind(wish != nullptr ? wish : "auto");
  if (!kind) {
    return fail(EINVAL, "CAIRN_IO: {}", kind.error().message());
  }
  if (auto enforced = enforce_policy(program_policy()); !enforced) {
    return pass(enforced);
  }
  auto reactor = io::Reactor::create(*kind);
  if (!reactor) {
    return pass(reactor, "Could not start the event loop: ");
  }
  return std::unique_ptr<Session>(new Session(std::move(*reactor)));
}

Session::~Session() {
  const Result<void> closed = reactor_->block_on(graph_.close_all());
  if (!closed) {
    report_error(closed.error());
  }
}

std::optional<CacheMode> parse_cache_mode(std::string_view text) {
  if (text == "none" || text == "off") {
    return CacheMode{.direct = true};
  }
  if (text == "directsync") {
    return CacheMode{.direct = true, .writethrough = true};
  }
  if (text == "writeback") {
    return CacheMode{};
  }
  if (text == "unsafe") {
    return CacheMode{.no_flush = true};
  }
  if (text == "writethrough") {
    return CacheMode{.writethrough = true};
  }
  return std::nullopt;
}

std::optional<bool> parse_discard_mode(std::string_view text) {
  if (text == "unmap" || text == "on") {
    return true;
  }
  return text == "ignore" || text == "off" ? std::optional(false) : std::nullopt;
}

Result<block::Preallocation> parse_preallocation(std::string_view text) {
  using block::Preallocation;
  if (text == "off") {
    return Preallocation::kOff;
  }
  if (text == "metadata") {
    return Preallocation::kMetadata;
  }
  if (text == "falloc") {
    return Preallocation::kFalloc;
  }
  if (text == "full") {
    return Preallocation::kFull;
  }
  return fail(EINVAL, "Invalid preallocation mode '{}'", text);
}

Result<uint64_t> parse_size_argument(std::string_view what, std::string_view text, uint64_t minimum,
                                     uint64_t maximum) {
  // A negative number is a number: it is out of range.
  const bool negative = text.starts_with('-') && parse_size(text.substr(1)).has_value();
  const Result<uint64_t> size = parse_size(text);
  if (!size && !negative && size.error().code() != ERANGE) {
    return fail(EINVAL, "Invalid {} specified: '{}'", what, text);
  }
  if (!size || *size < minimum || *size > maximum) {
    return fail(EINVAL, "Invalid {} specified. Must be between {} and {}.", what, minimum, maximum);
  }
  return *size;
}

}  // namespace cairn::tools
