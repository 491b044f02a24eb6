// Fuzzes the server's side of option haggling: the input is what a client sends after the greeting.
// The replies must be whole messages about the option that was sent, whatever was in it.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/bytes.h"
#include "exports/nbd/negotiation.h"

namespace {

using cairn::load_be;
using cairn::nbd::ExportDirectory;
using cairn::nbd::ExportOffer;
using cairn::nbd::Negotiation;
using cairn::nbd::TlsRule;

class TwoExports final : public ExportDirectory {
 public:
  bool find(std::string_view name, ExportOffer& offer) const override {
    for (ExportOffer& each : list()) {
      if (each.name == name) {
        offer = std::move(each);
        return true;
      }
    }
    return false;
  }
  std::vector<ExportOffer> list() const override {
    return {{.name = "disk", .description = "words", .size = 1 << 20, .flags = 1},
            {.name = "",
             .description = {},
             .size = uint64_t{1} << 62,
             .flags = 1,
             .alignment = 512,
             .allocation_depth = true,
             .bitmaps = {"b0", "b1"}}};
  }
};

void require(bool good) {
  if (!good) {
    std::abort();
  }
}

void check_replies(const std::string& out, uint32_t option) {
  std::size_t at = 0;
  while (at < out.size()) {
    require(out.size() - at >= 20);
    require(load_be<uint64_t>(&out[at]) == cairn::nbd::kOptionReplyMagic);
    require(load_be<uint32_t>(&out[at + 8]) == option);
    const auto length = load_be<uint32_t>(&out[at + 16]);
    require(length <= out.size() - at - 20);
    at += 20 + length;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  const TwoExports exports;
  const bool tls = !input.empty() && (input.front() & std::byte{1}) != std::byte{};
  Negotiation negotiation(exports, tls ? TlsRule::kRequired : TlsRule::kNone);
  input = input.subspan(input.empty() ? 0 : 1);
  if (input.size() < 4 || !negotiation.accept_client_flags(load_be<uint32_t>(input.data()))) {
    return 0;
  }
  input = input.subspan(4);
  // Option and length have 16 bits each here, and no magic number that the fuzzer had to find.
  while (input.size() >= 4) {
    const uint32_t option = load_be<uint16_t>(input.data());
    const std::size_t length = load_be<uint16_t>(input.data() + 2);
    input = input.subspan(4);
    std::string out;
    auto verdict = Negotiation::Verdict::kClose;
    if (length > Negotiation::kMaxOptionLength) {
      verdict = negotiation.refuse_long(option, out);
    } else {
      const auto option_data = input.first(std::min(length, input.size()));
      input = input.subspan(option_data.size());
      verdict = negotiation.handle(option, option_data, out);
    }
    if (option != 1) {  // EXPORT_NAME is answered without a header
      check_replies(out, option);
    }
    if (verdict == Negotiation::Verdict::kStartTls) {
      negotiation.secured();
    } else if (verdict != Negotiation::Verdict::kContinue) {
      return 0;
    }
  }
  return 0;
}
