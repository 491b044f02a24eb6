// Events that are held back, by virtual time.
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/reactor.h"
#include "io/timer.h"
#include "monitor/events.h"
#include "tests/support/sim_backend.h"

namespace cairn::monitor {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;

// An event as the schema defines them: its data is its number and what it is about.
struct Numbered {
  std::string about;
  int number = 0;
};

schema::JsonValue to_json(const Numbered& event) {
  schema::JsonObject data;
  data.add("node-name", event.about);
  data.add("sector-num", int64_t{event.number});
  return data;
}

struct Limited {
  static constexpr std::string_view kName = "QUORUM_REPORT_BAD";
  using Data = Numbered;
};

struct Unlimited {
  static constexpr std::string_view kName = "SOMETHING_ELSE";
  using Data = Numbered;
};

class EventThrottleTest : public ::testing::Test, private EventListener {
 protected:
  EventThrottleTest() { events_.add(*this); }
  ~EventThrottleTest() override { events_.remove(*this); }

  template <typename Event>
  void raise(std::string about, int number) {
    events_.raise<Event>({std::move(about), number});
  }

  void sleep(milliseconds duration) {
    const auto sleeping = [](milliseconds time) -> io::Task<void> { co_await io::sleep_for(time); };
    reactor_.block_on(sleeping(duration));
  }

  std::vector<std::string> heard_;

 private:
  void on_event(const schema::JsonValue& message) override {
    const auto* data = message.as_object()->find("data")->as_object();
    heard_.push_back(*data->find("node-name")->as_string() +
                     schema::to_text(*data->find("sector-num")));
  }

  io::Reactor reactor_{std::make_unique<testing::SimBackend>(1)};
  EventHub events_;
};

TEST_F(EventThrottleTest, TheFirstGoesOutAtOnceAndTheLastWhenTheSecondIsOver) {
  for (int number = 1; number <= 5; ++number) {
    raise<Limited>("a", number);
  }
  EXPECT_THAT(heard_, ElementsAre("a1"));
  sleep(milliseconds(999));
  EXPECT_THAT(heard_, ElementsAre("a1"));
  sleep(milliseconds(2));
  EXPECT_THAT(heard_, ElementsAre("a1", "a5"));
}

TEST_F(EventThrottleTest, TheOneThatWasHeldBackBeginsAnotherSecond) {
  raise<Limited>("a", 1);
  raise<Limited>("a", 2);
  sleep(milliseconds(1100));
  raise<Limited>("a", 3);
  EXPECT_THAT(heard_, ElementsAre("a1", "a2"));
  sleep(milliseconds(1000));
  EXPECT_THAT(heard_, ElementsAre("a1", "a2", "a3"));
  sleep(milliseconds(5000));
  raise<Limited>("a", 4);
  EXPECT_THAT(heard_, ElementsAre("a1", "a2", "a3", "a4"));
}

TEST_F(EventThrottleTest, EventsAboutDifferentThingsDoNotWaitForEachOther) {
  raise<Limited>("a", 1);
  raise<Limited>("b", 2);
  raise<Limited>("a", 3);
  EXPECT_THAT(heard_, ElementsAre("a1", "b2"));
}

TEST_F(EventThrottleTest, AllOthersGoOutAtOnce) {
  for (int number = 1; number <= 3; ++number) {
    raise<Unlimited>("a", number);
  }
  EXPECT_THAT(heard_, ElementsAre("a1", "a2", "a3"));
}

TEST_F(EventThrottleTest, WhatIsHeldBackAtTheEndIsDropped) {
  raise<Limited>("a", 1);
  raise<Limited>("a", 2);
  EXPECT_THAT(heard_, ElementsAre("a1"));
}

}  // namespace
}  // namespace cairn::monitor
