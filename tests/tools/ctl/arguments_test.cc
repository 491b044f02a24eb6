// Typing of arguments by a schema such as a daemon tells.
#include "tools/ctl/arguments.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "schema/introspection.h"
#include "schema/json_stream.h"
#include "tools/ctl/help.h"

namespace cairn::ctl {
namespace {

// Ours, as query-qmp-schema answers.
const DaemonSchema& our_schema() {
  static const DaemonSchema kSchema =
      DaemonSchema::parse(schema::parse_json(schema::introspection_json()).value()).value();
  return kSchema;
}

// One of each kind of type, in the form of query-qmp-schema.
const DaemonSchema& small_schema() {
  static const DaemonSchema kSchema = DaemonSchema::parse(schema::parse_json(R"([
    {"name": "try", "meta-type": "command", "arg-type": "0", "ret-type": "0"},
    {"name": "HAPPENED", "meta-type": "event", "arg-type": "0"},
    {"name": "0", "meta-type": "object", "members": [
      {"name": "text", "type": "str", "default": null},
      {"name": "count", "type": "int", "default": null},
      {"name": "part", "type": "number", "default": null},
      {"name": "flag", "type": "bool", "default": null},
      {"name": "list", "type": "[int]", "default": null},
      {"name": "many", "type": "[1]", "default": null},
      {"name": "either", "type": "2", "default": null},
      {"name": "what", "type": "any", "default": null}]},
    {"name": "1", "meta-type": "object", "members": [{"name": "x", "type": "int"}]},
    {"name": "2", "meta-type": "alternate", "members": [
      {"type": "str"}, {"type": "1"}, {"type": "null"}, {"type": "int"}]},
    {"name": "[int]", "meta-type": "array", "element-type": "int"},
    {"name": "[1]", "meta-type": "array", "element-type": "1"},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
    {"name": "number", "meta-type": "builtin", "json-type": "number"},
    {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
    {"name": "null", "meta-type": "builtin", "json-type": "null"},
    {"name": "any", "meta-type": "builtin", "json-type": "value"}])")
                                                              .value())
                                          .value();
  return kSchema;
}

std::string typed(const DaemonSchema& schema, std::string_view command,
                  const std::vector<std::string>& words) {
  const auto result = typed_arguments(*schema.find_command(command), words);
  return result ? schema::to_text(*result) : "error: " + result.error().message();
}

std::string tried(const std::vector<std::string>& words) {
  return typed(small_schema(), "try", words);
}

TEST(CtlArguments, DottedKeysMakeObjectsByTheTagsOfTheirTypes) {
  EXPECT_EQ(typed(our_schema(), "blockdev-add",
                  {"driver=qcow2", "node-name=d", "read-only=on", "file.driver=file",
                   "file.filename=a=b.img", "l2-cache-size=1M"}),
            R"({"driver": "qcow2", "node-name": "d", "read-only": true, )"
            R"("file": {"driver": "file", "filename": "a=b.img"}, "l2-cache-size": 1048576})");
}

TEST(CtlArguments, AnAlternateTakesANameOrAnObject) {
  EXPECT_EQ(typed(our_schema(), "blockdev-add", {"driver=raw", "node-name=r", "file=other"}),
            R"({"driver": "raw", "node-name": "r", "file": "other"})");
  EXPECT_EQ(tried({"either=abc"}), R"({"either": "abc"})");
  EXPECT_EQ(tried({"either=12"}), R"({"either": 12})");
  EXPECT_EQ(tried({"either=null"}), R"({"either": null})");
  EXPECT_EQ(tried({"either.x=12"}), R"({"either": {"x": 12}})");
  EXPECT_EQ(tried({R"(either={"x": 12})"}), R"({"either": {"x": 12}})");
}

TEST(CtlArguments, WordsAreReadAsTheirTypesAskFor) {
  EXPECT_EQ(tried({"text=12", "count=-5", "part=0.5", "flag=off"}),
            R"({"text": "12", "count": -5, "part": 0.5, "flag": false})");
  EXPECT_EQ(tried({"count=1.5k"}), R"({"count": 1536})");
  EXPECT_EQ(tried({"count=18446744073709551615"}), R"({"count": 18446744073709551615})");
  EXPECT_EQ(tried({"what=[1, {\"a\": null}]"}), R"({"what": [1, {"a": null}]})");
  EXPECT_EQ(tried({"what=plain words"}), R"({"what": "plain words"})");
}

TEST(CtlArguments, ListsAreJsonIndicesOrRepeatedKeys) {
  EXPECT_EQ(tried({"list=1"}), R"({"list": [1]})");
  EXPECT_EQ(tried({"list=1", "list=2", "list=3"}), R"({"list": [1, 2, 3]})");
  EXPECT_EQ(tried({"list=[4, 5]"}), R"({"list": [4, 5]})");
  EXPECT_EQ(tried({"many.0.x=1", "many.1.x=2"}), R"({"many": [{"x": 1}, {"x": 2}]})");
}

TEST(CtlArguments, AWholeJsonObjectIsCheckedTooAndMayBeAddedTo) {
  EXPECT_EQ(tried({R"({"count": 1, "list": [2]})", "text=t"}),
            R"({"count": 1, "list": [2], "text": "t"})");
  EXPECT_EQ(tried({R"({"count": "1"})"}), R"(error: 'count' is a whole number, not "1")");
  EXPECT_EQ(tried({R"({"count": 1})", "count=2"}), "error: 'count' is a whole number, not a list");
}

TEST(CtlArguments, SaysWhatIsWrong) {
  EXPECT_EQ(tried({"count=many"}), "error: 'count' is a whole number, not 'many'");
  EXPECT_EQ(tried({"flag=1"}), "error: 'flag' is on or off, not '1'");
  EXPECT_EQ(tried({"cuont=1"}), "error: There is no 'cuont'; did you mean 'count'?");
  EXPECT_EQ(tried({"many.0.x=1", "many.1.y=2"}),
            "error: There is no 'many.1.y'; did you mean 'many.1.x'?");
  EXPECT_EQ(tried({"many.0.x=1", "many.2.x=2"}), "error: 'many' is a list, not an object");
  EXPECT_EQ(tried({"either.x=1", "either=a"}), "error: 'either' is given as a whole and in parts");
  EXPECT_EQ(tried({"either=a", "either.x=1"}), "error: 'either' is given as a whole and in parts");
  EXPECT_EQ(tried({"text=a", "text=b"}), "error: 'text' is a text, not a list");
  EXPECT_EQ(tried({"word"}),
            "error: 'word' is no argument: arguments are written KEY=VALUE or as JSON");
  EXPECT_EQ(tried({"a..b=1"}), "error: 'a..b' has an empty part");
  EXPECT_EQ(typed(our_schema(), "blockdev-add", {"node-name=d"}).substr(0, 35),
            "error: 'driver' is missing: one of ");
  EXPECT_EQ(typed(our_schema(), "blockdev-add", {"driver=qcow3"}),
            "error: 'driver' can not be 'qcow3'; did you mean 'qcow2'?");
  EXPECT_EQ(typed(our_schema(), "blockdev-add", {"driver=raw"}), "error: 'file' is missing");
  EXPECT_EQ(typed(our_schema(), "block_resize", {}), "error: 'size' is missing");
  EXPECT_EQ(typed(our_schema(), "query-jobs", {"x=1"}),
            "error: There is no 'x': nothing is to be given here");
}

TEST(CtlSchema, RefusesASchemaThatContradictsItself) {
  const auto parse = [](std::string_view text) {
    return DaemonSchema::parse(schema::parse_json(text).value()).has_value();
  };
  EXPECT_FALSE(parse("{}"));
  EXPECT_FALSE(parse("[1]"));
  EXPECT_FALSE(parse(R"([{"name": "c", "meta-type": "command", "arg-type": "9"}])"));
  EXPECT_FALSE(parse(R"([{"name": "0", "meta-type": "array", "element-type": "9"}])"));
  EXPECT_FALSE(parse(R"([{"name": "0", "meta-type": "mystery"}])"));
  EXPECT_FALSE(parse(R"([{"name": "0", "meta-type": "array", "element-type": "0"}])"));
  EXPECT_FALSE(parse(R"([{"name": "0", "meta-type": "alternate", "members": [{"type": "1"}]},
                         {"name": "1", "meta-type": "alternate", "members": [{"type": "0"}]}])"));
  EXPECT_FALSE(parse(R"([{"name": "0", "meta-type": "object", "members": [],
                          "tag": "t", "variants": [{"case": "a", "type": "0"}]}])"));
  EXPECT_TRUE(parse("[]"));
}

TEST(CtlSchema, GuessesOnlyWhatIsNear) {
  const std::vector<std::string> known{"query-jobs", "query-block", "quit"};
  EXPECT_EQ(nearest("query-jbos", known), "query-jobs");
  EXPECT_EQ(nearest("qiut", known), "quit");
  EXPECT_EQ(nearest("blockdev-add", known), "");
}

TEST(CtlHelp, NamesArgumentsWithTheirTypes) {
  const std::string text = describe_command(*our_schema().find_command("block-export-del"));
  EXPECT_EQ(text,
            "block-export-del id=… [mode=…]\n"
            "\n"
            "Arguments:\n"
            "  id (required)  a text\n"
            "  mode  one of safe, hard\n");
}

TEST(CtlHelp, EndsForTypesThatContainThemselves) {
  const std::string text = describe_command(*our_schema().find_command("blockdev-add"));
  EXPECT_NE(text.find("with driver=qcow2:"), text.npos);
  EXPECT_LT(text.size(), 20000U);
}

}  // namespace
}  // namespace cairn::ctl
