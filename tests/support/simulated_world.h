// SimulatedWorld: files by name, on simulated disks that share one power supply and one clock; and
// the protocol driver through which a graph of production nodes uses them.
//
// The driver goes by the name "file", so that filenames, backing files that an image names and
// image creation all work in a world as they do outside. While a world exists on a thread it is the
// one that nodes of that thread open.
//
// A new world is a plain one: no request takes time, nothing fails. Tests turn on what they need:
//   set_delays()   requests take random virtual times and overtake each other
//   add_fault()    requests fail by rule
//   cut_power_at() the power goes; every request fails until restore_power(), which leaves what the
//                  disks have kept
//
// The driver trusts nobody: a request that breaks the contract of block/driver.h (range, alignment,
// memory that changes under a write) is recorded as a violation, which tests expect none of.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/driver.h"
#include "block/driver_table.h"
#include "io/backend.h"
#include "tests/support/random.h"
#include "tests/support/simulated_disk.h"

namespace cairn::testing {

enum class IoKind : uint8_t { kRead, kWrite, kZero, kDiscard, kFlush, kResize };
inline constexpr std::size_t kIoKinds = 6;
[[nodiscard]] std::string_view to_string(IoKind kind);

// What a simulated file can do; the defaults are those of a regular file.
struct FileTraits {
  block::Limits limits = {.native_fua = true};
  bool can_zero = true;     // else write_zeroes() is not supported
  bool can_discard = true;  // else discard() is not supported
  bool keeps_flush = true;  // else flush() and FUA do nothing and say they did: a planted fault
};

// Which requests fail, and how.
struct FaultRule {
  std::optional<IoKind> kind = {};  // of any kind without
  std::string file = {};            // of any file when empty
  uint64_t offset = 0;              // that touch this range
  uint64_t length = UINT64_MAX;
  uint64_t after = 0;  // that come after so many that match
  uint64_t times = 1;  // so many of them
  int error = 5;       // EIO
  bool torn = false;   // some of the sectors change all the same
};

class SimulatedWorld;

struct SimulatedFile {
  std::string name;
  SimulatedDisk disk;
  FileTraits traits;
  uint64_t reads_in_flight = 0;
};

class SimulatedWorld {
 public:
  explicit SimulatedWorld(uint64_t seed = 0);
  SimulatedWorld(const SimulatedWorld&) = delete;
  SimulatedWorld& operator=(const SimulatedWorld&) = delete;
  ~SimulatedWorld();

  [[nodiscard]] static SimulatedWorld& current();

  // To be registered in the driver table of the graph.
  [[nodiscard]] static const block::DriverInfo& driver();

  // Files stay where they are until they are removed.
  SimulatedFile& add(std::string name, SparseBytes content = SparseBytes(), FileTraits traits = {});
  // By the last part of a path; null when there is none.
  [[nodiscard]] SimulatedFile* find(std::string_view path);
  void remove(std::string_view name) { files_.erase(std::string(name)); }
  // As the driver creates files: empty, with the default traits.
  SimulatedFile& create(std::string_view path, uint64_t size);
  void set_default_traits(FileTraits traits) { default_traits_ = traits; }

  // Every step of a request takes up to `longest`, and one in eight up to `straggling` times that.
  void set_delays(io::Duration longest, unsigned straggling = 16) {
    longest_delay_ = longest;
    straggling_ = straggling;
  }

  void add_fault(FaultRule rule) { rules_.push_back({std::move(rule), 0}); }
  void clear_faults() { rules_.clear(); }

  // Cuts the power when so many more requests have been submitted.
  void cut_power_at(uint64_t requests) { cut_at_ = submitted_ + requests; }
  void cut_power();
  [[nodiscard]] bool powered() const { return powered_; }
  // Every file holds what survived. No request may be in flight. Also calls off a cut to come.
  void restore_power();

  // Requests submitted in all, by kind, and in flight.
  [[nodiscard]] uint64_t submitted() const { return submitted_; }
  [[nodiscard]] uint64_t submitted(IoKind kind) const {
    return counts_[static_cast<std::size_t>(kind)];
  }
  // Bytes of all requests of a kind.
  [[nodiscard]] uint64_t transferred(IoKind kind) const {
    return bytes_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] uint64_t in_flight() const { return in_flight_; }
  // How many requests have failed by a rule.
  [[nodiscard]] uint64_t faults() const { return faults_; }

  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }

  // A digest of everything that happened: equal for equal seeds.
  [[nodiscard]] uint64_t fingerprint() const { return fingerprint_; }
  // Prints every step to standard error.
  void set_trace(bool trace) { trace_ = trace; }
  // Adds a step of the test itself to trace and fingerprint.
  void note(std::string_view what, uint64_t a = 0, uint64_t b = 0);

 private:
  friend class SimulatedDriver;

  struct ArmedRule {
    FaultRule rule;
    uint64_t matched;
  };

  // A request's fate, decided when it is submitted.
  struct Fate {
    int error = 0;
    bool torn = false;
  };
  Fate begin(const SimulatedFile& file, IoKind kind, uint64_t offset, uint64_t length);
  void end() { --in_flight_; }
  // Virtual time passes, or not.
  io::Task<void> pass_time();
  void violate(std::string what);

  Random random_;
  std::map<std::string, std::unique_ptr<SimulatedFile>, std::less<>> files_;
  std::map<std::string, SparseBytes, std::less<>> survivors_;
  FileTraits default_traits_;
  io::Duration longest_delay_{};
  unsigned straggling_ = 16;
  std::vector<ArmedRule> rules_;
  bool powered_ = true;
  std::optional<uint64_t> cut_at_;
  uint64_t submitted_ = 0;
  std::array<uint64_t, kIoKinds> counts_{};
  std::array<uint64_t, kIoKinds> bytes_{};
  uint64_t in_flight_ = 0;
  uint64_t faults_ = 0;
  std::vector<std::string> violations_;
  uint64_t fingerprint_ = 0;
  bool trace_ = false;
};

}  // namespace cairn::testing
