// What offline tools say of the options of filters and servers: a table, by the way of opening.
#include "tools/common/option_words.h"

#include <span>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "tools/common/image.h"
#include "tools/common/session.h"

namespace cairn::tools {
namespace {

// Why "driver=…" does not open; empty when it does. "$N" stands for a child that can be had: its
// options with what stands before "$N" in front of each.
std::string refusal_of(Session& session, std::string text) {
  for (std::size_t at = text.find(".$N"); at != text.npos; at = text.find(".$N")) {
    const std::size_t begin = text.rfind(',', at) + 1;
    const std::string name = text.substr(begin, at - begin);
    text.replace(begin, at + 3 - begin, fmt::format("{0}.driver=null-co,{0}.size=1M", name));
  }
  auto node = session.run(open_image(session.graph(), {.text = text, .by_options = true}, {}));
  if (!node) {
    return node.error().message();
  }
  EXPECT_TRUE(session.run(session.graph().release(std::move(*node))));
  return "";
}

struct Case {
  const char* options;
  const char* says;  // what the refusal ends with; empty: it opens
};

void expect_words(std::span<const Case> cases) {
  auto session = Session::create();
  ASSERT_TRUE(session);
  for (const Case& one : cases) {
    const std::string told = refusal_of(**session, one.options);
    const std::string_view end = one.says;
    EXPECT_TRUE(end.empty() ? told.empty() : std::string_view(told).ends_with(end))
        << one.options << ": " << told;
  }
}

TEST(OptionWords, SayWhatFiltersMiss) {
  constexpr Case kCases[] = {
      {"driver=throttle,file.$N", "Please specify a throttle group"},
      {"driver=throttle,throttle-group=g,file.$N", "Throttle group 'g' does not exist"},
      {"driver=replication,file.$N", "Missing the option mode"},
      {"driver=replication,mode=third,file.$N",
       "The option mode's value should be primary or secondary"},
      {"driver=copy-on-read,file.driver=file", "The 'file' block driver requires a file name"},
      {"driver=copy-on-read,file.driver=nosuch", "Unknown driver 'nosuch'"},
      {"driver=blkdebug", "A block device must be specified for \"image\""},
      {"driver=blkdebug,image.$N,inject-error.0.errno=5", "Missing event name for rule"},
      {"driver=blkdebug,image.$N,inject-error.0.event=nosuch", "invalid parameter value: nosuch"},
      {"driver=blklogwrites,file.$N", "A block device must be specified for \"log\""},
      {"driver=blkverify,test.$N", "A block device must be specified for \"raw\""},
      {"driver=blkverify,raw.$N", "A block device must be specified for \"test\""},
      {"driver=quorum", "Number of provided children must be 1 or more"},
      {"driver=quorum,children.0.$N", "Parameter 'vote-threshold' expects a value >= 1"},
      {"driver=quorum,children.0.driver=raw,vote-threshold=0",
       "Parameter 'vote-threshold' expects a value >= 1"},
      {"driver=quorum,children.0.driver=nosuch,vote-threshold=2",
       "threshold may not exceed children count"},
      {"driver=quorum,children.0.driver=raw,vote-threshold=1",
       "A block device must be specified for \"file\""},
      {"driver=quorum,children.0.driver=raw,vote-threshold=1,read-pattern=odd",
       "Please set read-pattern as fifo or quorum"},
      {"driver=blkverify,raw.driver=qcow2,test.$N",
       "A block device must be specified for \"file\""},
  };
  expect_words(kCases);
}

TEST(OptionWords, SayWhichValuesMakeNoSense) {
  constexpr Case kCases[] = {
      {"driver=null-co,discard=on", ""},
      {"driver=null-co,discard=off", ""},
      {"driver=null-co,discard=maybe", "Invalid discard option"},
      {"driver=null-co,detect-zeroes=odd", "invalid parameter value: odd"},
      {"driver=raw,file.$N,cache=odd", "Block format 'raw' does not support the option 'cache'"},
      {"driver=raw,file.$N,cache.odd=1",
       "Block format 'raw' does not support the option 'cache.odd'"},
      {"driver=raw,file.$N,file.odd.x=1",
       "Block protocol 'null-co' doesn't support the option 'odd.x'"},
      {"driver=qcow2,file.$N,overlap-check.odd.x=1", "Image is not in qcow2 format"},
      {"driver=qcow2,file.$N,cache-clean-interval=x",
       "Parameter 'cache-clean-interval' expects a number"},
      {"driver=qcow2,file.$N,cache-clean-interval=18446744073709551616",
       "Value '18446744073709551616' is too large for parameter 'cache-clean-interval'"},
      {"driver=qcow2,file.$N,cache-clean-interval=18446744073709551615",
       "Cache clean interval too big"},
      {"driver=quorum,children.0.$N,vote-threshold=18446744073709551616",
       "Value '18446744073709551616' is too large for parameter 'vote-threshold'"},
      {"driver=blkdebug,image.$N,inject-error.0.event=none,inject-error.0.errno="
       "18446744073709551616",
       "Value '18446744073709551616' is too large for parameter 'errno'"},
      {"driver=raw,file.$N,backing=x", "Driver doesn't support backing files"},
      {"driver=raw,file.$N,backing.driver=null-co", "Driver doesn't support backing files"},
      {"driver=raw,file.$N,file.backing=x", "Driver doesn't support backing files"},
      {"driver=nbd,server=x", "NBD server address missing"},
      {"driver=nbd,server.type=inet", "Parameter 'host' is missing"},
      {"driver=nbd,server.type=unix,server.path=x,server.odd=1", "Parameter 'odd' is unexpected"},
      {"driver=raw,file.driver=nbd,file.server.type=unix", "Parameter 'path' is missing"},
      {"driver=quorum,children.0.$N,vote-threshold=1,read-pattern=odd",
       "Please set read-pattern as fifo or quorum"},
      {"driver=preallocate,file.$N,prealloc-align=100",
       "prealloc-align parameter of preallocate filter is not aligned to 512"},
      {"driver=preallocate,file.$N,prealloc-size=x",
       "Parameter 'prealloc-size' expects a non-negative number below 2^64"},
      {"driver=blkdebug,image.$N,inject-error.0.event=none,inject-error.0.errno=x",
       "Parameter 'errno' expects a number"},
      {"driver=preallocate,file.$N,prealloc-align=1k,prealloc-size=1M", ""},
  };
  expect_words(kCases);
}

TEST(OptionWords, LeaveOtherMessagesAlone) {
  for (const char* message : {"Parameter 'size' is missing", "Parameter 'mode' is unexpected",
                              "Parameter 'driver' does not accept value ", ""}) {
    EXPECT_EQ(in_words_of_tools(message), message);
  }
}

}  // namespace
}  // namespace cairn::tools
