// UblkTest: exports of a node in memory to a pretended kernel.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "exports/export.h"
#include "exports/ublk/ublk_export.h"
#include "io/timer.h"
#include "schema/types_block_export.h"
#include "tests/exports/memory_node_test.h"
#include "tests/exports/ublk/pretended_driver.h"
#include "tests/io/export_thread.h"

namespace cairn::ublk {

class UblkTest : public exports::MemoryNodeTest {
 protected:
  static constexpr uint32_t kNumber = 7;

  void SetUp() override {
    MemoryNodeTest::SetUp();
    if (reactor_ == nullptr) {
      return;
    }
    thread_ = io::make_export_thread();
    registry_.emplace(graph_);
    registry_->add_type(exports_);
    registry_->set_find_thread([this](const std::string&) -> Result<exports::Thread> {
      return exports::Thread(thread_, &thread_->reactor());
    });
    registry_->set_on_deleted([this](const std::string&) { ++deleted_; });
  }
  void TearDown() override {
    if (registry_) {
      run(registry_->remove_all());
      EXPECT_FALSE(kernel_.device(kNumber) && kernel_.device(kNumber)->open);
      registry_.reset();
    }
    MemoryNodeTest::TearDown();
    thread_.reset();
  }

  // An export that clients may write to, but for what `change` makes of it.
  template <typename Change>
  Result<void> add(Change change) {
    schema::BlockExportOptions options;
    options.id = "e";
    options.node_name = "disk";
    options.type = schema::BlockExportType::kUblk;
    options.writable = true;
    auto& own = options.branch.emplace<schema::BlockExportOptionsUblk>();
    own.device_id = kNumber;
    if (thread_ != nullptr) {
      options.iothread = "thread";
    }
    change(options, own);
    return run(registry_->add(options));
  }
  Result<void> add() {
    return add([](auto&, auto&) {});
  }

  io::Task<Result<std::unique_ptr<Driver>>> open_driver() {
    co_return make_pretended_driver(kernel_);
  }
  static io::Task<void> rest() { (void)co_await io::sleep_for(std::chrono::microseconds(200)); }
  template <typename Done>
  bool until(Done done) {
    for (int i = 0; i < 50000 && !done(); ++i) {
      run(rest());
    }
    return done();
  }

  static RequestDescription describe(RequestKind kind, uint64_t sector, uint32_t sectors,
                                     uint32_t flags = 0) {
    return {.kind_and_flags = static_cast<uint32_t>(kind) | flags,
            .sectors = sectors,
            .first_sector = sector};
  }
  // Asks and waits for the answer.
  PretendedKernel::Answer request(RequestDescription asked, std::span<const std::byte> data = {}) {
    const uint64_t number = kernel_.ask(kNumber, asked, data);
    std::optional<PretendedKernel::Answer> answer;
    EXPECT_TRUE(until([&] { return (answer = kernel_.answer(kNumber, number)).has_value(); }));
    return answer.value_or(PretendedKernel::Answer{});
  }

  PretendedKernel kernel_;
  UblkExports exports_{[this] { return open_driver(); }};
  std::shared_ptr<io::ReactorThread> thread_;
  std::optional<exports::ExportRegistry> registry_;
  int deleted_ = 0;
};

}  // namespace cairn::ublk
