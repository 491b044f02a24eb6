// Negotiation: the server's side of option haggling, without any I/O: options in, reply bytes and a
// verdict out.
//
// Specification: "Fixed newstyle negotiation", "Option types", "Option reply types", "Metadata
// querying", "TLS support". Everything in an option comes from an untrusted client; nothing is
// believed before it has been measured against the option's length.
//
// With TLS required, a client that has not started it gets to know nothing, and what it asked for
// before counts for nothing after.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/nbd_protocol.h"

namespace cairn::nbd {

// What a client learns of an export before it uses it.
struct ExportOffer {
  std::string name;
  std::string description;
  uint64_t size = 0;                 // bytes
  uint16_t flags = 0;                // transmission flags, without kSendDf
  uint32_t alignment = 1;            // what requests are best aligned to, in bytes
  bool allocation_depth = false;     // offers "qemu:allocation-depth"
  std::vector<std::string> bitmaps;  // offers "qemu:dirty-bitmap:" and each of these
};

// The exports as a negotiation sees them: an interface, so that tests and the fuzzer need no graph.
class ExportDirectory {
 public:
  ExportDirectory() = default;
  ExportDirectory(const ExportDirectory&) = delete;
  ExportDirectory& operator=(const ExportDirectory&) = delete;
  virtual ~ExportDirectory() = default;

  // False when there is no export of that name.
  [[nodiscard]] virtual bool find(std::string_view name, ExportOffer& offer) const = 0;
  [[nodiscard]] virtual std::vector<ExportOffer> list() const = 0;
};

// Ids of metadata contexts on the wire; the bitmaps of an export count on from kContextBitmaps.
inline constexpr uint32_t kContextAllocation = 0;
inline constexpr uint32_t kContextDepth = 1;
inline constexpr uint32_t kContextBitmaps = 2;

// What was agreed on.
struct Agreement {
  std::string export_name;
  bool structured = false;
  bool extended = false;
  std::vector<uint32_t> contexts;  // the metadata contexts that were selected, in ascending order
};

// Whether a client may do without TLS: there is none, or it has to.
enum class TlsRule : uint8_t { kNone, kRequired };

class Negotiation {
 public:
  // The longest option data that is looked at, in bytes. Longer ones are refused unread.
  static constexpr uint32_t kMaxOptionLength = 16 * 1024;
  static constexpr std::size_t kGreetingSize = 18;
  static constexpr std::size_t kOptionHeaderSize = 16;

  // kStartTls: when the replies are sent, TLS begins; secured() tells that it has.
  enum class Verdict : uint8_t { kContinue, kTransmission, kStartTls, kClose };

  // `exports` outlives the negotiation.
  explicit Negotiation(const ExportDirectory& exports, TlsRule tls = TlsRule::kNone)
      : exports_(exports), tls_(tls) {}

  [[nodiscard]] static std::array<std::byte, kGreetingSize> greeting();

  // The client's answer to the greeting. False: the connection has to be dropped.
  [[nodiscard]] bool accept_client_flags(uint32_t flags);

  // One option with its whole data. Replies are appended to `out` and go to the client whatever the
  // verdict.
  [[nodiscard]] Verdict handle(uint32_t option, std::span<const std::byte> data, std::string& out);

  // An option whose data is too long to be looked at; the caller skips it.
  [[nodiscard]] Verdict refuse_long(uint32_t option, std::string& out);

  void secured() { secure_ = true; }

  // After kTransmission.
  [[nodiscard]] const Agreement& agreement() const { return agreement_; }

 private:
  class DataReader;

  Verdict export_name(std::span<const std::byte> data, std::string& out);
  Verdict abort(std::string& out);
  Verdict list(std::span<const std::byte> data, std::string& out);
  Verdict info_or_go(Option option, std::span<const std::byte> data, std::string& out);
  Verdict structured_reply(std::span<const std::byte> data, std::string& out);
  Verdict extended_headers(std::span<const std::byte> data, std::string& out);
  [[nodiscard]] bool refused_without_tls(Option option) const;
  Verdict start_tls(std::span<const std::byte> data, std::string& out);
  Verdict meta_context(Option option, std::span<const std::byte> data, std::string& out);
  Verdict refuse(Option option, OptionReply error, std::string_view message, std::string& out);
  void enter(const ExportOffer& offer);
  [[nodiscard]] uint16_t transmission_flags(const ExportOffer& offer) const;

  const ExportDirectory& exports_;
  const TlsRule tls_;
  bool secure_ = false;
  bool fixed_ = false;
  bool no_zeroes_ = false;
  std::string context_export_;  // the export whose contexts were selected
  Agreement agreement_;
};

}  // namespace cairn::nbd
