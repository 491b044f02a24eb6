// What cairnctl prints for people: tables, entries, events, and what is safe on a terminal.
#include "tools/ctl/text.h"

#include <gtest/gtest.h>

#include "schema/json_stream.h"
#include "tools/ctl/address.h"
#include "tools/ctl/events.h"
#include "tools/ctl/show.h"

namespace cairn::ctl {
namespace {

schema::JsonValue parsed_json(std::string_view text) { return schema::parse_json(text).value(); }

TEST(CtlText, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(clean("a\x1b[2Jb\n\t\x7f"), "a\\x1b[2Jb\\n\\t\\x7f");
  EXPECT_EQ(clean("\u009b31m \u202eabc"), "\\x9b31m \\x202eabc");
  EXPECT_EQ(clean("\xff\xc3"), "\uFFFD\uFFFD");
  EXPECT_EQ(clean("größe 磁盘"), "größe 磁盘");
}

TEST(CtlText, CountsColumnsNotBytes) {
  EXPECT_EQ(display_width("größe"), 5U);
  EXPECT_EQ(display_width("磁盘"), 4U);
  EXPECT_EQ(cut("größenwahn", 5), "größ…");
  EXPECT_EQ(cut("磁盘磁盘", 4), "磁…");
  EXPECT_EQ(cut("abc", 3), "abc");
}

TEST(CtlText, ATableAlignsAndIsCutToTheTerminal) {
  Table table({{"NAME"}, {"SIZE", true}, {"NOTE"}});
  table.add({"größe", "5", ""});
  table.add({"b", "1024", "a long note"});
  EXPECT_EQ(table.text({}),
            "NAME   SIZE  NOTE\n"
            "größe     5\n"
            "b      1024  a long note\n");
  EXPECT_EQ(table.width(), 24U);
  EXPECT_EQ(table.text({.bold = true, .width = 16}),
            "\x1b[1mNAME   SIZE  NO…\x1b[0m\n"
            "größe     5\n"
            "b      1024  a …\n");
}

TEST(CtlText, BarsTimesAndRates) {
  EXPECT_EQ(progress_bar(0, 12), "[----------]");
  EXPECT_EQ(progress_bar(0.999, 12), "[#########-]") << "full is what is done";
  EXPECT_EQ(progress_bar(1, 12), "[##########]");
  EXPECT_EQ(progress_bar(7, 4), "[##]");
  EXPECT_EQ(format_duration(std::chrono::seconds(5)), "0:05");
  EXPECT_EQ(format_duration(std::chrono::seconds(3723)), "1:02:03");
  EXPECT_EQ(format_duration(std::chrono::seconds(90000)), "1d 1h");
  EXPECT_EQ(format_rate(std::nullopt), "-");
  EXPECT_EQ(format_rate(1536), "1.5 KiB/s");
}

TEST(CtlShow, AListOfObjectsIsATable) {
  EXPECT_EQ(show(parsed_json(
                     R"([{"id": "e", "ro": true, "image": {"virtual-size": 65536}, "l": ["a", "b"]},
                          {"id": "f", "image": {"virtual-size": 10}, "extra": null}])"),
                 "", {}, false),
            "ID  RO   VIRTUAL-SIZE  L    EXTRA\n"
            "e   yes        64 KiB  a,b\n"
            "f                  10           -\n");
}

TEST(CtlShow, WhatHasNoRoomInATableIsAnEntry) {
  const auto nodes = parsed_json(
      R"([{"node-name": "d", "drv": "raw", "image": {"virtual-size": 2048, "children": [{"a": 1}]}}])");
  EXPECT_EQ(show(nodes, "", {.width = 80}, false),
            "- node-name: d\n"
            "  drv: raw\n"
            "  image:\n"
            "    virtual-size: 2048 (2 KiB)\n"
            "    children:\n"
            "      - a: 1\n");
  EXPECT_EQ(show(nodes, "query-named-block-nodes", {.width = 80}, false),
            "NODE-NAME  DRV  VIRTUAL-SIZE\n"
            "d          raw         2 KiB\n")
      << "the columns that matter";
  EXPECT_EQ(show(nodes, "query-named-block-nodes", {.width = 80}, true).substr(0, 14),
            "- node-name: d");
}

TEST(CtlShow, OtherValuesStandForThemselves) {
  EXPECT_EQ(show(parsed_json("[]"), "", {}, false), "(none)\n");
  EXPECT_EQ(show(parsed_json("\"a\\nb\""), "", {}, false), "a\\nb\n");
  EXPECT_EQ(show(parsed_json("[1, \"b\", [2]]"), "", {}, false), "1\nb\n- \n  - 2\n");
  EXPECT_EQ(show(parsed_json(R"({"a": {}, "b": []})"), "", {}, false), "a: (none)\nb: (none)\n");
}

TEST(CtlEvents, AConditionHoldsForTheDataByItsPath) {
  const auto event =
      parsed_json(R"({"event": "E", "data": {"id": "j", "n": 5, "on": true, "in": {"x": "y"}},
                              "timestamp": {"seconds": 0, "microseconds": 1000}})");
  const auto matches = [&](std::vector<std::string> conditions) {
    return event_matches(event, "E", conditions);
  };
  EXPECT_TRUE(matches({}));
  EXPECT_TRUE(matches({"id=j", "n=5", "on=true", "in.x=y"}));
  EXPECT_FALSE(matches({"id=j", "n=6"}));
  EXPECT_FALSE(matches({"none=1"}));
  EXPECT_FALSE(matches({"id.x=1"}));
  EXPECT_FALSE(event_matches(event, "F", {}));
  EXPECT_FALSE(
      event_matches(parsed_json(R"({"event": "E"})"), "E", std::vector<std::string>{"id=j"}));
  EXPECT_EQ(describe_event(event).substr(23), "  E  id=j  n=5  on=yes  in.x=y");
}

TEST(CtlAddress, TellsPathsFromHosts) {
  const auto parsed = [](std::string_view text) -> std::string {
    const auto address = parse_monitor_address(text);
    return !address ? "error" : (address->is_unix ? "unix " : "tcp ") + address->to_string();
  };
  EXPECT_EQ(parsed("/run/a:b.sock"), "unix /run/a:b.sock");
  EXPECT_EQ(parsed("qmp.sock"), "unix qmp.sock");
  EXPECT_EQ(parsed("unix:a:1"), "unix a:1");
  EXPECT_EQ(parsed("localhost:4444"), "tcp localhost:4444");
  EXPECT_EQ(parsed("tcp:[::1]:4444"), "tcp [::1]:4444");
  EXPECT_EQ(parsed("tcp:4444"), "error");
  EXPECT_EQ(parsed(":4444"), "error");
  EXPECT_EQ(parsed(""), "error");
}

}  // namespace
}  // namespace cairn::ctl
