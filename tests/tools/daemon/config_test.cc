// What is said about configuration files before anything is done.
#include "tools/daemon/config.h"

#include <string>

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

// One line a problem; what would run when there is none.
std::string checked(std::string_view text) {
  const Config config = parse_config(text, "f");
  std::string result;
  for (const Error& problem : config.problems) {
    result += problem.message() + "\n";
  }
  for (const ConfigEntry& entry : config.entries) {
    result += config.problems.empty()
                  ? std::string(entry.command->name) + " " + schema::to_text(entry.arguments) + "\n"
                  : "";
  }
  return result;
}

TEST(Config, IsAListOfCommands) {
  EXPECT_EQ(checked("[]"), "");
  EXPECT_EQ(checked(" [ ] \n"), "");
  EXPECT_EQ(checked(R"([{"execute": "query-jobs"},
                        {"execute": "blockdev-del", "arguments": {"node-name": "a"}, "id": 1}])"),
            "query-jobs {}\nblockdev-del {\"node-name\": \"a\"}\n");
}

TEST(Config, SyntaxErrorsHaveTheirLine) {
  EXPECT_EQ(checked(""), "f:1: a configuration is a JSON list of commands: '[' expected\n");
  EXPECT_EQ(checked("{}"), "f:1: a configuration is a JSON list of commands: '[' expected\n");
  EXPECT_EQ(checked("[\n"), "f:2: entry 1 expected, where the file ends\n");
  EXPECT_EQ(checked("[{\"execute\":\n\n#}]"),
            "f:1: entry 1: JSON parse error, stray '#' (up to line 3)\n");
  EXPECT_EQ(checked("[{\"execute\": \"quit\"}\n {}]"), "f:2: ',' or ']' expected after entry 1\n");
  EXPECT_EQ(checked("[{\"execute\": \"quit\"},\n]"),
            "f:2: entry 2: JSON parse error, expecting value\n");
  EXPECT_EQ(checked("[]\n[]"), "f:2: nothing may follow the list\n");
}

TEST(Config, EveryEntryThatIsWrongIsNamed) {
  EXPECT_EQ(checked(R"([
    {"execute": "blockdev-add", "arguments": {"driver": "none"}},
    {"execute": "quit"},
    {"execute": "blockdev-adds"},
    {"execute": "block_resize",
     "arguments": {"node-name": "d", "size": "1G"}},
    {"execute": "blockdev-del", "arguments": {}},
    {"execute": "blockdev-del", "arguments": {"node-name": "d", "force": true}},
    {"exec-oob": "quit"}, [],
    {"execute": "qmp_capabilities"}])"),
            "f:2: entry 1, 'blockdev-add': Parameter 'driver' does not accept value 'none'\n"
            "f:4: entry 3, 'blockdev-adds': there is no such command\n"
            "f:5: entry 4, 'block_resize': Invalid parameter type for 'size', expected: integer\n"
            "f:7: entry 5, 'blockdev-del': Parameter 'node-name' is missing\n"
            "f:8: entry 6, 'blockdev-del': Parameter 'force' is unexpected\n"
            "f:9: entry 7: QMP input member 'exec-oob' is unexpected\n"
            "f:9: entry 8: QMP input must be a JSON object\n"
            "f:10: entry 9, 'qmp_capabilities': there is nothing to negotiate\n");
}

TEST(Config, AFileThatCanNotBeReadIsAProblem) {
  const Config config = load_config("/nonexistent/config");
  ASSERT_EQ(config.problems.size(), 1U);
  EXPECT_EQ(config.problems[0].message(),
            "Could not open '/nonexistent/config': No such file or directory");
}

}  // namespace
}  // namespace cairn::tools
