// The generated readers and writers: what they accept, and the words in which they refuse.
#include <string>

#include <gtest/gtest.h>

#include "schema/commands.h"
#include "schema/introspection.h"
#include "schema/json_stream.h"
#include "schema/keyval.h"

namespace cairn::schema {
namespace {

template <typename T>
std::string from_json(std::string_view text) {
  const auto value = decode<T>(*parse_json(text));
  return value ? to_text(to_json(*value)) : value.error().message();
}

template <typename T>
std::string from_keyval(std::string_view text, std::string_view implied = "driver") {
  const auto tree = parse_keyval(text, implied);
  if (!tree) {
    return tree.error().message();
  }
  const auto value = decode<T>(*tree, InputForm::kKeyval);
  return value ? to_text(to_json(*value)) : value.error().message();
}

TEST(Visitor, ReadsAUnionWithAChildThatIsDescribed) {
  const auto options = decode<BlockdevOptions>(
      *parse_json("{'driver':'qcow2','node-name':'q','cache':{'direct':true},'backing':null,"
                  "'file':{'driver':'file','filename':'a.img','locking':'off'}}"));
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->driver, BlockdevDriver::kQcow2);
  EXPECT_EQ(options->node_name, "q");
  EXPECT_EQ(options->cache->direct, true);
  EXPECT_FALSE(options->cache->no_flush.has_value());
  const auto& qcow2 = std::get<BlockdevOptionsQcow2>(options->branch);
  EXPECT_TRUE(std::holds_alternative<Null>(qcow2.backing->value));
  const auto& child = *std::get<Box<BlockdevOptions>>(qcow2.file.value);
  const auto& file = std::get<BlockdevOptionsFile>(child.branch);
  EXPECT_EQ(file.filename, "a.img");
  EXPECT_EQ(file.locking, OnOffAuto::kOff);
}

TEST(Visitor, CopiesShareNothing) {
  const auto options =
      decode<BlockdevOptions>(*parse_json("{'driver':'raw','file':{'driver':'null-co','size':1}}"));
  ASSERT_TRUE(options.has_value());
  BlockdevOptions copy = *options;
  std::get<Box<BlockdevOptions>>(std::get<BlockdevOptionsRaw>(copy.branch).file.value)->node_name =
      "changed";
  EXPECT_FALSE(
      std::get<Box<BlockdevOptions>>(std::get<BlockdevOptionsRaw>(options->branch).file.value)
          ->node_name.has_value());
}

TEST(Visitor, WritesWhatItRead) {
  const std::string text =
      "{\"driver\": \"raw\", \"node-name\": \"r\", \"size\": 4096, \"file\": \"base\"}";
  EXPECT_EQ(from_json<BlockdevOptions>(text), text);
}

TEST(Visitor, NamesTheWayToAWrongMember) {
  const std::pair<const char*, const char*> cases[] = {
      {"{'driver':'qcow2','file':{'driver':'file'}}", "Parameter 'file.filename' is missing"},
      {"{'driver':'qcow2','file':{'driver':'file','filename':5}}",
       "Invalid parameter type for 'file.filename', expected: string"},
      {"{'driver':'qcow2','file':{'driver':'file','filename':'a','bogus':5}}",
       "Parameter 'file.bogus' is unexpected"},
      {"{'driver':'qcow2','file':{'driver':'file','filename':'a','':5}}",
       "Parameter 'file.' is unexpected"},
      {"{'driver':'null-co','':5}", "Parameter '' is unexpected"},
      {"{'driver':'qcow2','file':3}", "Invalid parameter type for 'file', expected: BlockdevRef"},
      {"{'driver':'null-co','cache':{'direct':'yes'}}",
       "Invalid parameter type for 'cache.direct', expected: boolean"},
      {"{'driver':'null-co','cache':1}", "Invalid parameter type for 'cache', expected: object"},
      {"{'driver':'null-co','discard':'maybe'}",
       "Parameter 'discard' does not accept value 'maybe'"},
      {"{'driver':'null-co','discard':true}",
       "Invalid parameter type for 'discard', expected: string"},
      {"{'driver':''}", "Parameter 'driver' does not accept value ''"},
      {"{'driver':null}", "Invalid parameter type for 'driver', expected: string"},
      {"{'node-name':'n'}", "Parameter 'driver' is missing"},
      {"{'driver':'null-co','size':1.5}", "Invalid parameter type for 'size', expected: integer"},
      {"{'driver':'null-co','size':99999999999999999999}",
       "Invalid parameter type for 'size', expected: integer"},
      {"{'driver':'null-co','latency-ns':'x'}", "Parameter 'latency-ns' expects uint64"},
      {"{'driver':'file','filename':'a','size':1}", "Parameter 'size' is unexpected"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(from_json<BlockdevOptions>(text), message) << text;
  }
}

TEST(Visitor, NamesTheWayThroughWrappersAndArrays) {
  EXPECT_EQ(from_json<NbdServerOptionsLegacy>("{'addr':{'type':'unix','data':{}}}"),
            "Parameter 'addr.data.path' is missing");
  EXPECT_EQ(from_json<NbdServerOptionsLegacy>("{'addr':{'type':'pigeon','data':{}}}"),
            "Parameter 'type' does not accept value 'pigeon'");
  EXPECT_EQ(from_json<NbdServerOptionsLegacy>(
                "{'max-connections':4294967296,'addr':{'type':'unix','data':{'path':'p'}}}"),
            "Parameter 'max-connections' expects uint32_t");
  EXPECT_EQ(from_json<QmpCapabilitiesArguments>("{'enable':[1]}"),
            "Invalid parameter type for 'enable[0]', expected: string");
  EXPECT_EQ(from_json<QmpCapabilitiesArguments>("{'enable':['telepathy']}"),
            "Parameter 'null' does not accept value 'telepathy'");
  EXPECT_EQ(from_json<QmpCapabilitiesArguments>("{'enable':{}}"),
            "Invalid parameter type for 'enable', expected: array");
}

TEST(Visitor, TakesNegativeNumbersForUnsignedOnesAsClientsExpect) {
  const auto options = decode<BlockdevOptions>(*parse_json("{'driver':'null-co','latency-ns':-1}"));
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(std::get<BlockdevOptionsNull>(options->branch).latency_ns, UINT64_MAX);
}

TEST(Visitor, ReadsScalarsOfACommandLine) {
  EXPECT_EQ(from_keyval<BlockdevOptions>("null-co,size=0x10,read-zeroes=on,latency-ns=7"),
            "{\"driver\": \"null-co\", \"size\": 16, \"latency-ns\": 7, \"read-zeroes\": true}");
  EXPECT_EQ(from_keyval<BlockdevOptions>("null-co,read-zeroes=y"),
            "{\"driver\": \"null-co\", \"read-zeroes\": true}");
}

TEST(Visitor, RefusesScalarsOfACommandLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"null-co,size=many", "Parameter 'size' expects integer"},
      {"null-co,size=", "Parameter 'size' expects integer"},
      {"null-co,size=1k", "Parameter 'size' expects integer"},
      {"null-co,size=99999999999999999999", "Parameter 'size' expects integer"},
      {"null-co,latency-ns=x", "Parameter 'latency-ns' expects integer"},
      {"null-co,read-zeroes=maybe", "Parameter 'read-zeroes' expects 'on' or 'off'"},
      {"null-co,cache.direct=x", "Parameter 'cache.direct' expects 'on' or 'off'"},
      {"null-co,cache.direct.x=on", "Parameters 'cache.direct.*' are unexpected"},
      {"null-co,cache=x", "Invalid parameter type for 'cache', expected: object"},
      {"null-co,size.x=1", "Parameters 'size.*' are unexpected"},
      {"null-co,bogus.x=1", "Parameter 'bogus' is unexpected"},
      {"raw,file.driver=null-co,file.size=q", "Parameter 'file.size' expects integer"},
      {"raw,file.0=x", "Invalid parameter type for 'file', expected: BlockdevRef"},
      {"", "Parameter 'driver' is missing"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(from_keyval<BlockdevOptions>(text), message) << text;
  }
}

TEST(Visitor, ReadsASizeWithItsUnit) {
  const auto size = [](std::string_view text) {
    Reading reading{.form = InputForm::kKeyval, .error = {}};
    const JsonValue value(text);
    uint64_t out = 0;
    return read_size(Input(reading, value), out) ? std::optional(out) : std::nullopt;
  };
  EXPECT_EQ(size("512"), 512U);
  EXPECT_EQ(size("64k"), 65536U);
  EXPECT_EQ(size("1G"), uint64_t{1} << 30);
  EXPECT_EQ(size("15E"), uint64_t{15} << 60);
  EXPECT_EQ(size("16E"), std::nullopt);
  EXPECT_EQ(size("-1"), std::nullopt);
  EXPECT_EQ(size("k"), std::nullopt);
}

TEST(Visitor, RefusesArgumentsWhereThereAreNone) {
  EXPECT_EQ(from_json<commands::Quit::Arguments>("{'now':true}"), "Parameter 'now' is unexpected");
  EXPECT_EQ(from_json<commands::Quit::Arguments>("{}"), "{}");
}

TEST(Visitor, LeavesOutWhatIsNotThere) {
  BlockGraphInfo info;
  info.filename = "a";
  info.format = "raw";
  info.virtual_size = 5;
  EXPECT_EQ(to_text(to_json(info)),
            "{\"children\": [], \"filename\": \"a\", \"format\": \"raw\", \"virtual-size\": 5}");
}

TEST(Enumeration, HasItsNamesBothWays) {
  EXPECT_EQ(to_string(BlockdevDriver::kHostDevice), "host_device");
  EXPECT_EQ(from_string<BlockdevDriver>("null-co"), BlockdevDriver::kNullCo);
  EXPECT_EQ(from_string<BlockdevDriver>("nope"), std::nullopt);
}

TEST(Introspection, IsJsonThatFitsItsOwnDescription) {
  const auto value = parse_json(introspection_json());
  ASSERT_TRUE(value.has_value()) << value.error().message();
  const auto entities = decode<std::vector<SchemaInfo>>(*value);
  ASSERT_TRUE(entities.has_value()) << entities.error().message();
  size_t commands = 0;
  for (const SchemaInfo& entity : *entities) {
    commands += entity.meta_type == SchemaMetaType::kCommand ? 1 : 0;
  }
  EXPECT_EQ(commands, commands::All::kSize);
}

}  // namespace
}  // namespace cairn::schema
