// Session: whole conversations over a socket pair. The client says everything it has to say, closes
// its half, and reads to the end; so nothing here depends on time.
#include "monitor/session.h"

#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "block/driver_table.h"
#include "io/reactor.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "monitor/dispatch.h"
#include "protocols/null/null.h"
#include "schema/commands.h"

namespace cairn::monitor {
namespace {

class SessionTest : public ::testing::Test {
 public:
  ~SessionTest() override {
    reactor_->block_on(exports_.remove_all());
    EXPECT_TRUE(reactor_->block_on(graph_.close_all()).has_value());
  }

 protected:
  SessionTest() {
    const char* wanted = std::getenv("CAIRN_IO");
    auto kind = io::parse_backend_kind(wanted ? wanted : "auto");
    reactor_ = std::move(*io::Reactor::create(*kind));
    drivers_.add(null::kNullCoDriver);
    exports_.add_type(server_);
  }

  // The lines that the client gets for `text`.
  std::vector<std::string> talk(const std::string& text, bool pretty = false) {
    auto pair = io::Stream::pair();
    client_ = std::move(pair->first);
    chardev::StreamConnection connection(std::move(pair->second));
    std::string received;
    reactor_->block_on(converse(connection, text, pretty, received));
    std::vector<std::string> lines;
    size_t end = 0;
    while ((end = received.find("\r\n")) != received.npos) {
      lines.push_back(received.substr(0, end));
      received.erase(0, end + 2);
    }
    EXPECT_EQ(received, "");
    return lines;
  }

  // The same after the negotiation, without its two lines.
  std::vector<std::string> command(const std::string& text) {
    auto lines = talk("{'execute':'qmp_capabilities'}" + text);
    EXPECT_GE(lines.size(), 2U);
    lines.erase(lines.begin(), lines.begin() + 2);
    return lines;
  }

  io::Task<void> converse(chardev::Connection& connection, const std::string& text, bool pretty,
                          std::string& received) {
    Session session(services_, connection, pretty);
    io::TaskGroup tasks;
    tasks.spawn(session.run(io::CancelToken()));
    tasks.spawn(send(text));
    std::array<std::byte, 4096> buffer;
    while (true) {
      const Result<size_t> count = co_await client_.read_some(buffer);
      if (!count || *count == 0) {
        break;
      }
      received.append(reinterpret_cast<const char*>(buffer.data()), *count);
    }
    co_await tasks.join();
  }

  io::Task<void> send(const std::string& text) {
    iovec segment{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
    const std::span<const iovec> segments(&segment, 1);
    const Result<void> written = co_await client_.write_all(segments);
    static_cast<void>(written);
    client_.shutdown(SHUT_WR);
  }

  std::unique_ptr<io::Reactor> reactor_;
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  exports::ExportRegistry exports_{graph_};
  nbd::Server server_{exports_};
  EventHub events_;
  chardev::Registry chardevs_;
  objects::Registry objects_;
  jobs::JobList jobs_;
  io::Event stop_;
  Services services_{.graph = graph_,
                     .exports = exports_,
                     .nbd_server = server_,
                     .events = events_,
                     .chardevs = chardevs_,
                     .objects = objects_,
                     .jobs = jobs_,
                     .stop = stop_,
                     .trace = {}};
  io::Stream client_;
};

using Lines = std::vector<std::string>;

TEST_F(SessionTest, GreetsAndAnswersNothingElseBeforeNegotiation) {
  const auto lines = talk("{'execute':'query-block','id':7}{'execute':'qmp_capabilities'}");
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].substr(0, 23), "{\"QMP\": {\"version\": {\"q");
  EXPECT_NE(lines[0].find("\"capabilities\": [\"oob\"]"), std::string::npos);
  EXPECT_EQ(lines[1],
            "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting capabilities "
            "negotiation with 'qmp_capabilities'\"}, \"id\": 7}");
  EXPECT_EQ(lines[2], "{\"return\": {}}");
}

TEST_F(SessionTest, AnswersInOrderAndEchoesIds) {
  EXPECT_EQ(command("{'execute':'query-block','id':{'b':[1,null],'a':-1.5}}"
                    "{'execute':'nope','id':''}{'id':12345678901234567890}"),
            (Lines{"{\"return\": [], \"id\": {\"a\": -1.5, \"b\": [1, null]}}",
                   "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command nope has "
                   "not been found\"}, \"id\": \"\"}",
                   "{\"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input lacks member "
                   "'execute'\"}, \"id\": 12345678901234567890}"}));
}

TEST_F(SessionTest, ChecksTheMembersOfARequest) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "QMP input must be a JSON object"},
      {"{}", "QMP input lacks member 'execute'"},
      {"{'execute':1}", "QMP input member 'execute' must be a string"},
      {"{'execute':'query-block','arguments':[]}",
       "QMP input member 'arguments' must be an object"},
      {"{'execute':'query-block','extra':1}", "QMP input member 'extra' is unexpected"},
      {"{'exec-oob':'query-block'}", "QMP input member 'exec-oob' is unexpected"},
      {"{'execute':'query-block','arguments':{'all':1}}", "Parameter 'all' is unexpected"},
      {"{'execute':'blockdev-del'}", "Parameter 'node-name' is missing"},
      {"{'execute':'x' 'y'}", "JSON parse error, expected separator in dict"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(command(text),
              (Lines{std::string("{\"error\": {\"class\": \"GenericError\", \"desc\": \"") +
                     message + "\"}}"}))
        << text;
  }
}

TEST_F(SessionTest, AllowsOutOfBandOnlyWhenItWasEnabled) {
  const auto lines = talk(
      "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
      "{'exec-oob':'query-block'}{'exec-oob':'nope'}{'exec-oob':'x','execute':'y'}");
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_NE(lines[2].find("The command query-block does not support OOB"), std::string::npos);
  EXPECT_NE(lines[3].find("CommandNotFound"), std::string::npos);
  EXPECT_NE(lines[4].find("'execute' clashes with 'exec-oob'"), std::string::npos);
}

TEST_F(SessionTest, RefusesAnUnknownCapabilityAndASecondNegotiation) {
  const auto lines = talk(
      "{'execute':'qmp_capabilities','arguments':{'enable':['telepathy']}}"
      "{'execute':'qmp_capabilities'}{'execute':'qmp_capabilities'}");
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_NE(lines[1].find("Parameter 'null' does not accept value 'telepathy'"), std::string::npos);
  EXPECT_EQ(lines[2], "{\"return\": {}}");
  EXPECT_NE(lines[3].find("Capabilities negotiation is already complete"), std::string::npos);
}

TEST_F(SessionTest, CarriesCommandsOut) {
  EXPECT_EQ(command("{'execute':'blockdev-add','arguments':{'driver':'null-co','node-name':'n'}}"
                    "{'execute':'blockdev-del','arguments':{'node-name':'n'}}"
                    "{'execute':'blockdev-del','arguments':{'node-name':'n'}}"),
            (Lines{"{\"return\": {}}", "{\"return\": {}}",
                   "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Failed to find node with "
                   "node-name='n'\"}}"}));
}

TEST_F(SessionTest, StopsAtQuit) {
  EXPECT_EQ(command("{'execute':'quit'}{'execute':'query-block'}"), (Lines{"{\"return\": {}}"}));
  EXPECT_TRUE(stop_.is_set());
}

TEST_F(SessionTest, LaysOutForPeople) {
  const auto lines = talk("{'execute':'nope','id':[]}", true);
  const Lines last(lines.end() - 8, lines.end());
  EXPECT_EQ(last, (Lines{"{", "    \"error\": {", "        \"class\": \"CommandNotFound\",",
                         std::string("        \"desc\": \"Expecting capabilities negotiation ") +
                             "with 'qmp_capabilities'\"",
                         "    },", "    \"id\": [", "    ]", "}"}));
}

TEST_F(SessionTest, RefusesAnOverlongLineAndGoesOn) {
  std::string text = "{\"execute\": \"";
  text.resize(10'000'000, 'x');
  text += "\"}\n{'execute':'query-block'}";
  EXPECT_EQ(command(text), (Lines{"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON "
                                  "token size limit exceeded\"}}",
                                  "{\"return\": []}"}));
}

TEST_F(SessionTest, TellsEventsOnlyToThoseWhoNegotiated) {
  class Recorder final : public EventListener {
   public:
    void on_event(const schema::JsonValue& message) override {
      names.push_back(*message.as_object()->find("event")->as_string());
      EXPECT_TRUE(message.as_object()->find("timestamp")->is_object());
    }
    std::vector<std::string> names;
  };
  Recorder recorder;
  schema::BlockExportDeletedEvent data;
  data.id = "e";
  events_.raise<schema::events::BlockExportDeleted>(data);
  events_.add(recorder);
  events_.raise<schema::events::BlockExportDeleted>(data);
  events_.remove(recorder);
  events_.raise<schema::events::BlockExportDeleted>(data);
  EXPECT_EQ(recorder.names, (Lines{"BLOCK_EXPORT_DELETED"}));
}

// Hears all events, without a connection.
class Counter final : public EventListener {
 public:
  void on_event(const schema::JsonValue&) override { ++count; }
  int count = 0;
};

TEST_F(SessionTest, GivesUpAClientThatLetsEventsPileUpAndNobodyElse) {
  constexpr int kMost = 1'000'000;
  auto pair = io::Stream::pair();
  client_ = std::move(pair->first);
  chardev::StreamConnection connection(std::move(pair->second));
  Session session(services_, connection, false);
  Counter other;
  events_.add(other);
  bool ended = false;
  int raised = 0;
  const auto serve = [](Session& served, bool& done) -> io::Task<void> {
    co_await served.run(io::CancelToken());
    done = true;
  };
  const auto raise = [](EventHub& events, const bool& done, int& count) -> io::Task<void> {
    schema::BlockExportDeletedEvent data;
    data.id = std::string(1000, 'x');
    while (!done && count < kMost) {
      events.raise<schema::events::BlockExportDeleted>(data);
      ++count;
      co_await io::yield_now();
    }
  };
  io::TaskGroup tasks;
  tasks.spawn(serve(session, ended));
  const std::string text = "{'execute':'qmp_capabilities'}";
  const iovec segment{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  auto sending = client_.write_all(std::span(&segment, 1));
  ASSERT_TRUE(reactor_->block_on(std::move(sending)));
  reactor_->block_on(raise(events_, ended, raised));
  EXPECT_TRUE(ended) << "it let " << raised << " events pile up";
  EXPECT_EQ(other.count, raised);
  EXPECT_LT(raised, 100'000);
  reactor_->block_on(tasks.join());
  events_.remove(other);
}

TEST_F(SessionTest, HasAHandlerForEveryCommandOfTheSchema) {
  schema::commands::All::for_each(
      []<typename Command>() { EXPECT_NE(find_command(Command::kName), nullptr); });
  EXPECT_EQ(find_command("nope"), nullptr);
  EXPECT_EQ(find_command(""), nullptr);
}

}  // namespace
}  // namespace cairn::monitor
