// Option haggling without a connection: every option, and data that is not what it should be.
#include "exports/nbd/negotiation.h"

#include <gtest/gtest.h>

#include "tests/exports/nbd/harness.h"

namespace cairn::nbd {
namespace {

using testing::wire;
using testing::WireReader;
using Verdict = Negotiation::Verdict;

class TwoExports final : public ExportDirectory {
 public:
  TwoExports() {
    disk_ = {.name = "disk",
             .description = "words",
             .size = 4096,
             .flags = kHasFlags | kSendFlush,
             .alignment = 512};
    other_ = {.name = "",
              .size = 1,
              .flags = kHasFlags | kReadOnly,
              .allocation_depth = true,
              .bitmaps = {"b0", "other", "b0"}};
  }
  bool find(std::string_view name, ExportOffer& offer) const override {
    if (name != disk_.name && name != other_.name) {
      return false;
    }
    offer = name == disk_.name ? disk_ : other_;
    return true;
  }
  std::vector<ExportOffer> list() const override { return {disk_, other_}; }

 private:
  ExportOffer disk_;
  ExportOffer other_;
};

struct Answer {
  uint32_t option = 0;
  uint32_t type = 0;
  std::string data;
};

class NegotiationTest : public ::testing::Test {
 protected:
  explicit NegotiationTest(TlsRule tls = TlsRule::kNone) : negotiation_(exports_, tls) {
    EXPECT_TRUE(negotiation_.accept_client_flags(kFixedNewstyle | kNoZeroes));
  }

  std::vector<Answer> ask(Option option, const std::string& data = {}) {
    out_.clear();
    verdict_ =
        negotiation_.handle(std::to_underlying(option), std::as_bytes(std::span(data)), out_);
    // EXPORT_NAME is answered without a header.
    return option == Option::kExportName ? std::vector<Answer>() : split(out_);
  }

  static std::vector<Answer> split(const std::string& text) {
    std::vector<Answer> answers;
    for (std::size_t at = 0; at < text.size();) {
      WireReader reader(text.substr(at));
      EXPECT_EQ(reader.take<uint64_t>(), kOptionReplyMagic);
      Answer answer{.option = reader.take<uint32_t>(), .type = reader.take<uint32_t>()};
      const auto length = reader.take<uint32_t>();
      answer.data = reader.rest().substr(0, length);
      at += 20 + length;
      answers.push_back(std::move(answer));
    }
    return answers;
  }

  void expect_error(Option option, const std::string& data, OptionReply error) {
    const auto answers = ask(option, data);
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(answers[0].type, std::to_underlying(error));
    EXPECT_EQ(answers[0].option, std::to_underlying(option));
    EXPECT_EQ(verdict_, Verdict::kContinue);
  }

  static std::string counted(std::string_view text) {
    return wire(static_cast<uint32_t>(text.size())) + std::string(text);
  }

  TwoExports exports_;
  Negotiation negotiation_;
  std::string out_;
  Verdict verdict_ = Verdict::kContinue;
};

TEST_F(NegotiationTest, TheGreetingOffersFixedNewstyleWithoutZeroes) {
  const auto greeting = Negotiation::greeting();
  const std::string text(reinterpret_cast<const char*>(greeting.data()), greeting.size());
  EXPECT_EQ(text, std::string("NBDMAGICIHAVEOPT\0\3", 18));
}

TEST_F(NegotiationTest, UnknownClientFlagsEndTheConnection) {
  EXPECT_FALSE(negotiation_.accept_client_flags(4));
  EXPECT_FALSE(negotiation_.accept_client_flags(0x80000003));
  EXPECT_TRUE(negotiation_.accept_client_flags(0));
}

TEST_F(NegotiationTest, AClientOfTheOldStyleMayOnlyNameItsExport) {
  ASSERT_TRUE(negotiation_.accept_client_flags(0));
  ask(Option::kList);
  EXPECT_EQ(verdict_, Verdict::kClose);
  ask(Option::kExportName, "disk");
  EXPECT_EQ(verdict_, Verdict::kTransmission);
  EXPECT_EQ(out_, wire(uint64_t{4096}, uint16_t{kHasFlags | kSendFlush}) + std::string(124, '\0'));
}

TEST_F(NegotiationTest, ExportNameHasNoErrorReply) {
  ask(Option::kExportName, "nope");
  EXPECT_EQ(verdict_, Verdict::kClose);
  EXPECT_EQ(out_, "");
  ask(Option::kExportName, std::string(5000, 'x'));
  EXPECT_EQ(verdict_, Verdict::kClose);
  ask(Option::kExportName, "disk");
  EXPECT_EQ(verdict_, Verdict::kTransmission);
  EXPECT_EQ(out_.size(), 10U);
}

TEST_F(NegotiationTest, ListNamesEveryExportWithItsDescription) {
  const auto answers = ask(Option::kList);
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0].data, counted("disk") + "words");
  EXPECT_EQ(answers[1].data, counted(""));
  EXPECT_EQ(answers[2].type, std::to_underlying(OptionReply::kAck));
  expect_error(Option::kList, "x", OptionReply::kErrInvalid);
}

TEST_F(NegotiationTest, AbortIsAcknowledgedAndEndsTheConnection) {
  const auto answers = ask(Option::kAbort);
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].type, std::to_underlying(OptionReply::kAck));
  EXPECT_EQ(verdict_, Verdict::kClose);
}

TEST_F(NegotiationTest, InfoAnswersWhatIsAskedForAndGoesOn) {
  const auto answers = ask(
      Option::kInfo, counted("disk") + wire(uint16_t{3}, uint16_t{1}, uint16_t{2}, uint16_t{3}));
  ASSERT_EQ(answers.size(), 5U);
  EXPECT_EQ(answers[0].data, wire(uint16_t{1}) + "disk");
  EXPECT_EQ(answers[1].data, wire(uint16_t{2}) + "words");
  EXPECT_EQ(answers[2].data, wire(uint16_t{3}, uint32_t{512}, uint32_t{4096}, uint32_t{32 << 20}));
  EXPECT_EQ(answers[3].data, wire(uint16_t{0}, uint64_t{4096}, uint16_t{kHasFlags | kSendFlush}));
  EXPECT_EQ(verdict_, Verdict::kContinue);
}

TEST_F(NegotiationTest, WhoDoesNotAskForBlockSizesMayAssumeBytes) {
  const auto answers = ask(Option::kGo, counted("disk") + wire(uint16_t{0}));
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0].data, wire(uint16_t{3}, uint32_t{1}, uint32_t{4096}, uint32_t{32 << 20}));
  EXPECT_EQ(verdict_, Verdict::kTransmission);
  EXPECT_EQ(negotiation_.agreement().export_name, "disk");
}

TEST_F(NegotiationTest, MalformedInfoIsRefused) {
  expect_error(Option::kInfo, "", OptionReply::kErrInvalid);
  expect_error(Option::kInfo, "abc", OptionReply::kErrInvalid);
  expect_error(Option::kGo, counted("disk"), OptionReply::kErrInvalid);
  expect_error(Option::kGo, counted("disk") + wire(uint16_t{1}), OptionReply::kErrInvalid);
  expect_error(Option::kGo, counted("disk") + wire(uint16_t{0}) + "x", OptionReply::kErrInvalid);
  expect_error(Option::kGo, wire(UINT32_MAX) + "disk", OptionReply::kErrInvalid);
  expect_error(Option::kGo, counted(std::string(4097, 'x')) + wire(uint16_t{0}),
               OptionReply::kErrInvalid);
  expect_error(Option::kGo, counted("nope") + wire(uint16_t{0}), OptionReply::kErrUnknown);
}

TEST_F(NegotiationTest, StructuredRepliesAreNegotiatedOnce) {
  expect_error(Option::kStructuredReply, "x", OptionReply::kErrInvalid);
  EXPECT_EQ(ask(Option::kStructuredReply)[0].type, std::to_underlying(OptionReply::kAck));
  expect_error(Option::kStructuredReply, "", OptionReply::kErrInvalid);
  const auto answers = ask(Option::kGo, counted("disk") + wire(uint16_t{0}));
  EXPECT_EQ(answers[1].data,
            wire(uint16_t{0}, uint64_t{4096}, uint16_t{kHasFlags | kSendFlush | kSendDf}));
  EXPECT_TRUE(negotiation_.agreement().structured);
}

TEST_F(NegotiationTest, ExtendedHeadersBringStructuredReplies) {
  EXPECT_EQ(ask(Option::kExtendedHeaders)[0].type, std::to_underlying(OptionReply::kAck));
  expect_error(Option::kStructuredReply, "", OptionReply::kErrInvalid);
  expect_error(Option::kExtendedHeaders, "", OptionReply::kErrInvalid);
  EXPECT_TRUE(negotiation_.agreement().structured);
  EXPECT_TRUE(negotiation_.agreement().extended);
}

TEST_F(NegotiationTest, ContextsNeedStructuredReplies) {
  expect_error(Option::kListMetaContext, counted("disk") + wire(uint32_t{0}),
               OptionReply::kErrInvalid);
}

TEST_F(NegotiationTest, ContextsAreListedByPrefix) {
  ask(Option::kStructuredReply);
  auto answers = ask(Option::kListMetaContext, counted("disk") + wire(uint32_t{0}));
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_EQ(answers[0].data, wire(uint32_t{0}) + "base:allocation");
  answers = ask(Option::kListMetaContext,
                counted("") + wire(uint32_t{2}) + counted("base:") + counted("qemu:"));
  ASSERT_EQ(answers.size(), 6U);
  EXPECT_EQ(answers[1].data, wire(uint32_t{0}) + "qemu:allocation-depth");
  EXPECT_EQ(answers[3].data, wire(uint32_t{0}) + "qemu:dirty-bitmap:other");
  answers = ask(Option::kListMetaContext,
                counted("") + wire(uint32_t{1}) + counted("qemu:dirty-bitmap:"));
  EXPECT_EQ(answers.size(), 4U);
  answers = ask(Option::kListMetaContext,
                counted("") + wire(uint32_t{1}) + counted("qemu:dirty-bitmap:o"));
  EXPECT_EQ(answers.size(), 1U);
  EXPECT_EQ(ask(Option::kListMetaContext, counted("") + wire(uint32_t{0})).size(), 6U);
  answers = ask(Option::kListMetaContext, counted("disk") + wire(uint32_t{1}) + counted("x-y:z"));
  EXPECT_EQ(answers.size(), 1U);
}

TEST_F(NegotiationTest, ASelectionReplacesTheOneBefore) {
  ask(Option::kStructuredReply);
  const auto select = [this](std::string_view name, std::string_view context) {
    return ask(Option::kSetMetaContext, counted(name) + wire(uint32_t{1}) + counted(context));
  };
  EXPECT_EQ(select("disk", "base:allocation").size(), 2U);
  EXPECT_EQ(select("disk", "base:").size(), 1U);  // a prefix selects nothing
  ask(Option::kGo, counted("disk") + wire(uint16_t{0}));
  EXPECT_TRUE(negotiation_.agreement().contexts.empty());
}

TEST_F(NegotiationTest, AFailedSelectionLeavesNothingSelected) {
  ask(Option::kStructuredReply);
  const std::string good = counted("disk") + wire(uint32_t{1}) + counted("base:allocation");
  EXPECT_EQ(ask(Option::kSetMetaContext, good).size(), 2U);
  expect_error(Option::kSetMetaContext, good + "x", OptionReply::kErrInvalid);
  ask(Option::kGo, counted("disk") + wire(uint16_t{0}));
  EXPECT_TRUE(negotiation_.agreement().contexts.empty());
}

TEST_F(NegotiationTest, ContextsOfOneExportAreNotThoseOfAnother) {
  ask(Option::kStructuredReply);
  ask(Option::kSetMetaContext, counted("") + wire(uint32_t{2}) + counted("base:allocation") +
                                   counted("qemu:allocation-depth"));
  ask(Option::kInfo, counted("disk") + wire(uint16_t{0}));  // only looks
  ask(Option::kGo, counted("disk") + wire(uint16_t{0}));
  EXPECT_TRUE(negotiation_.agreement().contexts.empty());
}

TEST_F(NegotiationTest, SelectedContextsHoldForTheirExport) {
  ask(Option::kStructuredReply);
  const auto answers = ask(Option::kSetMetaContext,
                           counted("") + wire(uint32_t{3}) + counted("base:allocation") +
                               counted("base:allocation") + counted("qemu:allocation-depth"));
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0].data, wire(kContextAllocation) + "base:allocation");
  EXPECT_EQ(answers[1].data, wire(kContextDepth) + "qemu:allocation-depth");
  ask(Option::kGo, counted("") + wire(uint16_t{0}));
  EXPECT_EQ(negotiation_.agreement().contexts,
            (std::vector<uint32_t>{kContextAllocation, kContextDepth}));
}

TEST_F(NegotiationTest, BitmapsOfOneNameAreSelectedTogether) {
  ask(Option::kStructuredReply);
  const auto answers =
      ask(Option::kSetMetaContext,
          counted("") + wire(uint32_t{2}) + counted("qemu:dirty-bitmap:b0") + counted("qemu:"));
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0].data, wire(kContextBitmaps) + "qemu:dirty-bitmap:b0");
  EXPECT_EQ(answers[1].data, wire(kContextBitmaps + 2) + "qemu:dirty-bitmap:b0");
  ask(Option::kGo, counted("") + wire(uint16_t{0}));
  EXPECT_EQ(negotiation_.agreement().contexts,
            (std::vector<uint32_t>{kContextBitmaps, kContextBitmaps + 2}));
}

TEST_F(NegotiationTest, MalformedContextQueriesAreRefused) {
  ask(Option::kStructuredReply);
  for (const Option option : {Option::kListMetaContext, Option::kSetMetaContext}) {
    expect_error(option, "", OptionReply::kErrInvalid);
    expect_error(option, counted("disk"), OptionReply::kErrInvalid);
    expect_error(option, counted("disk") + wire(UINT32_MAX), OptionReply::kErrInvalid);
    expect_error(option, counted("disk") + wire(uint32_t{1}), OptionReply::kErrInvalid);
    expect_error(option, counted("disk") + wire(uint32_t{1}, uint32_t{9}) + "base:",
                 OptionReply::kErrInvalid);
    expect_error(option, counted("disk") + wire(uint32_t{0}) + "x", OptionReply::kErrInvalid);
    expect_error(option, counted("nope") + wire(uint32_t{0}), OptionReply::kErrUnknown);
  }
}

TEST_F(NegotiationTest, TlsIsRefusedByPolicy) {
  expect_error(Option::kStartTls, "", OptionReply::kErrPolicy);
  expect_error(Option::kStartTls, "x", OptionReply::kErrInvalid);
}

TEST_F(NegotiationTest, UnknownOptionsAreRefusedPolitely) {
  expect_error(static_cast<Option>(99), "whatever", OptionReply::kErrUnsupported);
  expect_error(static_cast<Option>(4), "", OptionReply::kErrUnsupported);
  expect_error(static_cast<Option>(0), "", OptionReply::kErrUnsupported);
}

TEST_F(NegotiationTest, LongOptionsAreRefusedUnread) {
  std::string out;
  EXPECT_EQ(negotiation_.refuse_long(99, out), Verdict::kContinue);
  EXPECT_EQ(split(out).back().type, std::to_underlying(OptionReply::kErrUnsupported));
  EXPECT_EQ(negotiation_.refuse_long(7, out), Verdict::kContinue);
  EXPECT_EQ(split(out).back().type, std::to_underlying(OptionReply::kErrTooBig));
  EXPECT_EQ(negotiation_.refuse_long(1, out), Verdict::kClose);
}

class TlsNegotiationTest : public NegotiationTest {
 protected:
  TlsNegotiationTest() : NegotiationTest(TlsRule::kRequired) {}
};

TEST_F(TlsNegotiationTest, NothingIsToldBeforeTls) {
  for (const Option option : {Option::kList, Option::kInfo, Option::kGo, Option::kStructuredReply,
                              Option::kListMetaContext, Option::kSetMetaContext,
                              Option::kExtendedHeaders, static_cast<Option>(99)}) {
    expect_error(option, counted("disk") + wire(uint16_t{0}), OptionReply::kErrTlsRequired);
  }
  out_.clear();
  EXPECT_EQ(negotiation_.refuse_long(std::to_underlying(Option::kGo), out_), Verdict::kContinue);
  EXPECT_EQ(split(out_).back().type, std::to_underlying(OptionReply::kErrTlsRequired));
  ask(Option::kExportName, "disk");
  EXPECT_EQ(verdict_, Verdict::kClose);
  EXPECT_TRUE(out_.empty());
  ask(Option::kAbort);
  EXPECT_EQ(verdict_, Verdict::kClose);
}

TEST_F(TlsNegotiationTest, StartsOnceAndThenServes) {
  expect_error(Option::kStartTls, "x", OptionReply::kErrInvalid);
  EXPECT_EQ(ask(Option::kStartTls).back().type, std::to_underlying(OptionReply::kAck));
  EXPECT_EQ(verdict_, Verdict::kStartTls);
  negotiation_.secured();
  expect_error(Option::kStartTls, "", OptionReply::kErrInvalid);
  EXPECT_FALSE(negotiation_.agreement().structured);
  ask(Option::kGo, counted("disk") + wire(uint16_t{0}));
  EXPECT_EQ(verdict_, Verdict::kTransmission);
}

}  // namespace
}  // namespace cairn::nbd
