#include "exports/nbd/negotiation.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/result.h"

namespace cairn::nbd {
namespace {

constexpr std::string_view kAllocationName = "base:allocation";
constexpr std::string_view kDepthName = "qemu:allocation-depth";
constexpr std::string_view kBitmapPrefix = "qemu:dirty-bitmap:";
// One option may ask for this many contexts or pieces of information; the spec sets no limit, and
// what a client asks for twice is answered once.
constexpr uint32_t kMaxQueries = 1024;

template <typename T>
void append(std::string& out, T value) {
  std::array<char, sizeof(T)> bytes;
  store_be<T>(bytes.data(), value);
  out.append(bytes.data(), bytes.size());
}

void append_reply_header(std::string& out, Option option, OptionReply type, std::size_t length) {
  append<uint64_t>(out, kOptionReplyMagic);
  append<uint32_t>(out, std::to_underlying(option));
  append<uint32_t>(out, std::to_underlying(type));
  append<uint32_t>(out, static_cast<uint32_t>(length));
}

void append_ack(std::string& out, Option option) {
  append_reply_header(out, option, OptionReply::kAck, 0);
}

void append_info_header(std::string& out, Option option, Info type, std::size_t length) {
  append_reply_header(out, option, OptionReply::kInfo, sizeof(uint16_t) + length);
  append<uint16_t>(out, std::to_underlying(type));
}

// Whether a query asks for the context of that name. With NBD_OPT_LIST_META_CONTEXT a namespace, or
// the beginning of the bitmaps' names, stands for all in it.
bool asks_for(std::string_view query, std::string_view name, bool listing) {
  if (query == name) {
    return true;
  }
  return listing && (query == "base:" || query == "qemu:" || query == kBitmapPrefix) &&
         name.starts_with(query);
}

void append_context(std::string& out, Option option, uint32_t id, std::string_view name) {
  append_reply_header(out, option, OptionReply::kMetaContext, sizeof(uint32_t) + name.size());
  append<uint32_t>(out, id);
  out += name;
}

}  // namespace

// Takes an option's data apart; every getter fails when the data does not reach that far.
class Negotiation::DataReader {
 public:
  explicit DataReader(std::span<const std::byte> data) : data_(data) {}

  template <typename T>
  [[nodiscard]] std::optional<T> integer() {
    if (data_.size() < sizeof(T)) {
      return std::nullopt;
    }
    const T value = load_be<T>(data_.data());
    data_ = data_.subspan(sizeof(T));
    return value;
  }

  // A string after its 32-bit length.
  [[nodiscard]] std::optional<std::string_view> string() {
    const auto length = integer<uint32_t>();
    if (!length || *length > kMaxString || *length > data_.size()) {
      return std::nullopt;
    }
    const std::string_view text(reinterpret_cast<const char*>(data_.data()), *length);
    data_ = data_.subspan(*length);
    return text;
  }

  [[nodiscard]] std::size_t left() const { return data_.size(); }

 private:
  std::span<const std::byte> data_;
};

std::array<std::byte, Negotiation::kGreetingSize> Negotiation::greeting() {
  std::array<std::byte, kGreetingSize> bytes;
  store_be<uint64_t>(&bytes[0], kInitMagic);
  store_be<uint64_t>(&bytes[8], kOptionMagic);
  store_be<uint16_t>(&bytes[16], kFixedNewstyle | kNoZeroes);
  return bytes;
}

bool Negotiation::accept_client_flags(uint32_t flags) {
  fixed_ = (flags & kFixedNewstyle) != 0;
  no_zeroes_ = (flags & kNoZeroes) != 0;
  return (flags & ~(kFixedNewstyle | kNoZeroes)) == 0;
}

Negotiation::Verdict Negotiation::handle(uint32_t option, std::span<const std::byte> data,
                                         std::string& out) {
  const auto known = static_cast<Option>(option);
  if (!fixed_ && known != Option::kExportName) {
    return Verdict::kClose;  // such a client understands no reply
  }
  if (refused_without_tls(known)) {
    return known == Option::kExportName
               ? Verdict::kClose
               : refuse(known, OptionReply::kErrTlsRequired,
                        fmt::format("Option 0x{:x} not permitted before TLS", option), out);
  }
  switch (known) {
    case Option::kExportName:
      return export_name(data, out);
    case Option::kAbort:
      return abort(out);
    case Option::kList:
      return list(data, out);
    case Option::kStartTls:
      return start_tls(data, out);
    case Option::kInfo:
    case Option::kGo:
      return info_or_go(known, data, out);
    case Option::kStructuredReply:
      return structured_reply(data, out);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      return meta_context(known, data, out);
    case Option::kExtendedHeaders:
      return extended_headers(data, out);
  }
  return refuse(known, OptionReply::kErrUnsupported, "unknown option", out);
}

Negotiation::Verdict Negotiation::refuse_long(uint32_t option, std::string& out) {
  const auto known = static_cast<Option>(option);
  if (!fixed_ || known == Option::kExportName) {
    return Verdict::kClose;
  }
  if (refused_without_tls(known)) {
    return refuse(known, OptionReply::kErrTlsRequired, "not permitted before TLS", out);
  }
  const bool unknown =
      option == 0 || option == 4 || option > std::to_underlying(Option::kExtendedHeaders);
  return refuse(known, unknown ? OptionReply::kErrUnsupported : OptionReply::kErrTooBig,
                "the option's data is too long", out);
}

Negotiation::Verdict Negotiation::refuse(Option option, OptionReply error, std::string_view message,
                                         std::string& out) {
  append_reply_header(out, option, error, message.size());
  out += message;
  return Verdict::kContinue;
}

bool Negotiation::refused_without_tls(Option option) const {
  return tls_ == TlsRule::kRequired && !secure_ && option != Option::kStartTls &&
         option != Option::kAbort;
}

// "NBD_OPT_STARTTLS"
Negotiation::Verdict Negotiation::start_tls(std::span<const std::byte> data, std::string& out) {
  if (!data.empty()) {
    return refuse(Option::kStartTls, OptionReply::kErrInvalid, "unexpected data", out);
  }
  if (tls_ == TlsRule::kNone) {
    return refuse(Option::kStartTls, OptionReply::kErrPolicy, "TLS not configured", out);
  }
  if (secure_) {
    return refuse(Option::kStartTls, OptionReply::kErrInvalid, "TLS has begun already", out);
  }
  append_ack(out, Option::kStartTls);
  return Verdict::kStartTls;
}

uint16_t Negotiation::transmission_flags(const ExportOffer& offer) const {
  uint16_t flags = offer.flags;
  flags |= agreement_.structured || agreement_.extended ? kSendDf : 0;
  flags |= agreement_.extended ? kBlockStatusPayload : 0;
  return flags;
}

// Settles what was agreed on for the export that the client has chosen.
void Negotiation::enter(const ExportOffer& offer) {
  if (context_export_ != offer.name) {
    // The contexts were selected for another export, which may not have the same ones.
    agreement_.contexts.clear();
  }
  agreement_.export_name = offer.name;
}

// This option has no error reply: the only refusal is to drop the connection.
Negotiation::Verdict Negotiation::export_name(std::span<const std::byte> data, std::string& out) {
  const std::string_view name(reinterpret_cast<const char*>(data.data()), data.size());
  ExportOffer offer;
  if (data.size() > kMaxString || !exports_.find(name, offer)) {
    return Verdict::kClose;
  }
  append<uint64_t>(out, offer.size);
  append<uint16_t>(out, transmission_flags(offer));
  if (!no_zeroes_) {
    out.append(124, '\0');
  }
  enter(offer);
  return Verdict::kTransmission;
}

Negotiation::Verdict Negotiation::abort(std::string& out) {
  append_ack(out, Option::kAbort);
  return Verdict::kClose;
}

Negotiation::Verdict Negotiation::list(std::span<const std::byte> data, std::string& out) {
  if (!data.empty()) {
    return refuse(Option::kList, OptionReply::kErrInvalid, "unexpected data", out);
  }
  for (const ExportOffer& offer : exports_.list()) {
    append_reply_header(out, Option::kList, OptionReply::kServer,
                        sizeof(uint32_t) + offer.name.size() + offer.description.size());
    append<uint32_t>(out, static_cast<uint32_t>(offer.name.size()));
    out += offer.name;
    out += offer.description;
  }
  append_ack(out, Option::kList);
  return Verdict::kContinue;
}

Negotiation::Verdict Negotiation::info_or_go(Option option, std::span<const std::byte> data,
                                             std::string& out) {
  DataReader reader(data);
  const auto name = reader.string();
  const auto count = name ? reader.integer<uint16_t>() : std::nullopt;
  if (!count || reader.left() != *count * sizeof(uint16_t)) {
    return refuse(option, OptionReply::kErrInvalid, "malformed data", out);
  }
  bool wants_name = false;
  bool wants_description = false;
  bool wants_block_size = false;
  for (uint16_t i = 0; i < *count; ++i) {
    const auto wanted = static_cast<Info>(*reader.integer<uint16_t>());
    wants_name |= wanted == Info::kName;
    wants_description |= wanted == Info::kDescription;
    wants_block_size |= wanted == Info::kBlockSize;
  }

  ExportOffer offer;
  if (!exports_.find(*name, offer)) {
    return refuse(option, OptionReply::kErrUnknown, fmt::format("export '{}' not present", *name),
                  out);
  }
  if (wants_name) {
    append_info_header(out, option, Info::kName, offer.name.size());
    out += offer.name;
  }
  if (wants_description && !offer.description.empty()) {
    append_info_header(out, option, Info::kDescription, offer.description.size());
    out += offer.description;
  }
  // Any alignment is served. A client that asks is told which one needs no extra work; one that
  // does not ask may assume 1.
  append_info_header(out, option, Info::kBlockSize, 3 * sizeof(uint32_t));
  append<uint32_t>(out, wants_block_size ? offer.alignment : 1);
  append<uint32_t>(out, std::max(offer.alignment, kPreferredBlockSize));
  append<uint32_t>(out, kMaxPayload);
  append_info_header(out, option, Info::kExport, sizeof(uint64_t) + sizeof(uint16_t));
  append<uint64_t>(out, offer.size);
  append<uint16_t>(out, transmission_flags(offer));
  append_ack(out, option);
  if (option == Option::kInfo) {
    return Verdict::kContinue;
  }
  enter(offer);
  return Verdict::kTransmission;
}

Negotiation::Verdict Negotiation::structured_reply(std::span<const std::byte> data,
                                                   std::string& out) {
  if (!data.empty()) {
    return refuse(Option::kStructuredReply, OptionReply::kErrInvalid, "unexpected data", out);
  }
  if (agreement_.structured || agreement_.extended) {
    return refuse(Option::kStructuredReply, OptionReply::kErrInvalid,
                  "structured replies were negotiated already", out);
  }
  agreement_.structured = true;
  append_ack(out, Option::kStructuredReply);
  return Verdict::kContinue;
}

Negotiation::Verdict Negotiation::extended_headers(std::span<const std::byte> data,
                                                   std::string& out) {
  if (!data.empty()) {
    return refuse(Option::kExtendedHeaders, OptionReply::kErrInvalid, "unexpected data", out);
  }
  if (agreement_.extended) {
    return refuse(Option::kExtendedHeaders, OptionReply::kErrInvalid,
                  "extended headers were negotiated already", out);
  }
  agreement_.structured = true;
  agreement_.extended = true;
  append_ack(out, Option::kExtendedHeaders);
  return Verdict::kContinue;
}

Negotiation::Verdict Negotiation::meta_context(Option option, std::span<const std::byte> data,
                                               std::string& out) {
  if (!agreement_.structured) {
    return refuse(option, OptionReply::kErrInvalid, "structured replies must be negotiated first",
                  out);
  }
  const bool listing = option == Option::kListMetaContext;
  if (!listing) {
    // The selection replaces the one before, also when it fails.
    agreement_.contexts.clear();
  }
  DataReader reader(data);
  const auto name = reader.string();
  const auto count = name ? reader.integer<uint32_t>() : std::nullopt;
  if (!count || *count > kMaxQueries) {
    return refuse(option, OptionReply::kErrInvalid, "malformed data", out);
  }
  std::vector<std::string_view> queries;
  for (uint32_t i = 0; i < *count; ++i) {
    const auto query = reader.string();
    if (!query) {
      return refuse(option, OptionReply::kErrInvalid, "malformed data", out);
    }
    queries.push_back(*query);
  }
  if (reader.left() != 0) {
    return refuse(option, OptionReply::kErrInvalid, "malformed data", out);
  }
  ExportOffer offer;
  if (!exports_.find(*name, offer)) {
    return refuse(option, OptionReply::kErrUnknown, fmt::format("export '{}' not present", *name),
                  out);
  }
  const auto consider = [&](uint32_t id, std::string_view context) {
    const bool wanted =
        (listing && queries.empty()) || std::ranges::any_of(queries, [&](std::string_view query) {
          return asks_for(query, context, listing);
        });
    if (wanted) {
      append_context(out, option, listing ? 0 : id, context);
    }
    if (wanted && !listing) {
      agreement_.contexts.push_back(id);
    }
  };
  consider(kContextAllocation, kAllocationName);
  if (offer.allocation_depth) {
    consider(kContextDepth, kDepthName);
  }
  for (std::size_t i = 0; i < offer.bitmaps.size(); ++i) {
    consider(kContextBitmaps + static_cast<uint32_t>(i),
             std::string(kBitmapPrefix) + offer.bitmaps[i]);
  }
  if (!listing) {
    context_export_ = *name;
  }
  append_ack(out, option);
  return Verdict::kContinue;
}

}  // namespace cairn::nbd
