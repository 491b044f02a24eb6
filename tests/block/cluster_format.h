// ClusterFormat: a small translating driver for tests of the engine. Its mapping lives in memory
// only, units of 4 KiB are placed on the file child in the order they are allocated, and a freed
// place is reused once no request can be using it any more.
//
// It checks what the engine owes a driver (block/driver.h): ranges inside the image, whole units
// where promised, and one change per unit at a time. A breach is recorded; tests expect none.
//
// It is registered as "qcow2", a name that the interface knows and that takes a backing node. The
// guest's length and everything else that a test wants to set come from ClusterFormat::Settings.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "block/driver.h"
#include "block/driver_table.h"

namespace cairn::block {

class ClusterFormat final : public TranslatingDriver {
 public:
  static constexpr uint64_t kUnit = 4096;

  struct Settings {
    uint64_t length = 64 * kUnit;
    bool can_zero = true;            // write_zeroes() works
    bool zeroes_keep_place = false;  // unless they may unmap, zeroed units keep their place
    bool zeroes_by_default = false;  // holes do not exist: units start as zero units
    bool cached = true;              // try_map() answers; else all goes through map()
    bool durable_metadata = true;    // metadata_durable()
    bool host_reads_zero = false;    // what plans say of fresh space
    uint64_t longest_extent = UINT64_MAX;
    int fail_begin = 0;  // an errno, for every call
    int fail_end = 0;
    int fail_close = 0;
  };

  // Used by every node that is opened from now on.
  static Settings& settings();
  [[nodiscard]] static const DriverInfo& driver();

  ClusterFormat(Edge& file, Settings settings) : file_(file), settings_(settings) {}

  [[nodiscard]] uint64_t length() const override { return settings_.length; }
  [[nodiscard]] uint32_t cluster_size() const override { return kUnit; }
  [[nodiscard]] uint64_t allocation_unit() const override { return kUnit; }
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, Extent& extent) override;
  [[nodiscard]] io::Task<Result<Extent>> map(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<WritePlan>> begin_write(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> end_write(WritePlan plan, uint64_t offset,
                                                 bool written) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<void>> close() override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length, ResizeOptions options) override;
  [[nodiscard]] bool metadata_durable() const override { return settings_.durable_metadata; }

  // What happened, in order: "begin 1", "end 1 ok", "zero 2..4", "discard 0..1", "flush", "resize".
  [[nodiscard]] const std::vector<std::string>& calls() const { return calls_; }
  void clear_calls() { calls_.clear(); }
  [[nodiscard]] const std::vector<std::string>& breaches() const { return breaches_; }
  [[nodiscard]] std::size_t open_plans() const { return plans_.size(); }
  [[nodiscard]] Settings& own_settings() { return settings_; }

 private:
  struct Unit {
    bool zero = false;
    uint64_t host = 0;  // 0: none, as zero units have that did not keep it
  };

  void expect(bool ok, const std::string& what);
  [[nodiscard]] Extent extent_at(uint64_t offset, uint64_t length) const;
  void free_unit(uint64_t index);
  // A change of these units is on; ends with leave().
  void enter(uint64_t offset, uint64_t length);
  void leave(uint64_t offset, uint64_t length);

  Edge& file_;
  Settings settings_;
  std::map<uint64_t, Unit> units_;  // by index; those that are no holes
  std::map<uint64_t, WritePlan> plans_;
  std::set<uint64_t> changing_;
  std::set<uint64_t> free_;
  uint64_t next_host_ = kUnit;  // the first unit of the file stays empty
  uint64_t next_ticket_ = 1;
  bool alone_ = false;  // resize() or close() runs
  std::vector<std::string> calls_;
  std::vector<std::string> breaches_;
};

}  // namespace cairn::block
